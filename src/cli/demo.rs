//! `tidegate demo`: a whole node in one command, with a surge of real images, a burst, and a verdict.
//!
//! Said plainly: the cloud here is other processes on this machine. Everything else is what `tidegate run` does.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use tokio::signal::unix::{SignalKind, signal};

use super::run::{Signals, options};
use super::terminal;
use crate::node::trial::Trial;

mod calibrate;
mod images;
mod machine;
mod play;
mod scene;
mod screen;
mod surge;
mod verdict;

use scene::{ADAPTER, Cloud, Scene};
use screen::Screen;
use surge::Surge;

/// The shortest demo in which a surge, a burst and the way back fit twice.
const SHORTEST_S: u64 = 30;

/// Run a whole node for about a minute: a surge of real images, a burst, the way back, and what it came to.
///
/// Starts a node with its own broker in a temporary directory, measures one replica, plays the same surge without and
/// with burst, and compares. Exits with 0 only if, with burst, no request was lost, local and cloud answers agreed, a
/// burst happened, the node returned to where it began, no process was left, and p95 was better than without.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate demo\n  tidegate demo --seconds 40 --no-timing\n  tidegate demo --adapter docker\n\n\
                        Exit codes: 0 it held, 1 it did not (the reasons are printed), 2 bad usage"
)]
pub struct Args {
    /// About how long it takes in all.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(SHORTEST_S..=3600))]
    seconds: u64,
    /// Print p95, but do not judge it: for machines that are busy with other things.
    #[arg(long)]
    no_timing: bool,
    /// Play once, without burst.
    #[arg(long)]
    no_burst: bool,
    /// What the cloud is. With `docker` the image is made from this program.
    #[arg(long, value_enum, default_value = "process")]
    adapter: Cloud,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        terminal::log("error");
        match self.perform() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => super::ask::failed(&error),
        }
    }

    fn perform(&self) -> anyhow::Result<bool> {
        if let Some(why) = options().no_cloud.filter(|_| !self.no_burst) {
            anyhow::bail!("bursting is forbidden: {why}; unset it, or play once with --no-burst");
        }
        let interrupted = watch_for_interrupt()?;
        let screen = Screen::new();
        let machine = machine::look();
        let scene = Scene::new(self.adapter)?;
        screen.headline(&scene, &machine);
        self.prepare(&scene, &screen)?;
        let replica = calibrate::measure(&scene, &interrupted).context("measuring one replica")?;
        let surge = Surge::plan(replica.requests_per_s, self.play_time());
        screen.calibrated(&replica, &surge);

        let without = play::perform(&scene, &surge, false, &screen, &interrupted).context("the play without burst")?;
        if self.no_burst {
            screen.summary(&[&without]);
            return Ok(without.left_processes.is_empty());
        }
        let with = play::perform(&scene, &surge, true, &screen, &interrupted).context("the play with burst")?;
        screen.summary(&[&without, &with]);
        let judge_timing = !self.no_timing && machine.has_two_idle_cores();
        let verdict = verdict::judge(&without, &with, judge_timing);
        screen.verdict(&verdict, self.no_timing, &machine);
        screen.goodbye();
        Ok(verdict.iter().all(|check| check.held))
    }

    /// What the cloud needs before its first instance, told before the clock runs.
    fn prepare(&self, scene: &Scene, screen: &Screen) -> anyhow::Result<()> {
        if self.no_burst || self.adapter == Cloud::Process {
            return Ok(());
        }
        let config = scene.config("image")?;
        let mut trial = Trial::of(&config, ADAPTER).map_err(anyhow::Error::msg)?;
        let image = trial.prepare().map_err(anyhow::Error::msg).context("making an image of this program")?;
        screen.image(&image.unwrap_or_default());
        Ok(())
    }

    /// What is left for each of the two plays, beside calibration, starts and stops.
    fn play_time(&self) -> Duration {
        Duration::from_secs_f64((Duration::from_secs(self.seconds).as_secs_f64() - 8.0) / 2.0)
    }
}

/// Set at Ctrl-C or SIGTERM; whoever waits looks at it, and everything is ended in order.
fn watch_for_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = interrupted.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::listen(signal(SignalKind::hangup())?) })?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(signals.next());
        seen.store(true, Ordering::Relaxed);
        terminal::notify("interrupted: ending what was started (a second signal forces the end)");
        runtime.block_on(signals.next());
        std::process::exit(1);
    })?;
    Ok(interrupted)
}

/// An error once the user has had enough.
fn go_on(interrupted: &AtomicBool) -> anyhow::Result<()> {
    anyhow::ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
