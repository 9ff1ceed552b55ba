//! The lease between a node and the wrapper around an instance's server: JSON over HTTP, not MQTT, so that an instance
//! needs no broker. Durations only, never dates: neither end trusts the other's clock. Which renewal is stale (an older
//! session, or the same one with a sequence not above the last) is the receiver's matter.

use serde::{Deserialize, Serialize};

/// From the owner node: live on for `ttl_ms` from the receipt of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenewal {
    /// The launch that is meant; an instance refuses a renewal for another.
    pub launch: String,
    /// The owner's session.
    pub session: u64,
    /// Counts the renewals of a session from 1.
    pub sequence: u64,
    /// Milliseconds to live, counted by the instance from the receipt.
    pub ttl_ms: u64,
}

/// From the instance: how it is, the answer to every renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The launch that it belongs to.
    pub launch: String,
    /// The service that it serves.
    pub service: String,
    /// Where it is in its life.
    pub state: LeaseState,
    /// Milliseconds until it ends itself unless renewed.
    pub remaining_ms: u64,
    /// Requests in progress.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests answered since its start.
    #[serde(default)]
    pub served: u64,
}

/// The life of a wrapped server, as it sees itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Not known to this version.
    #[default]
    Other,
    /// The server does not answer yet.
    Starting,
    /// The server answers.
    Ready,
    /// Taking nothing new; ends when what it has is done.
    Draining,
}
