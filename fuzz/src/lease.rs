//! The lease channel: renewals as an instance reads them, answers as a node does. JSON over HTTP, no MQTT.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate::wire::{LeaseRenewal, LeaseStatus, WireError, from_json, to_json};

/// Reads both and nothing else.
pub fn decode(data: &[u8]) {
    let _ = from_json::<LeaseRenewal>(data);
    let _ = from_json::<LeaseStatus>(data);
}

/// What is read is written again and reads as the same value.
pub fn target(data: &[u8]) {
    check::<LeaseRenewal>(data);
    check::<LeaseStatus>(data);
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = from_json::<T>(data) else { return };
    match to_json(&message) {
        Ok(again) => assert_eq!(from_json(&again), Ok(message)),
        // A fraction with no fields of its own may grow by the names of the fields.
        Err(error) => assert!(matches!(error, WireError::TooLarge { .. }), "{error}"),
    }
}
