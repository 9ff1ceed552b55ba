//! This node's own credential: its key with its certificate, in files, and the signing of what it says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate::{self, Hand, Subject};
use super::key::KEY_BYTES;
use super::{Anchors, AnchorsError, CertificateError, Facts, Key, KeyError, Role, UnixSeconds};
use crate::host::file;
use crate::tls::pem;
use crate::wire::{Root, Stamp, Topic, WireError, seal};

/// The files of a credential.
pub(super) const KEY_FILE: &str = "node.key";
pub(super) const CERTIFICATE_FILE: &str = "node.pem";
pub(super) const TRUST_FILE: &str = "trust.cbor";
/// The roots once more, as brokers and other programs want them; never read here.
pub(super) const ROOTS_FILE: &str = "roots.pem";

/// A certificate has under 1 KB, a fleet's roots and revocations under the largest message.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file of it.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Some of its files are there and others are not.
    #[error("{folder} lacks {missing}; copy all files that `tidegate fleet enroll` wrote, or empty the folder")]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// The certificate says less than it has to.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The fleet's roots and revocations.
    #[error(transparent)]
    Anchors(#[from] AnchorsError),
    /// Key and certificate are of two credentials.
    #[error("the key is not the certificate's; copy both from one enrolment")]
    Mixed,
}

/// A key and the certificates that say whose it is.
#[derive(Debug)]
pub struct Credential {
    key: Key,
    chain: Vec<Vec<u8>>,
    facts: Facts,
}

impl Credential {
    /// A key with its certificates (DER), its own first.
    pub fn new(key: Key, chain: Vec<Vec<u8>>) -> Result<Self, CredentialError> {
        let leaf = chain.first().ok_or_else(|| CertificateError::NotOurs("it is empty".to_owned()))?;
        let facts = certificate::read(leaf)?;
        if facts.public_key == key.public() { Ok(Self { key, chain, facts }) } else { Err(CredentialError::Mixed) }
    }

    /// What its certificate says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its certificates (DER), its own first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The host names at which its holder is reached by TLS; addresses aside.
    pub fn host_names(&self) -> Vec<String> {
        self.chain.first().map(|own| certificate::host_names(own)).unwrap_or_default()
    }

    /// Its key in PEM: a secret.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// Its certificates in PEM, its own first.
    pub fn certificate_pem(&self) -> String {
        certificates_pem(&self.chain)
    }

    /// Lets a node in below this credential, which has to be an authority's: its certificates, its own first.
    pub fn certify(
        &self,
        subject: &Subject,
        public_key: &[u8; KEY_BYTES],
        valid: (UnixSeconds, UnixSeconds),
    ) -> Result<Vec<Vec<u8>>, CertificateError> {
        let hand = Hand { common_name: self.facts.name.clone(), key: &self.key };
        // No certificate holds longer than the one that signed it.
        let valid = (valid.0.max(self.facts.not_before), valid.1.min(self.facts.not_after));
        let certificate = certificate::issue(subject, public_key, valid, &hand)?;
        Ok(std::iter::once(certificate).chain(self.chain.iter().take(1).cloned()).collect())
    }

    /// Signs a message for a topic.
    pub fn seal(&self, root: &Root, topic: &Topic, stamp: Stamp, payload: Vec<u8>) -> Result<Vec<u8>, WireError> {
        seal(root, topic, stamp, &self.chain, payload, |signed| self.key.sign(signed))
    }
}

/// The folder that a credential stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFiles {
    folder: PathBuf,
}

impl CredentialFiles {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the credential, and what its fleet believes; `None` where there is none.
    pub fn load(&self) -> Result<Option<(Credential, Anchors)>, CredentialError> {
        let path = |name: &str| self.folder.join(name);
        let present = [KEY_FILE, CERTIFICATE_FILE, TRUST_FILE].map(|name| (name, path(name).exists()));
        if present.iter().all(|(_, is_there)| !is_there) {
            return Ok(None);
        }
        if let Some((missing, _)) = present.iter().find(|(_, is_there)| !is_there) {
            return Err(CredentialError::Incomplete { folder: self.folder.clone(), missing });
        }
        let key = Key::from_pem(&read_file(&path(KEY_FILE))?).map_err(|error| unusable(&path(KEY_FILE), error))?;
        let chain = certificates(&path(CERTIFICATE_FILE))?;
        let trust = std::fs::read(path(TRUST_FILE)).map_err(|error| unusable(&path(TRUST_FILE), error))?;
        let (_, anchors) = Anchors::of_file(&trust).map_err(|error| unusable(&path(TRUST_FILE), error))?;
        Ok(Some((Credential::new(key, chain)?, anchors)))
    }

    /// Writes a credential, with the signed word on what its fleet believes.
    pub fn store(&self, credential: &Credential, anchors: &Anchors, trust: &[u8]) -> Result<(), CredentialError> {
        file::make_folder(&self.folder).map_err(|error| unusable(&self.folder, error))?;
        self.write(KEY_FILE, credential.key_pem().as_bytes())?;
        self.write(CERTIFICATE_FILE, credential.certificate_pem().as_bytes())?;
        self.store_trust(anchors, trust)
    }

    /// Writes a newer word on what the fleet believes.
    pub fn store_trust(&self, anchors: &Anchors, trust: &[u8]) -> Result<(), CredentialError> {
        self.write(ROOTS_FILE, certificates_pem(anchors.roots()).as_bytes())?;
        self.write(TRUST_FILE, trust)
    }

    /// The signed word on what the fleet believes, as it was stored.
    pub fn trust_message(&self) -> Result<Vec<u8>, CredentialError> {
        let path = self.folder.join(TRUST_FILE);
        std::fs::read(&path).map_err(|error| unusable(&path, error))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), CredentialError> {
        let path = self.folder.join(name);
        file::replace(&path, content).map_err(|error| unusable(&path, error))
    }
}

/// Signs what the node says, each message with the next number. Shared by whoever speaks; never waits.
#[derive(Debug)]
pub struct Signer {
    root: Root,
    session: u64,
    sequence: AtomicU64,
    credential: ArcSwap<Credential>,
}

impl Signer {
    /// Signs in this session, for one tree.
    pub fn new(root: Root, session: u64, credential: Credential) -> Self {
        Self { root, session, sequence: AtomicU64::new(0), credential: ArcSwap::from_pointee(credential) }
    }

    /// The credential in use.
    pub fn credential(&self) -> Arc<Credential> {
        self.credential.load_full()
    }

    /// Signs with another credential from now on.
    pub fn set_credential(&self, credential: Credential) {
        self.credential.store(Arc::new(credential));
    }

    /// The tree.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The name that it signs with.
    pub fn name(&self) -> String {
        self.credential.load().facts().name.clone()
    }

    /// The role that it signs with.
    pub fn role(&self) -> Role {
        self.credential.load().facts().role
    }

    /// How many messages it has signed: nobody else can have signed one of this session with a higher number.
    pub fn signed(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Signs a message for a topic, as later than all before.
    pub fn seal(&self, topic: &Topic, payload: Vec<u8>) -> Result<Vec<u8>, WireError> {
        let stamp = Stamp { session: self.session, sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1 };
        self.credential.load().seal(&self.root, topic, stamp, payload)
    }
}

pub(super) fn read_file(path: &Path) -> Result<String, CredentialError> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| unusable(path, error))
}

/// The certificates (DER) of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, CredentialError> {
    let text = read_file(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let read = read.map_err(|error| unusable(path, error))?;
    if read.is_empty() {
        return Err(unusable(path, "there is no certificate in it"));
    }
    Ok(read.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// Certificates (DER) in PEM.
pub fn certificates_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
}

pub(super) fn unusable(path: &Path, reason: impl ToString) -> CredentialError {
    CredentialError::File { path: path.to_owned(), reason: reason.to_string() }
}
