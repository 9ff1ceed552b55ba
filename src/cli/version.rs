//! `tidegate version`: what this build is.

use crate::cli::terminal::say;
use std::process::ExitCode;

/// Print the version and what this build speaks.
///
/// Example: tidegate version --json
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let (version, wire) = (env!("CARGO_PKG_VERSION"), crate::wire::WIRE_VERSION);
        if self.json {
            say!("{}", serde_json::json!({ "version": version, "wire": wire, "target": std::env::consts::ARCH }));
        } else {
            say!("tidegate {version} (wire {wire}, {})", std::env::consts::ARCH);
        }
        ExitCode::SUCCESS
    }
}
