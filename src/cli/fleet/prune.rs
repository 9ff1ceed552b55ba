//! `tidegate fleet prune`: clears what nodes left at a broker that are not there any more.
//!
//! Who shows a credential of the fleet goes by what nodes have signed: a state that nobody of the fleet has signed, or whose
//! certificate holds no longer, is no word of a node that is there. Without one, states are taken as they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::cli::EXIT_USAGE;
use crate::cli::broker::BrokerArgs;
use crate::cli::terminal::{complain, mention, say};
use crate::host::clock::unix_now;
use crate::mqtt::link::{Link, LinkObserver, LinkStatus};
use crate::mqtt::{Incoming, Outgoing, Qos};
use crate::trust::Verifier;
use crate::wire::{Encoding, Message, Root, Topic, describe};

/// A broker gives what it keeps at once; when nothing came for this long, that was all.
const QUIET: Duration = Duration::from_secs(2);
/// A broker that is not there after this is not waited for.
const CONNECT: Duration = Duration::from_secs(15);
/// A broker that acknowledges nothing for so long is not waited for.
const CLEAR: Duration = Duration::from_secs(30);
/// A goodbye takes as long.
const GOODBYE: Duration = Duration::from_secs(2);
/// Retained messages that wait to be looked at.
const WAITING: usize = 100_000;

/// `fleet prune`.
#[derive(Debug, clap::Args)]
pub struct Prune {
    /// The fleet's id.
    fleet: String,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Say what would be cleared, and clear nothing.
    #[arg(long)]
    dry_run: bool,
}

enum Seen {
    Kept(Incoming),
    Up,
    Down,
}

/// No connection to the broker came to stand.
struct NotReached;

struct Observer {
    seen: mpsc::Sender<Seen>,
    /// How many messages the broker is done with.
    done: watch::Sender<u64>,
}

impl LinkObserver for Observer {
    fn received(&self, message: Incoming) {
        if message.retained {
            // One that is lost here is looked at with the next call.
            let _ = self.seen.try_send(Seen::Kept(message));
        }
    }

    fn changed(&self, status: &LinkStatus) {
        let _ = self.seen.try_send(if status.connected { Seen::Up } else { Seen::Down });
    }

    fn released(&self, tickets: &[u64]) {
        self.done.send_modify(|done| *done += tickets.len() as u64);
    }
}

/// Clears topics in steps, as the broker takes them.
struct Clearing {
    link: Link,
    given: u64,
    done: watch::Receiver<u64>,
}

impl Clearing {
    /// How many of them the broker has taken; none where it acknowledges nothing any more.
    async fn clear(&mut self, topics: &BTreeSet<String>) -> Option<usize> {
        let refused_before = self.link.status().dropped;
        for topic in topics {
            while !self.link.keep(cleared(topic), self.given) {
                if !self.is_going_on().await {
                    return None;
                }
            }
            self.given += 1;
        }
        while *self.done.borrow() < self.given {
            if !self.is_going_on().await {
                return None;
            }
        }
        let refused = self.link.status().dropped.saturating_sub(refused_before);
        Some(topics.len().saturating_sub(usize::try_from(refused).unwrap_or(usize::MAX)))
    }

    /// Waits until the broker is done with one more.
    async fn is_going_on(&mut self) -> bool {
        matches!(tokio::time::timeout(CLEAR, self.done.changed()).await, Ok(Ok(())))
    }
}

/// What stands at the broker.
#[derive(Debug, Default)]
struct Kept {
    nodes: BTreeMap<String, Node>,
    /// The word on the fleet's trust, which may be newer than the one beside the credential.
    trust: Option<Vec<u8>>,
}

/// What stands there under one node's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Node {
    /// The message on its state's topic, in each tree.
    states: BTreeMap<Encoding, Incoming>,
    topics: BTreeSet<String>,
}

impl Node {
    /// Its state's word: as it has signed it where that can be checked, else as the CBOR tree has it, else the JSON tree.
    fn state(&self, verifier: Option<&Verifier>) -> Option<String> {
        if let Some(verifier) = verifier {
            return signed_state(verifier, self.states.get(&Encoding::Cbor)?);
        }
        let message = self.states.values().next()?;
        let said = describe(&message.topic, &message.payload).ok()?;
        said["state"].as_str().map(str::to_owned)
    }
}

fn signed_state(verifier: &Verifier, message: &Incoming) -> Option<String> {
    let (root, topic) = Root::parse(&message.topic).ok()?;
    let believed = verifier.open(&topic, &message.payload, unix_now()).ok()?;
    match Message::decode(&root, &topic, &believed.payload).ok()? {
        Message::State(said) => Some(said.state.as_str().to_owned()),
        _ => None,
    }
}

/// Gone with or without a goodbye, or never heard of. Whoever is there says again what was cleared by mistake.
fn is_ghost(state: Option<&str>) -> bool {
    state.is_none_or(|state| matches!(state, "lost" | "offline"))
}

impl Prune {
    pub(in crate::cli) fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return failed(&error.to_string()),
        };
        runtime.block_on(self.prune())
    }

    async fn prune(&self) -> ExitCode {
        let roots = [Encoding::Cbor, Encoding::Json].map(|encoding| Root::new(encoding, &self.fleet));
        let [Ok(cbor), Ok(json)] = roots else {
            complain!("error: {:?} is not a fleet's id", self.fleet);
            return ExitCode::from(EXIT_USAGE);
        };
        let mut options = match self.broker.options("prune") {
            Ok(options) => options,
            Err(error) => {
                complain!("error: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
        options.subscriptions = [&cbor, &json].map(|root| (root.everything(), Qos::AtLeastOnce)).to_vec();
        let verifier = match self.broker.verifier(&cbor) {
            Ok(verifier) => verifier,
            Err(error) => {
                complain!("error: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
        let (sender, mut seen) = mpsc::channel(WAITING);
        let (done, is_done) = watch::channel(0);
        let link = Link::start(options, Arc::new(Observer { seen: sender, done }));
        let kept = match kept(&mut seen).await {
            Ok(kept) => kept,
            Err(NotReached) => {
                let why = link.status().last_error.unwrap_or_else(|| "no answer".to_owned());
                return failed(&format!("the broker cannot be reached: {why}"));
            }
        };
        if let (Some(verifier), Some(trust)) = (&verifier, &kept.trust)
            && let Err(error) = verifier.update(trust)
        {
            complain!("warning: what stands on fleet/trust is passed over: {error}");
        }
        let mut clearing = Clearing { link, given: 0, done: is_done };
        let ended = self.clear_ghosts(&kept, verifier.as_ref(), &mut clearing).await;
        // All that was given was acknowledged, or will not be.
        clearing.link.close(GOODBYE).await;
        ended
    }

    async fn clear_ghosts(&self, kept: &Kept, verifier: Option<&Verifier>, clearing: &mut Clearing) -> ExitCode {
        let without = if verifier.is_some() { "without a state that the fleet has signed" } else { "without a state" };
        let states = kept.nodes.iter().map(|(name, node)| (name, node, node.state(verifier)));
        let ghosts: Vec<_> = states.filter(|(_, _, state)| is_ghost(state.as_deref())).collect();
        let mut is_whole = true;
        for (name, node, state) in &ghosts {
            let (state, count) = (state.as_deref().unwrap_or(without), node.topics.len());
            if self.dry_run {
                mention(&format!("{name} ({state}): would clear {count} topics"));
                continue;
            }
            match clearing.clear(&node.topics).await {
                Some(cleared) if cleared == count => mention(&format!("{name} ({state}): cleared {count} topics")),
                None => {
                    complain!(
                        "error: {name} ({state}): the broker does not acknowledge that its {count} topics are cleared; \
                         it may refuse this user, or be out of reach"
                    );
                    return ExitCode::FAILURE;
                }
                Some(cleared) => {
                    is_whole = false;
                    complain!(
                        "error: {name} ({state}): the broker took {cleared} of {count} topics; let this user write all \
                         topics of the fleet there (an operator's credential does, with the rules in examples/mosquitto)"
                    );
                }
            }
        }
        if ghosts.is_empty() {
            say!("nothing to clear: every node that left something is there");
        }
        if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn failed(why: &str) -> ExitCode {
    complain!("error: {why}");
    ExitCode::FAILURE
}

/// All that the broker keeps, by node.
async fn kept(seen: &mut mpsc::Receiver<Seen>) -> Result<Kept, NotReached> {
    let mut kept = Kept::default();
    let mut patience = CONNECT;
    loop {
        match tokio::time::timeout(patience, seen.recv()).await {
            Ok(Some(Seen::Kept(message))) => note(&mut kept, message),
            Ok(Some(Seen::Up)) => patience = QUIET,
            Ok(Some(Seen::Down)) => patience = CONNECT,
            Ok(None) | Err(_) if patience == QUIET => return Ok(kept),
            Ok(None) | Err(_) => return Err(NotReached),
        }
    }
}

fn note(kept: &mut Kept, message: Incoming) {
    let Ok((root, topic)) = Root::parse(&message.topic) else { return };
    if topic == Topic::Trust && root.encoding == Encoding::Cbor {
        kept.trust = Some(message.payload);
        return;
    }
    let Some(name) = topic.owner() else { return };
    let node = kept.nodes.entry(name.as_str().to_owned()).or_default();
    node.topics.insert(message.topic.clone());
    if matches!(topic, Topic::State { .. }) {
        node.states.insert(root.encoding, message);
    }
}

fn cleared(topic: &str) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        payload: Vec::new(),
        retained: true,
        qos: Qos::AtLeastOnce,
        expiry: None,
        properties: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &str) -> Incoming {
        Incoming { topic: topic.into(), payload: payload.into(), retained: true, expiry: None, properties: None }
    }

    #[test]
    fn who_is_gone_is_a_ghost_and_who_is_there_is_not() {
        let mut kept = Kept::default();
        for (topic, payload) in [
            ("tidegate-json/v1/f/node/a/state", r#"{"state":"online"}"#),
            ("tidegate-json/v1/f/node/b/state", r#"{"state":"lost"}"#),
            ("tidegate-json/v1/f/node/b/service/digits", "{}"),
            ("tidegate/v1/f/discovery/c", "?"),
            ("tidegate/v1/f/fleet/trust", "?"),
            ("homeassistant/status", "online"),
        ] {
            note(&mut kept, message(topic, payload));
        }
        let ghosts = kept.nodes.iter().filter(|(_, node)| is_ghost(node.state(None).as_deref()));
        assert_eq!(ghosts.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(kept.nodes["b"].topics.len(), 2);
        assert_eq!(kept.trust.as_deref(), Some(&b"?"[..]));
    }
}
