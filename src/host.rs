//! What touches the box: the probe, child processes, free ports, and small calls to a server's control paths.

pub mod call;
pub mod clock;
pub mod memory;
pub mod port;
pub mod probe;
pub mod process;
