//! Who may issue: a fleet's root with its key, or an authority below it. Kept in a folder of its own, away from the nodes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::certificate::{self, CertificateError, Hand, Role, Subject, root_name};
use super::credential::{ROOTS_FILE, TRUST_FILE, certificates, certificates_pem, read_file, unusable};
use super::key::KEY_BYTES;
use super::{Anchors, AnchorsError, Credential, CredentialError, Facts, Key, KeyError, UnixSeconds};
use crate::host::file;
use crate::wire::{Bytes, Encoding, Root, TopicError, WireError};

/// The root's own files in the folder of a fleet.
const ROOT_KEY: &str = "root.key";
const ROOT_CERTIFICATE: &str = "root.pem";
/// The root that replaces it, while both are believed.
const NEXT_ROOT_KEY: &str = "root-next.key";
const NEXT_ROOT_CERTIFICATE: &str = "root-next.pem";
/// Certificates that were issued, one a line, so that they can be revoked by name.
const ISSUED: &str = "issued";

/// A root holds from the beginning of time to RFC 5280's date for "never expires": a gateway whose clock was never set must
/// believe it too, and it is replaced by a rotation and not by a date.
const ROOT_HOLDS: (UnixSeconds, UnixSeconds) = (0, 253_402_300_799);
/// What expired so long ago needs no revocation, whatever a node's clock shows.
const FORGET_EXPIRED: UnixSeconds = 60 * 86_400;
/// Credentials are dated back by this much, since clocks of nodes may be behind.
pub const BACKDATED: UnixSeconds = 86_400;

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is a fleet in the folder already.
    #[error("{0} holds a fleet already; take another folder with --dir, or go on with that fleet")]
    Exists(PathBuf),
    /// A certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The fleet's roots and revocations cannot be written.
    #[error(transparent)]
    Anchors(#[from] AnchorsError),
    /// A message cannot be written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A name that cannot be a fleet's.
    #[error(transparent)]
    Name(#[from] TopicError),
    /// A file of the folder cannot be used, or a credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Nobody of that name was ever let in from this folder.
    #[error("no credential was issued to {0} from this folder; `issued` lists those that were")]
    Unknown(String),
}

/// What was issued to one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The certificate's serial number.
    pub serial: Bytes,
    /// Until when it holds.
    pub not_after: UnixSeconds,
}

/// A fleet's root, with what it has issued.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    tree: Root,
    key: Key,
    certificate: Vec<u8>,
    /// The root before this one, while both are believed: what every node is to believe has to be signed by it.
    old: Option<(Key, Vec<u8>)>,
    anchors: Anchors,
}

impl Authority {
    /// Founds a fleet: a new root, in a folder that holds none.
    pub fn found(folder: &Path, fleet: &str, now: UnixSeconds) -> Result<Self, AuthorityError> {
        if folder.join(ROOT_KEY).exists() {
            return Err(AuthorityError::Exists(folder.to_owned()));
        }
        let tree = Root::new(Encoding::Cbor, fleet)?;
        let (key, certificate) = new_root(fleet)?;
        let anchors = Anchors::first(fleet, certificate.clone(), now);
        let founded = Self { folder: folder.to_owned(), tree, key, certificate, old: None, anchors };
        file::make_folder(folder).map_err(|error| unusable(folder, error))?;
        founded.write_root()?;
        founded.write_trust()?;
        Ok(founded)
    }

    /// Opens a fleet's folder.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let path = |name: &str| folder.join(name);
        let trust = std::fs::read(path(TRUST_FILE)).map_err(|error| unusable(&path(TRUST_FILE), error))?;
        let (tree, anchors) = Anchors::of_file(&trust).map_err(|error| unusable(&path(TRUST_FILE), error))?;
        // A rotation that was cut off before it was announced left a root that nobody believes.
        let next = path(NEXT_ROOT_KEY).exists().then(|| root(&path(NEXT_ROOT_KEY), &path(NEXT_ROOT_CERTIFICATE)));
        let is_believed = |root: &(Key, Vec<u8>)| anchors.roots().contains(&root.1);
        let next = next.transpose()?.filter(is_believed);
        let first = root(&path(ROOT_KEY), &path(ROOT_CERTIFICATE))?;
        let (ends_rotation, (key, certificate), old) = match (next, is_believed(&first)) {
            (Some(next), true) => (false, next, Some(first)),
            (Some(next), false) => (true, next, None),
            (None, true) => (false, first, None),
            (None, false) => {
                let why = "the fleet does not believe this root; put back the one that signed trust.cbor";
                return Err(unusable(&path(ROOT_CERTIFICATE), why).into());
            }
        };
        let opened = Self { folder: folder.to_owned(), tree, key, certificate, old, anchors };
        if ends_rotation {
            // It was cut off at its very end.
            opened.put_next_root_in_place()?;
        }
        Ok(opened)
    }

    /// The fleet.
    pub fn fleet(&self) -> &str {
        self.anchors.fleet()
    }

    /// What the fleet believes now.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// What the fleet believes now, signed, as it goes on `fleet/trust`.
    pub fn trust_message(&self) -> Result<Vec<u8>, WireError> {
        let (key, certificate) = self.old.as_ref().map_or((&self.key, &self.certificate), |(key, root)| (key, root));
        self.anchors.sealed(&self.tree, key, certificate)
    }

    /// Lets somebody in: a new key with a certificate that holds for so long.
    pub fn enroll(&self, subject: &Subject, life: UnixSeconds, now: UnixSeconds) -> Result<Credential, AuthorityError> {
        let key = Key::generate()?;
        let certificate = self.certify(subject, &key.public(), life, now)?;
        Ok(Credential::new(key, vec![certificate])?)
    }

    /// A certificate for a key that somebody else holds.
    pub fn certify(
        &self,
        subject: &Subject,
        public_key: &[u8; KEY_BYTES],
        life: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<Vec<u8>, AuthorityError> {
        let hand = Hand { common_name: root_name(self.fleet()), key: &self.key };
        let valid = (now.saturating_sub(BACKDATED), now.saturating_add(life));
        let certificate = certificate::issue(subject, public_key, valid, &hand)?;
        self.note(&certificate::read(&certificate)?)?;
        Ok(certificate)
    }

    /// Believes nothing that was issued to this name until now.
    pub fn revoke(&mut self, name: &str, now: UnixSeconds) -> Result<usize, AuthorityError> {
        let issued = self.issued()?;
        let serials: Vec<Vec<u8>> =
            issued.iter().filter(|one| one.name == name).map(|one| one.serial.0.clone()).collect();
        if serials.is_empty() {
            return Err(AuthorityError::Unknown(name.to_owned()));
        }
        let count = serials.len();
        let past = |one: &&Enrollment| one.not_after.saturating_add(FORGET_EXPIRED) < now;
        let expired: BTreeSet<Vec<u8>> = issued.iter().filter(past).map(|one| one.serial.0.clone()).collect();
        let serials = serials.into_iter().filter(|serial| !expired.contains(serial));
        self.anchors = self.anchors.revoking(serials, |serial| expired.contains(serial), now);
        self.write_trust()?;
        Ok(count)
    }

    /// Begins to replace the root: both are believed from now on, and the new one issues.
    pub fn begin_rotation(&mut self, now: UnixSeconds) -> Result<(), AuthorityError> {
        let (key, certificate) = new_root(self.fleet())?;
        let anchors = self.anchors.adding_root(certificate.clone(), now)?;
        // On disk before anybody believes it, since a root without its key could not be replaced any more.
        write_root(&self.folder, (&key, &certificate), (NEXT_ROOT_KEY, NEXT_ROOT_CERTIFICATE))?;
        // Signed by the old root, which is the one that every node believes; the new one issues from now on.
        self.anchors = anchors;
        self.write_trust()?;
        let old = (std::mem::replace(&mut self.key, key), std::mem::replace(&mut self.certificate, certificate));
        self.old = Some(old);
        Ok(())
    }

    /// Ends it: the old root is believed no longer.
    pub fn finish_rotation(&mut self, now: UnixSeconds) -> Result<(), AuthorityError> {
        if self.anchors.roots().len() < 2 {
            return Err(AnchorsError::Roots("no rotation has begun".to_owned()).into());
        }
        self.anchors = self.anchors.with_newest_root_alone(now);
        // The old root signs no more; whoever heard of both believes the new one.
        self.old = None;
        self.write_trust()?;
        self.put_next_root_in_place()
    }

    fn put_next_root_in_place(&self) -> Result<(), AuthorityError> {
        self.write_root()?;
        for name in [NEXT_ROOT_KEY, NEXT_ROOT_CERTIFICATE] {
            let path = self.folder.join(name);
            std::fs::remove_file(&path).map_err(|error| unusable(&path, error))?;
        }
        Ok(())
    }

    /// What was issued, in that order.
    pub fn issued(&self) -> Result<Vec<Enrollment>, AuthorityError> {
        let path = self.folder.join(ISSUED);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| unusable(&path, error))?,
        };
        // A line that a power cut tore must not keep the others from being revoked.
        let read = |line: &str| {
            let read = enrollment(line);
            if read.is_none() {
                tracing::warn!(path = %path.display(), line, "a line cannot be read and is passed over");
            }
            read
        };
        Ok(text.lines().filter_map(read).collect())
    }

    /// Whether something that was issued was revoked.
    pub fn is_revoked(&self, one: &Enrollment) -> bool {
        self.anchors.is_revoked(&one.serial.0)
    }

    fn note(&self, facts: &Facts) -> Result<(), AuthorityError> {
        let path = self.folder.join(ISSUED);
        let serial = Bytes(facts.serial.clone());
        let line = format!("{} {} {serial} {}\n", facts.name, facts.role, facts.not_after);
        Ok(file::append(&path, line.as_bytes()).map_err(|error| unusable(&path, error))?)
    }

    fn write_root(&self) -> Result<(), AuthorityError> {
        write_root(&self.folder, (&self.key, &self.certificate), (ROOT_KEY, ROOT_CERTIFICATE))
    }

    fn write_trust(&self) -> Result<(), AuthorityError> {
        let write = |name: &str, content: &[u8]| {
            let path = self.folder.join(name);
            file::replace(&path, content).map_err(|error| unusable(&path, error))
        };
        // For those who only watch, and check no more than a broker's name.
        write(ROOTS_FILE, certificates_pem(self.anchors.roots()).as_bytes())?;
        Ok(write(TRUST_FILE, &self.trust_message()?)?)
    }
}

fn write_root(
    folder: &Path,
    (key, certificate): (&Key, &Vec<u8>),
    (key_file, certificate_file): (&str, &str),
) -> Result<(), AuthorityError> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        file::replace(&path, text.as_bytes()).map_err(|error| unusable(&path, error))
    };
    write(key_file, key.to_pem())?;
    Ok(write(certificate_file, certificates_pem(std::slice::from_ref(certificate)))?)
}

fn root(key: &Path, certificate: &Path) -> Result<(Key, Vec<u8>), AuthorityError> {
    let read = Key::from_pem(&read_file(key)?).map_err(|error| unusable(key, error))?;
    match <[Vec<u8>; 1]>::try_from(certificates(certificate)?) {
        Ok([only]) => Ok((read, only)),
        Err(several) => Err(unusable(certificate, format!("it has {} certificates, not one", several.len())).into()),
    }
}

fn new_root(fleet: &str) -> Result<(Key, Vec<u8>), AuthorityError> {
    let key = Key::generate()?;
    let certificate = certificate::issue_root(fleet, &key, ROOT_HOLDS)?;
    Ok((key, certificate))
}

fn enrollment(line: &str) -> Option<Enrollment> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, role, serial, not_after] = words[..] else { return None };
    Some(Enrollment {
        name: name.to_owned(),
        role: role.parse().ok()?,
        serial: Bytes::from_hex(serial)?,
        not_after: not_after.parse().ok()?,
    })
}
