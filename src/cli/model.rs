//! `tidegate model serve`: one built-in ONNX replica.

use std::process::ExitCode;

/// Serve one ONNX model over the Open Inference Protocol v2.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        ExitCode::from(super::EXIT_USAGE)
    }
}
