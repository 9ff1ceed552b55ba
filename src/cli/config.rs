//! `tidegate config check|show|schema`: all problems at once, what is in force, and what an editor wants to know.

use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::Subcommand;
use edge_config::{Config, ModelSource, Runtime, Sources};

use super::EXIT_USAGE;
use super::apply::ApplyArgs;
use super::terminal::{complain, say};
use crate::node;

/// Check a configuration, show what it resolves to, or what may stand in one.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let the running node on this box take up its changed configuration, as a whole, without a restart.
    ///
    /// The same as SIGHUP or `systemctl reload tidegate`, and says what came of it: the keys that changed, or why the former
    /// configuration stays in force.
    ///
    /// Example: tidegate config apply
    Apply(ApplyArgs),
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
                say!("{:#}", edge_config::schema());
                return ExitCode::SUCCESS;
            }
            Self::Apply(args) => return args.run(),
            Self::Check(args) => (args, false),
            Self::Show(args) => (args, true),
        };
        let config = match load(args.file, None) {
            Ok(config) => config,
            Err(code) => return code,
        };
        if show {
            say!("{}", config.show());
        } else if let Err(code) = check(&config) {
            return code;
        } else {
            say!("ok: {} services, {} adapters", config.services.len(), config.adapters.len());
        }
        ExitCode::SUCCESS
    }
}

/// Prints everything that `run` would refuse of a configuration which is well written: what this build lacks, and what is wrong
/// with the files that it names.
pub fn check(config: &Config) -> Result<(), ExitCode> {
    match problems(config) {
        Ok(problems) if problems.is_empty() => Ok(()),
        Ok(problems) => {
            problems.iter().for_each(|problem| complain!("error: {problem}"));
            Err(ExitCode::from(EXIT_USAGE))
        }
        Err(error) => {
            complain!("error: the configuration cannot be checked: {error}");
            Err(ExitCode::FAILURE)
        }
    }
}

/// The same, to be shown elsewhere.
pub fn problems(config: &Config) -> std::io::Result<Vec<String>> {
    problems_of_change(None, config)
}

/// What stands in the way of going over to another configuration: the models that the former has are loaded already.
pub fn problems_of_change(former: Option<&Config>, config: &Config) -> std::io::Result<Vec<String>> {
    let mut problems = node::problems(config)?;
    for (name, service) in &config.services {
        let known =
            former.and_then(|former| former.services.get(name)).and_then(|service| model_file(&service.local.runtime));
        let Some(file) = model_file(&service.local.runtime).filter(|file| known != Some(file)) else { continue };
        problems.extend(model_problem(file)?.map(|problem| format!("service.{name}.local.model: {problem}")));
    }
    Ok(problems)
}

fn model_file(runtime: &Runtime) -> Option<&Path> {
    match runtime {
        Runtime::Onnx { model: ModelSource::File(file), .. } => Some(file),
        _ => None,
    }
}

/// Loads a model once in a process of its own, so that a bad one is known before anything starts, and none stays in the
/// node's memory. By the program that runs, whatever stands under its name by now.
fn model_problem(file: &Path) -> std::io::Result<Option<String>> {
    let checked = process::Command::new("/proc/self/exe").args(["model", "check"]).arg(file).output()?;
    let said = String::from_utf8_lossy(&checked.stderr);
    let said = said.trim();
    let problem = || match said.strip_prefix("error: ").unwrap_or(said) {
        "" => format!("the model {} cannot be checked: {}", file.display(), checked.status),
        said => said.to_owned(),
    };
    Ok((!checked.status.success()).then(problem))
}

/// Loads as `run` does; prints the problems and gives the exit code otherwise.
pub fn load(file: Option<PathBuf>, model: Option<PathBuf>) -> Result<Config, ExitCode> {
    edge_config::load(Sources::for_run(file, model)).map_err(|errors| {
        complain!("error: {errors}");
        ExitCode::from(EXIT_USAGE)
    })
}
