//! The `tidegate` program: arguments and exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    tidegate::cli::Cli::parse().run()
}
