//! Where messages stand and how they are delivered: the topic tree of both encodings, written and read in one place.

use std::fmt;
use std::time::Duration;

/// A segment is at most this long, so that the longest topic stays below the 256 bytes that AWS IoT Core takes.
const MAX_SEGMENT_BYTES: usize = 64;

/// A whole topic is at most this long, and no topic has more slashes than [`MAX_SLASHES`]: what AWS IoT Core takes.
pub(crate) const MAX_TOPIC_BYTES: usize = 256;
const MAX_SLASHES: usize = 7;
/// Most segments of a reply's topic below the client: with them it has seven slashes.
const MAX_REPLY_SEGMENTS: usize = 3;

/// Refreshes that a retained announcement outlives its sender's last one.
const EXPIRY_REFRESHES: u32 = 3;

/// Why something is no topic of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// A name that cannot stand in a topic.
    #[error("{0:?} cannot be part of a topic: use 1 to 64 bytes without '/', '+', '#' and control characters")]
    Segment(String),
    /// A topic that is not below `tidegate/v1/` or `tidegate-json/v1/`, or of a kind that this version does not know.
    #[error("{0:?} is not a topic that this version knows")]
    Unknown(String),
}

/// One part of a topic: 1 to 64 bytes without `/`, the wildcards `+` and `#`, and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(String);

impl Segment {
    /// Takes a name that can stand in a topic.
    pub fn new(name: impl Into<String>) -> Result<Self, TopicError> {
        let name = name.into();
        let fits = (1..=MAX_SEGMENT_BYTES).contains(&name.len());
        let forbidden = |c: char| matches!(c, '/' | '+' | '#') || c.is_control();
        if fits && !name.contains(forbidden) { Ok(Self(name)) } else { Err(TopicError::Segment(name)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Packed CBOR, `tidegate/v1/…`.
    Cbor,
    /// Its JSON mirror, `tidegate-json/v1/…`; never input.
    Json,
}

impl Encoding {
    /// The first two segments of the tree.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Cbor => "tidegate/v1",
            Self::Json => "tidegate-json/v1",
        }
    }
}

/// The tree of one fleet in one encoding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root {
    /// The tree's encoding.
    pub encoding: Encoding,
    /// The fleet.
    pub fleet: Segment,
}

impl Root {
    /// The tree of `fleet`.
    pub fn new(encoding: Encoding, fleet: &str) -> Result<Self, TopicError> {
        Ok(Self { encoding, fleet: Segment::new(fleet)? })
    }

    /// The whole topic.
    pub fn topic(&self, topic: &Topic) -> String {
        format!("{self}/{topic}")
    }

    /// Filter for everything in the tree.
    pub fn everything(&self) -> String {
        format!("{self}/#")
    }

    /// Filter for the shared discovery topic: nodes and their instances.
    pub fn discovery(&self) -> String {
        format!("{self}/discovery/#")
    }

    /// Filter for what every node is asked.
    pub fn commands(&self, node: &str) -> String {
        format!("{self}/node/{node}/command/+")
    }

    /// Filter for what nodes answer.
    pub fn responses(&self) -> String {
        format!("{self}/node/+/response/+")
    }

    /// Filter for everything that one node publishes, its announcements aside.
    pub fn node(&self, node: &Segment) -> String {
        format!("{self}/node/{node}/#")
    }

    /// Filter for what sensors ask of one service.
    pub fn requests(&self, service: &str) -> String {
        format!("{self}/infer/{service}/#")
    }

    /// Filter for what sensors ask of any service.
    pub fn all_requests(&self) -> String {
        format!("{self}/infer/#")
    }

    /// Takes a whole topic apart.
    pub fn parse(topic: &str) -> Result<(Self, Topic), TopicError> {
        let unknown = || TopicError::Unknown(topic.to_owned());
        if topic.len() > MAX_TOPIC_BYTES || topic.matches('/').count() > MAX_SLASHES {
            return Err(unknown());
        }
        let (encoding, rest) = [Encoding::Cbor, Encoding::Json]
            .into_iter()
            .find_map(|encoding| Some((encoding, topic.strip_prefix(encoding.prefix())?.strip_prefix('/')?)))
            .ok_or_else(unknown)?;
        let (fleet, rest) = rest.split_once('/').ok_or_else(unknown)?;
        let below = Topic::parse(rest)?.ok_or_else(unknown)?;
        Ok((Self::new(encoding, fleet)?, below))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.encoding.prefix(), self.fleet)
    }
}

/// A topic below the root. What a segment says is a claim of whoever published, not proof.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// `discovery/{node}`: a node's announcement.
    Discovery {
        /// The node.
        node: Segment,
    },
    /// `discovery/{node}/{instance}`: the announcement of a node's cloud instance.
    Instance {
        /// The owner.
        node: Segment,
        /// The launch id.
        instance: Segment,
    },
    /// `node/{node}/state`.
    State {
        /// The node.
        node: Segment,
    },
    /// `node/{node}/load`.
    Load {
        /// The node.
        node: Segment,
    },
    /// `node/{node}/service/{service}`.
    Service {
        /// The node.
        node: Segment,
        /// The service.
        service: Segment,
    },
    /// `node/{node}/burst/{launch}`.
    Burst {
        /// The owner.
        node: Segment,
        /// The launch id.
        launch: Segment,
    },
    /// `node/{node}/event/{kind}`.
    Event {
        /// The node.
        node: Segment,
        /// The kind's word; one of a newer version may be unknown here.
        kind: Segment,
    },
    /// `node/{node}/command/{name}`.
    Command {
        /// The node that is asked, or [`ALL_NODES`].
        node: Segment,
        /// The command's word.
        name: Segment,
    },
    /// `node/{node}/response/{id}`.
    Response {
        /// The node that answers.
        node: Segment,
        /// The command's id.
        id: Segment,
    },
    /// `fleet/trust`.
    Trust,
    /// `infer/{service}/{client}` or `infer/{service}/{client}/{id}`: a request for a service, whose payload is the service's
    /// matter.
    Infer {
        /// The service that is asked.
        service: Segment,
        /// Who asks.
        client: Segment,
        /// Tells the client's requests apart where it cannot say so otherwise.
        id: Option<Segment>,
    },
    /// `reply/{client}/…`: the answer to such a request, where its client wants it.
    Reply {
        /// Who asked.
        client: Segment,
        /// One to three names of the client's choice.
        below: Vec<Segment>,
    },
}

/// In the place of a node in a command's topic: every node. No node may be called so.
pub const ALL_NODES: &str = "all";

impl Topic {
    /// `discovery/{node}`.
    pub fn discovery(node: &str) -> Result<Self, TopicError> {
        Ok(Self::Discovery { node: Segment::new(node)? })
    }

    /// `discovery/{node}/{instance}`.
    pub fn instance(node: &str, instance: &str) -> Result<Self, TopicError> {
        Ok(Self::Instance { node: Segment::new(node)?, instance: Segment::new(instance)? })
    }

    /// `node/{node}/state`.
    pub fn state(node: &str) -> Result<Self, TopicError> {
        Ok(Self::State { node: Segment::new(node)? })
    }

    /// `node/{node}/load`.
    pub fn load(node: &str) -> Result<Self, TopicError> {
        Ok(Self::Load { node: Segment::new(node)? })
    }

    /// `node/{node}/service/{service}`.
    pub fn service(node: &str, service: &str) -> Result<Self, TopicError> {
        Ok(Self::Service { node: Segment::new(node)?, service: Segment::new(service)? })
    }

    /// `node/{node}/burst/{launch}`.
    pub fn burst(node: &str, launch: &str) -> Result<Self, TopicError> {
        Ok(Self::Burst { node: Segment::new(node)?, launch: Segment::new(launch)? })
    }

    /// `node/{node}/event/{kind}`.
    pub fn event(node: &str, kind: super::EventKind) -> Result<Self, TopicError> {
        Ok(Self::Event { node: Segment::new(node)?, kind: Segment::new(kind.as_str())? })
    }

    /// `node/{node}/command/{name}`.
    pub fn command(node: &str, name: super::CommandName) -> Result<Self, TopicError> {
        Ok(Self::Command { node: Segment::new(node)?, name: Segment::new(name.as_str())? })
    }

    /// `node/{node}/response/{id}`.
    pub fn response(node: &str, id: &str) -> Result<Self, TopicError> {
        Ok(Self::Response { node: Segment::new(node)?, id: Segment::new(id)? })
    }

    /// `infer/{service}/{client}`, with an id as `infer/{service}/{client}/{id}`.
    pub fn infer(service: &str, client: &str, id: Option<&str>) -> Result<Self, TopicError> {
        let (service, client) = (Segment::new(service)?, Segment::new(client)?);
        Ok(Self::Infer { service, client, id: id.map(Segment::new).transpose()? })
    }

    /// `reply/{client}/…`.
    pub fn reply(client: &str, below: &[&str]) -> Result<Self, TopicError> {
        let below: Vec<Segment> = below.iter().map(|name| Segment::new(*name)).collect::<Result<_, _>>()?;
        Ok(Self::Reply { client: Segment::new(client)?, below })
    }

    /// Takes apart what stands below the root; none for a kind that this version does not know.
    fn parse(below_root: &str) -> Result<Option<Self>, TopicError> {
        // One segment more than the longest topic has, so that a longer one does not match.
        let segments: Vec<&str> = below_root.splitn(6, '/').collect();
        let topic = match segments[..] {
            ["discovery", node] => Self::discovery(node)?,
            ["discovery", node, instance] => Self::instance(node, instance)?,
            ["node", node, "state"] => Self::state(node)?,
            ["node", node, "load"] => Self::load(node)?,
            ["node", node, "service", service] => Self::service(node, service)?,
            ["node", node, "burst", launch] => Self::burst(node, launch)?,
            ["node", node, "event", kind] => Self::Event { node: Segment::new(node)?, kind: Segment::new(kind)? },
            ["node", node, "command", name] => Self::Command { node: Segment::new(node)?, name: Segment::new(name)? },
            ["node", node, "response", id] => Self::response(node, id)?,
            ["fleet", "trust"] => Self::Trust,
            ["infer", service, client] => Self::infer(service, client, None)?,
            ["infer", service, client, id] => Self::infer(service, client, Some(id))?,
            ["reply", client, ref below @ ..] if (1..=MAX_REPLY_SEGMENTS).contains(&below.len()) => {
                Self::reply(client, below)?
            }
            _ => return Ok(None),
        };
        Ok(Some(topic))
    }

    /// The node that the topic belongs to: only that one publishes there, but for commands, which it gets. None for the
    /// fleet's own, and for what sensors ask and are told.
    pub fn owner(&self) -> Option<&Segment> {
        match self {
            Self::Trust | Self::Infer { .. } | Self::Reply { .. } => None,
            Self::Discovery { node }
            | Self::Instance { node, .. }
            | Self::State { node }
            | Self::Load { node }
            | Self::Service { node, .. }
            | Self::Burst { node, .. }
            | Self::Event { node, .. }
            | Self::Command { node, .. }
            | Self::Response { node, .. } => Some(node),
        }
    }

    /// Whether only signed messages count here ([`super::Sealed`]): those that somebody acts upon.
    pub fn is_signed(&self) -> bool {
        match self {
            Self::Discovery { .. }
            | Self::Instance { .. }
            | Self::State { .. }
            | Self::Burst { .. }
            | Self::Command { .. }
            | Self::Response { .. }
            | Self::Trust => true,
            Self::Load { .. } | Self::Service { .. } | Self::Event { .. } | Self::Infer { .. } | Self::Reply { .. } => {
                false
            }
        }
    }

    /// Whether a broker keeps the last message here.
    pub fn is_retained(&self) -> bool {
        self.delivery(Duration::ZERO).retained
    }

    /// Whether the payload is a service's matter and no message of ours.
    pub fn is_opaque(&self) -> bool {
        matches!(self, Self::Infer { .. } | Self::Reply { .. })
    }

    /// How messages here are delivered, where retained ones are published again every `refresh`.
    pub fn delivery(&self, refresh: Duration) -> Delivery {
        let expiry = Some(refresh.saturating_mul(EXPIRY_REFRESHES));
        match self {
            Self::Discovery { .. } | Self::Instance { .. } | Self::Burst { .. } => {
                Delivery { retained: true, qos: Qos::AtLeastOnce, expiry }
            }
            // The broker writes the last word here when the node cannot, so it must not vanish by itself.
            Self::State { .. } | Self::Trust => Delivery { retained: true, qos: Qos::AtLeastOnce, expiry: None },
            Self::Service { .. } => Delivery { retained: true, qos: Qos::AtMostOnce, expiry },
            Self::Load { .. } => Delivery { retained: false, qos: Qos::AtMostOnce, expiry: None },
            Self::Event { .. }
            | Self::Command { .. }
            | Self::Response { .. }
            | Self::Infer { .. }
            | Self::Reply { .. } => Delivery { retained: false, qos: Qos::AtLeastOnce, expiry: None },
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery { node } => write!(f, "discovery/{node}"),
            Self::Instance { node, instance } => write!(f, "discovery/{node}/{instance}"),
            Self::State { node } => write!(f, "node/{node}/state"),
            Self::Load { node } => write!(f, "node/{node}/load"),
            Self::Service { node, service } => write!(f, "node/{node}/service/{service}"),
            Self::Burst { node, launch } => write!(f, "node/{node}/burst/{launch}"),
            Self::Event { node, kind } => write!(f, "node/{node}/event/{kind}"),
            Self::Command { node, name } => write!(f, "node/{node}/command/{name}"),
            Self::Response { node, id } => write!(f, "node/{node}/response/{id}"),
            Self::Trust => f.write_str("fleet/trust"),
            Self::Infer { service, client, id: None } => write!(f, "infer/{service}/{client}"),
            Self::Infer { service, client, id: Some(id) } => write!(f, "infer/{service}/{client}/{id}"),
            Self::Reply { client, below } => {
                write!(f, "reply/{client}")?;
                below.iter().try_for_each(|name| write!(f, "/{name}"))
            }
        }
    }
}

/// How a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whether the broker keeps it for late joiners.
    pub retained: bool,
    /// Its quality of service.
    pub qos: Qos,
    /// After which the broker forgets it (MQTT 5; an older broker keeps it); none for never.
    pub expiry: Option<Duration>,
}

impl Delivery {
    /// The expiry as MQTT 5 takes it: whole seconds, rounded up, so that a short one does not become none.
    pub fn expiry_s(&self) -> Option<u32> {
        let expiry = self.expiry?;
        let seconds = expiry.as_secs().saturating_add(u64::from(expiry.subsec_nanos() > 0));
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

/// MQTT's qualities of service that are used here. Never 2: AWS IoT Core and Azure Event Grid do not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Qos {
    /// 0: lost with the connection.
    AtMostOnce = 0,
    /// 1: acknowledged, maybe twice.
    AtLeastOnce = 1,
}

#[cfg(test)]
mod tests;
