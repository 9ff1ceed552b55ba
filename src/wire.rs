//! The messages on MQTT, as packed CBOR and as their JSON mirror.

mod lease;

pub use lease::{LeaseRenewal, LeaseState, LeaseStatus};
