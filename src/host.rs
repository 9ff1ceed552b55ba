//! What touches the box: the probe, child processes, free ports, small calls to a server's control paths, and files fetched.

pub mod call;
pub mod clock;
pub mod fetch;
pub mod file;
pub mod memory;
pub mod port;
pub mod probe;
pub mod process;
pub mod service_manager;
