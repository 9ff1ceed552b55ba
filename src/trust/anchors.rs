//! What the fleet believes at a time: its roots (two while one is being replaced), and what was revoked. A version replaces
//! an older one only where a root that was believed before has signed it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::certificate::{self, Facts, Role, public_key};
use super::key::{KEY_BYTES, Key, has_signed};
use super::{Rejected, UnixSeconds};
use crate::wire::{Bytes, Encoding, FleetTrust, Root, Sealed, Stamp, Topic, WireError, from_cbor, seal, to_cbor};

/// Roots at once: the one that stands and the one that replaces it.
const MAX_ROOTS: usize = 2;

/// Why a word on the fleet's roots is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    /// It cannot be read or written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It speaks of another fleet.
    #[error("it is the trust of the fleet {found}, and this is {expected}")]
    OtherFleet {
        /// Which it speaks of.
        found: String,
        /// Which is ours.
        expected: String,
    },
    /// No root that is believed has signed it.
    #[error("no root that this fleet believes has signed it")]
    NotSigned,
    /// Something in it is not as it has to be.
    #[error("its roots cannot be used: {0}")]
    Roots(String),
}

/// Roots and revocations, of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors {
    fleet: String,
    version: u64,
    issued_at: UnixSeconds,
    /// Certificates (DER), the oldest first.
    roots: Vec<Vec<u8>>,
    /// Serial numbers.
    revoked: BTreeSet<Vec<u8>>,
}

impl Anchors {
    /// A new fleet's: one root, nothing revoked.
    pub fn first(fleet: &str, root: Vec<u8>, now: UnixSeconds) -> Self {
        Self { fleet: fleet.to_owned(), version: 1, issued_at: now, roots: vec![root], revoked: BTreeSet::new() }
    }

    /// The fleet.
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Which of two words counts: the one of the higher version; of two with one version the one that revokes more, and else
    /// the one that was written later. All of it is said, so that the last resort tells any two apart.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let said = (self.roots.clone(), self.revoked.clone());
        (self.version, self.revoked.len(), self.issued_at, said)
    }

    /// When this version was written; a clock that shows less is wrong.
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }

    /// The roots' certificates (DER), the oldest first.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// Whether a certificate of this serial number is revoked.
    pub fn is_revoked(&self, serial: &[u8]) -> bool {
        self.revoked.contains(serial)
    }

    /// How many certificates are revoked.
    pub fn revoked(&self) -> usize {
        self.revoked.len()
    }

    /// The next version, with these serial numbers revoked beside the others, but for those that are `forgotten`: what has
    /// expired needs no revocation, and a message has a limit.
    #[must_use]
    pub fn revoking(
        &self,
        serials: impl IntoIterator<Item = Vec<u8>>,
        forgotten: impl Fn(&[u8]) -> bool,
        now: UnixSeconds,
    ) -> Self {
        let mut next = self.next(now);
        next.revoked.retain(|serial| !forgotten(serial));
        next.revoked.extend(serials);
        next
    }

    /// The next version, with a root more: from when all nodes know it, credentials of either pass.
    pub fn adding_root(&self, root: Vec<u8>, now: UnixSeconds) -> Result<Self, AnchorsError> {
        if self.roots.len() >= MAX_ROOTS {
            let why = "two overlap already; finish that rotation first";
            return Err(AnchorsError::Roots(why.to_owned()));
        }
        let mut next = self.next(now);
        next.roots.push(root);
        Ok(next)
    }

    /// The next version, with the newest root alone.
    #[must_use]
    pub fn with_newest_root_alone(&self, now: UnixSeconds) -> Self {
        let mut next = self.next(now);
        next.roots = self.roots.last().cloned().into_iter().collect();
        next
    }

    fn next(&self, now: UnixSeconds) -> Self {
        Self { version: self.version + 1, issued_at: now, ..self.clone() }
    }

    /// As it goes on the topic and into files, signed by a root's key.
    pub fn sealed(&self, root: &Root, key: &Key, certificate: &[u8]) -> Result<Vec<u8>, WireError> {
        let payload = to_cbor(&FleetTrust {
            fleet: self.fleet.clone(),
            version: self.version,
            issued_at: self.issued_at,
            roots: self.roots.iter().cloned().map(Bytes).collect(),
            revoked: self.revoked.iter().cloned().map(Bytes).collect(),
        })?;
        let stamp = Stamp { session: self.version, sequence: 0 };
        seal(root, &Topic::Trust, stamp, &[certificate.to_vec()], payload, |signed| key.sign(signed))
    }

    /// Reads a version that one of the roots in it has signed: what came with a credential, by a way that is trusted.
    pub fn read_trusted(root: &Root, message: &[u8]) -> Result<Self, AnchorsError> {
        let (sealed, read) = Self::read(root, message)?;
        if signed_by(&sealed, &read.roots) { Ok(read) } else { Err(AnchorsError::NotSigned) }
    }

    /// Takes a version in that came from anywhere: `None` where it is no newer than this one.
    pub fn updated(&self, root: &Root, message: &[u8]) -> Result<Option<Self>, AnchorsError> {
        let (sealed, read) = Self::read(root, message)?;
        if read.fleet != self.fleet {
            return Err(AnchorsError::OtherFleet { found: read.fleet, expected: self.fleet.clone() });
        }
        // A version that was passed over is fine: it is signed by a root that is believed, whatever came between.
        if !signed_by(&sealed, &self.roots) {
            return Err(AnchorsError::NotSigned);
        }
        Ok((read.version > self.version).then_some(read))
    }

    /// Reads a file that stands in a folder of ours: its tree and what it says.
    pub fn of_file(message: &[u8]) -> Result<(Root, Self), AnchorsError> {
        // Which fleet it is of decides what is signed, and stands inside.
        let any = Root::new(Encoding::Cbor, "any").map_err(WireError::from)?;
        let said: FleetTrust = from_cbor(&Sealed::read(&any, &Topic::Trust, message)?.payload)?;
        let root = Root::new(Encoding::Cbor, &said.fleet).map_err(WireError::from)?;
        let anchors = Self::read_trusted(&root, message)?;
        Ok((root, anchors))
    }

    fn read(root: &Root, message: &[u8]) -> Result<(Sealed, Self), AnchorsError> {
        let sealed = Sealed::read(root, &Topic::Trust, message)?;
        let said: FleetTrust = from_cbor(&sealed.payload)?;
        if said.roots.is_empty() || said.roots.len() > MAX_ROOTS {
            return Err(AnchorsError::Roots(format!("there are {}, and it takes one or two", said.roots.len())));
        }
        let roots: Vec<Vec<u8>> = said.roots.into_iter().map(|root| root.0).collect();
        for root in &roots {
            anchor(root).map_err(AnchorsError::Roots)?;
        }
        let read = Self {
            fleet: said.fleet,
            version: said.version,
            issued_at: said.issued_at,
            roots,
            revoked: said.revoked.into_iter().map(|serial| serial.0).collect(),
        };
        Ok((sealed, read))
    }

    /// Whether a chain of certificates, the subject's first, leads to a root and holds at this time.
    pub fn check(&self, chain: &[Vec<u8>], now: UnixSeconds) -> Result<Facts, Rejected> {
        self.prove(chain, now).map(|proof| Arc::unwrap_or_clone(proof.facts))
    }

    /// The same, with what a later word on the fleet's trust is held against.
    pub(super) fn prove(&self, chain: &[Vec<u8>], now: UnixSeconds) -> Result<Proof, Rejected> {
        let foreign = |why: String| Rejected::Foreign(why);
        let [leaf, between @ ..] = chain else { return Err(foreign("no certificate".to_owned())) };
        let facts = certificate::read(leaf).map_err(|error| foreign(error.to_string()))?;
        let issuers = between.iter().map(|der| certificate::read(der)).collect::<Result<Vec<_>, _>>();
        let issuers = issuers.map_err(|error| foreign(error.to_string()))?;
        // Whoever an authority lets in is a node, and it lets in nobody who does.
        let oversteps = |issuer: &Facts| issuer.role != Role::Authority || facts.role != Role::Node;
        if facts.fleet != self.fleet || issuers.iter().any(|issuer| issuer.fleet != self.fleet || oversteps(issuer)) {
            return Err(foreign(format!("it is of the fleet {}, or of an issuer that may not issue it", facts.fleet)));
        }
        let all = issuers.iter().chain([&facts]);
        let numbers: Vec<_> = all.flat_map(|one| [one.serial.clone(), one.enrolled_as().to_vec()]).collect();
        if numbers.iter().any(|number| self.is_revoked(number)) {
            return Err(Rejected::Revoked(facts.name));
        }
        let root = self.root_of(leaf, between, now)?;
        Ok(Proof { facts: Arc::new(facts), numbers, root })
    }

    /// Whether what was proven by another word on the fleet's trust is so by this one: as long as it is not over.
    pub(super) fn still_hold(&self) -> impl Fn(&Proof) -> bool {
        let roots: Vec<_> = self.roots.iter().map(|root| digest(root)).collect();
        move |Proof { numbers, root, .. }| roots.contains(root) && !numbers.iter().any(|number| self.is_revoked(number))
    }

    fn root_of(&self, leaf: &[u8], between: &[Vec<u8>], now: UnixSeconds) -> Result<[u8; 32], Rejected> {
        let foreign = |why: String| Rejected::Foreign(why);
        let anchors: Result<Vec<TrustAnchor<'static>>, String> = self.roots.iter().map(|root| anchor(root)).collect();
        let anchors = anchors.map_err(foreign)?;
        let between: Vec<_> = between.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let leaf = CertificateDer::from(leaf);
        let parsed = EndEntityCert::try_from(&leaf).map_err(|error| foreign(error.to_string()))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let algorithms = [webpki::ring::ED25519];
        let path = parsed.verify_for_usage(&algorithms, &anchors, &between, time, KeyUsage::client_auth(), None, None);
        let root = path.map(|path| anchors.iter().position(|anchor| anchor == path.anchor()));
        let root = root.map(|position| position.and_then(|at| self.roots.get(at)).map(|root| digest(root)));
        root.map_err(|error| match error {
            webpki::Error::CertExpired { .. } => Rejected::Expired("its certificate has expired".to_owned()),
            webpki::Error::CertNotValidYet { .. } => Rejected::Expired("its certificate does not hold yet".to_owned()),
            other => Rejected::Foreign(other.to_string()),
        })?
        .ok_or_else(|| foreign("it leads to none of the fleet's roots".to_owned()))
    }
}

/// That a chain of certificates leads to a root, and all that could take that back.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// Who holds it.
    pub(super) facts: Arc<Facts>,
    /// The numbers by which one of the chain can be revoked.
    numbers: Vec<Vec<u8>>,
    /// The digest of the root's certificate.
    root: [u8; 32],
}

fn digest(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// Whether the root that a message brings is one of these, and has signed it.
fn signed_by(sealed: &Sealed, roots: &[Vec<u8>]) -> bool {
    let root = sealed.chain.first().filter(|root| roots.contains(root));
    root.and_then(|root| key_of(root)).is_some_and(|key| has_signed(&key, &sealed.signed, &sealed.signature))
}

fn key_of(root: &[u8]) -> Option<[u8; KEY_BYTES]> {
    public_key(&EndEntityCert::try_from(&CertificateDer::from(root)).ok()?)
}

fn anchor(root: &[u8]) -> Result<TrustAnchor<'static>, String> {
    let certificate = CertificateDer::from(root);
    let anchor = anchor_from_trusted_cert(&certificate).map_err(|error| error.to_string())?;
    Ok(anchor.to_owned())
}
