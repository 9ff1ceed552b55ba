//! Tidegate: inference on an edge gateway, with the overflow bursting into any cloud and back.
//!
//! The map, and who may import whom (`tests/tidy.rs` holds the house to it):
//!
//! - [`logic`] decides: pure and synchronous, imports nothing of ours.
//! - [`actors`] are thin shells around it: monitor, scheduler, local runner, burst, discovery, publisher.
//! - [`host`] touches the box, [`wire`] knows the bytes on MQTT, [`mqtt`] carries bytes and knows no type of ours.
//! - [`gateway`] is the HTTP data plane, [`console`] the API for people and monitoring.
//! - [`infer`] answers what sensors ask over MQTT, by the gateway.
//! - [`model`] is the built-in ONNX server and [`wrap`] the wrapper around any server; both stand alone.
//! - [`tls`] is the channel between a node and its instances: a launch's own key, and the pin on it.
//! - [`trust`] says who is believed: credentials, the fleet's roots, and the signatures on what nodes say.
//! - [`journal`] holds what was promised to a provider, on disk, before it is asked.
//! - [`simulate`] plays a trace against policies in virtual time.
//! - [`node`] builds all of it and is the one file that knows everybody.

// `println!` panics when nobody reads any more: answers are said by `cli::terminal`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod actors;
pub mod cli;
pub mod console;
pub mod gateway;
pub mod host;
pub mod infer;
pub mod journal;
#[cfg(feature = "onnx")]
pub mod model;
pub mod mqtt;
pub mod node;
pub mod simulate;
pub mod tls;
pub mod trust;
pub mod wrap;

/// Crates of their own, in `src/logic` and `src/wire`: decisions are made and what comes from the network is decoded at full speed, the rest is
/// built small. And what decides cannot name what it must not know.
pub use ::{logic, wire};
