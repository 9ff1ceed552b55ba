//! The links to the brokers: one for each tree at each, with its own Last Will, and the ears for what others say.
//!
//! A node with an uplink speaks at its own broker and at one of the fleet's, by connections that know nothing of each other.
//! What a state says of its connection is of that link alone (`wire::registry` compares accordingly), commands and roots are
//! taken from both, and events go to each once, since each link has its own place in the spool.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actix::Recipient;
use edge_config::{Broker, BrokerAddress, Config};

use super::access::Access;
use super::gauges::Gauges;
use super::infer::Infer;
use super::trust::Trust;
use super::{NodeError, spooled};
use crate::actors::hearing::Hearing;
use crate::actors::publisher::{Identity, LinkUp, Report, Way, outgoing};
use crate::actors::tell;
use crate::actors::upstream::Upstream;
use crate::host::clock::rfc3339_now;
use crate::journal::Spool;
use crate::mqtt::link::{Alternative, Link, LinkObserver, LinkOptions, LinkStatus, Prepare};
use crate::mqtt::{Incoming, Qos};
use crate::trust::Signer;
use crate::wire::registry::Ear;
use crate::wire::{ALL_NODES, Encoding, EventData, EventKind, Message, NodeState, NodeStateKind, Root, Topic};

/// Hears what comes on a link, and tells of its state once the actors are there.
pub(super) struct Ears {
    /// None on a tree that is never input.
    hearing: Option<(Arc<Hearing>, Ear)>,
    events: OnceLock<Recipient<Report>>,
    ups: OnceLock<Recipient<LinkUp>>,
    /// The broker of the last connection.
    broker: Mutex<Option<String>>,
}

impl Ears {
    fn new(hearing: Option<(Arc<Hearing>, Ear)>) -> Self {
        Self { hearing, events: OnceLock::new(), ups: OnceLock::new(), broker: Mutex::default() }
    }

    pub(super) fn connect(&self, events: Recipient<Report>, ups: Recipient<LinkUp>) {
        // Set once, by the one control thread; a second time would change nothing.
        let _ = self.events.set(events);
        let _ = self.ups.set(ups);
    }

    fn is_uplink(&self) -> bool {
        self.hearing.as_ref().is_some_and(|(_, ear)| *ear == Ear::Uplink)
    }

    /// Whether this connection is to another broker than the last one.
    fn has_moved(&self, status: &LinkStatus) -> bool {
        let mut known = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, status.broker.clone());
        before.is_some() && before != status.broker
    }

    fn tell_change(&self, status: &LinkStatus, events: &Recipient<Report>) {
        let kind = if status.connected { EventKind::LinkRestored } else { EventKind::LinkLost };
        let reason = status.last_error.clone().or_else(|| spooled::restored(status));
        let broker = status.broker.as_deref().unwrap_or_default();
        let reason = match (reason, self.is_uplink()) {
            (Some(reason), true) if status.connected => Some(format!("uplink, now {broker}: {reason}")),
            (Some(reason), true) => Some(format!("uplink: {reason}")),
            (reason, _) => reason,
        };
        tell(events, Report { kind, data: EventData { reason, ..EventData::default() } });
    }
}

impl LinkObserver for Ears {
    fn received(&self, message: Incoming) {
        if let Some((hearing, ear)) = &self.hearing {
            hearing.hear(&message, *ear);
        }
    }

    fn changed(&self, status: &LinkStatus) {
        if let Some((hearing, ear)) = self.hearing.as_ref().filter(|_| status.connected) {
            if self.has_moved(status) {
                hearing.moved(*ear);
            }
            hearing.connected(*ear);
        }
        if let Some(ups) = self.ups.get().filter(|_| status.connected) {
            tell(ups, LinkUp);
        }
        let again = status.connections > 1;
        if let Some(events) = self.events.get().filter(|_| again || !status.connected) {
            self.tell_change(status, events);
        }
    }
}

/// The links that a configuration asks for, the CBOR tree of each broker first.
pub(super) fn wanted(config: &Config) -> Vec<(Ear, Encoding)> {
    if !config.mqtt.enabled {
        return Vec::new();
    }
    let home = [Some(Encoding::Cbor), config.mqtt.json.then_some(Encoding::Json)];
    let uplink = config.mqtt.uplink.as_ref();
    let uplink = uplink.map(|uplink| [Some(Encoding::Cbor), uplink.json.then_some(Encoding::Json)]);
    let home = home.into_iter().flatten().map(|encoding| (Ear::Home, encoding));
    let uplink = uplink.into_iter().flatten().flatten().map(|encoding| (Ear::Uplink, encoding));
    home.chain(uplink).collect()
}

/// Where a node hears.
pub(super) fn ears(config: &Config) -> Vec<Ear> {
    wanted(config).into_iter().filter(|(_, encoding)| *encoding == Encoding::Cbor).map(|(ear, _)| ear).collect()
}

/// What metrics, the log and the spool call a link.
pub(super) fn name((ear, encoding): (Ear, Encoding)) -> &'static str {
    match (ear, encoding) {
        (Ear::Home, Encoding::Cbor) => "cbor",
        (Ear::Home, Encoding::Json) => "json",
        (Ear::Uplink, Encoding::Cbor) => "uplink",
        (Ear::Uplink, Encoding::Json) => "uplink_json",
    }
}

/// Whether sensors ask there, and machines tell what services are scaled by: the JSON tree is never input, and at an uplink each byte may be paid for.
pub(super) fn brings_requests(encoding: Encoding, ear: Ear) -> bool {
    encoding == Encoding::Cbor && ear == Ear::Home
}

/// Starts the links. Does not wait for a broker.
pub(super) fn start(
    config: &Config,
    identity: &Identity,
    embedded: Option<SocketAddr>,
    hearing: &Arc<Hearing>,
    trust: &Trust,
    spool: Option<&Arc<Spool>>,
    (infer, gauges): (Option<&Infer>, &Arc<Gauges>),
) -> Result<(Vec<Way>, Vec<Arc<Ears>>), NodeError> {
    if config.mqtt.uplink.is_some() && config.node.credentials.is_none() {
        tracing::warn!(
            "mqtt.uplink is set and node.credentials is not: nobody at the fleet's brokers believes this node; enroll it \
             with `tidegate fleet enroll`"
        );
    }
    let (mut ways, mut ears) = (Vec::new(), Vec::new());
    for (ear, encoding) in wanted(config) {
        let root = Root::new(encoding, &identity.fleet).map_err(|error| NodeError::Setting(error.to_string()))?;
        let mut options = options(config, identity, embedded, ear, &root, trust)?;
        // The JSON tree is never input, and its link tells nothing that the other does not.
        let hears = (encoding == Encoding::Cbor).then(|| (hearing.clone(), ear));
        let heard = Arc::new(Ears::new(hears));
        if encoding == Encoding::Cbor {
            ears.push(heard.clone());
        }
        let observer: Arc<dyn LinkObserver> = heard;
        let observer = spooled::observer(observer, spool, options.name);
        let is_input = brings_requests(encoding, ear);
        let infer = infer.filter(|_| is_input);
        options.subscriptions.extend(gauges.filters().filter(|_| is_input));
        options.subscriptions.extend(infer.into_iter().flat_map(Infer::filters));
        let (observer, answering) = match infer.map(|infer| infer.open(observer.clone())) {
            Some((observer, answering)) => (observer, Some(answering)),
            None => (observer, None),
        };
        let observer = match is_input {
            true => gauges.observer(observer),
            false => observer,
        };
        let link = Link::start(options, observer);
        if let Some(answering) = answering {
            answering.start(&link);
        }
        spooled::attach(spool, &link);
        ways.push(Way { root, link, ear });
    }
    Ok((ways, ears))
}

/// What goes to the uplink is held and paid there; none without one.
pub(super) fn upstream(config: &Config, ways: &[Way], now: Duration) -> Option<Upstream> {
    let uplink = config.mqtt.uplink.as_ref()?;
    let links = ways.iter().filter(|way| way.ear == Ear::Uplink).map(|way| way.link.clone()).collect();
    Some(Upstream::new(links, uplink.load_interval, config.mqtt.refresh, uplink.daily_bytes, now))
}

fn options(
    config: &Config,
    identity: &Identity,
    embedded: Option<SocketAddr>,
    ear: Ear,
    root: &Root,
    trust: &Trust,
) -> Result<LinkOptions, NodeError> {
    let ((host, port), alternatives) = brokers(config, embedded, ear)?;
    let name = name((ear, root.encoding));
    let access = Access::new(config, Some(trust), ear);
    let mut options = LinkOptions {
        name,
        // An underscore is in no id, so that no two nodes have one client id.
        client_id: format!("tidegate_{}_{}_{name}", identity.fleet, identity.node),
        host,
        port,
        keepalive: config.mqtt.keepalive,
        credentials: None,
        tls: None,
        alternatives,
        last_will: None,
        others_alone: true,
        prepare: None,
        subscriptions: match root.encoding {
            Encoding::Cbor => filters(config, root, &identity.node, ear),
            Encoding::Json => Vec::new(),
        },
    };
    // What cannot be read at the start is said at the start.
    access.apply(&mut options)?;
    options.prepare = Some(prepare(config, identity, root, &trust.signer, access));
    Ok(options)
}

/// The preferred broker of a link, and those that are tried after it.
fn brokers(
    config: &Config,
    embedded: Option<SocketAddr>,
    ear: Ear,
) -> Result<((String, u16), Vec<Alternative>), NodeError> {
    let named = match (ear, &config.mqtt.uplink, &config.mqtt.broker) {
        (Ear::Uplink, Some(uplink), _) => uplink.addresses.as_slice(),
        (Ear::Home, _, Broker::External { address, .. }) => std::slice::from_ref(address),
        _ => &[],
    };
    match (named, embedded) {
        ([preferred, others @ ..], _) => {
            let alternative = |BrokerAddress { host, port, .. }: &BrokerAddress| Alternative {
                host: host.clone(),
                port: *port,
                tls: None,
            };
            Ok(((preferred.host.clone(), preferred.port), others.iter().map(alternative).collect()))
        }
        ([], Some(address)) => Ok(((address.ip().to_string(), address.port()), Vec::new())),
        ([], None) => Err(NodeError::Setting("mqtt.enabled needs mqtt.listen or mqtt.broker".to_owned())),
    }
}

/// All announcements, the states of all nodes, what stands on the retained topics of this one, what it is asked, and what is
/// answered. Of an uplink that must not tell of the fleet, only what is about this node.
fn filters(config: &Config, root: &Root, node: &str, ear: Ear) -> Vec<(String, Qos)> {
    let hears_fleet = ear == Ear::Home || config.mqtt.uplink.as_ref().is_some_and(|uplink| uplink.discovery);
    let own = ["service/+", "burst/+"].map(|below| (format!("{root}/node/{node}/{below}"), Qos::AtMostOnce));
    let asked = [node, ALL_NODES].map(|whom| (root.commands(whom), Qos::AtLeastOnce));
    let (announced, states) = match hears_fleet {
        true => (root.discovery(), format!("{root}/node/+/state")),
        false => (format!("{root}/discovery/{node}/#"), format!("{root}/node/{node}/state")),
    };
    let fleet = [
        (announced, Qos::AtMostOnce),
        (states, Qos::AtMostOnce),
        (root.topic(&Topic::Trust), Qos::AtLeastOnce),
        (root.responses(), Qos::AtLeastOnce),
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
