//! The announcement on the shared discovery topic: who is here, how to reach it, what it serves and what it has to
//! spare.

use serde::{Deserialize, Serialize};

use super::numbered::numbered_enum;

/// A node or one cloud instance, on `discovery/{node}` or `discovery/{node}/{instance}`. Retained; an instance is
/// announced and cleared by the node that owns it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// What is announced.
    pub kind: AnnouncementKind,
    /// The fleet that it belongs to.
    pub fleet: String,
    /// The node, for an instance the one that owns it.
    pub node: String,
    /// The node's session: a counter that grows with every start.
    pub session: u64,
    /// The instance's launch id; none for a node.
    #[serde(default)]
    pub instance: Option<String>,
    /// Seconds after receipt until the announcement is stale.
    #[serde(default)]
    pub ttl_s: u64,
    /// When it was sent, RFC 3339 in UTC. For people: receivers count age from receipt, since a gateway may boot in
    /// 1970.
    #[serde(default)]
    pub sent_at: String,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// The version of the message set, [`crate::WIRE_VERSION`].
    #[serde(default)]
    pub wire: u32,
    /// The first digits (12) of the SHA-256 of the resolved configuration without `node.id`, in hex, so that differing nodes
    /// stand out.
    #[serde(default)]
    pub config_digest: String,
    /// Where it listens.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// What it serves.
    #[serde(default)]
    pub services: Vec<ServiceOffer>,
    /// Where it stands, as its operator calls it; none where nobody said.
    #[serde(default)]
    pub site: Option<String>,
    /// The region that it is in, for services that may not leave theirs; none where nobody said.
    #[serde(default)]
    pub region: Option<String>,
}

numbered_enum! {
    /// What an announcement is about.
    pub enum AnnouncementKind {
        /// A running `tidegate run`.
        Node = 1 "node",
        /// A cloud instance of a node.
        Instance = 2 "instance",
    }
}

/// Addresses as `host:port`; none where there is no such listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The HTTP data plane.
    #[serde(default)]
    pub gateway: Option<String>,
    /// The HTTP API for people and monitoring.
    #[serde(default)]
    pub console: Option<String>,
    /// The node's own broker: for a site's hub its address by TLS with `mqtts://` before it, else that on its own box.
    #[serde(default)]
    pub mqtt: Option<String>,
    /// Where other nodes of the fleet send requests for which they have no free replica themselves.
    #[serde(default)]
    pub peers: Option<String>,
}

/// One service of an announcement. What is spare is a hint: a full node answers 429, and the caller moves on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceOffer {
    /// The service's name.
    pub name: String,
    /// What it speaks, for example `oip-v2`, `openai` or `http`.
    #[serde(default)]
    pub protocol: String,
    /// How far its requests may travel; none where nothing limits it.
    #[serde(default)]
    pub placement: Option<PlacementRule>,
    /// Ready replicas on the node.
    #[serde(default)]
    pub ready_local: u32,
    /// Ready instances at providers.
    #[serde(default)]
    pub ready_cloud: u32,
    /// Requests that one replica takes at once.
    #[serde(default)]
    pub concurrency: u32,
    /// Requests that all ready replicas take at once.
    #[serde(default)]
    pub capacity: u32,
    /// Requests of other nodes that there is room for, on the node itself; none where it takes none.
    #[serde(default)]
    pub spare: u32,
    /// The adapter that an instance was launched through; none for a node.
    #[serde(default)]
    pub adapter: Option<String>,
    /// Price of one more replica hour, in `currency`; none where it costs nothing or is not known.
    #[serde(default)]
    pub price_per_hour: Option<f64>,
    /// ISO 4217 code of `price_per_hour`.
    #[serde(default)]
    pub currency: Option<String>,
}

numbered_enum! {
    /// How far a service's requests may travel (`placement` in the configuration).
    pub enum PlacementRule {
        /// This node only.
        Local = 1 "local",
        /// Nodes of the same site.
        Site = 2 "site",
        /// Anywhere, providers included.
        Any = 3 "any",
    }
}
