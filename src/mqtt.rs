//! Bytes over MQTT: the link to a broker and the embedded broker.
//!
//! This room carries topics and payloads and knows none of Tidegate's messages; `rumqttc` and `mqtt5` are named nowhere
//! else, so replacing either is one file.

mod backlog;
mod backoff;
#[cfg(feature = "broker")]
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
    /// What goes with it in MQTT 5; an older broker gets the message without.
    pub properties: Option<Box<Properties>>,
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
    /// What is left of the time after which nobody wants it any more (MQTT 5).
    pub expiry: Option<Duration>,
    /// What came with it in MQTT 5, where something did.
    pub properties: Option<Box<Properties>>,
}

/// What MQTT 5 carries beside a topic and a payload, as far as messages of ours make use of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Where the answer to the message is wanted.
    pub response_topic: Option<String>,
    /// Tells which of several messages an answer belongs to.
    pub correlation: Option<Vec<u8>>,
    /// The payload's media type.
    pub content_type: Option<String>,
    /// Names and values of the sender's own choice.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// What one property has in a packet beside its value, at most: its number, and the lengths of a name and a value.
    const OVERHEAD_BYTES: usize = 5;

    /// What they take in a packet, at most.
    pub fn bytes(&self) -> usize {
        let texts = [&self.response_topic, &self.content_type].into_iter().flatten().map(String::len);
        let correlation = self.correlation.iter().map(Vec::len);
        let user = self.user.iter().map(|(name, value)| name.len() + value.len());
        texts.chain(correlation).chain(user).map(|bytes| bytes + Self::OVERHEAD_BYTES).sum()
    }
}

impl Outgoing {
    /// What the packet takes, at most: a message of more than [`MAX_PACKET_BYTES`] is given up.
    pub fn packet_bytes(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |properties| properties.bytes());
        self.topic.len() + self.payload.len() + properties + PACKET_OVERHEAD_BYTES
    }
}

/// What a publish packet has beside topic, payload and the properties above, at most: header, lengths, packet id, expiry.
const PACKET_OVERHEAD_BYTES: usize = 24;
