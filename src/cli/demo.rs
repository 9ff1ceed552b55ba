//! placeholder
use std::process::ExitCode;
/// Demo.
#[derive(Debug, clap::Args)]
pub struct Args {}
impl Args {
    pub(super) fn run(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}
