//! The messages on MQTT and on the lease channel: their shapes, their topics, their bytes.
//!
//! Two trees carry the same messages: packed CBOR below `tidegate/v1/{fleet}` (described in `docs/wire.cddl`) and a
//! JSON mirror below `tidegate-json/v1/{fleet}` for people and tools. The JSON tree is never input. This module knows
//! no MQTT library: it says which bytes go to which topic and how they are to be delivered, and it reads what comes
//! back.
//!
//! Three rules keep packed CBOR compatible, since a key is a field's position:
//! - fields are only ever appended; a removed field stays as a reserved one;
//! - a new field has a default, so that messages of older nodes still decode;
//! - an enum has an `Other`, number 0, which stands for every variant that this version does not know.
//!
//! The golden vectors in `tests/golden/wire-v1` hold every release to them.

pub mod access;
mod announcement;
pub mod board;
mod burst_status;
mod bytes;
mod codec;
mod command;
mod event;
mod fleet_trust;
mod lease;
mod load_report;
mod message;
mod number;
mod numbered;
pub mod registry;
mod sealed;
mod service_status;
mod state;
mod topics;
mod well_formed;

pub use announcement::{Announcement, AnnouncementKind, Endpoints, PlacementRule, ServiceOffer};
pub use burst_status::{BurstState, BurstStatus};
pub use bytes::Bytes;
pub use codec::{MAX_PAYLOAD_BYTES, WireError, encode, from_cbor, from_json, to_cbor, to_json};
pub use command::{Argument, CERTIFICATE, Command, CommandName, ISSUER, PUBLIC_KEY, Response};
pub use event::{CALENDAR_BEGINS, Event, EventData, EventKind, Placement};
pub use fleet_trust::FleetTrust;
pub use lease::{LEASE_PATH, LEASE_TOKEN_HEADER, LeaseRenewal, LeaseState, LeaseStatus};
pub use load_report::{LoadReport, ServiceLoadReport};
pub use message::{Message, describe};
pub use number::{NoNumber, number_at};
pub use sealed::{Sealed, Stamp, seal};
pub use service_status::ServiceStatus;
pub use state::{NodeState, NodeStateKind};
pub use topics::{ALL_NODES, Delivery, Encoding, Qos, Root, Segment, Topic, TopicError};

/// The version of the message set that this program writes, announced as `wire` and part of every topic (`v1`).
pub const WIRE_VERSION: u32 = 1;
