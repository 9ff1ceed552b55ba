//! Arguments, and one file per subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod model;
pub mod wrap;

/// Exit code of bad usage, bad configuration and an unusable model.
pub const EXIT_USAGE: u8 = 2;

/// Runs AI inference on this gateway and bursts the overflow into any cloud and back, visible on MQTT.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Model(model::Args),
    Wrap(wrap::Args),
}

impl Cli {
    /// Runs the chosen command and returns the process's exit code.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Model(args) => args.run(),
            Command::Wrap(args) => args.run(),
        }
    }
}
