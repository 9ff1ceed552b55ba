//! One play: a node, the surge, the way back, and the end.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use edge_config::Config;

use super::scene::{ADAPTER, Cloud, SERVICE, Scene};
use super::screen::Screen;
use super::surge::{Record, Surge, send};
use super::{go_on, machine};
use crate::logic::route::Placement;
use crate::node::trial::Trial;
use crate::node::{Node, NodeError, Options};
use crate::wire::board::{Board, Spend};
use crate::wire::{BurstStatus, ServiceStatus};

/// How often the node is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A node is ready well within this; the way back needs a few intervals, and an instance's end.
const READY_PATIENCE: Duration = Duration::from_secs(20);
const RETURN_PATIENCE: Duration = Duration::from_secs(30);
/// Processes that were told to end need a moment to be gone from the process table.
const GONE_PATIENCE: Duration = Duration::from_secs(5);

/// What a play came to.
#[derive(Clone, Debug)]
pub(super) struct Play {
    /// Whether bursting was allowed.
    pub(super) burst: bool,
    /// Every request.
    pub(super) records: Vec<Record>,
    /// When the load was first seen over the threshold, from the beginning.
    pub(super) crossed_at: Option<Duration>,
    /// When the first answer from an instance had come.
    pub(super) first_cloud_at: Option<Duration>,
    /// Mean share of the ready replicas that was busy, during the surge.
    pub(super) utilisation: f64,
    /// Most ready replicas at once, local and cloud.
    pub(super) peak: (u32, u32),
    /// Where it began.
    pub(super) baseline: (u32, u32),
    /// Whether it came back there.
    pub(super) returned: bool,
    /// The instances.
    pub(super) bursts: Vec<BurstStatus>,
    /// What was spent.
    pub(super) spend: Spend,
    /// How long the play took.
    pub(super) took: Duration,
    /// What was left in the process table.
    pub(super) left_processes: Vec<String>,
}

/// What is seen while the surge goes on.
#[derive(Default)]
struct Seen {
    records: Vec<Record>,
    crossed_at: Option<Duration>,
    first_cloud_at: Option<Duration>,
    busy: Vec<f64>,
    peak: (u32, u32),
    last_reason: String,
}

/// Tries to start where the usual ports were free a moment ago: another demo on the box may begin at the same time.
const STARTS: u32 = 3;

fn start(scene: &Scene, burst: bool) -> anyhow::Result<(Config, Node)> {
    let options = Options { no_cloud: (!burst).then(|| "this play is without burst".to_owned()) };
    let mut left = STARTS;
    loop {
        let config = scene.config(if burst { "with-burst" } else { "without-burst" })?;
        left -= 1;
        match Node::start(&config, &options) {
            Err(NodeError::Listen { .. } | NodeError::Broker(_)) if left > 0 => {}
            started => return Ok((config, started?)),
        }
    }
}

/// Plays the surge once, with a node of its own.
pub(super) fn perform(
    scene: &Scene,
    surge: &Surge,
    burst: bool,
    screen: &Screen,
    interrupted: &AtomicBool,
) -> anyhow::Result<Play> {
    let (config, node) = start(scene, burst)?;
    screen.play_begins(burst, node.addresses());
    let board = node.board().clone();
    let baseline = wait_ready(&board, config.services[SERVICE].scaling.min_replicas, interrupted)?;

    let began = Instant::now();
    let mut records = send(surge, node.addresses().gateway.to_string(), began)?;
    let mut seen = Seen::default();
    let progress = screen.progress(surge.len(), burst);
    loop {
        go_on(interrupted)?;
        let mut ended = false;
        loop {
            match records.try_recv() {
                Ok(record) => seen.record(record),
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => {
                    ended = true;
                    break;
                }
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => break,
            }
        }
        seen.look(&board, surge, began.elapsed(), screen, &progress);
        if ended {
            break;
        }
        std::thread::sleep(LOOK);
    }
    let returned = wait_return(&board, baseline, &mut seen, surge, began, screen, &progress, interrupted)?;
    progress.finish();
    let took = began.elapsed();
    let (bursts, spend) = (board.bursts(), board.spend());
    node.stop();
    Ok(Play {
        burst,
        records: seen.records,
        crossed_at: seen.crossed_at,
        first_cloud_at: seen.first_cloud_at,
        utilisation: mean(&seen.busy),
        peak: seen.peak,
        baseline,
        returned,
        bursts,
        spend,
        took,
        left_processes: left_behind(scene, &config)?,
    })
}

/// Until the fewest replicas are ready; returns the count, local and cloud.
fn wait_ready(board: &Board, fewest: u32, interrupted: &AtomicBool) -> anyhow::Result<(u32, u32)> {
    let until = Instant::now() + READY_PATIENCE;
    loop {
        go_on(interrupted)?;
        let status = board.service(SERVICE).unwrap_or_default();
        if status.ready_local >= fewest && status.starting_local == 0 {
            return Ok((status.ready_local, status.ready_cloud));
        }
        ensure!(Instant::now() < until, "no local replica became ready within {READY_PATIENCE:?}: {}", failures(board));
        std::thread::sleep(LOOK);
    }
}

fn failures(board: &Board) -> String {
    let errors: Vec<_> = board.events().into_iter().filter_map(|event| event.data.error).collect();
    if errors.is_empty() { "nothing was reported; see TIDEGATE_LOG=info".to_owned() } else { errors.join("; ") }
}

#[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
fn wait_return(
    board: &Board,
    baseline: (u32, u32),
    seen: &mut Seen,
    surge: &Surge,
    began: Instant,
    screen: &Screen,
    progress: &super::screen::Progress,
    interrupted: &AtomicBool,
) -> anyhow::Result<bool> {
    let until = Instant::now() + RETURN_PATIENCE;
    while Instant::now() < until {
        go_on(interrupted)?;
        seen.look(board, surge, began.elapsed(), screen, progress);
        let status = board.service(SERVICE).context("the service has no status")?;
        let still = status.starting_local + status.starting_cloud + status.draining + status.failed;
        let live = board.bursts().iter().any(|burst| burst.ended_at.is_none());
        if (status.ready_local, status.ready_cloud) == baseline && still == 0 && !live {
            return Ok(true);
        }
        std::thread::sleep(LOOK);
    }
    Ok(false)
}

/// Processes here, and instances where the cloud is elsewhere.
fn left_behind(scene: &Scene, config: &Config) -> anyhow::Result<Vec<String>> {
    let mut left = left_processes(scene);
    if scene.cloud != Cloud::Process {
        let mut trial = Trial::of(config, ADAPTER).map_err(anyhow::Error::msg)?;
        left.extend(trial.alive().map_err(anyhow::Error::msg)?);
    }
    Ok(left)
}

fn left_processes(scene: &Scene) -> Vec<String> {
    let until = Instant::now() + GONE_PATIENCE;
    loop {
        let left = machine::processes_of(scene.directory());
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        std::thread::sleep(LOOK);
    }
}

impl Seen {
    fn record(&mut self, record: Record) {
        if record.placement == Some(Placement::Cloud) && record.answered() {
            let answered_at = record.due + record.latency;
            self.first_cloud_at = Some(self.first_cloud_at.map_or(answered_at, |first| first.min(answered_at)));
        }
        self.records.push(record);
    }

    fn look(
        &mut self,
        board: &Board,
        surge: &Surge,
        now: Duration,
        screen: &Screen,
        progress: &super::screen::Progress,
    ) {
        let Some(status) = board.service(SERVICE) else { return };
        let threshold = super::scene::upper_edge();
        let load = status.value.unwrap_or(0.0);
        if self.crossed_at.is_none() && now >= surge.rises_at && load >= threshold {
            self.crossed_at = Some(now);
        }
        if now >= surge.rises_at && now < surge.falls_at {
            self.busy.push(busy_share(&status));
        }
        self.peak = (self.peak.0.max(status.ready_local), self.peak.1.max(status.ready_cloud));
        let answered = self.records.iter().filter(|record| record.answered()).count();
        progress.show(answered, self.records.len() - answered, &status);
        self.tell_decision(board, now, screen);
    }

    /// Each decision once, with its reason.
    fn tell_decision(&mut self, board: &Board, now: Duration, screen: &Screen) {
        let events = board.events();
        let decided = events.iter().rev().find(|event| event.kind == crate::wire::EventKind::ScaleDecided);
        let Some(reason) = decided.and_then(|event| event.data.reason.clone().map(|reason| (event.id.clone(), reason)))
        else {
            return;
        };
        if reason.0 != self.last_reason {
            self.last_reason = reason.0;
            screen.decision(now, &reason.1);
        }
    }
}

/// Busy replicas over ready ones; more than all of them is all of them.
fn busy_share(status: &ServiceStatus) -> f64 {
    let ready = f64::from(status.ready_local + status.ready_cloud);
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let in_flight = status.in_flight as f64;
    if ready > 0.0 { (in_flight / ready).min(1.0) } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}
