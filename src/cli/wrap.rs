//! `tidegate wrap`: a server under the shim, or as a leased instance.

use std::process::ExitCode;

/// Wrap a server: readiness, lease, drain and self-termination.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        ExitCode::from(super::EXIT_USAGE)
    }
}
