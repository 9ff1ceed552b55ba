//! The check of what others say: who signed it, whether the fleet believes them, and whether they may say it there.
//!
//! A certificate is checked once and then known for as long as it holds and the fleet's roots stay as they are: a node says
//! the same one with each message. What is known is bounded, and only what passed is remembered, so that nobody without a
//! credential costs memory.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::anchors::Proof;
use super::certificate::{Facts, Role};
use super::key::has_signed;
use super::{Anchors, AnchorsError, EARLIEST, UnixSeconds};
use crate::logic::route::PublicKeyPin;
use crate::wire::registry::{KeyDigest, Standing};
use crate::wire::{Root, Sealed, Stamp, Topic, WireError};

/// Certificates that are known at once: a fleet of ten thousand, with renewals. Each takes some 300 bytes.
const MAX_KNOWN: usize = 20_000;

/// Why a message is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is not signed, or not as it has to be.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// Its certificate leads to no root of the fleet.
    #[error("it is signed by somebody whom this fleet does not know: {0}")]
    Foreign(String),
    /// Its certificate does not hold now.
    #[error("{0}")]
    Expired(String),
    /// Its certificate was revoked.
    #[error("the credential of {0} was revoked")]
    Revoked(String),
    /// The signature is not the certificate's.
    #[error("its signature is not that of {0}")]
    Forged(String),
    /// Who signed may not say that, or not there.
    #[error("{speaker} ({role}) may not say this on a topic of {owner}")]
    NotTheirs {
        /// Who signed.
        speaker: String,
        /// What they may do.
        role: &'static str,
        /// Whose topic it is.
        owner: String,
    },
    /// A newer one is known.
    #[error("it is older than what is known: session {} message {}", .0.session, .0.sequence)]
    Stale(Stamp),
}

impl Rejected {
    /// The label that it is counted under.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(WireError::Unsigned) => "unsigned",
            Self::Malformed(WireError::Mismatch { .. }) => "mismatch",
            Self::Malformed(_) => "malformed",
            Self::Foreign(_) => "foreign",
            Self::Expired(_) => "expired",
            Self::Revoked(_) => "revoked",
            Self::Forged(_) => "forged",
            Self::NotTheirs { .. } => "not_theirs",
            Self::Stale(_) => "stale",
        }
    }

    /// All labels.
    pub const KINDS: [&str; 9] =
        ["unsigned", "mismatch", "malformed", "foreign", "expired", "revoked", "forged", "not_theirs", "stale"];
}

/// Who said something, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// A node's id, or an operator's name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whose key they signed with: at the other end of a connection by TLS stands the same one.
    pub key: PublicKeyPin,
}

/// A message that was checked: who said it, when in their time, and what.
pub struct Believed {
    /// Who.
    pub speaker: Speaker,
    /// When, in their time.
    pub stamp: Stamp,
    /// What, still to be decoded.
    pub payload: Vec<u8>,
    /// The certificates that prove who said it, their own first.
    pub chain: Vec<Vec<u8>>,
}

/// Checks messages of one fleet's tree. Shared by whoever hears something; never waits.
#[derive(Debug)]
pub struct Verifier {
    root: Root,
    word: RwLock<Word>,
    known: Mutex<Known>,
}

/// Certificates that passed, by the digest of their chain.
type Known = HashMap<[u8; 32], Passed>;

/// A certificate that passed.
#[derive(Clone, Debug)]
struct Passed {
    /// The version of the anchors that it passed by; none where that was another word of the same version.
    by: Option<u64>,
    proof: Arc<Proof>,
}

/// What is believed, and the signed message that says so.
#[derive(Clone, Debug)]
struct Word {
    anchors: Arc<Anchors>,
    sealed: Arc<Vec<u8>>,
}

/// What a word on the fleet's trust is beside the one that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It is believed from now on.
    Newer,
    /// It is the one that is believed.
    Same,
    /// It is of the same version, says something else, and counts from now on: two folders of one fleet went apart, and every
    /// node takes the same one of the two, since each hears of both.
    RivalTaken,
    /// It is of the same version, says something else, and does not count.
    RivalRefused,
    /// It is of a lower one.
    Older,
}

impl Verifier {
    /// Believes what leads to these anchors, by the signed message that says so.
    pub fn new(root: Root, anchors: Anchors, sealed: Vec<u8>) -> Self {
        let word = Word { anchors: Arc::new(anchors), sealed: Arc::new(sealed) };
        Self { root, word: RwLock::new(word), known: Mutex::default() }
    }

    /// The tree that it checks.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What is believed now.
    pub fn anchors(&self) -> Arc<Anchors> {
        self.word.read().unwrap_or_else(PoisonError::into_inner).anchors.clone()
    }

    /// The signed message that says what is believed now, as it came.
    pub fn trust_message(&self) -> Arc<Vec<u8>> {
        self.word.read().unwrap_or_else(PoisonError::into_inner).sealed.clone()
    }

    /// Takes in a word on what the fleet believes, from anywhere: a newer one that a believed root has signed counts from now
    /// on.
    pub fn update(&self, message: &[u8]) -> Result<Update, AnchorsError> {
        let mut word = self.word.write().unwrap_or_else(PoisonError::into_inner);
        let there = match word.anchors.updated(&self.root, message)? {
            Some(newer) => newer,
            None => Anchors::read_trusted(&self.root, message)?,
        };
        let update = match there.rank().cmp(&word.anchors.rank()) {
            _ if there == *word.anchors => return Ok(Update::Same),
            Ordering::Greater if there.version() > word.anchors.version() => Update::Newer,
            Ordering::Greater => Update::RivalTaken,
            _ if there.version() < word.anchors.version() => return Ok(Update::Older),
            _ => return Ok(Update::RivalRefused),
        };
        *word = Word { anchors: Arc::new(there), sealed: Arc::new(message.to_vec()) };
        // What passed by another word of the same version has to pass anew.
        self.known().values_mut().for_each(|passed| passed.by = None);
        Ok(update)
    }

    /// What to think, after a change of the fleet's trust, of those whose words were believed before, by their keys.
    pub fn standings(&self) -> impl Fn(&KeyDigest) -> Standing + use<> {
        let anchors = self.anchors();
        let still_holds = anchors.still_hold();
        let mut standings = HashMap::new();
        for Passed { proof, .. } in self.known().values() {
            // One key may be in several certificates, as after a renewal.
            let is_believed = standings.entry(proof.facts.pin().0).or_insert(false);
            *is_believed |= still_holds(proof);
        }
        move |key| match standings.get(key) {
            Some(true) => Standing::Believed,
            Some(false) => Standing::PutOut,
            None => Standing::Unknown,
        }
    }

    /// Checks a message on a topic. `now` is the calendar's time, right or wrong.
    pub fn check(&self, topic: &Topic, sealed: &Sealed, now: UnixSeconds) -> Result<Speaker, Rejected> {
        let proof = self.credential(&sealed.chain, now)?;
        let facts = &proof.facts;
        if !may_say(facts, topic) {
            let owner = topic.owner().map(ToString::to_string).unwrap_or_default();
            return Err(Rejected::NotTheirs { speaker: facts.name.clone(), role: facts.role.as_str(), owner });
        }
        if !has_signed(&facts.public_key, &sealed.signed, &sealed.signature) {
            return Err(Rejected::Forged(facts.name.clone()));
        }
        Ok(speaker(facts))
    }

    /// The calendar's time as far as it can be believed, from what the system's clock says: one that was never set shows less
    /// than what was signed.
    pub fn believable(&self, now: UnixSeconds) -> UnixSeconds {
        // Only a clock that was never set is helped: a date that somebody once wrote in error must not outrun a right one.
        if now < EARLIEST { self.anchors().issued_at().max(EARLIEST) } else { now }
    }

    /// A message whole: taken apart, checked, and ready to be decoded.
    pub fn open(&self, topic: &Topic, message: &[u8], now: UnixSeconds) -> Result<Believed, Rejected> {
        let sealed = Sealed::read(&self.root, topic, message)?;
        let speaker = self.check(topic, &sealed, now)?;
        Ok(Believed { speaker, stamp: sealed.stamp, payload: sealed.payload, chain: sealed.chain })
    }

    /// What certificates say that lead to a root and hold now.
    pub fn prove(&self, chain: &[Vec<u8>], now: UnixSeconds) -> Result<Arc<Facts>, Rejected> {
        self.credential(chain, now).map(|proof| proof.facts.clone())
    }

    /// The time by which certificates are judged. A clock that was never set cannot say that one does not hold yet: it is at
    /// least as late as the fleet's last change, and as the certificates themselves. A clock that was set is taken at its
    /// word: a date that somebody once wrote in error must not outrun a right one.
    fn time_for(&self, chain: &[Vec<u8>], now: UnixSeconds) -> UnixSeconds {
        if now >= EARLIEST {
            return now;
        }
        let begins = chain.iter().filter_map(|certificate| Some(Facts::read(certificate).ok()?.not_before));
        begins.chain([EARLIEST, self.anchors().issued_at()]).max().unwrap_or(EARLIEST)
    }

    /// Who holds a certificate, by its chain, the holder's own first; whoever shows it has to prove the key, as TLS does.
    pub fn holder(&self, chain: &[Vec<u8>], now: UnixSeconds) -> Result<Arc<Facts>, Rejected> {
        let anchors = self.anchors();
        // OpenSSL's clients show the root, too, where they have it; it is believed for what is here, not for what they show.
        let below_roots: Vec<_> = chain.iter().filter(|one| !anchors.roots().contains(one)).cloned().collect();
        self.prove(&below_roots, now)
    }

    fn credential(&self, chain: &[Vec<u8>], now: UnixSeconds) -> Result<Arc<Proof>, Rejected> {
        let now = self.time_for(chain, now);
        let mut hash = Sha256::new();
        chain.iter().for_each(|certificate| hash.update(certificate));
        let digest: [u8; 32] = hash.finalize().into();
        let anchors = self.anchors();
        let holds = |passed: &&Passed| {
            let Facts { not_before, not_after, .. } = *passed.proof.facts;
            passed.by == Some(anchors.version()) && (not_before..=not_after).contains(&now)
        };
        if let Some(Passed { proof, .. }) = self.known().get(&digest).filter(holds).cloned() {
            return Ok(proof);
        }
        let proof = Arc::new(anchors.prove(chain, now)?);
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(digest, Passed { by: Some(anchors.version()), proof: proof.clone() });
        Ok(proof)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn speaker(facts: &Facts) -> Speaker {
    Speaker { name: facts.name.clone(), role: facts.role, key: facts.pin() }
}

/// A node speaks on its own topics; commands are an operator's, and anybody of the fleet may ask who is there.
fn may_say(facts: &Facts, topic: &Topic) -> bool {
    match topic {
        Topic::Command { .. } => true,
        Topic::Response { node, .. } => facts.role.is_node() && facts.name == node.as_str(),
        other => facts.role.is_node() && other.owner().is_some_and(|owner| owner.as_str() == facts.name),
    }
}
