//! The wrapper around a server: the shim of a local replica, and an instance's readiness, lease and drain.

mod cpus;

pub use cpus::{CpuError, CpuList};
