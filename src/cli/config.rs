//! `tidegate config check|show|schema`: all problems at once, what is in force, and what an editor wants to know.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use edge_config::{Config, Sources};

use super::EXIT_USAGE;

/// Check a configuration, show what it resolves to, or what may stand in one.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report every problem with its key, value, place and what is allowed.
    ///
    /// Example: tidegate config check /etc/tidegate/tidegate.toml
    Check(Args),
    /// Print the JSON Schema of a configuration file, for editors.
    ///
    /// Example: tidegate config schema > tidegate.schema.json
    Schema,
    /// Print the resolved configuration, each value with where it comes from.
    ///
    /// Example: tidegate config show
    Show(Args),
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; without it, what `tidegate run` would take.
    file: Option<PathBuf>,
}

impl Command {
    pub(super) fn run(self) -> ExitCode {
        let (args, show) = match self {
            Self::Schema => {
                println!("{:#}", edge_config::schema());
                return ExitCode::SUCCESS;
            }
            Self::Check(args) => (args, false),
            Self::Show(args) => (args, true),
        };
        match load(args.file, None) {
            Ok(config) if show => println!("{}", config.show()),
            Ok(config) if let Err(error) = crate::node::check_build(&config) => {
                eprintln!("error: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
            Ok(config) => println!("ok: {} services, {} adapters", config.services.len(), config.adapters.len()),
            Err(code) => return code,
        }
        ExitCode::SUCCESS
    }
}

/// Loads as `run` does; prints the problems and gives the exit code otherwise.
pub fn load(file: Option<PathBuf>, model: Option<PathBuf>) -> Result<Config, ExitCode> {
    edge_config::load(Sources::for_run(file, model)).map_err(|errors| {
        eprintln!("error: {errors}");
        ExitCode::from(EXIT_USAGE)
    })
}
