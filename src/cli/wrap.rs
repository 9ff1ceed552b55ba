//! `tidegate wrap`: a server under the shim, or as a leased instance.

use std::process::ExitCode;

/// Exit code of what failed.
pub(super) const EXIT_FAILED: u8 = 1;

/// Wrap a server: readiness, lease, drain and self-termination.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        ExitCode::from(super::EXIT_USAGE)
    }
}

/// Says what went wrong and gives the exit code.
pub(super) fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("tidegate: {error}");
    ExitCode::from(code)
}
