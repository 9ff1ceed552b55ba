//! The wrapper around a server: the shim of a local replica, and an instance's readiness, lease and drain.
//!
//! - [`shim`] is a few threads of plain `std`: it ties a server's life to a pipe. No runtime, since there is one for each
//!   local replica.
//! - [`init`] is what the wrapper is first where it is the first process of a container.
//! - [`instance`] is the wrapper that runs at a provider. `lease` and `life` decide, with the time as an argument; the
//!   rest is the envelope around them: `run_dir` (what stands on disk), `server` (the process), `probe` and
//!   `ready_command` (readiness), `listen` (connections), `front` (HTTP), `control` (the owner's calls), `metrics`,
//!   `problem` (error answers).

mod control;
mod cpus;
mod front;
mod group;
mod init;
mod instance;
mod lease;
mod life;
mod listen;
mod metrics;
mod parent_death;
mod probe;
mod problem;
mod ready_command;
mod run_dir;
mod server;
mod shim;

pub use cpus::{CpuError, CpuList};
pub use init::{init, is_first_process};
pub use instance::{InstanceError, InstanceOptions, KeyFiles, serve};
pub use probe::Probe;
pub use run_dir::RunDirError;
pub use shim::{ShimError, ShimOptions, shim};
