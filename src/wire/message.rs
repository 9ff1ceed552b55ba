//! Any message on any topic of ours: decoded by what the topic says it is, and held against what the topic claims.

use serde::Serialize;
use serde_json::Value;

use super::codec::{WireError, encode, from_cbor, from_json};
use super::sealed::Sealed;
use super::topics::{Encoding, Root, Topic};
use super::{
    Announcement, BurstStatus, Command, CommandName, Event, EventKind, FleetTrust, LoadReport, NodeState, Response,
    ServiceStatus,
};

/// What a topic may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A node's or an instance's announcement.
    Announcement(Box<Announcement>),
    /// A node's state.
    State(NodeState),
    /// A node's load.
    Load(Box<LoadReport>),
    /// A service's status.
    Service(Box<ServiceStatus>),
    /// An instance's status.
    Burst(Box<BurstStatus>),
    /// An event.
    Event(Box<Event>),
    /// A request to a node.
    Command(Box<Command>),
    /// A node's answer to one.
    Response(Box<Response>),
    /// The fleet's roots and revocations.
    Trust(Box<FleetTrust>),
    /// An empty payload: what was retained here is gone.
    Cleared,
}

impl Message {
    /// Decodes the payload of a message that came on `topic` of `root`'s tree. Refuses one that names another node, service,
    /// instance, launch, kind or fleet than its topic does.
    pub fn decode(root: &Root, topic: &Topic, payload: &[u8]) -> Result<Self, WireError> {
        if payload.is_empty() {
            return Ok(Self::Cleared);
        }
        let message = match topic {
            Topic::Discovery { .. } | Topic::Instance { .. } => Self::Announcement(Box::new(from_cbor(payload)?)),
            Topic::State { .. } => Self::State(from_cbor(payload)?),
            Topic::Load { .. } => Self::Load(Box::new(from_cbor(payload)?)),
            Topic::Service { .. } => Self::Service(Box::new(from_cbor(payload)?)),
            Topic::Burst { .. } => Self::Burst(Box::new(from_cbor(payload)?)),
            Topic::Event { .. } => Self::Event(Box::new(from_cbor(payload)?)),
            Topic::Command { .. } => Self::Command(Box::new(from_cbor(payload)?)),
            Topic::Response { .. } => Self::Response(Box::new(from_cbor(payload)?)),
            Topic::Trust => Self::Trust(Box::new(from_cbor(payload)?)),
            Topic::Infer { .. } | Topic::Reply { .. } => return Err(WireError::Opaque(topic.to_string())),
        };
        message.agrees_with(root, topic)?;
        Ok(message)
    }

    /// The payload for a tree of `encoding`; empty to clear what is retained.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Announcement(message) => encode(encoding, message),
            Self::State(message) => encode(encoding, message),
            Self::Load(message) => encode(encoding, message),
            Self::Service(message) => encode(encoding, message),
            Self::Burst(message) => encode(encoding, message),
            Self::Event(message) => encode(encoding, message),
            Self::Command(message) => encode(encoding, message),
            Self::Response(message) => encode(encoding, message),
            Self::Trust(message) => encode(encoding, message),
            Self::Cleared => Ok(Vec::new()),
        }
    }

    /// The message as the JSON tree shows it; null where it was cleared.
    pub fn to_value(&self) -> Result<Value, WireError> {
        match self {
            Self::Announcement(message) => to_value(message),
            Self::State(message) => to_value(message),
            Self::Load(message) => to_value(message),
            Self::Service(message) => to_value(message),
            Self::Burst(message) => to_value(message),
            Self::Event(message) => to_value(message),
            Self::Command(message) => to_value(message),
            Self::Response(message) => to_value(message),
            Self::Trust(message) => to_value(message),
            Self::Cleared => Ok(Value::Null),
        }
    }

    fn agrees_with(&self, root: &Root, topic: &Topic) -> Result<(), WireError> {
        let fleet = root.fleet.as_str();
        match (self, topic) {
            (Self::Announcement(message), Topic::Discovery { node }) => {
                same("fleet", fleet, &message.fleet)?;
                same("node", node.as_str(), &message.node)?;
                same("instance", "", message.instance.as_deref().unwrap_or_default())
            }
            (Self::Announcement(message), Topic::Instance { node, instance }) => {
                same("fleet", fleet, &message.fleet)?;
                same("node", node.as_str(), &message.node)?;
                same("instance", instance.as_str(), message.instance.as_deref().unwrap_or_default())
            }
            (Self::State(message), Topic::State { node }) => {
                same("fleet", fleet, &message.fleet)?;
                same("node", node.as_str(), &message.node)
            }
            (Self::Load(message), Topic::Load { node }) => same("node", node.as_str(), &message.node),
            (Self::Service(message), Topic::Service { node, service }) => {
                same("node", node.as_str(), &message.node)?;
                same("service", service.as_str(), &message.service)
            }
            (Self::Burst(message), Topic::Burst { node, launch }) => {
                same("node", node.as_str(), &message.node)?;
                same("launch", launch.as_str(), &message.launch)
            }
            (Self::Event(message), Topic::Event { node, kind }) => {
                same("node", &super::event::source(fleet, node.as_str()), &message.source)?;
                // A kind of a newer version has a word in the topic and an unknown number in the payload.
                same("kind", EventKind::from_word(kind.as_str()).as_str(), message.kind.as_str())
            }
            (Self::Command(message), Topic::Command { node, name }) => {
                same("fleet", fleet, &message.fleet)?;
                same("node", node.as_str(), &message.node)?;
                same("name", CommandName::from_word(name.as_str()).as_str(), message.name.as_str())
            }
            (Self::Response(message), Topic::Response { node, id }) => {
                same("fleet", fleet, &message.fleet)?;
                same("node", node.as_str(), &message.node)?;
                same("id", id.as_str(), &message.id)
            }
            (Self::Trust(message), Topic::Trust) => same("fleet", fleet, &message.fleet),
            // `decode` picks the variant by the topic, so there is nothing else to compare.
            _ => Ok(()),
        }
    }
}

/// Any payload on any topic of either tree as JSON, for showing it to people; signatures are not checked. Null for an empty
/// one: the topic was cleared. What a service is asked and answers is shown if it is JSON, and else by its length.
pub fn describe(topic: &str, payload: &[u8]) -> Result<Value, WireError> {
    let (root, below) = Root::parse(topic)?;
    match root.encoding {
        Encoding::Json if payload.is_empty() => Ok(Value::Null),
        _ if below.is_opaque() => {
            Ok(serde_json::from_slice(payload).unwrap_or_else(|_| serde_json::json!({ "bytes": payload.len() })))
        }
        Encoding::Json => from_json(payload),
        Encoding::Cbor if below.is_signed() && !payload.is_empty() => {
            let sealed = Sealed::read(&root, &below, payload)?;
            Message::decode(&root, &below, &sealed.payload)?.to_value()
        }
        Encoding::Cbor => Message::decode(&root, &below, payload)?.to_value(),
    }
}

fn to_value<T: Serialize>(message: &T) -> Result<Value, WireError> {
    serde_json::to_value(message).map_err(|error| WireError::Unwritable(error.to_string()))
}

fn same(field: &'static str, topic: &str, payload: &str) -> Result<(), WireError> {
    if topic == payload {
        return Ok(());
    }
    Err(WireError::Mismatch { field, topic: topic.to_owned(), payload: payload.to_owned() })
}
