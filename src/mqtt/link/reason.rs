//! Why there is no connection, in words, with what to do where it is for people to do something.

use std::io;

use rumqttc::v5::mqttbytes::Error;
use rumqttc::v5::{ConnectionError, StateError};

use crate::mqtt::MAX_PACKET_BYTES;

pub(super) fn in_words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => {
            format!("the broker refuses this node ({code:?}): check mqtt.username and mqtt.password_file")
        }
        ConnectionError::Timeout(_) => "the broker does not answer, or takes nothing any more".to_owned(),
        ConnectionError::NotConnAck(_) => {
            "what answers there does not begin as an MQTT broker does: check mqtt.broker".to_owned()
        }
        ConnectionError::Io(error) => io_in_words(error),
        ConnectionError::MqttState(error) => state_in_words(error),
        other => other.to_string(),
    }
}

/// Whether the broker sent a packet larger than we take.
pub(super) fn is_oversized(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::MqttState(StateError::Deserialization(Error::PayloadSizeLimitExceeded { .. })))
}

fn io_in_words(error: &io::Error) -> String {
    let text = error.to_string();
    if text.contains("lookup address") {
        return format!("the broker's name is not found ({text}): check mqtt.broker and this box's name servers");
    }
    // What tokio-util says when a connection ends within a frame.
    if text.contains("bytes remaining on stream") {
        return "the broker dropped the connection in the middle of a packet".to_owned();
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there: is the broker running?".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => "the broker dropped the connection".to_owned(),
        _ => text,
    }
}

fn state_in_words(error: &StateError) -> String {
    match error {
        StateError::Io(error) => io_in_words(error),
        StateError::ConnectionAborted => "the broker dropped the connection".to_owned(),
        StateError::AwaitPingResp | StateError::CollisionTimeout => {
            "the broker does not answer any more, though the connection stands".to_owned()
        }
        StateError::ServerDisconnect { reason_code, reason_string } => {
            let why = reason_string.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("the broker ended the connection ({reason_code:?}{why})")
        }
        StateError::Deserialization(Error::Io(error)) => io_in_words(error),
        StateError::Deserialization(Error::PayloadSizeLimitExceeded { pkt_size, .. }) => {
            format!("the broker sent a packet of {pkt_size} bytes, this node takes {MAX_PACKET_BYTES}")
        }
        StateError::Deserialization(error) => format!("the broker sent what is not MQTT ({error})"),
        other => other.to_string(),
    }
}
