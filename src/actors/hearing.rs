//! What comes on MQTT, heard on the link's own task: checked, and entered into the registry.
//!
//! No actor is asked, so that ten thousand announcements that come at once are neither dropped at a mailbox nor in the way
//! of a decision. Actors are told of what only they can do: to say again what somebody else wrote over, to answer a command,
//! to keep newer roots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actix::{Message, Recipient};

use super::publisher::{Identity, Report};
use super::tell;
use crate::host::clock::{Clock, unix_now};
use crate::mqtt::Incoming;
use crate::trust::{Believed, Rejected, Signer, UnixSeconds, Update, Verifier};
use crate::wire::registry::{Refused, Registry};
use crate::wire::{
    ALL_NODES, Command, EventData, EventKind, Message as WireMessage, NodeStateKind, Root, Stamp, Topic, WireError,
};

/// Kinds of messages that are ignored, as they are counted, beside those of [`Rejected::KINDS`].
const UNKNOWN_TOPIC: &str = "unknown_topic";
const FULL: &str = "full";
/// A kind of rejected message is told once in this time, however many come.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Somebody else wrote on a retained topic of ours, or cleared it.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct WrittenOver {
    /// Which.
    pub topic: Topic,
    /// What stands there now.
    pub payload: Vec<u8>,
}

/// Another live node speaks with our credential.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct Duplicated {
    /// How it is known.
    pub why: String,
}

/// Somebody of the fleet asks this node for something.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct Asked {
    /// What for.
    pub command: Command,
}

/// The fleet believes other roots, or revoked somebody.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct TrustChanged;

/// The brokers keep an older word on the fleet's trust than this node knows.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct TrustOutdated;

/// Who is told of what.
pub struct Listeners {
    /// Of topics to repair.
    pub written_over: Recipient<WrittenOver>,
    /// Of a second box under our name.
    pub duplicated: Recipient<Duplicated>,
    /// Of commands.
    pub asked: Recipient<Asked>,
    /// Of newer roots.
    pub trust_changed: Recipient<TrustChanged>,
    /// Of older ones.
    pub trust_outdated: Recipient<TrustOutdated>,
    /// Of what is told to people.
    pub report: Recipient<Report>,
}

/// Hears for one node.
pub struct Hearing {
    identity: Identity,
    clock: Clock,
    signer: Arc<Signer>,
    verifier: Arc<Verifier>,
    registry: Arc<Registry>,
    listeners: OnceLock<Listeners>,
    /// The brokers keep the word on the fleet's trust that this node knows.
    trust_heard: AtomicBool,
    /// When each kind of rejected message was last told, and how many came since.
    told: Mutex<BTreeMap<&'static str, (Duration, u64)>>,
}

impl Hearing {
    /// Enters what it hears into `registry`, and tells nobody until [`Hearing::connect`].
    pub fn new(
        identity: Identity,
        clock: Clock,
        signer: Arc<Signer>,
        verifier: Arc<Verifier>,
        registry: Arc<Registry>,
    ) -> Self {
        for kind in Rejected::KINDS.into_iter().chain([UNKNOWN_TOPIC, FULL]) {
            metrics::counter!("tidegate_discovery_ignored_total", "kind" => kind).absolute(0);
        }
        Self {
            identity,
            clock,
            signer,
            verifier,
            registry,
            listeners: OnceLock::new(),
            trust_heard: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// Tells these from now on.
    pub fn connect(&self, listeners: Listeners) {
        // Set once, by the one control thread; a second time would change nothing.
        let _ = self.listeners.set(listeners);
    }

    /// Whether the brokers keep the word on the fleet's trust that this node knows.
    pub fn has_heard_trust(&self) -> bool {
        self.trust_heard.load(Ordering::Relaxed)
    }

    /// What the brokers keep is not known any more: a link is new, or what this node knows is newer.
    pub fn trust_is_to_be_heard(&self) {
        self.trust_heard.store(false, Ordering::Relaxed);
    }

    /// Takes a message in. Returns at once.
    pub fn hear(&self, incoming: &Incoming) {
        let Ok((root, topic)) = Root::parse(&incoming.topic) else {
            return self.ignore(UNKNOWN_TOPIC, &incoming.topic);
        };
        if root != *self.verifier.root() {
            return self.ignore(UNKNOWN_TOPIC, &incoming.topic);
        }
        let heard = match &topic {
            Topic::Trust => self.trust(&incoming.payload),
            Topic::Command { .. } => self.command(&topic, &incoming.payload),
            _ if topic.owner().is_some_and(|owner| owner.as_str() == self.identity.node) => {
                self.own(&topic, &incoming.payload)
            }
            _ => self.other(&topic, incoming),
        };
        if let Err(rejected) = heard {
            self.ignore(rejected.kind(), &format!("{}: {rejected}", incoming.topic));
        }
    }

    /// The calendar's time, as far as it can be believed: a clock that was never set shows less than what was signed.
    fn now(&self) -> UnixSeconds {
        self.verifier.believable(unix_now())
    }

    /// What another node says.
    fn other(&self, topic: &Topic, incoming: &Incoming) -> Result<(), Rejected> {
        if incoming.payload.is_empty() {
            // Anybody can clear a topic; what its owner took back it said before.
            return Ok(());
        }
        let Believed { stamp, payload, speaker } = self.verifier.open(topic, &incoming.payload, self.now())?;
        let now = self.clock.now();
        let entered = match WireMessage::decode(self.verifier.root(), topic, &payload)? {
            WireMessage::Announcement(said) => {
                self.registry.announce(*said, stamp, speaker.key, !incoming.retained, now)
            }
            WireMessage::State(said) => self.registry.state(&said, stamp),
            _ => Ok(()),
        };
        match entered {
            Err(Refused::Stale(known)) => Err(Rejected::Stale(known)),
            Err(Refused::Full) => {
                self.ignore(FULL, "more nodes or instances than are kept");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// What stands on a topic of ours: our own word, or that of somebody who should not have written there.
    fn own(&self, topic: &Topic, message: &[u8]) -> Result<(), Rejected> {
        let written_over = || WrittenOver { topic: topic.clone(), payload: message.to_vec() };
        if !topic.is_signed() || message.is_empty() {
            // Whoever publishes there knows whether it is what it said.
            self.tell(|listeners| tell(&listeners.written_over, written_over()));
            return Ok(());
        }
        let opened = self.verifier.open(topic, message, self.now());
        let stamp = opened.as_ref().map_or_else(|_| Stamp::default(), |believed| believed.stamp);
        let last = Stamp { session: self.identity.session, sequence: self.signer.signed() };
        if stamp > last {
            let why = format!(
                "message {} of session {} was said under this node's id, and this is session {}, which has said {}",
                stamp.sequence, stamp.session, last.session, last.sequence
            );
            self.tell(|listeners| tell(&listeners.duplicated, Duplicated { why }));
            return Ok(());
        }
        let is_echo = stamp.session == self.identity.session && !self.is_last_will(topic, opened.as_ref().ok());
        if !is_echo {
            self.tell(|listeners| tell(&listeners.written_over, written_over()));
        }
        // An old word of our own is nobody's fault.
        opened.map(drop)
    }

    /// The broker wrote our Last Will although we are here: late, after we came back.
    fn is_last_will(&self, topic: &Topic, believed: Option<&Believed>) -> bool {
        let decode = |believed: &Believed| WireMessage::decode(self.verifier.root(), topic, &believed.payload);
        match believed.map(decode) {
            Some(Ok(WireMessage::State(state))) => state.state == NodeStateKind::Lost,
            _ => false,
        }
    }

    fn trust(&self, message: &[u8]) -> Result<(), Rejected> {
        let update = self.verifier.update(message);
        self.trust_heard.store(matches!(update, Ok(Update::Same | Update::Newer)), Ordering::Relaxed);
        match update {
            Ok(Update::Same) => {}
            Ok(Update::Newer) => {
                // Whoever is believed still says so with the next word.
                self.registry.doubt_all();
                self.tell(|listeners| tell(&listeners.trust_changed, TrustChanged));
            }
            // Also where somebody cleared it or wrote something else there.
            Ok(Update::Older) | Err(_) => self.tell(|listeners| tell(&listeners.trust_outdated, TrustOutdated)),
        }
        match update {
            Err(error) if !message.is_empty() => Err(Rejected::Foreign(error.to_string())),
            _ => Ok(()),
        }
    }

    fn command(&self, topic: &Topic, message: &[u8]) -> Result<(), Rejected> {
        let asked = topic.owner().map(|node| node.as_str().to_owned()).unwrap_or_default();
        if asked != self.identity.node && asked != ALL_NODES {
            return Ok(());
        }
        let Believed { speaker, payload, .. } = self.verifier.open(topic, message, self.now())?;
        let WireMessage::Command(command) = WireMessage::decode(self.verifier.root(), topic, &payload)? else {
            return Ok(());
        };
        if command.from != speaker.name {
            let (topic, payload) = (speaker.name, command.from);
            return Err(Rejected::Malformed(WireError::Mismatch { field: "from", topic, payload }));
        }
        if command.expires_at < self.now() {
            return Err(Rejected::Expired("the command has expired".to_owned()));
        }
        self.tell(|listeners| tell(&listeners.asked, Asked { command: *command }));
        Ok(())
    }

    fn tell(&self, what: impl FnOnce(&Listeners)) {
        if let Some(listeners) = self.listeners.get() {
            what(listeners);
        }
    }

    /// Counts a message that is not acted upon, and tells people of its kind once in a while.
    fn ignore(&self, kind: &'static str, about: &str) {
        metrics::counter!("tidegate_discovery_ignored_total", "kind" => kind).increment(1);
        tracing::debug!(kind, about, "a message was ignored");
        let now = self.clock.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, count) = told.entry(kind).or_insert((Duration::ZERO, 0));
        *count += 1;
        if *at != Duration::ZERO && now.saturating_sub(*at) < TELL_AGAIN {
            return;
        }
        let reason = format!("{count} ignored ({kind}); the last: {about}");
        (*at, *count) = (now.max(Duration::from_nanos(1)), 0);
        drop(told);
        let data = EventData { reason: Some(reason), ..EventData::default() };
        self.tell(|listeners| tell(&listeners.report, Report { kind: EventKind::MessageRejected, data }));
    }
}
