//! `tidegate doctor`: what is wrong on this box, in words, with the mend.

use std::path::PathBuf;
use std::process::ExitCode;

use edge_config::{Config, Sources};
use serde_json::json;

use super::config::problems;
use super::terminal::mention;

mod box_checks;
mod network;
mod service;
mod state;

/// Say what is wrong on this box, and how to mend it.
///
/// Looks at the configuration, the state directory, the ports, the brokers, the clock, the credentials, the service and what else
/// is installed. Changes nothing, and asks no provider: `tidegate adapter check NAME` does that.
///
/// Example: sudo tidegate doctor
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing is wrong (warnings aside), 1 something is, 2 bad usage")]
pub struct Args {
    /// The configuration; without it, what `tidegate run` would take.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON array with an object for each finding.
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// What was looked at, what was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    about: &'static str,
    verdict: Verdict,
    what: String,
    mend: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, what: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Ok, what: what.into(), mend: None }
    }

    fn warning(about: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Warning, what: what.into(), mend: Some(mend.into()) }
    }

    fn problem(about: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { about, verdict: Verdict::Problem, what: what.into(), mend: Some(mend.into()) }
    }

    fn line(&self) -> String {
        let mend = self.mend.as_ref().map(|mend| format!("\n         mend: {mend}")).unwrap_or_default();
        format!("{:<8} {}: {}{mend}", self.verdict.word(), self.about, self.what)
    }
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let found = self.look();
        if self.json {
            mention(&format!("{:#}", json!(found.iter().map(as_json).collect::<Vec<_>>())));
        } else {
            found.iter().for_each(|finding| mention(&finding.line()));
        }
        let problems = found.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
        if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn look(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        match edge_config::load(Sources::for_run(self.config.clone(), None)) {
            Ok(config) => {
                let (services, adapters) = (config.services.len(), config.adapters.len());
                found.push(Finding::ok("configuration", format!("{services} services, {adapters} adapters")));
                found.extend(configured(&config));
                let (states, is_held) = state::look(&config.node.state_dir);
                found.extend(states);
                found.extend(network::look(&config, is_held));
                found.extend(box_checks::credentials(&config));
                found.extend(box_checks::cores(&config));
            }
            Err(errors) => found.push(Finding::problem(
                "configuration",
                errors.to_string(),
                "mend what is listed; `tidegate config check` shows it again",
            )),
        }
        found.extend(box_checks::clock());
        found.extend(service::look());
        found.extend(box_checks::installations());
        found
    }
}

/// What a start would refuse although the configuration is well written.
fn configured(config: &Config) -> Vec<Finding> {
    let mend = "mend the key or what it names; `tidegate run` refuses to start until then";
    match problems(config) {
        Ok(problems) => problems.into_iter().map(|what| Finding::problem("configuration", what, mend)).collect(),
        Err(error) => vec![Finding::problem("configuration", format!("it cannot be checked: {error}"), mend)],
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "about": finding.about, "verdict": finding.verdict.word().to_lowercase(), "what": finding.what, "mend": finding.mend,
    })
}
