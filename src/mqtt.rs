//! Bytes over MQTT: the link to a broker and the embedded broker.
//!
//! This room carries topics and payloads and knows none of Tidegate's messages; `rumqttc` and `mqtt5` are named nowhere
//! else, so replacing either is one file.

mod backlog;
mod backoff;
pub mod broker;
pub mod link;

use std::time::Duration;

/// Largest payload plus topic that we send or accept, in bytes: AWS IoT Core and Azure Event Grid carry no more than
/// 128 KiB, and our own messages stay under 64 KiB.
pub const MAX_PACKET_BYTES: u32 = 128 * 1024;

/// Quality of service; there is no exactly-once, since several cloud brokers refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Fire and forget.
    AtMostOnce,
    /// Kept by the link until the broker has acknowledged it.
    AtLeastOnce,
}

/// One message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The full topic.
    pub topic: String,
    /// The bytes; empty with `retained` clears what the broker holds.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it for late subscribers.
    pub retained: bool,
    /// How hard delivery is tried.
    pub qos: Qos,
    /// After how long the broker forgets it.
    pub expiry: Option<Duration>,
}

/// One message received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The full topic.
    pub topic: String,
    /// The bytes as they came.
    pub payload: Vec<u8>,
    /// Whether the broker held it from before the subscription.
    pub retained: bool,
}
