//! The links to the broker: one for each tree, with its own Last Will, and the ear for what others say.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Recipient;
use edge_config::{Broker, Config};

use super::access::Access;
use super::infer::Infer;
use super::trust::Trust;
use super::{NodeError, spooled};
use crate::actors::hearing::Hearing;
use crate::actors::publisher::{Identity, LinkUp, Report, outgoing};
use crate::actors::tell;
use crate::host::clock::rfc3339_now;
use crate::journal::Spool;
use crate::mqtt::link::{Link, LinkObserver, LinkOptions, LinkStatus, Prepare};
use crate::mqtt::{Incoming, Qos};
use crate::trust::Signer;
use crate::wire::{ALL_NODES, Encoding, EventData, EventKind, Message, NodeState, NodeStateKind, Root, Topic};

/// Hears what comes on the links, and tells of their state once the actors are there.
pub(super) struct Ears {
    /// None on a tree that is never input.
    hearing: Option<Arc<Hearing>>,
    events: OnceLock<Recipient<Report>>,
    ups: OnceLock<Recipient<LinkUp>>,
}

impl Ears {
    pub(super) fn new(hearing: Option<Arc<Hearing>>) -> Self {
        Self { hearing, events: OnceLock::new(), ups: OnceLock::new() }
    }

    pub(super) fn connect(&self, events: Recipient<Report>, ups: Recipient<LinkUp>) {
        // Set once, by the one control thread; a second time would change nothing.
        let _ = self.events.set(events);
        let _ = self.ups.set(ups);
    }
}

impl LinkObserver for Ears {
    fn received(&self, message: Incoming) {
        if let Some(hearing) = &self.hearing {
            hearing.hear(&message);
        }
    }

    fn changed(&self, status: &LinkStatus) {
        if let Some(hearing) = self.hearing.as_ref().filter(|_| status.connected) {
            hearing.trust_is_to_be_heard();
        }
        if let Some(ups) = self.ups.get().filter(|_| status.connected) {
            tell(ups, LinkUp);
        }
        let again = status.connections > 1;
        let kind = if status.connected { EventKind::LinkRestored } else { EventKind::LinkLost };
        if let Some(events) = self.events.get().filter(|_| again || !status.connected) {
            let reason = status.last_error.clone().or_else(|| spooled::restored(status));
            let data = EventData { reason, ..EventData::default() };
            tell(events, Report { kind, data });
        }
    }
}

/// Starts a link for each tree. Does not wait for the broker.
pub(super) fn start(
    config: &Config,
    identity: &Identity,
    embedded: Option<SocketAddr>,
    ears: &Arc<Ears>,
    trust: &Trust,
    spool: Option<&Arc<Spool>>,
    infer: Option<&Infer>,
) -> Result<Vec<(Root, Link)>, NodeError> {
    if !config.mqtt.enabled {
        return Ok(Vec::new());
    }
    let mut links = Vec::new();
    for encoding in [Encoding::Cbor, Encoding::Json] {
        if encoding == Encoding::Json && !config.mqtt.json {
            continue;
        }
        let root = Root::new(encoding, &identity.fleet).map_err(|error| NodeError::Setting(error.to_string()))?;
        let mut options = options(config, identity, embedded, &root, trust)?;
        let observer: Arc<dyn LinkObserver> = match encoding {
            Encoding::Cbor => ears.clone(),
            // The JSON tree is never input, and its link tells nothing that the other does not.
            Encoding::Json => Arc::new(Ears::new(None)),
        };
        let observer = spooled::observer(observer, spool, options.name);
        // The JSON tree is never input, of requests neither.
        let infer = infer.filter(|_| encoding == Encoding::Cbor);
        options.subscriptions.extend(infer.into_iter().flat_map(Infer::filters));
        let (observer, answering) = match infer.map(|infer| infer.open(observer.clone())) {
            Some((observer, answering)) => (observer, Some(answering)),
            None => (observer, None),
        };
        let link = Link::start(options, observer);
        if let Some(answering) = answering {
            answering.start(&link);
        }
        spooled::attach(spool, &link);
        links.push((root, link));
    }
    Ok(links)
}

fn options(
    config: &Config,
    identity: &Identity,
    embedded: Option<SocketAddr>,
    root: &Root,
    trust: &Trust,
) -> Result<LinkOptions, NodeError> {
    let (host, port) = match (&config.mqtt.broker, embedded) {
        (Broker::External { address, .. }, _) => (address.host.clone(), address.port),
        (_, Some(address)) => (address.ip().to_string(), address.port()),
        (_, None) => return Err(NodeError::Setting("mqtt.enabled needs mqtt.listen or mqtt.broker".to_owned())),
    };
    let tree = spooled::tree(root.encoding);
    let access = Access::new(config, trust);
    let mut options = LinkOptions {
        name: tree,
        // An underscore is in no id, so that no two nodes have one client id.
        client_id: format!("tidegate_{}_{}_{tree}", identity.fleet, identity.node),
        host,
        port,
        keepalive: config.mqtt.keepalive,
        credentials: None,
        tls: None,
        last_will: None,
        others_alone: true,
        prepare: None,
        subscriptions: match root.encoding {
            Encoding::Cbor => filters(root, &identity.node),
            Encoding::Json => Vec::new(),
        },
    };
    // What cannot be read at the start is said at the start.
    access.apply(&mut options)?;
    options.prepare = Some(prepare(config, identity, root, &trust.signer, access));
    Ok(options)
}

/// All announcements, the states of all nodes, what stands on the retained topics of this one, and what it is asked.
fn filters(root: &Root, node: &str) -> Vec<(String, Qos)> {
    let own = ["service/+", "burst/+"].map(|below| (format!("{root}/node/{node}/{below}"), Qos::AtMostOnce));
    let asked = [node, ALL_NODES].map(|whom| (root.commands(whom), Qos::AtLeastOnce));
    let fleet = [
        (root.discovery(), Qos::AtMostOnce),
        (format!("{root}/node/+/state"), Qos::AtMostOnce),
        (root.topic(&Topic::Trust), Qos::AtLeastOnce),
    ];
    fleet.into_iter().chain(own).chain(asked).collect()
}

/// The Last Will is signed anew for each attempt, so that it is newer than its connection and older than the next.
fn prepare(config: &Config, identity: &Identity, root: &Root, signer: &Arc<Signer>, access: Access) -> Prepare {
    let (refresh, identity, root, signer) = (config.mqtt.refresh, identity.clone(), root.clone(), signer.clone());
    Prepare::new(move |attempt, options| {
        if let Err(error) = access.apply(options) {
            tracing::warn!(%error, "trying the broker with what was read before");
        }
        options.last_will = last_will(&identity, &root, &signer, attempt, refresh);
    })
}

fn last_will(
    identity: &Identity,
    root: &Root,
    signer: &Signer,
    attempt: u64,
    refresh: Duration,
) -> Option<crate::mqtt::Outgoing> {
    let topic = Topic::state(&identity.node).ok()?;
    let state = state(identity, NodeStateKind::Lost, "the connection ended without a goodbye", attempt);
    let payload = state.encode(root.encoding).and_then(|payload| match root.encoding {
        Encoding::Cbor => signer.seal(&topic, payload),
        Encoding::Json => Ok(payload),
    });
    let payload = payload.inspect_err(|error| tracing::error!(%error, "the Last Will could not be written")).ok()?;
    Some(outgoing(root.topic(&topic), payload, &topic.delivery(refresh)))
}

/// The node's state as a message.
pub(super) fn state(identity: &Identity, state: NodeStateKind, reason: &str, connection: u64) -> Message {
    Message::State(NodeState {
        state,
        fleet: identity.fleet.clone(),
        node: identity.node.clone(),
        session: identity.session,
        at: rfc3339_now(),
        reason: reason.to_owned(),
        connection,
    })
}
