//! What comes on MQTT, heard on the link's own task: checked, and entered into the registry.
//!
//! No actor is asked, so that ten thousand announcements that come at once are neither dropped at a mailbox nor in the way
//! of a decision. Actors are told of what only they can do: to say again what somebody else wrote over, to answer a command,
//! to keep newer roots.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use actix::{Message, Recipient};

use super::publisher::{ECHO, Identity, Report};
use super::tell;
use crate::host::clock::{Clock, unix_now};
use crate::mqtt::Incoming;
use crate::trust::{Believed, Rejected, Signer, UnixSeconds, Update, Verifier};
use crate::wire::registry::{Ear, Refused, Registry};
use crate::wire::{
    ALL_NODES, Argument, Command, CommandName, EventData, EventKind, Message as WireMessage, NodeStateKind, Response,
    Root, Stamp, Topic, WireError,
};

/// Kinds of messages that are ignored, as they are counted, beside those of [`Rejected::KINDS`].
const UNKNOWN_TOPIC: &str = "unknown_topic";
const FULL: &str = "full";
const RIVAL: &str = "rival_trust";
/// What is to be done where a fleet was changed in two places.
pub const RIVAL_ADVICE: &str = "two words on the fleet's trust bear one version and differ, so the fleet was changed in two \
    copies of its folder; the one that revokes more counts on every node. Keep that folder, and revoke or rotate there again \
    what was done in the other";
/// What a broker keeps has been heard so long after the first connection, and a copy of this node that was there has been
/// told apart by then, as it speaks every `mqtt.refresh` (30 s).
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// Topics that a former run can have left: the services and instances of one node, twice over.
const MOST_EARLY: usize = 256;
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
    /// The broker kept it from before this connection.
    pub was_kept: bool,
    /// It is nobody's fault: what this node said before, as far as can be told.
    pub is_left_over: bool,
}

/// Another live node speaks with our credential.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct Duplicated {
    /// How it is known.
    pub why: String,
}

/// A broker keeps what this node said in a session after this one: its state directory was lost, or is an old one.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct Outlived {
    /// That session.
    pub session: u64,
}

/// A link is connected anew.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct Connected;

/// Somebody of the fleet asks this node for something.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct Asked {
    /// What for.
    pub command: Command,
}

/// A node of the fleet asks for a new certificate, by a command that its present one proves.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct RenewalAsked {
    /// What it asks.
    pub command: Command,
    /// When, in its time.
    pub stamp: Stamp,
    /// Its certificates.
    pub chain: Vec<Vec<u8>>,
}

/// A node of the fleet answers a command of this one.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct Answered {
    /// What it answers.
    pub response: Response,
}

/// A node's command counts for this long by the clock of who gets it, in seconds: that may differ from its own.
const COMMAND_HOLDS: UnixSeconds = 300;

/// A node's command to all others, as they and the hub take it: its id begins with the node's, by which it knows the answers.
pub fn command_to_all(identity: &Identity, name: CommandName, now: UnixSeconds, arguments: Vec<Argument>) -> Command {
    Command {
        fleet: identity.fleet.clone(),
        node: ALL_NODES.to_owned(),
        name,
        id: format!("{}{:016x}", command_ids(&identity.node), fastrand::u64(..)),
        from: identity.node.clone(),
        expires_at: now.saturating_add(COMMAND_HOLDS),
        arguments,
    }
}

/// Ids of a node's commands begin so; the rest is by chance.
fn command_ids(node: &str) -> String {
    format!("{node}.")
}

/// The fleet believes other roots, or revoked somebody.
#[derive(Clone, Debug, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct TrustChanged {
    /// Nodes that were there and are not believed any more.
    pub put_out: Vec<String>,
}

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
    /// Of a session of this node that came after this one.
    pub outlived: Recipient<Outlived>,
    /// Of links that come up.
    pub connected: Recipient<Connected>,
    /// Of commands.
    pub asked: Recipient<Asked>,
    /// Of nodes that ask for a certificate; none where this node issues none.
    pub renewals: Option<Recipient<RenewalAsked>>,
    /// Of answers to this node's commands.
    pub answered: Recipient<Answered>,
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
    /// Where it hears.
    ears: Vec<Ear>,
    /// Whether each broker keeps the word on the fleet's trust that this node knows, or is not asked yet.
    trust_heard: [AtomicBool; 2],
    /// When each link first came up.
    first_connected: Mutex<[Option<Duration>; 2]>,
    /// The newest word of a session after this one that stood at the brokers then.
    before: Mutex<Stamp>,
    /// A link came up, and nothing that a broker keeps of others or of us was heard since.
    hears_nothing_kept: AtomicBool,
    /// What stood on topics of ours before anybody could be told.
    early: Mutex<Vec<WrittenOver>>,
    /// When each kind of rejected message was last told, and how many came since.
    told: Mutex<BTreeMap<&'static str, (Duration, u64)>>,
}

impl Hearing {
    /// Enters what it hears by `ears` into `registry`, and tells nobody until [`Hearing::connect`].
    pub fn new(
        identity: Identity,
        clock: Clock,
        signer: Arc<Signer>,
        verifier: Arc<Verifier>,
        registry: Arc<Registry>,
        ears: Vec<Ear>,
    ) -> Self {
        for kind in Rejected::KINDS.into_iter().chain([UNKNOWN_TOPIC, FULL, RIVAL]) {
            metrics::counter!("tidegate_discovery_ignored_total", "kind" => kind).absolute(0);
        }
        Self {
            identity,
            clock,
            signer,
            verifier,
            registry,
            listeners: OnceLock::new(),
            ears,
            // What an uplink keeps is known once it is connected to; the broker of the box is told in any case.
            trust_heard: Ear::ALL.map(|ear| AtomicBool::new(ear == Ear::Uplink)),
            first_connected: Default::default(),
            before: Mutex::default(),
            hears_nothing_kept: AtomicBool::new(false),
            early: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Tells these from now on.
    pub fn connect(&self, listeners: Listeners) {
        // Set once, by the one control thread; a second time would change nothing.
        let _ = self.listeners.set(listeners);
        // What a broker kept may have come before.
        let Stamp { session, .. } = *self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if session > self.signer.session() {
            self.tell(|listeners| tell(&listeners.outlived, Outlived { session }));
        }
        let early = std::mem::take(&mut *self.early());
        early.into_iter().for_each(|over| self.tell(|listeners| tell(&listeners.written_over, over)));
    }

    fn early(&self) -> MutexGuard<'_, Vec<WrittenOver>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a broker keeps of a topic comes once, so that it waits for whoever mends it.
    fn tell_written_over(&self, over: WrittenOver) {
        let mut early = self.early();
        match self.listeners.get() {
            Some(listeners) => tell(&listeners.written_over, over),
            None if early.len() < MOST_EARLY => early.push(over),
            None => {}
        }
    }

    /// The brokers that do not keep the word on the fleet's trust that this node knows.
    pub fn lacking_trust(&self) -> Vec<Ear> {
        let lacks = |ear: &&Ear| !self.trust_heard[**ear as usize].load(Ordering::Relaxed);
        self.ears.iter().filter(lacks).copied().collect()
    }

    /// Where it hears.
    pub fn ears(&self) -> &[Ear] {
        &self.ears
    }

    /// A link is connected anew: what its broker keeps is not known any more.
    pub fn connected(&self, ear: Ear) {
        // The first time counts.
        self.first_connected()[ear as usize].get_or_insert(self.clock.now());
        self.trust_is_to_be_heard(ear);
        if ear == self.fleets_ear() {
            self.hears_nothing_kept.store(true, Ordering::Relaxed);
            self.tell(|listeners| tell(&listeners.connected, Connected));
        }
    }

    /// Whether no announcement was heard that a broker keeps: there is none, or the broker gives none to who asks for all.
    pub fn hears_nothing_kept(&self) -> bool {
        self.hears_nothing_kept.load(Ordering::Relaxed)
    }

    /// What a broker keeps is not known any more: the link is new, or what this node knows is newer.
    pub fn trust_is_to_be_heard(&self, ear: Ear) {
        self.trust_heard[ear as usize].store(false, Ordering::Relaxed);
    }

    /// This node says it there, and does not hear itself.
    pub fn trust_is_said(&self, ear: Ear) {
        self.trust_heard[ear as usize].store(true, Ordering::Relaxed);
    }

    /// A link went to another broker, which has its own account of connections.
    pub fn moved(&self, ear: Ear) {
        self.registry.moved(ear);
        // What it keeps may be older or newer than what the other one kept.
        self.first_connected()[ear as usize] = None;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Stamp::default();
    }

    fn first_connected(&self) -> MutexGuard<'_, [Option<Duration>; 2]> {
        self.first_connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the rest of the fleet is heard: beside an uplink, the own broker has only this box.
    fn fleets_ear(&self) -> Ear {
        self.ears.iter().copied().max().unwrap_or_default()
    }

    /// Takes a message in that came by one of the links. Returns at once.
    pub fn hear(&self, incoming: &Incoming, ear: Ear) {
        let Ok((root, topic)) = Root::parse(&incoming.topic) else {
            return self.ignore(UNKNOWN_TOPIC, &incoming.topic);
        };
        if root != *self.verifier.root() {
            return self.ignore(UNKNOWN_TOPIC, &incoming.topic);
        }
        if incoming.retained
            && ear == self.fleets_ear()
            && matches!(topic, Topic::Discovery { .. } | Topic::Instance { .. })
        {
            self.hears_nothing_kept.store(false, Ordering::Relaxed);
        }
        let heard = match &topic {
            Topic::Trust => self.trust(&incoming.payload, ear),
            Topic::Command { .. } => self.command(&topic, &incoming.payload),
            Topic::Response { id, .. } => self.response(&topic, id.as_str(), &incoming.payload),
            _ if topic.owner().is_some_and(|owner| owner.as_str() == self.identity.node) => {
                self.own(&topic, incoming, ear)
            }
            _ => self.other(&topic, incoming, ear),
        };
        if let Err(rejected) = heard {
            self.ignore(rejected.kind(), &format!("{}: {rejected}", incoming.topic));
        }
    }

    /// The time by which requests end: a clock that was never set shows less than what was signed.
    fn now(&self) -> UnixSeconds {
        self.verifier.believable(unix_now())
    }

    /// What another node says.
    fn other(&self, topic: &Topic, incoming: &Incoming, ear: Ear) -> Result<(), Rejected> {
        if incoming.payload.is_empty() {
            // Anybody can clear a topic; what its owner took back it said before.
            return Ok(());
        }
        let Believed { stamp, payload, speaker, .. } = self.verifier.open(topic, &incoming.payload, unix_now())?;
        let now = self.clock.now();
        let entered = match WireMessage::decode(self.verifier.root(), topic, &payload)? {
            WireMessage::Announcement(said) => {
                self.registry.announce(*said, stamp, speaker.key.0, !incoming.retained, now)
            }
            WireMessage::State(said) => self.registry.state(&said, stamp, ear),
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
    fn own(&self, topic: &Topic, incoming: &Incoming, ear: Ear) -> Result<(), Rejected> {
        let message = incoming.payload.as_slice();
        let stood_there = incoming.retained && self.is_first_look(ear);
        let written_over = |is_left_over: bool| WrittenOver {
            topic: topic.clone(),
            payload: message.to_vec(),
            was_kept: incoming.retained,
            is_left_over,
        };
        if !topic.is_signed() || message.is_empty() {
            // Whoever publishes there knows whether it is what it said.
            self.tell_written_over(written_over(stood_there));
            return Ok(());
        }
        let opened = self.verifier.open(topic, message, unix_now());
        let stamp = opened.as_ref().map_or_else(|_| Stamp::default(), |believed| believed.stamp);
        let last = Stamp { session: self.signer.session(), sequence: self.signer.signed() };
        if stamp.session > last.session && stood_there && self.outlived(stamp) {
            return Ok(());
        }
        if stamp > last || (!stood_there && self.is_said_elsewhere(stamp)) {
            let why = format!(
                "message {} of session {} was said under this node's id, and this is session {}, which has said {}",
                stamp.sequence, stamp.session, last.session, last.sequence
            );
            self.tell(|listeners| tell(&listeners.duplicated, Duplicated { why }));
            return Ok(());
        }
        let is_echo = stamp.session == last.session
            && !self.is_last_will(topic, opened.as_ref().ok())
            // What a broker kept while the link was down is older by right, and is said over now.
            && (incoming.retained || !self.is_replayed(topic, stamp));
        if !is_echo {
            let is_left_over = incoming.retained && opened.is_ok();
            self.tell_written_over(written_over(is_left_over));
        }
        // An old word of our own is nobody's fault.
        opened.map(drop)
    }

    /// Whether somebody else brought back what we said before our last word here: that was said so long ago that an older one
    /// cannot still be on its way.
    fn is_replayed(&self, topic: &Topic, stamp: Stamp) -> bool {
        self.signer.last_word(topic).is_some_and(|last| stamp < last.stamp && last.at.elapsed() >= ECHO)
    }

    /// Whether what a broker keeps may have stood there before this node came: later it proves that somebody has written.
    fn is_first_look(&self, ear: Ear) -> bool {
        let first = self.first_connected()[ear as usize];
        first.is_none_or(|first| self.clock.now().saturating_sub(first) < FIRST_LOOK)
    }

    /// A word of a session after this one stood at the broker: this node has said it, before it lost its state directory.
    /// False where that cannot be, since it goes on in a later session already.
    fn outlived(&self, stamp: Stamp) -> bool {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if before.session != 0 && before.session != stamp.session {
            return false;
        }
        *before = (*before).max(stamp);
        drop(before);
        self.tell(|listeners| tell(&listeners.outlived, Outlived { session: stamp.session }));
        true
    }

    /// Whether a word of a session that stood at the broker when this one came is newer than all that stood there: then that
    /// session goes on elsewhere.
    fn is_said_elsewhere(&self, stamp: Stamp) -> bool {
        let before = *self.before.lock().unwrap_or_else(PoisonError::into_inner);
        stamp.session == before.session && stamp > before
    }

    /// The broker wrote our Last Will although we are here: late, after we came back.
    fn is_last_will(&self, topic: &Topic, believed: Option<&Believed>) -> bool {
        let decode = |believed: &Believed| WireMessage::decode(self.verifier.root(), topic, &believed.payload);
        match believed.map(decode) {
            Some(Ok(WireMessage::State(state))) => state.state == NodeStateKind::Lost,
            _ => false,
        }
    }

    fn trust(&self, message: &[u8], ear: Ear) -> Result<(), Rejected> {
        let update = self.verifier.update(message);
        if matches!(update, Ok(Update::RivalTaken | Update::RivalRefused)) {
            self.ignore(RIVAL, RIVAL_ADVICE);
        }
        let is_kept = matches!(update, Ok(Update::Same | Update::Newer | Update::RivalTaken));
        self.trust_heard[ear as usize].store(is_kept, Ordering::Relaxed);
        match update {
            Ok(Update::Same) => {}
            Ok(Update::Newer | Update::RivalTaken) => {
                let put_out = self.judge_others();
                // What is new at one broker is carried to the other.
                let others = self.ears.iter().filter(|other| **other != ear);
                others.for_each(|other| self.trust_is_to_be_heard(*other));
                self.tell(|listeners| tell(&listeners.trust_changed, TrustChanged { put_out }));
                if !self.lacking_trust().is_empty() {
                    self.tell(|listeners| tell(&listeners.trust_outdated, TrustOutdated));
                }
            }
            // Also where somebody cleared it or wrote something else there.
            Ok(Update::Older | Update::RivalRefused) | Err(_) => {
                self.tell(|listeners| tell(&listeners.trust_outdated, TrustOutdated))
            }
        }
        match update {
            Err(error) if !message.is_empty() => Err(Rejected::Foreign(error.to_string())),
            _ => Ok(()),
        }
    }

    /// Holds what was heard of others against what the fleet believes now, since that has changed. Names the nodes that are
    /// put out.
    pub fn judge_others(&self) -> Vec<String> {
        self.registry.judge(self.verifier.standings())
    }

    fn command(&self, topic: &Topic, message: &[u8]) -> Result<(), Rejected> {
        let asked = topic.owner().map(|node| node.as_str().to_owned()).unwrap_or_default();
        if asked != self.identity.node && asked != ALL_NODES {
            return Ok(());
        }
        let Believed { speaker, stamp, payload, chain } = self.verifier.open(topic, message, unix_now())?;
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
        let command = *command;
        self.tell(|listeners| match (&listeners.renewals, command.name) {
            (Some(renewals), CommandName::Renew) => tell(renewals, RenewalAsked { command, stamp, chain }),
            (None, CommandName::Renew) => {}
            _ => tell(&listeners.asked, Asked { command }),
        });
        Ok(())
    }

    /// What a node answers to somebody; of interest where that is us.
    fn response(&self, topic: &Topic, id: &str, message: &[u8]) -> Result<(), Rejected> {
        if !id.starts_with(&command_ids(&self.identity.node)) {
            return Ok(());
        }
        let Believed { payload, .. } = self.verifier.open(topic, message, unix_now())?;
        if let WireMessage::Response(response) = WireMessage::decode(self.verifier.root(), topic, &payload)? {
            self.tell(|listeners| tell(&listeners.answered, Answered { response: *response }));
        }
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

#[cfg(test)]
mod tests;
