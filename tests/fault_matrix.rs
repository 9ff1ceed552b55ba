//! The fault matrix: every step of an instance's life, under every fault, at real providers. The node of each cell is a
//! process of its own that runs the real engine and journal and goes wrong at one point; this test counts what is alive
//! at the provider while it runs and afterwards.
//!
//! By default each cell runs once at the process adapter, and a sample at the others, chosen by a seed that is printed.
//! `TIDEGATE_FAULT_ROUNDS` runs every cell of every adapter so many times (the lane `faults`), `TIDEGATE_FAULT_SEED`
//! repeats a run's choices, `TIDEGATE_FAULT_ADAPTERS=process,exec` leaves the others out, and
//! `TIDEGATE_FAULT_CELL=process:drain:sigkill:restart:7` plays one cell.

#[path = "fault_matrix/cell.rs"]
mod cell;
#[path = "fault_matrix/client.rs"]
mod client;
#[path = "fault_matrix/collector.rs"]
mod collector;
#[path = "fault_matrix/faulty.rs"]
mod faulty;
#[path = "fault_matrix/link.rs"]
mod link;
#[path = "fault_matrix/mischief.rs"]
mod mischief;
#[path = "fault_matrix/node.rs"]
mod node;
#[path = "fault_matrix/player.rs"]
mod player;
#[path = "fault_matrix/provider.rs"]
mod provider;
#[path = "fault_matrix/relay.rs"]
mod relay;
#[path = "fault_matrix/server.rs"]
mod server;
mod support;
#[path = "fault_matrix/table.rs"]
mod table;
#[path = "fault_matrix/trial_of_cell.rs"]
mod trial_of_cell;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use cell::{Cell, every_cell};
use provider::{KINDS, Kind};
use table::Table;
use trial_of_cell::Outcome;

/// With these arguments this program runs its one test, which hands over to [`part`] in a directory of a cell.
const AS_PART: [&str; 3] = [
    "no_fault_at_any_step_leaves_an_orphan_or_costs_more_than_the_budget_or_loses_a_request",
    "--exact",
    "--nocapture",
];
/// What a process of this program plays: `node` or `server`.
const PART: &str = "FAULT_MATRIX_PART";
/// The directory of its cell.
const HOME: &str = "FAULT_MATRIX_HOME";
/// Its adapter and cell; `:again` after it for the sound node.
const CELL: &str = "FAULT_MATRIX_CELL";
/// What a player says to this test begins with this.
const SAYS: &str = "matrix: ";

/// Longer than the wrapped server works on a request.
const DRAIN: Duration = Duration::from_millis(1_500);
/// A wrapper looks at its lease this often, at the least.
const TICK: Duration = Duration::from_secs(1);
/// For a machine that does many other things too, on top of every bound.
const MARGIN: Duration = Duration::from_secs(4);
/// A call that is late takes so much longer than its deadline.
const DEADLINE_PASSES: Duration = Duration::from_millis(200);
/// An instance costs one a second, and at least for this long.
const MINIMUM_BILLING: Duration = Duration::from_secs(2);
/// The budget of a cell: two lives with a fault in each, and not three.
const CAP_UNITS: f64 = 30.0;

/// Cells that run at once. They mostly wait; more would only measure each other.
const SIDE_BY_SIDE: usize = 14;
/// Cells of each further adapter in a default run.
const SAMPLE: usize = 12;

#[test]
fn no_fault_at_any_step_leaves_an_orphan_or_costs_more_than_the_budget_or_loses_a_request() {
    if let Some(home) = std::env::var_os(HOME) {
        return part(Path::new(&home));
    }
    let seed = number("TIDEGATE_FAULT_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let plan = match std::env::var("TIDEGATE_FAULT_CELL") {
        Ok(text) => vec![parse(&text).expect("a cell").0],
        Err(_) => plan(number("TIDEGATE_FAULT_ROUNDS"), seed),
    };
    println!("{} cells, TIDEGATE_FAULT_SEED={seed}", plan.len());
    let (plan, _daemon) = with_a_daemon(plan);
    assert!(!plan.is_empty(), "there is no cell to play: look at TIDEGATE_FAULT_ROUNDS and TIDEGATE_FAULT_ADAPTERS");
    let mut tables: BTreeMap<&str, (Kind, Table)> = BTreeMap::new();
    let (mut failures, mut answered) = (Vec::new(), BTreeMap::new());
    for (kind, cell, outcome) in play(plan) {
        if !outcome.wrong.is_empty() {
            failures.push(failure(kind, cell, &outcome));
        }
        let of_kind: &mut (usize, usize) = answered.entry(kind.name()).or_default();
        *of_kind = (of_kind.0 + 1, of_kind.1 + outcome.requests.answered);
        tables.entry(kind.name()).or_insert_with(|| (kind, Table::default())).1.add(cell, outcome);
    }
    tables.values().for_each(|(kind, table)| println!("\n{}", table.show(*kind)));
    for (kind, (cells, answered)) in answered {
        // A few cells may all end before anything is ready.
        assert!(answered > 0 || cells < SAMPLE, "{kind} answered no request, so none could be lost");
    }
    assert!(failures.is_empty(), "{} cells failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Rounds of everything, or one of the process adapter and a sample of the others.
fn plan(rounds: Option<usize>, seed: u64) -> Vec<(Kind, Cell)> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut plan = Vec::new();
    let named = std::env::var("TIDEGATE_FAULT_ADAPTERS").ok();
    let named = named.map(|named| named.split(',').map(|name| name.parse::<Kind>().expect("an adapter")).collect());
    for kind in named.unwrap_or_else(|| KINDS.to_vec()) {
        for round in 0..rounds.unwrap_or(1) {
            // What comes after a fault is another from run to run as well.
            let mut cells = every_cell(round + usize::try_from(seed % 6).expect("small"), &mut dice);
            if rounds.is_none() && kind != Kind::Process {
                dice.shuffle(&mut cells);
                cells.truncate(SAMPLE);
            }
            plan.extend(cells.into_iter().map(|cell| (kind, cell)));
        }
    }
    dice.shuffle(&mut plan);
    plan
}

/// Cells of the docker adapter share a daemon; where there can be none, they are left out.
fn with_a_daemon(mut plan: Vec<(Kind, Cell)>) -> (Vec<(Kind, Cell)>, Option<impl Send>) {
    let needed = plan.iter().any(|(kind, _)| *kind == Kind::Docker);
    let daemon = if needed { provider::docker::hold() } else { None };
    plan.retain(|(kind, _)| *kind != Kind::Docker || daemon.is_some());
    (plan, daemon)
}

/// Plays the cells side by side.
fn play(plan: Vec<(Kind, Cell)>) -> Vec<(Kind, Cell, Outcome)> {
    let (queue, done) = (Mutex::new(VecDeque::from(plan)), Mutex::new(Vec::new()));
    let next = || queue.lock().expect("the queue").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((kind, cell)) = next() {
                    let outcome = trial_of_cell::run(kind, cell);
                    done.lock().expect("the outcomes").push((kind, cell, outcome));
                }
            });
        }
    });
    done.into_inner().expect("the outcomes")
}

fn failure(kind: Kind, cell: Cell, outcome: &Outcome) -> String {
    let again = format!("TIDEGATE_FAULT_CELL={}:{cell} cargo test --test fault_matrix -- --nocapture", kind.name());
    format!("{}\nrepeat it: {again}", outcome.wrong.join("\n"))
}

/// `adapter:step:fault:after:seed`, and whether it is the sound node.
fn parse(text: &str) -> Result<((Kind, Cell), bool), String> {
    let (cell, is_restart) = text.strip_suffix(":again").map_or((text, false), |cell| (cell, true));
    let (kind, cell) = cell.split_once(':').ok_or("an adapter, a colon and a cell")?;
    Ok(((kind.parse()?, cell.parse()?), is_restart))
}

/// What this program plays when a cell starts it.
fn part(home: &Path) {
    match std::env::var(PART).expect("started by a cell").as_str() {
        "server" => server::play(home),
        _ => {
            let ((kind, cell), is_restart) = parse(&std::env::var(CELL).expect("a cell")).expect("a cell");
            node::play(kind, home, cell, is_restart);
        }
    }
}

/// Tells the test that started this process; not lost when the process is killed right after.
fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Whoever started it may be gone.
    let _unheard = out.write_all(format!("{SAYS}{line}\n").as_bytes()).and_then(|()| out.flush());
}
