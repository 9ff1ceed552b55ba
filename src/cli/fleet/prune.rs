//! `tidegate fleet prune`: clears what nodes left at a broker that are not there any more.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cli::EXIT_USAGE;
use crate::cli::broker::BrokerArgs;
use crate::mqtt::link::{Link, LinkObserver, LinkStatus};
use crate::mqtt::{Incoming, Outgoing, Qos};
use crate::wire::{Encoding, Root, Topic, describe};

/// A broker gives what it keeps at once; when nothing came for this long, that was all.
const QUIET: Duration = Duration::from_secs(2);
/// A broker that is not there after this is not waited for.
const CONNECT: Duration = Duration::from_secs(15);
/// What is cleared is acknowledged within this.
const CLEAR: Duration = Duration::from_secs(30);
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

struct Observer(mpsc::Sender<Seen>);

impl LinkObserver for Observer {
    fn received(&self, message: Incoming) {
        if message.retained {
            // One that is lost here is looked at with the next call.
            let _ = self.0.try_send(Seen::Kept(message));
        }
    }

    fn changed(&self, status: &LinkStatus) {
        let _ = self.0.try_send(if status.connected { Seen::Up } else { Seen::Down });
    }
}

/// What stands at the broker under one node's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Node {
    /// As the CBOR tree has it, else the JSON tree.
    state: Option<String>,
    topics: BTreeSet<String>,
}

impl Node {
    /// Gone with or without a goodbye, or never heard of. Whoever is there says again what was cleared by mistake.
    fn is_ghost(&self) -> bool {
        self.state.as_deref().is_none_or(|state| matches!(state, "lost" | "offline"))
    }
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
            eprintln!("error: {:?} is not a fleet's id", self.fleet);
            return ExitCode::from(EXIT_USAGE);
        };
        let mut options = match self.broker.options("prune") {
            Ok(options) => options,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
        options.subscriptions = [&cbor, &json].map(|root| (root.everything(), Qos::AtLeastOnce)).to_vec();
        let (sender, mut seen) = mpsc::channel(WAITING);
        let link = Link::start(options, Arc::new(Observer(sender)));
        let nodes = match kept(&mut seen).await {
            Ok(nodes) => nodes,
            Err(NotReached) => {
                let why = link.status().last_error.unwrap_or_else(|| "no answer".to_owned());
                return failed(&format!("the broker cannot be reached: {why}"));
            }
        };
        let ghosts: Vec<_> = nodes.into_iter().filter(|(_, node)| node.is_ghost()).collect();
        let verb = if self.dry_run { "would clear" } else { "cleared" };
        for (name, node) in &ghosts {
            let state = node.state.as_deref().unwrap_or("without a state");
            println!("{name} ({state}): {verb} {} topics", node.topics.len());
            if !self.dry_run {
                node.topics.iter().for_each(|topic| link.publish(cleared(topic)));
            }
        }
        if ghosts.is_empty() {
            println!("nothing to clear: every node that left something is there");
        }
        link.close(CLEAR).await;
        ExitCode::SUCCESS
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

/// All that the broker keeps, by node.
async fn kept(seen: &mut mpsc::Receiver<Seen>) -> Result<BTreeMap<String, Node>, NotReached> {
    let mut nodes = BTreeMap::new();
    let mut patience = CONNECT;
    loop {
        match tokio::time::timeout(patience, seen.recv()).await {
            Ok(Some(Seen::Kept(message))) => note(&mut nodes, &message),
            Ok(Some(Seen::Up)) => patience = QUIET,
            Ok(Some(Seen::Down)) => patience = CONNECT,
            Ok(None) | Err(_) if patience == QUIET => return Ok(nodes),
            Ok(None) | Err(_) => return Err(NotReached),
        }
    }
}

fn note(nodes: &mut BTreeMap<String, Node>, message: &Incoming) {
    let Ok((root, topic)) = Root::parse(&message.topic) else { return };
    let Some(name) = topic.owner() else { return };
    let node: &mut Node = nodes.entry(name.as_str().to_owned()).or_default();
    node.topics.insert(message.topic.clone());
    if matches!(topic, Topic::State { .. }) && (root.encoding == Encoding::Cbor || node.state.is_none()) {
        let said = describe(&message.topic, &message.payload).ok();
        node.state = said.and_then(|said| said["state"].as_str().map(str::to_owned));
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
        let mut nodes = BTreeMap::new();
        for (topic, payload) in [
            ("tidegate-json/v1/f/node/a/state", r#"{"state":"online"}"#),
            ("tidegate-json/v1/f/node/b/state", r#"{"state":"lost"}"#),
            ("tidegate-json/v1/f/node/b/service/digits", "{}"),
            ("tidegate/v1/f/discovery/c", "?"),
            ("tidegate/v1/f/fleet/trust", "?"),
            ("homeassistant/status", "online"),
        ] {
            note(&mut nodes, &message(topic, payload));
        }
        let ghosts: Vec<_> = nodes.iter().filter(|(_, node)| node.is_ghost()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(ghosts, ["b", "c"]);
        assert_eq!(nodes["b"].topics.len(), 2);
    }
}
