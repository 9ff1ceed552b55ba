//! Which replica answers a request: the routing table as data, what is known of each endpoint, and the choice.
//!
//! Everything here is pure in the sense of the house: time and randomness come in as arguments. The counters of an
//! endpoint are shared memory, because the choice must see what every other request does at this moment.

use std::collections::BTreeMap;
use std::sync::Arc;

mod balance;
mod ejection;
mod endpoint;
mod guests;
mod peak_ewma;
mod peer_rule;
mod transport;

pub use balance::{Ask, Balance, Rotation, pick};
pub use ejection::Ejection;
pub use endpoint::{Bearer, Endpoint, EndpointCounters, Verdict};
pub use guests::{Spare, has_room_for_guest, most_guests};
pub use peak_ewma::PeakEwma;
pub use peer_rule::{Candidate, PeerRule};
pub use transport::{InvalidPin, PublicKeyPin, Transport};

/// Where a replica runs, as seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// On this node.
    Local,
    /// On another node of the fleet.
    Peer,
    /// An instance at a provider.
    Cloud,
}

impl Placement {
    /// The word used in headers, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Cloud => "cloud",
        }
    }
}

/// Where the requests of each service may go. A service that is missing has no replica.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// By service name.
    pub services: BTreeMap<String, Arc<ServiceRoute>>,
}

/// Where the requests of one service may go.
#[derive(Clone, Debug, Default)]
pub struct ServiceRoute {
    /// The service.
    pub name: String,
    /// Its replicas that are ready, and no others. An endpoint stays the same `Arc` from table to table, so that what
    /// was learned of it is kept.
    pub endpoints: Vec<Arc<Endpoint>>,
}
