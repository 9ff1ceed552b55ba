//! The wrapper around a server: the shim of a local replica, and an instance's readiness, lease and drain.
//!
//! - [`shim`] is a few threads of plain `std`: it ties a server's life to a pipe. No runtime, since there is one for each
//!   local replica.
//! - [`instance`] is the wrapper that runs at a provider. `lease` and `life` decide, with the time as an argument; the
//!   rest is the envelope around them: `run_dir` (what stands on disk), `server` (the process), `probe` (readiness),
//!   `front` (HTTP), `control` (the owner's calls), `problem` (error answers).

mod control;
mod cpus;
mod front;
mod group;
mod instance;
mod lease;
mod life;
mod parent_death;
mod probe;
mod problem;
mod run_dir;
mod server;
mod shim;

pub use cpus::{CpuError, CpuList};
pub use instance::{InstanceError, InstanceOptions, serve};
pub use probe::Probe;
pub use run_dir::RunDirError;
pub use shim::{ShimError, ShimOptions, shim};
