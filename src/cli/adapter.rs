//! `tidegate adapter list|check`: where instances may be launched, and whether a launch would work.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use cloud_adapters::{Finding, Verdict};
use serde_json::{Value, json};

use super::ask::failed;
use super::run::options;
use super::service::{ListArgs, rows};
use super::terminal::{complain, mention, say};
use super::{EXIT_USAGE, config};
use crate::node::trial;

/// The places where instances may be launched.
#[derive(Debug, Subcommand)]
pub enum AdapterCommand {
    /// List the adapters of a running node: price, instances, how long starts take, and what holds launches back.
    ///
    /// Example: tidegate adapter list
    List(ListArgs),
    /// Look at all that a launch needs, and tell it in words: credentials, quota, image, network. No node has to run.
    ///
    /// Example: tidegate adapter check big-box -c tidegate.toml --launch
    Check(CheckArgs),
}

/// What to check.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Name of the table in the configuration, `[adapter.NAME]`.
    name: String,
    /// The configuration; without it /etc/tidegate/tidegate.toml, else the quickstart profile.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also launch one instance, wait until it is ready, end it, and say what it cost.
    #[arg(long)]
    launch: bool,
    /// The service to launch; without it the first that may use the adapter.
    #[arg(long, value_name = "SERVICE", requires = "launch")]
    service: Option<String>,
    /// How long to keep it ready, its lease renewed, before it is ended; such as 30s.
    #[arg(long, value_name = "TIME", requires = "launch", value_parser = humantime::parse_duration)]
    keep: Option<Duration>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

const LISTED: [&str; 8] =
    ["adapter", "price_per_hour", "alive", "max", "affordable", "start_median_s", "start_p95_s", "held_back"];

impl AdapterCommand {
    pub(super) fn run(self) -> ExitCode {
        match self {
            Self::List(list) => list_adapters(&list),
            Self::Check(check) => check.run(),
        }
    }
}

fn list_adapters(list: &ListArgs) -> ExitCode {
    let mut adapters: Value = match list.target.get("/api/v1/adapters") {
        Ok(adapters) => adapters,
        Err(error) => return failed(&error),
    };
    if list.json {
        say!("{adapters}");
        return ExitCode::SUCCESS;
    }
    for adapter in adapters.as_array_mut().into_iter().flatten() {
        adapter["held_back"] = in_words(&adapter["held_back"]);
    }
    say!("{}", rows(&adapters, &LISTED));
    ExitCode::SUCCESS
}

fn in_words(held_back: &Value) -> Value {
    let each = held_back.as_object().into_iter().flatten();
    let words: Vec<String> =
        each.map(|(service, why)| format!("{service}: {}", why.as_str().unwrap_or_default())).collect();
    if words.is_empty() { Value::Null } else { words.join("; ").into() }
}

impl CheckArgs {
    fn run(self) -> ExitCode {
        let config = match config::load(self.config.clone(), None) {
            Ok(config) => config,
            Err(code) => return code,
        };
        let mut trial = match trial::Trial::of(&config, &self.name) {
            Ok(trial) => trial,
            Err(error) => {
                complain!("error: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
        let found = trial.check();
        if !self.json {
            found.iter().for_each(|finding| mention(&line(finding)));
        }
        let sound = found.iter().all(|finding| finding.verdict != Verdict::Bad);
        let keep = self.keep.unwrap_or_default();
        let say = |step: &trial::Step| self.say(&step.to_string());
        let launched = (sound && self.launch).then(|| trial.launch(self.service.as_deref(), keep, &options(), say));
        if self.json {
            mention(&as_json(&found, launched.as_ref()).to_string());
        }
        match launched {
            _ if !sound => ExitCode::FAILURE,
            Some(Err(error)) => {
                complain!("error: {error}");
                ExitCode::FAILURE
            }
            Some(Ok(report)) => {
                self.say(&report.to_string());
                ExitCode::SUCCESS
            }
            None => ExitCode::SUCCESS,
        }
    }

    fn say(&self, line: &str) {
        if !self.json {
            // What was launched is to be ended, whoever listens.
            mention(line);
        }
    }
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Good => "ok",
        Verdict::Doubtful => "doubtful",
        Verdict::Bad => "BAD",
    };
    format!("{:<12} {verdict:<9} {}", finding.subject.to_string(), finding.words)
}

fn as_json(found: &[Finding], launched: Option<&Result<trial::Report, String>>) -> Value {
    let verdict = |verdict| match verdict {
        Verdict::Good => "good",
        Verdict::Doubtful => "doubtful",
        Verdict::Bad => "bad",
    };
    let findings: Vec<Value> = found
        .iter()
        .map(|f| json!({"subject": f.subject.to_string(), "verdict": verdict(f.verdict), "words": f.words}))
        .collect();
    let launch = launched.map(|launched| match launched {
        Ok(report) => json!({"launch": report.launch, "ready_s": report.ready_after.as_secs_f64(),
                             "lived_s": report.lived.as_secs_f64(), "cost": report.cost.units(), "currency": report.currency}),
        Err(error) => json!({"error": error}),
    });
    json!({"findings": findings, "launch": launch})
}
