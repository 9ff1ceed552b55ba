//! This node's own credential: its key with its certificate, in files, and the signing of what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;

use super::certificate::{self, Hand, Subject};
use super::key::KEY_BYTES;
use super::{Anchors, AnchorsError, CertificateError, Facts, Key, KeyError, Role, UnixSeconds};
use crate::host::file;
use crate::tls::pem;
use crate::wire::{Root, Stamp, Topic, WireError, seal};

/// The files of a credential.
pub(super) const KEY_FILE: &str = "node.key";
/// The key that a renewed certificate is asked for; stands beside until it is in use.
const NEXT_KEY_FILE: &str = "node-next.key";
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
        self.issue(subject, public_key, valid, None)
    }

    /// Certificates in the place of those that were issued before, below this credential, which has to be an authority's.
    pub(super) fn renew(
        &self,
        before: &Facts,
        public_key: &[u8; KEY_BYTES],
        valid: (UnixSeconds, UnixSeconds),
    ) -> Result<Vec<Vec<u8>>, CertificateError> {
        self.issue(&before.subject(), public_key, valid, Some(before.enrolled_as()))
    }

    fn issue(
        &self,
        subject: &Subject,
        public_key: &[u8; KEY_BYTES],
        valid: (UnixSeconds, UnixSeconds),
        enrolment: Option<&[u8]>,
    ) -> Result<Vec<Vec<u8>>, CertificateError> {
        let hand = Hand { common_name: self.facts.name.clone(), key: &self.key };
        // No certificate holds longer than the one that signed it.
        let valid = (valid.0.max(self.facts.not_before), valid.1.min(self.facts.not_after));
        let certificate = certificate::issue(subject, public_key, valid, enrolment, &hand)?;
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
        let key = self.key(KEY_FILE)?;
        let chain = certificates(&path(CERTIFICATE_FILE))?;
        let trust = std::fs::read(path(TRUST_FILE)).map_err(|error| unusable(&path(TRUST_FILE), error))?;
        let (_, anchors) = Anchors::of_file(&trust).map_err(|error| unusable(&path(TRUST_FILE), error))?;
        let credential = match Credential::new(key, chain.clone()) {
            Err(CredentialError::Mixed) if path(NEXT_KEY_FILE).exists() => self.finish_renewal(chain)?,
            made => made?,
        };
        Ok(Some((credential, anchors)))
    }

    /// The key for the next certificate: the one that stands there, so that an answer counts after a restart too, or a new
    /// one.
    pub fn next_key(&self) -> Result<Key, CredentialError> {
        if self.folder.join(NEXT_KEY_FILE).exists() {
            return self.key(NEXT_KEY_FILE);
        }
        let key = Key::generate()?;
        self.write(NEXT_KEY_FILE, key.to_pem().as_bytes())?;
        Ok(key)
    }

    /// The credential that certificates for the next key make; nothing on disk is changed.
    pub fn renewed(&self, chain: Vec<Vec<u8>>) -> Result<Credential, CredentialError> {
        Credential::new(self.key(NEXT_KEY_FILE)?, chain)
    }

    /// Puts a credential of the next key in the place of the one before. Its certificate counts from the moment that it
    /// stands there: a power cut before leaves the old credential, one after it leaves the new one, whose key
    /// [`CredentialFiles::load`] then finds.
    pub fn promote(&self, renewed: &Credential) -> Result<(), CredentialError> {
        self.write(CERTIFICATE_FILE, renewed.certificate_pem().as_bytes())?;
        self.put_next_key_in_place()
    }

    fn finish_renewal(&self, chain: Vec<Vec<u8>>) -> Result<Credential, CredentialError> {
        let credential = Credential::new(self.key(NEXT_KEY_FILE)?, chain)?;
        if let Err(error) = self.put_next_key_in_place() {
            tracing::warn!(%error, "the credential is whole, but one of its files has a name of its own");
        }
        Ok(credential)
    }

    fn put_next_key_in_place(&self) -> Result<(), CredentialError> {
        let (from, to) = (self.folder.join(NEXT_KEY_FILE), self.folder.join(KEY_FILE));
        match std::fs::rename(&from, to) {
            // Somebody who read the files meanwhile has done it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|error| unusable(&from, error)),
        }
    }

    fn key(&self, name: &str) -> Result<Key, CredentialError> {
        let path = self.folder.join(name);
        Key::from_pem(&read_file(&path)?).map_err(|error| unusable(&path, error))
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

/// Topics of our own of which the last word is remembered: a state, a node's announcement, and two for each instance, of more
/// than any budget bears.
const MAX_SPOKEN: usize = 2_048;

/// Signs what the node says, each message with the next number. Shared by whoever speaks; never waits.
#[derive(Debug)]
pub struct Signer {
    root: Root,
    session: AtomicU64,
    sequence: AtomicU64,
    credential: ArcSwap<Credential>,
    /// The last word on each topic that a broker keeps.
    spoken: Mutex<BTreeMap<Topic, LastWord>>,
}

/// The last thing that was signed for a topic.
#[derive(Clone, Copy, Debug)]
pub struct LastWord {
    /// Its place.
    pub stamp: Stamp,
    /// When it was signed.
    pub at: Instant,
}

impl Signer {
    /// Signs in this session, for one tree.
    pub fn new(root: Root, session: u64, credential: Credential) -> Self {
        let (session, sequence) = (AtomicU64::new(session), AtomicU64::new(0));
        Self { root, session, sequence, credential: ArcSwap::from_pointee(credential), spoken: Mutex::default() }
    }

    /// The session that it signs in.
    pub fn session(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    /// Signs in a later session from now on: what an earlier one of this node said would outrank it for ever.
    pub fn raise_session(&self, session: u64) {
        self.session.fetch_max(session, Ordering::Relaxed);
    }

    /// The last word on a topic that a broker keeps, where it is remembered.
    pub fn last_word(&self, topic: &Topic) -> Option<LastWord> {
        self.spoken().get(topic).copied()
    }

    fn spoken(&self) -> MutexGuard<'_, BTreeMap<Topic, LastWord>> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, topic: &Topic, stamp: Stamp) {
        if !topic.is_retained() {
            return;
        }
        let mut spoken = self.spoken();
        spoken.insert(topic.clone(), LastWord { stamp, at: Instant::now() });
        if spoken.len() > MAX_SPOKEN {
            // The one of which nothing was said for longest.
            let oldest = spoken.iter().min_by_key(|(_, word)| word.stamp).map(|(topic, _)| topic.clone());
            oldest.map(|topic| spoken.remove(&topic));
        }
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
        let stamp = Stamp { session: self.session(), sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1 };
        self.remember(topic, stamp);
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
