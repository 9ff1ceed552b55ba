//! The `tidegate` program: arguments and exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::Cli::read().run()
}
