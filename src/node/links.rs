//! The links to the broker: one for each tree, with its own Last Will, and the ear for the discovery topic.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use actix::Recipient;
use edge_config::{Broker, Config, Credentials};

use super::NodeError;
use crate::actors::discovery::Heard;
use crate::actors::publisher::{Identity, Report, outgoing};
use crate::actors::tell;
use crate::host::clock::rfc3339_now;
use crate::mqtt::link::{Link, LinkObserver, LinkOptions, LinkStatus};
use crate::mqtt::{Incoming, Qos};
use crate::wire::{Encoding, EventData, EventKind, Message, NodeState, NodeStateKind, Root, Topic};

/// Hears what comes on the links and passes it to the actors, once they are there.
#[derive(Default)]
pub(super) struct Ears {
    discovery: OnceLock<Recipient<Heard>>,
    events: OnceLock<Recipient<Report>>,
}

impl Ears {
    pub(super) fn connect(&self, discovery: Recipient<Heard>, events: Recipient<Report>) {
        // Set once, by the one control thread; a second time would change nothing.
        let _ = self.discovery.set(discovery);
        let _ = self.events.set(events);
    }
}

impl LinkObserver for Ears {
    fn received(&self, message: Incoming) {
        if let Some(discovery) = self.discovery.get() {
            tell(discovery, Heard(message));
        }
    }

    fn changed(&self, status: &LinkStatus) {
        let again = status.connections > 1;
        let kind = if status.connected { EventKind::LinkRestored } else { EventKind::LinkLost };
        if let Some(events) = self.events.get().filter(|_| again || !status.connected) {
            let data = EventData { reason: status.last_error.clone(), ..EventData::default() };
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
        let options = options(config, identity, embedded, &root)?;
        let observer: Arc<dyn LinkObserver> = match encoding {
            Encoding::Cbor => ears.clone(),
            // The JSON tree is never input, and its link tells nothing that the other does not.
            Encoding::Json => Arc::new(Ears::default()),
        };
        links.push((root, Link::start(options, observer)));
    }
    Ok(links)
}

fn options(
    config: &Config,
    identity: &Identity,
    embedded: Option<SocketAddr>,
    root: &Root,
) -> Result<LinkOptions, NodeError> {
    let (host, port, credentials) = match (&config.mqtt.broker, embedded) {
        (Broker::External { address, credentials, .. }, _) => {
            (address.host.clone(), address.port, credentials.as_ref().map(read_credentials).transpose()?)
        }
        (_, Some(address)) => (address.ip().to_string(), address.port(), None),
        (_, None) => return Err(NodeError::Setting("mqtt.enabled needs mqtt.listen or mqtt.broker".to_owned())),
    };
    let tree = match root.encoding {
        Encoding::Cbor => "cbor",
        Encoding::Json => "json",
    };
    Ok(LinkOptions {
        // An underscore is in no id, so that no two nodes have one client id.
        client_id: format!("tidegate_{}_{}_{tree}", identity.fleet, identity.node),
        host,
        port,
        keepalive: config.mqtt.keepalive,
        credentials,
        tls: None,
        last_will: Some(last_will(config, identity, root)?),
        subscriptions: match root.encoding {
            Encoding::Cbor => vec![(root.discovery(), Qos::AtMostOnce)],
            Encoding::Json => Vec::new(),
        },
    })
}

fn last_will(config: &Config, identity: &Identity, root: &Root) -> Result<crate::mqtt::Outgoing, NodeError> {
    let wrong = |error: String| NodeError::Setting(error);
    let topic = Topic::state(&identity.node).map_err(|error| wrong(error.to_string()))?;
    let state = state(identity, NodeStateKind::Lost, "the connection ended without a goodbye");
    let payload = state.encode(root.encoding).map_err(|error| wrong(error.to_string()))?;
    Ok(outgoing(root.topic(&topic), payload, &topic.delivery(config.mqtt.refresh)))
}

/// The node's state as a message.
pub(super) fn state(identity: &Identity, state: NodeStateKind, reason: &str) -> Message {
    Message::State(NodeState {
        state,
        fleet: identity.fleet.clone(),
        node: identity.node.clone(),
        session: identity.session,
        at: rfc3339_now(),
        reason: reason.to_owned(),
    })
}

fn read_credentials(credentials: &Credentials) -> Result<(String, String), NodeError> {
    let password = credentials.password_file.as_deref().map(read_secret).transpose()?.unwrap_or_default();
    Ok((credentials.username.clone(), password))
}

fn read_secret(path: &Path) -> Result<String, NodeError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        NodeError::Setting(format!("mqtt.password_file {} cannot be read: {error}", path.display()))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
