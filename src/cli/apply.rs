//! `tidegate config apply`: the running node takes up its changed configuration, and says what came of it.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::EXIT_USAGE;
use super::ask::{Target, failed};
use super::terminal::say;
use crate::journal::holder;

/// A model is loaded once to be checked, which takes seconds where it is large.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what came of it.
const LOOK: Duration = Duration::from_millis(50);

/// Which node.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 taken up, 1 no node was reached, 2 the former configuration stays in force")]
pub struct ApplyArgs {
    #[command(flatten)]
    target: Target,
}

impl ApplyArgs {
    pub(super) fn run(&self) -> ExitCode {
        match self.apply() {
            Ok(Ok(digest)) => {
                say!("taken up; the configuration in force is {digest}");
                ExitCode::SUCCESS
            }
            Ok(Err(problems)) => {
                eprintln!("error: the former configuration stays in force");
                problems.iter().for_each(|problem| eprintln!("  {problem}"));
                ExitCode::from(EXIT_USAGE)
            }
            Err(error) => failed(&error),
        }
    }

    /// The digest of what is in force now, or why that did not change.
    fn apply(&self) -> Result<Result<String, Vec<String>>> {
        let node: Value = self.target.get("/api/v1/node")?;
        let before = attempts(&node);
        let pid = own_process(&node)?;
        kill(pid, Signal::SIGHUP)
            .with_context(|| format!("the node (process {pid}) cannot be signalled; try as its user"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            let node: Value = self.target.get("/api/v1/node")?;
            if attempts(&node) != before {
                return Ok(outcome(&node));
            }
            if Instant::now() > until {
                bail!("the node (process {pid}) has not answered within {} s; look at its log", PATIENCE.as_secs());
            }
            thread::sleep(LOOK);
        }
    }
}

fn attempts(node: &Value) -> Option<u64> {
    node["config"]["attempts"].as_u64()
}

fn outcome(node: &Value) -> Result<String, Vec<String>> {
    let problems = node["config"]["problems"].as_array().into_iter().flatten();
    let problems: Vec<String> = problems.filter_map(Value::as_str).map(str::to_owned).collect();
    let digest = node["config"]["digest"].as_str().unwrap_or_default().to_owned();
    if problems.is_empty() { Ok(digest) } else { Err(problems) }
}

/// The node's process, where it is one of this box: on another, that number is somebody else's.
fn own_process(node: &Value) -> Result<Pid> {
    let (pid, state_dir) = (&node["pid"], node["state_dir"].as_str().unwrap_or_default());
    let here = holder(Path::new(state_dir));
    match (pid.as_i64().and_then(|pid| i32::try_from(pid).ok()), here) {
        (Some(pid), Some(here)) if here == pid.to_string() => Ok(Pid::from_raw(pid)),
        _ => bail!(
            "the node at that console lives on another box, or its state directory ({state_dir}) cannot be read; run this \
             there, as its user or as root"
        ),
    }
}
