//! Decisions. No IO, no clock, no async, no actors, no serde: time, randomness and load come in as arguments, actions
//! and timers go out as data.

pub mod archive;
pub mod breaker;
pub mod budget;
pub mod burst;
pub mod fleet;
pub mod forecast;
pub mod guesses;
pub mod issuing;
pub mod load;
pub mod plan;
pub mod policy;
pub mod record;
pub mod renewal;
pub mod route;
pub mod service;
pub mod supervise;
pub mod thrift;
pub mod watchdog;
