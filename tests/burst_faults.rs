//! Bursts, and what may go wrong in the middle of one. Everything is counted in the process table.
//!
//! The lane `faults` repeats the kills: `TIDEGATE_FAULT_ROUNDS` rounds, each at another moment.

#[path = "burst_faults/calendar.rs"]
mod calendar;
#[path = "burst_faults/preemption.rs"]
mod preemption;
mod support;
#[path = "burst_faults/sweep.rs"]
mod sweep;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use support::process_table::descendants;
use support::{Home, Node, PATIENCE, Spec, wait_until};

/// Clients that send at once: more than two local replicas answer.
const SURGE: usize = 8;

/// The shortest lease that a configuration may ask for.
const LEASE: Duration = Duration::from_secs(5);

/// Half of the node's drain timeout is an instance's.
const INSTANCE_DRAIN: Duration = Duration::from_secs(5);

fn short_lease() -> Spec {
    Spec::new().with("[adapter.cloud]\nlease_ttl = '5s'")
}

fn rounds() -> u32 {
    std::env::var("TIDEGATE_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("a number of rounds"))
}

fn wait_for_cloud(node: &Node, at_least: u64) {
    wait_until(PATIENCE, "instances are ready", || {
        (node.service("digits")["ready_cloud"].as_u64()? >= at_least).then_some(())
    });
}

/// Waits until so many more requests were answered.
fn wait_for_answers(load: &support::load::Load, more: u64) {
    let wanted = load.answered() + more;
    wait_until(PATIENCE, "requests are answered", || (load.answered() >= wanted).then_some(()));
}

fn launches(home: &Home) -> BTreeSet<String> {
    home.instances().iter().filter_map(|process| Some(process.launch()?.to_owned())).collect()
}

/// What the node lists as its instances.
fn listed(node: &Node) -> BTreeSet<String> {
    let replicas = node.get_json("/api/v1/replicas");
    let cloud = replicas.as_array().unwrap().iter().filter(|replica| replica["placement"] == "cloud");
    cloud.map(|replica| replica["replica"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_surge_bursts_answers_agree_and_the_tide_falls_again() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    wait_for_answers(&load, 200);
    let service = node.service("digits");
    assert_eq!(service["ready_local"], 2, "local replicas come first: {service}");
    let bursts = node.get_json("/api/v1/bursts");
    for burst in bursts.as_array().unwrap() {
        let members = ["launch", "service", "adapter", "state", "reason", "started_at", "ended_at", "cost"];
        assert!(members.iter().all(|member| burst.get(member).is_some()), "{burst}");
        assert_eq!((&burst["service"], &burst["adapter"]), (&"digits".into(), &"cloud".into()));
        assert!(burst["reason"].as_str().is_some_and(|reason| reason.contains("utilisation")), "{burst}");
        let left = burst["lease_remaining_s"].as_u64();
        assert!(burst["state"] != "ready" || left.is_some_and(|seconds| seconds <= 20), "{burst}");
    }
    assert_eq!(launches(&home), names(&bursts), "rows and processes");
    assert!(node.console("/metrics").text().contains("tidegate_burst_start_seconds_count{adapter=\"cloud\""));
    let tally = load.stop();
    tally.assert_sound();
    assert!(tally.from("local") > 0 && tally.from("cloud") > 0, "{:?}", tally.answers);
    assert!(tally.taken_for.values().any(|by| by.len() == 2), "no image was answered by both");
    assert!(tally.accuracy() > 0.9, "{}", tally.accuracy());

    wait_until(PATIENCE, "the tide falls to where it began", || {
        (home.instances().is_empty() && node.service("digits")["ready_local"] == 1).then_some(())
    });
    // Rows are closed a moment after the processes are gone; then nothing is committed but what was spent.
    let spend = wait_until(PATIENCE, "what was spent is known", || {
        let spend = node.get_json("/api/v1/spend");
        (spend["hour"].as_f64()? > 0.0 && spend["committed"] == spend["hour"]).then_some(spend)
    });
    println!("{spend}");
    let ended: Vec<Value> = node.events("burst.ended").iter().map(|data| data["launch"].clone()).collect();
    let distinct: BTreeSet<_> = ended.iter().map(ToString::to_string).collect();
    assert_eq!(
        (ended.len(), distinct.len()),
        (names(&bursts).len(), names(&bursts).len()),
        "each ends once: {ended:?}"
    );
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

fn names(bursts: &Value) -> BTreeSet<String> {
    bursts.as_array().unwrap().iter().map(|burst| burst["launch"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sigterm_in_mid_burst_loses_no_request_in_flight_and_leaves_no_process() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(10), "took {:?}", ended.took);
    home.assert_empty_within(Duration::ZERO);
    // Connections were closed and nobody listens any more; but who had been heard was answered.
    let tally = load.stop();
    let broken: Vec<_> = tally.lost.iter().filter(|why| why.starts_with('5')).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

/// Looks at journal and process table again and again while a burst begins. A wrapper that started before a copy of
/// the journal was begun must be in that copy.
#[test]
fn no_instance_starts_before_its_intent_is_in_the_journal() {
    let home = Home::new();
    let node = home.start(&Spec::new().with("[service.digits.burst]\nmax_replicas = 4"));
    let load = node.load(SURGE);
    let (mut seen, mut looks) = (BTreeSet::new(), 0_u32);
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 3 && Instant::now() < deadline {
        let before = uptime_ticks();
        let intended = journalled(&home);
        for instance in home.instances() {
            let launch = instance.launch().unwrap().to_owned();
            let is_in_the_journal = intended.contains(&launch);
            assert!(is_in_the_journal || instance.started_ticks >= before, "{launch} runs without an intent");
            if is_in_the_journal {
                seen.insert(launch);
            }
        }
        looks += 1;
    }
    println!("{} launches over {looks} looks", seen.len());
    assert_eq!(seen.len(), 3);
    load.stop().assert_sound();
}

/// Time since the machine's start in the kernel's ticks of 10 ms, rounded down as a process's start is.
fn uptime_ticks() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    u64::try_from(now.tv_sec() * 100 + now.tv_nsec() / 10_000_000).unwrap()
}

/// Every launch in a copy of the journal; the node holds the journal itself for itself alone.
fn journalled(home: &Home) -> BTreeSet<String> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.sqlite", "journal.sqlite-wal"] {
        let _absent = std::fs::copy(home.state_dir().join(name), copy.path().join(name));
    }
    let journal = rusqlite::Connection::open(copy.path().join("journal.sqlite")).unwrap();
    let mut rows = journal.prepare("SELECT launch FROM launches").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn after_sigkill_in_mid_burst_a_new_start_adopts_or_ends_every_instance() {
    for round in 0..rounds() {
        let home = Home::new();
        let node = home.start(&Spec::new());
        let load = node.load(SURGE);
        if round % 2 == 0 {
            wait_for_cloud(&node, 1);
        } else {
            wait_until(PATIENCE, "a launch has begun", || (!home.instances().is_empty()).then_some(()));
        }
        // delay: kills must come at any moment of a launch, not only right after what a test can see
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..700)));
        node.kill9();
        load.stop();
        let left = launches(&home);
        println!("round {round}: {} instances were left", left.len());
        wait_until(PATIENCE, "local replicas end with their node", || {
            let local =
                home.processes().into_iter().filter(|process| process.arguments.iter().any(|w| w == "--watch-stdin"));
            (local.count() == 0).then_some(())
        });

        let node = home.start(&Spec::new());
        let load = node.load(SURGE);
        wait_until(PATIENCE, "rows and processes are the same", || {
            let rows = listed(&node);
            (launches(&home) == rows && !rows.is_empty()).then_some(())
        });
        wait_for_answers(&load, 100);
        let tally = load.stop();
        tally.assert_sound();
        let told = [node.events("burst.adopted"), node.events("burst.ended")].concat();
        let untold = left.iter().filter(|launch| !told.iter().any(|data| data["launch"] == **launch));
        assert_eq!(untold.collect::<Vec<_>>(), Vec::<&String>::new(), "what became of these? {told:?}");
        let ended = node.terminate();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        home.assert_empty_within(Duration::ZERO);
    }
}

#[test]
fn an_adopted_instance_answers_again() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    wait_for_cloud(&node, 2);
    let before = launches(&home);
    node.kill9();
    load.stop();
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    let adopted = listed(&node);
    assert!(adopted.is_subset(&before), "a restart in mid-burst launches nothing new: {before:?}, {adopted:?}");
    wait_for_answers(&load, 200);
    let tally = load.stop();
    tally.assert_sound();
    assert!(tally.from("cloud") > 0, "{:?}", tally.answers);
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn after_sigkill_without_a_new_start_none_is_left_once_the_lease_ran_out() {
    for round in 0..rounds() {
        let home = Home::new();
        let node = home.start(&short_lease());
        let load = node.load(SURGE);
        wait_for_cloud(&node, 1);
        // delay: kills must come at any moment between two renewals
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..2_000)));
        assert!(!home.instances().is_empty());
        node.kill9();
        let since = Instant::now();
        load.stop();
        // The bound, and some for a machine that does other things too.
        home.assert_empty_within(LEASE + INSTANCE_DRAIN + Duration::from_secs(5));
        println!("round {round}: none was left after {:?}", since.elapsed());
    }
}

#[test]
fn a_killed_wrapper_and_a_killed_server_are_replaced_and_no_request_is_lost() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    for kills_the_server in [false, true].repeat(rounds().try_into().unwrap()) {
        wait_for_cloud(&node, 1);
        wait_for_answers(&load, 50);
        let (launch, victim) = wait_until(PATIENCE, "an instance runs", || {
            let instance = home.instances().into_iter().next()?;
            let server = descendants(instance.pid).into_iter().rfind(|process| process.is_model_server())?;
            Some((instance.launch()?.to_owned(), if kills_the_server { server.pid } else { instance.pid }))
        });
        kill(victim, Signal::SIGKILL).unwrap();
        wait_until(PATIENCE, "the instance is gone", || (!launches(&home).contains(&launch)).then_some(()));
        wait_until(PATIENCE, "another took its place", || {
            let rows = listed(&node);
            (!rows.contains(&launch) && !rows.is_empty() && rows == launches(&home)).then_some(())
        });
        wait_for_answers(&load, 50);
    }
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

/// The largest file that a process may write; `unlimited` or bytes.
fn limit_file_size(node: &Node, limit: &str) {
    let pid = node.pid().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
    assert!(set.expect("util-linux's prlimit is there").success());
}

/// Writing fails as on a full disk: each write to a file is too large. The signal that comes with it is ignored.
fn start_with_limits(home: &Home, spec: &Spec) -> Node {
    start_in_shell(home, spec, "trap '' XFSZ; exec \"$0\" run -c \"$1\"")
}

/// Starts a node by a shell's command line.
fn start_in_shell(home: &Home, spec: &Spec, line: &str) -> Node {
    let config = home.config(spec);
    let mut program = home.tidegate(&[], &[]);
    let tidegate = program.get_program().to_owned();
    let environment: Vec<_> = program.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    program = Command::new("sh");
    program.args(["-c", line]).arg(tidegate).arg(config);
    for (name, value) in environment {
        match value {
            Some(value) => program.env(name, value),
            None => program.env_remove(name),
        };
    }
    program
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let node = Node::spawn(program);
    node.wait_ready();
    node
}

#[test]
fn with_an_unwritable_journal_nothing_is_launched_and_what_lives_still_ends() {
    let home = Home::new();
    let node = start_with_limits(&home, &Spec::new().with("[service.digits.burst]\nmax_replicas = 1"));
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    limit_file_size(&node, "0");
    let alive = launches(&home);
    assert_eq!(alive.len(), 1);
    load.stop().assert_sound();
    wait_until(PATIENCE, "the instance ends although nothing can be written", || {
        launches(&home).is_empty().then_some(())
    });
    let load = node.load(SURGE);
    let failed = node.wait_for_event(PATIENCE, "burst.failed");
    assert!(failed["error"].as_str().is_some_and(|why| why.contains("journal")), "{failed}");
    wait_for_answers(&load, 100);
    assert_eq!(home.instances().len(), 0, "no launch without a written intent");
    limit_file_size(&node, "unlimited");
    wait_for_cloud(&node, 1);
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

/// Whatever would be said on standard error is lost, as when the log's disk is full; nothing else is.
#[test]
fn a_log_that_cannot_be_written_costs_no_instance_and_no_request() {
    let home = Home::new();
    let spec = Spec::new().with("[node]\nlog = \"debug\"\n[service.digits.burst]\nmax_replicas = 1");
    let node = start_in_shell(&home, &spec, "exec \"$0\" run -c \"$1\" 2>/dev/full");
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn a_journal_that_is_no_database_is_set_aside_and_instances_are_adopted_from_the_list() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    node.kill9();
    load.stop();
    let before = launches(&home);
    assert!(!before.is_empty());
    spoil(&home.state_dir());
    let node = home.start(&Spec::new());
    let load = node.load(SURGE);
    wait_until(PATIENCE, "what ran is adopted or ended", || {
        let now = launches(&home);
        (now == listed(&node)).then_some(())
    });
    wait_for_answers(&load, 50);
    load.stop().assert_sound();
    let kept = std::fs::read_dir(home.state_dir()).unwrap().flatten();
    assert!(kept.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("corrupt")));
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

fn spoil(state_dir: &Path) {
    std::fs::write(
        state_dir.join("journal.sqlite"),
        b"this is no database, and long enough to look like one".repeat(40),
    )
    .unwrap();
    let _absent = std::fs::remove_file(state_dir.join("journal.sqlite-wal"));
}
