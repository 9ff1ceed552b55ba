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
use super::terminal::{complain, say};
use crate::journal::holds_lock;

/// The node reads the files that its configuration names, and a disk may be slow.
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
            Ok(Ok(told)) => {
                say!("{told}");
                ExitCode::SUCCESS
            }
            Ok(Err(problems)) => {
                complain!("error: the former configuration stays in force");
                problems.iter().for_each(|problem| complain!("  {problem}"));
                ExitCode::from(EXIT_USAGE)
            }
            Err(error) => failed(&error),
        }
    }

    /// What changed, or why nothing did.
    fn apply(&self) -> Result<Result<String, Vec<String>>> {
        let node: Value = self.target.get("/api/v1/node")?;
        let before = attempts(&node);
        if before.is_none() {
            bail!("the node that runs is of a version that takes nothing up; restart it: systemctl restart tidegate");
        }
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
    if !problems.is_empty() {
        return Err(problems);
    }
    let changed = node["config"]["changed"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let changed = changed.collect::<Vec<_>>().join(", ");
    let digest = node["config"]["digest"].as_str().unwrap_or_default();
    Ok(match changed.is_empty() {
        true => format!("nothing has changed; the configuration in force is {digest}"),
        false => format!("taken up: {changed}; the configuration in force is {digest}"),
    })
}

/// The node's process, where the kernel says that it holds the lock of its state directory here: on another box, or in a container, the
/// number that a console tells is somebody else's.
fn own_process(node: &Value) -> Result<Pid> {
    let state_dir = node["state_dir"].as_str().unwrap_or_default();
    let pid = node["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
    match pid.filter(|pid| holds_lock(Path::new(state_dir), *pid)) {
        Some(pid) => Ok(Pid::from_raw(pid)),
        None => bail!(
            "the node at that console lives on another box or in a container, or its state directory ({state_dir}) cannot be \
             read; run this there, as its user or as root"
        ),
    }
}
