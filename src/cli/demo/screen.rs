//! What the demo shows: a live line on a terminal, plain lines in a pipe, and the summary in both.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::calibrate::Replica;
use super::machine::Machine;
use super::play::Play;
use super::scene::{Cloud, SERVICE, Scene};
use super::surge::{DEADLINE, Surge};
use super::verdict::{Check, agreement, answered_by, percentile};
use crate::cli::terminal::{is_interactive, mention, table};
use crate::logic::route::Placement;
use crate::node::Addresses;
use crate::wire::ServiceStatus;

/// In a pipe the state is said once per this time.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Where the demo prints.
pub(super) struct Screen {
    live: bool,
    bar: Mutex<Option<ProgressBar>>,
}

/// The progress of one play.
pub(super) struct Progress {
    bar: ProgressBar,
    live: bool,
    total: usize,
    said: Mutex<Option<Instant>>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { live: is_interactive(), bar: Mutex::new(None) }
    }

    /// A line, above the live one where there is one.
    fn say(&self, line: &str) {
        let bar = self.bar.lock().ok().and_then(|bar| bar.clone());
        match bar.filter(|bar| self.live && !bar.is_finished()) {
            Some(bar) => bar.suspend(|| mention(line)),
            None => mention(line),
        }
    }

    pub(super) fn headline(&self, scene: &Scene, machine: &Machine) {
        self.say("Tidegate demo: one node, its own MQTT broker, a real ONNX model, a surge of real images, a burst, the way back.");
        self.say(match scene.cloud {
            Cloud::Process => "Said plainly: the cloud here is other processes on this machine.",
            Cloud::Docker => "The cloud is containers at a Docker Engine; the price is pretended.",
        });
        let cores = machine.cores.len();
        self.say(&format!(
            "machine    {cores} cores, {:.1} idle; local replicas are held to core {}",
            machine.idle_cores, scene.local_core
        ));
    }

    pub(super) fn image(&self, name: &str) {
        self.say(&format!("image      {name}, made from this program (remove it with: docker image rm {name})"));
    }

    pub(super) fn calibrated(&self, replica: &Replica, surge: &Surge) {
        let per_s = replica.requests_per_s;
        self.say(&format!("replica    one answers {per_s:.0} images a second ({:.1} ms each)", 1_000.0 / per_s));
        self.say(&format!(
            "surge      {} images in {:.0} s: {:.0} a second, {:.0} from {:.0} s to {:.0} s, and back; deadline {DEADLINE:?}",
            surge.len(),
            surge.ends_at.as_secs_f64(),
            surge.calm_per_s,
            surge.peak_per_s,
            surge.rises_at.as_secs_f64(),
            surge.falls_at.as_secs_f64(),
        ));
    }

    pub(super) fn play_begins(&self, burst: bool, addresses: Addresses) {
        self.say(&format!("\n{}", if burst { "== with burst" } else { "== without burst" }));
        let mqtt = addresses.mqtt.map(|address| format!("mqtt://{address}")).unwrap_or_default();
        self.say(&format!(
            "node       gateway http://{}, console http://{}, {mqtt}",
            addresses.gateway, addresses.console
        ));
    }

    pub(super) fn progress(&self, total: usize, burst: bool) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total as u64), self.target());
        let template = "{prefix} [{bar:24}] {pos}/{len} {elapsed} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(if burst { "with burst" } else { "without  " });
        if let Ok(mut current) = self.bar.lock() {
            *current = Some(bar.clone());
        }
        Progress { bar, live: self.live, total, said: Mutex::new(None) }
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.live { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() }
    }

    pub(super) fn decision(&self, now: Duration, reason: &str) {
        self.say(&format!("{:6.1} s   {reason}", now.as_secs_f64()));
    }

    pub(super) fn summary(&self, plays: &[&Play]) {
        self.say("\n== summary");
        let mut header = vec![""];
        header.extend(plays.iter().map(|play| if play.burst { "with burst" } else { "without burst" }));
        let row = |what: &str, cell: &dyn Fn(&Play) -> String| {
            let mut row = vec![what.to_owned()];
            row.extend(plays.iter().map(|play| cell(play)));
            row
        };
        let rows = vec![
            row("requests", &|play| play.records.len().to_string()),
            row("answered locally", &|play| by_placement(play, Placement::Local)),
            row("answered by the cloud", &|play| by_placement(play, Placement::Cloud)),
            row("lost", &|play| play.records.iter().filter(|record| !record.answered()).count().to_string()),
            row("availability", &|play| format!("{:.3} %", availability(play) * 100.0)),
            row("p50", &|play| millis(percentile(&play.records, 0.50))),
            row("p95", &|play| millis(percentile(&play.records, 0.95))),
            row("p99", &|play| millis(percentile(&play.records, 0.99))),
            row("replicas busy in the surge", &|play| format!("{:.0} %", play.utilisation * 100.0)),
            row("most replicas", &|play| format!("{} local + {} cloud", play.peak.0, play.peak.1)),
            row("crossing to first cloud answer", &first_cloud),
            row("spent on instances", &|play| format!("{:.4} {}", play.spend.day, play.spend.currency)),
            row("took", &|play| format!("{:.1} s", play.took.as_secs_f64())),
        ];
        self.say(&table(&header, &rows));
        if let Some(play) = plays.iter().find(|play| play.burst) {
            self.say(&spend_note(play));
            let (compared, different) = agreement(&play.records);
            self.say(&format!(
                "agreement  {compared} images were answered by both placements, {different} of them differently"
            ));
        }
    }

    pub(super) fn verdict(&self, checks: &[Check], no_timing: bool, machine: &Machine) {
        self.say("\n== verdict (with burst)");
        for check in checks {
            self.say(&format!("{}  {}: {}", if check.held { "held  " } else { "FAILED" }, check.what, check.seen));
        }
        if no_timing {
            self.say("said    p95 was not judged, as asked (--no-timing)");
        } else if !machine.has_two_idle_cores() {
            self.say(&format!("said    p95 was not judged: only {:.1} idle cores when it began", machine.idle_cores));
        }
    }

    pub(super) fn goodbye(&self) {
        let own = std::env::current_exe().map_or("tidegate".to_owned(), |path| path.display().to_string());
        let pixels = "0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,\
                      0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0";
        self.say(&format!("\nNext: keep a node up with\n  {own} run\nand ask it from another terminal:"));
        self.say(&format!(
            "  curl -s http://127.0.0.1:8080/v2/models/{SERVICE}/infer -d '{{\"inputs\":[{{\"name\":\"image\",\
             \"shape\":[1,1,8,8],\"datatype\":\"FP32\",\"data\":[{pixels}]}}]}}'"
        ));
        self.say(&format!("  {own} status\n  {own} watch"));
    }
}

impl Progress {
    pub(super) fn show(&self, answered: usize, lost: usize, status: &ServiceStatus) {
        let state = format!(
            "load {:.2}  local {}  cloud {}{}  queued {}{}",
            status.value.unwrap_or(0.0),
            status.ready_local,
            status.ready_cloud,
            if status.starting_cloud > 0 { format!(" (+{} starting)", status.starting_cloud) } else { String::new() },
            status.queued,
            if lost > 0 { format!("  LOST {lost}") } else { String::new() },
        );
        if self.live {
            self.bar.set_position((answered + lost) as u64);
            self.bar.set_message(state);
            return;
        }
        let Ok(mut said) = self.said.lock() else { return };
        if said.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
            *said = Some(Instant::now());
            mention(&format!("           {answered} of {} answered  {state}", self.total));
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn by_placement(play: &Play, placement: Placement) -> String {
    let answers = answered_by(&play.records, placement).count();
    let right = answered_by(&play.records, placement).filter(|record| record.digit == Some(record.label)).count();
    if answers == 0 {
        return "0".to_owned();
    }
    format!("{answers} ({:.1} % right)", right as f64 / answers as f64 * 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn availability(play: &Play) -> f64 {
    let answered = play.records.iter().filter(|record| record.answered()).count();
    answered as f64 / play.records.len().max(1) as f64
}

fn first_cloud(play: &Play) -> String {
    match (play.crossed_at, play.first_cloud_at) {
        (Some(crossed), Some(first)) => format!("{:.2} s", first.saturating_sub(crossed).as_secs_f64()),
        _ => "-".to_owned(),
    }
}

/// What the instances cost beside as many that are always on; instances are billed for a least time.
fn spend_note(play: &Play) -> String {
    let price = play.bursts.iter().find_map(|burst| burst.price_per_hour).unwrap_or(0.0);
    let always = price * f64::from(play.peak.1);
    let currency = &play.spend.currency;
    format!(
        "spend      this surge {:.4} {currency} (instances are billed for a minute at least); {} instances always on cost \
         {always:.2} {currency} an hour, {:.2} a day",
        play.spend.day,
        play.peak.1,
        always * 24.0
    )
}

fn millis(latency: Duration) -> String {
    format!("{:.0} ms", latency.as_secs_f64() * 1_000.0)
}
