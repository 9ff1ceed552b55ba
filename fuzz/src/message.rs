//! The decoders of the messages on MQTT, one for each kind of topic.
//!
//! What decodes is written again and decodes to the same value, in CBOR; and it can be shown as JSON. Refused or not,
//! nothing panics, and an error is not much longer than what it quotes.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate::wire::{
    Announcement, BurstStatus, Command, Encoding, Event, FleetTrust, LoadReport, Message, NodeState, Response, Root,
    ServiceStatus, WireError, from_cbor, to_cbor,
};

/// What an error may add to what it quotes.
const ERROR_BYTES: usize = 1_000;

/// What a byte of the payload may become where it is quoted: `\u{1}`.
const ESCAPED_BYTES: usize = 5;

macro_rules! kinds {
    ($($name:ident: $message:ident, $($topic:literal)+;)+) => {
        $(
            /// Payloads on a kind of topic.
            pub mod $name {
                /// Where the golden vectors of the kind stand.
                const TOPICS: &[&str] = &[$($topic),+];

                /// Decodes on the kind's first topic.
                pub fn decode(data: &[u8]) {
                    let _ = super::decoded(TOPICS[0], data);
                }

                /// Decodes on each topic, and without one, and holds what was decoded to what must be true of it.
                pub fn target(data: &[u8]) {
                    TOPICS.iter().for_each(|topic| super::check_on(topic, data));
                    super::check_alone::<super::$message>(data);
                }
            }
        )+
    };
}

kinds! {
    announcement: Announcement,
        "tidegate/v1/plant-a/discovery/gateway-7" "tidegate/v1/plant-a/discovery/gateway-7/gateway-7-12-1";
    state: NodeState, "tidegate/v1/plant-a/node/gateway-7/state";
    load: LoadReport, "tidegate/v1/plant-a/node/gateway-7/load";
    service: ServiceStatus,
        "tidegate/v1/plant-a/node/gateway-7/service/digits" "tidegate/v1/plant-a/node/gateway-7/service/flask";
    burst: BurstStatus,
        "tidegate/v1/plant-a/node/gateway-7/burst/gateway-7-12-1" "tidegate/v1/plant-a/node/gateway-7/burst/l-2";
    event: Event,
        "tidegate/v1/plant-a/node/gateway-7/event/burst.ended" "tidegate/v1/plant-a/node/gateway-7/event/tide.turned";
    command: Command, "tidegate/v1/plant-a/node/gateway-7/command/who";
    response: Response, "tidegate/v1/plant-a/node/gateway-7/response/0a1b";
    trust: FleetTrust, "tidegate/v1/plant-a/fleet/trust";
}

fn decoded(topic: &str, payload: &[u8]) -> Result<Message, WireError> {
    let (root, below) = Root::parse(topic)?;
    Message::decode(&root, &below, payload)
}

fn check_on(topic: &str, payload: &[u8]) {
    let message = match decoded(topic, payload) {
        Ok(message) => message,
        Err(error) => return check_error(&error, payload),
    };
    match message.encode(Encoding::Cbor) {
        Ok(again) => assert_eq!(decoded(topic, &again).as_ref(), Ok(&message), "{topic}"),
        Err(error) => assert_too_large(&error),
    }
    let shown = message.to_value().expect("a decoded message can be shown");
    match message.encode(Encoding::Json) {
        Ok(json) if json.is_empty() => assert!(shown.is_null(), "only a cleared topic is empty"),
        Ok(json) => drop(serde_json::from_slice::<serde_json::Value>(&json).expect("the mirror is JSON")),
        Err(error) => assert_too_large(&error),
    }
}

/// The shape without a topic's claims, which most damaged payloads contradict.
fn check_alone<T: Serialize + DeserializeOwned + PartialEq + Debug>(payload: &[u8]) {
    let message: T = match from_cbor(payload) {
        Ok(message) => message,
        Err(error) => return check_error(&error, payload),
    };
    match to_cbor(&message) {
        Ok(again) => assert_eq!(from_cbor(&again), Ok(message)),
        Err(error) => assert_too_large(&error),
    }
}

/// Fields that were left out are written, so that a payload near the limit may grow beyond it; nothing else that was read
/// is unwritable.
fn assert_too_large(error: &WireError) {
    assert!(matches!(error, WireError::TooLarge { .. }), "read, but not writable: {error}");
}

fn check_error(error: &WireError, payload: &[u8]) {
    let said = error.to_string();
    let most = payload.len() * ESCAPED_BYTES + ERROR_BYTES;
    assert!(said.len() <= most, "{} bytes about {} bytes: {said:.200}", said.len(), payload.len());
}
