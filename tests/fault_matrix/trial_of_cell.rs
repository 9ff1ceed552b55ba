//! One cell in one round: the node's process, what is alive at the provider meanwhile and afterwards, and the verdict.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cell::{After, Cell, Fault, Step};
use super::client::{Client, Requests};
use super::collector::COUNTS;
use super::player::Player;
use super::provider::{Kind, Provider};
use super::{CAP_UNITS, DRAIN, MARGIN, MINIMUM_BILLING, TICK};

/// A node that is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(75);
/// Between two looks at the provider.
const LOOK_EVERY: Duration = Duration::from_millis(70);
/// Where a look comes late, a span that was seen is shorter than the one that was billed, never longer than this.
const SLACK: Duration = Duration::from_millis(1_000);

/// How it went.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whatever is not as it should be.
    pub(crate) wrong: Vec<String>,
    pub(crate) orphans: usize,
    pub(crate) overruns: usize,
    pub(crate) doubles: usize,
    pub(crate) requests: Requests,
    /// From the death of a node to the end of its last instance, where nobody came back.
    pub(crate) outlived: Option<Duration>,
    pub(crate) launches: usize,
    /// Whether the fault came about at all.
    pub(crate) struck: bool,
    /// Attempts before this one in which it did not.
    pub(crate) missed: usize,
}

/// Everything of a run.
struct Watch {
    kind: Kind,
    cell: Cell,
    home: TempDir,
    provider: Box<dyn Provider>,
    clients: Vec<Client>,
    /// When each launch was seen alive first and last.
    seen: BTreeMap<String, (Instant, Instant)>,
    outcome: Outcome,
}

/// A machine that is busy enough ends a lease before the node comes to the step; the cell is played again, so often.
const ATTEMPTS: usize = 4;

/// Plays a cell, until its fault has struck.
pub(crate) fn run(kind: Kind, cell: Cell) -> Outcome {
    for missed in 0..ATTEMPTS {
        let outcome = Outcome { missed, ..attempt(kind, cell) };
        if outcome.struck || !outcome.wrong.is_empty() {
            return outcome;
        }
    }
    let wrong = vec![format!("the fault did not strike in {ATTEMPTS} attempts")];
    Outcome { wrong, missed: ATTEMPTS, ..Outcome::default() }
}

fn attempt(kind: Kind, cell: Cell) -> Outcome {
    let home = tempfile::Builder::new().prefix("tidegate-matrix-").tempdir().expect("a directory");
    let provider = kind.open(home.path());
    let (clients, seen, outcome) = (Vec::new(), BTreeMap::new(), Outcome::default());
    let mut watch = Watch { kind, cell, home, provider, clients, seen, outcome };
    watch.play();
    watch.outcome
}

impl Watch {
    fn play(&mut self) {
        let killed = self.node(false);
        match (killed, self.cell.after) {
            (Some(true), After::Restart) => self.restart(),
            (Some(true), _) => self.wait_for_the_lease(),
            (Some(false), _) => self.assert_nothing_is_left("the node ended"),
            (None, _) => {}
        }
        self.count_requests();
        self.count_money();
        if !self.outcome.wrong.is_empty() {
            self.outcome.wrong.extend([log_of(self.home.path()), self.provider.log()]);
        }
    }

    /// Runs a node to its end, and looks meanwhile. `Some(true)`: it was killed; `None`: it hangs.
    fn node(&mut self, is_restart: bool) -> Option<bool> {
        let mut player = Player::start(self.kind, self.cell, self.home.path(), is_restart);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            let ended = player.ended();
            self.hear(&mut player);
            self.look();
            if let Some(status) = ended {
                break status;
            }
            if Instant::now() > deadline {
                self.wrong(format!("the node did not end within {PATIENCE:?}; it said {:?}", player.said()));
                return None;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let said = player.said();
        self.outcome.struck |= !is_restart && said.iter().any(|line| line == "struck");
        let killed = status.signal() == Some(9);
        if self.cell.kills_the_node() && !is_restart {
            // A node that lives on was not struck, whatever it said.
            self.outcome.struck &= killed;
        }
        let came_to_its_end = status.success() && said.iter().any(|line| line.starts_with("ended"));
        if !killed && !came_to_its_end {
            self.wrong(format!("the node ended with {status}: {said:?}"));
        }
        Some(killed)
    }

    fn hear(&mut self, player: &mut Player) {
        for line in player.news() {
            if let ["ready", launch, authority, token, pin] = line.split(' ').collect::<Vec<_>>()[..] {
                let way = self.provider.way(launch, authority, pin.parse().expect("a pin"));
                self.clients.extend(way.map(|way| Client::start(launch, &way, token)));
            }
        }
    }

    fn look(&mut self) -> usize {
        let alive = self.provider.alive();
        let now = Instant::now();
        for (launch, count) in &alive {
            self.seen.entry(launch.clone()).or_insert((now, now)).1 = now;
            if *count > 1 {
                self.outcome.doubles += 1;
                self.outcome.wrong.push(format!("{count} instances of {launch} at once"));
            }
        }
        alive.values().sum()
    }

    fn wrong(&mut self, what: String) {
        self.outcome.wrong.push(what);
    }

    /// A sound node on the same state directory: it finds what is left, and leaves nothing.
    fn restart(&mut self) {
        if self.cell.is(Step::Intent, Fault::Lie) {
            // The disk had said that it was written.
            for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
                let _absent = std::fs::remove_file(self.home.path().join("state").join(name));
            }
        }
        match self.node(true) {
            Some(false) => self.assert_nothing_is_left("a sound node had come and gone"),
            Some(true) => self.wrong("the sound node was killed".to_owned()),
            None => {}
        }
    }

    fn assert_nothing_is_left(&mut self, after: &str) {
        let alive = self.look();
        if alive > 0 {
            self.outcome.orphans += alive;
            self.wrong(format!("{alive} instances run after {after}"));
        }
        self.assert_no_strays();
        let rows = rows(self.home.path());
        self.outcome.launches = rows.len();
        for row in &rows {
            if row.stage != "closed" || row.ended_at_ms.is_none() || row.cost.is_none() {
                self.outcome.wrong.push(format!("a row is not closed after {after}: {row:?}"));
            }
        }
        let recorded: f64 = rows.iter().filter_map(|row| row.cost).sum();
        if recorded > CAP_UNITS {
            self.outcome.overruns += 1;
            self.wrong(format!("{recorded} were recorded as spent, and the cap is {CAP_UNITS}"));
        }
        self.assert_whole_life_is_billed(&rows);
    }

    /// What a provider was seen to run is in the journal, and no shorter; where the provider did not lie about it.
    fn assert_whole_life_is_billed(&mut self, rows: &[Row]) {
        if self.cell.is(Step::Request, Fault::Lie) {
            return;
        }
        for (launch, (first, last)) in self.seen.clone() {
            let seen = last.duration_since(first).saturating_sub(SLACK).as_secs_f64();
            match rows.iter().find(|row| row.launch == launch) {
                None => self.wrong(format!("{launch} ran, and has no row")),
                Some(row) if row.cost.is_some_and(|cost| cost < seen) => {
                    self.wrong(format!("{launch} was seen for {seen:.1} s at 1 a second, and billed as {row:?}"));
                }
                Some(_) => {}
            }
        }
    }

    /// Nobody comes back: everything ends by itself, in time.
    fn wait_for_the_lease(&mut self) {
        let died = Instant::now();
        let bound = self.kind.lease() + DRAIN + TICK;
        let mut last_alive = Duration::ZERO;
        loop {
            let alive = self.look();
            let passed = died.elapsed();
            if alive > 0 {
                last_alive = passed;
            }
            if passed > bound + MARGIN {
                self.outcome.orphans += alive;
                if alive > 0 {
                    self.wrong(format!("{alive} instances outlived their node by more than {bound:?} + {MARGIN:?}"));
                }
                break;
            }
            // A launch that was under way may still come to something until the lease of what it made is over.
            if alive == 0 && passed > bound {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.outcome.outlived = Some(last_alive);
        self.assert_no_strays();
    }

    /// A moment may pass until the last process of an instance that has ended is gone.
    fn assert_no_strays(&mut self) {
        let deadline = Instant::now() + MARGIN;
        while !self.provider.strays().is_empty() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        let left = self.provider.strays();
        if !left.is_empty() {
            self.outcome.orphans += left.len();
            self.wrong(format!("processes are left: {left:#?}"));
        }
    }

    fn count_requests(&mut self) {
        let answered: Vec<String> = self.clients.drain(..).flat_map(Client::stop).collect();
        let requests = Requests::compare(&self.home.path().join(COUNTS), &answered);
        if requests.lost + requests.doubled > 0 {
            self.wrong(format!("requests: {requests:?}"));
        }
        self.outcome.requests = requests;
    }

    /// By the provider's clock, whatever anybody wrote down.
    fn count_money(&mut self) {
        let seen = |(first, last): &(Instant, Instant)| last.duration_since(*first).max(MINIMUM_BILLING).as_secs_f64();
        let spent: f64 = self.seen.values().map(seen).sum();
        if spent > CAP_UNITS {
            self.outcome.overruns += 1;
            self.wrong(format!("{spent:.1} were spent, and the cap is {CAP_UNITS}"));
        }
        self.outcome.launches = self.outcome.launches.max(self.seen.len());
    }
}

/// A row of the journal, as the file has it.
#[derive(Debug)]
struct Row {
    launch: String,
    stage: String,
    ended_at_ms: Option<i64>,
    cost: Option<f64>,
    #[allow(dead_code, reason = "shown when something is wrong")]
    reason: Option<String>,
}

fn rows(home: &Path) -> Vec<Row> {
    let journal = rusqlite::Connection::open(home.join("state/journal.sqlite")).expect("the journal");
    let sql = "SELECT launch, stage, ended_at_ms, cost_micro, end_reason FROM launches";
    let mut statement = journal.prepare(sql).expect("launches");
    let rows = statement.query_map([], |row| {
        let cost = row.get::<_, Option<f64>>(3)?.map(|micros| micros / 1e6);
        Ok(Row { launch: row.get(0)?, stage: row.get(1)?, ended_at_ms: row.get(2)?, cost, reason: row.get(4)? })
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("rows")
}

fn log_of(home: &Path) -> String {
    let log = std::fs::read_to_string(home.join("node.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    // The end tells most.
    lines[lines.len().saturating_sub(40)..].join("\n")
}
