//! The article's Flask program, as `examples/flask` ships it, scaled on this machine and then burst.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use support::http::Client;
use support::{Home, Node, PATIENCE, Spec, python, wait_until};

const PATH: &str = "/services/hello/";

/// Clients at once: more than the two local replicas and the instances take, at one request each.
const CLIENTS: usize = 8;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flask");

/// The shipped example with a Python that has Flask, and decisions every second instead of every five.
fn example() -> Spec {
    let shipped = std::fs::read_to_string(format!("{FOLDER}/tidegate.toml")).unwrap();
    assert!(shipped.contains("\ncommand = [\"python3\", \"app.py\"]"), "the example runs another command");
    let python = python::interpreter().display().to_string();
    Spec::without_services()
        .with(&shipped)
        .with(&format!("[service.hello.local]\ncommand = [{python:?}, 'app.py']"))
        .with("[service.hello.scaling]\ninterval = '1s'\nscale_factor = 120\nwindow = '1s'")
        .with("[budget]\nper_hour = 50.0\nper_day = 500.0")
}

/// Started in the example's folder, as its README says.
fn start(home: &Home, spec: &Spec) -> Node {
    let mut command = home.tidegate(&["run".into(), "-c".into(), home.config(spec).into()], &[]);
    command.current_dir(FOLDER);
    let node = Node::spawn(command);
    node.wait_ready();
    node
}

/// What the clients were answered.
#[derive(Debug, Default)]
struct Told {
    /// By replica: every count that it told.
    calls: BTreeMap<String, Vec<u64>>,
    placements: BTreeSet<String>,
    /// Everything but a 200 with the program's words.
    wrong: Vec<String>,
}

impl Told {
    fn call(&mut self, client: &mut Client) {
        match client.try_get(PATH) {
            Some(answer) if answer.status == 200 && answer.text() == "Hello, World!" => {
                let header = |name| answer.header(name).unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_owned();
                let count = header("x-calls").parse().expect("a count");
                self.calls.entry(header("x-tidegate-replica")).or_default().push(count);
                self.placements.insert(header("x-tidegate-placement"));
            }
            Some(answer) => self.wrong.push(format!("{answer:?}")),
            None => self.wrong.push("no answer".to_owned()),
        }
    }

    fn add(&mut self, other: Self) {
        for (replica, calls) in other.calls {
            self.calls.entry(replica).or_default().extend(calls);
        }
        self.placements.extend(other.placements);
        self.wrong.extend(other.wrong);
    }
}

/// Each client asks again as soon as it is answered, until it is told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Told>>,
}

impl Crowd {
    fn at(node: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (stop, mut client) = (stop.clone(), node.client());
            std::thread::spawn(move || {
                let mut told = Told::default();
                while !stop.load(Ordering::Relaxed) {
                    told.call(&mut client);
                }
                told
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, clients }
    }

    fn stop(mut self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        self.clients.drain(..).for_each(|client| all.add(client.join().expect("a client does not panic")));
        all
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ready(node: &Node) -> (u64, u64) {
    let row = node.service("hello");
    (row["ready_local"].as_u64().unwrap_or(0), row["ready_cloud"].as_u64().unwrap_or(0))
}

/// Processes that run the program, by the process table.
fn servers(home: &Home) -> usize {
    let runs_app = |word: &String| word.ends_with("app.py");
    let is_server = |process: &support::process_table::Process| process.arguments.get(1).is_some_and(runs_app);
    home.processes().iter().filter(|process| is_server(process)).count()
}

#[test]
fn the_articles_program_is_scaled_here_then_burst_and_comes_back() {
    let home = Home::new();
    let node = start(&home, &example());
    wait_until(PATIENCE, "one replica here", || (ready(&node) == (1, 0)).then_some(()));
    let mut first = Told::default();
    let mut client = node.client();
    (0..3).for_each(|_| first.call(&mut client));
    assert!(first.wrong.is_empty(), "{first:?}");
    assert_eq!(first.calls.values().next(), Some(&vec![1, 2, 3]), "nobody but its callers calls the program");

    let crowd = Crowd::at(&node);
    wait_until(PATIENCE, "a second replica runs here", || (ready(&node).0 == 2).then_some(()));
    wait_until(PATIENCE, "an instance runs", || (ready(&node).1 >= 1).then_some(()));
    let launch = node.wait_for_event(PATIENCE, "burst.ready")["launch"].as_str().expect("a launch").to_owned();
    wait_until(PATIENCE, "the program runs thrice", || (servers(&home) >= 3).then_some(()));
    wait_until(PATIENCE, "instances have been used", || {
        let replicas = node.get_json("/api/v1/replicas");
        let busy = |row: &serde_json::Value| row["placement"] == "cloud" && row["in_flight"].as_u64() > Some(0);
        replicas.as_array().unwrap().iter().any(busy).then_some(())
    });
    let told = crowd.stop();
    assert!(told.wrong.is_empty(), "{} wrong: {:?}", told.wrong.len(), told.wrong.first());
    assert_eq!(told.placements, BTreeSet::from(["cloud".to_owned(), "local".to_owned()]));
    assert!(told.calls.contains_key(&launch), "{launch} of {:?}", told.calls.keys());
    assert_counts(&first, told);

    wait_until(PATIENCE, "back to one replica here and none there", || (ready(&node) == (1, 0)).then_some(()));
    wait_until(PATIENCE, "one process of the program is left", || (servers(&home) == 1).then_some(()));
    wait_until(PATIENCE, "every instance's end is confirmed", || home.instances().is_empty().then_some(()));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
}

/// The program is asked for its count beside its work; what it counts is its calls alone.
#[test]
fn the_articles_program_is_scaled_by_its_own_counter() {
    let home = Home::new();
    let by_calls = "[service.hello.scaling]\nthreshold = 4\nband = 1\n[service.hello.scaling.metric]\npath = '/calls'\n\
                    pointer = '/calls'\ncounter = true\nmax_age = '5s'";
    let node = start(&home, &example().with(by_calls));
    wait_until(PATIENCE, "one replica here", || (ready(&node) == (1, 0)).then_some(()));

    let crowd = Crowd::at(&node);
    wait_until(PATIENCE, "a second replica runs here", || (ready(&node).0 == 2).then_some(()));
    let started = node.wait_for_event(PATIENCE, "burst.started");
    let reason = started["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("custom metric ") && reason.contains("above 4.50"), "{reason}");
    wait_until(PATIENCE, "an instance runs", || (ready(&node).1 >= 1).then_some(()));
    let told = crowd.stop();
    assert!(told.wrong.is_empty(), "{} wrong: {:?}", told.wrong.len(), told.wrong.first());
    assert_counts(&Told::default(), told);

    wait_until(PATIENCE, "back to one replica here and none there", || (ready(&node) == (1, 0)).then_some(()));
    wait_until(PATIENCE, "every instance's end is confirmed", || home.instances().is_empty().then_some(()));
    assert!(!node.log().contains("a replica does not tell"), "instances are asked too: {}", node.log());
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
}

/// Each replica counts its own calls: one by one, none twice, none left out. So no call was lost or repeated on the way.
fn assert_counts(first: &Told, told: Told) {
    for (replica, mut calls) in told.calls {
        calls.extend(first.calls.get(&replica).into_iter().flatten());
        calls.sort_unstable();
        let expected: Vec<u64> = (1..=calls.len() as u64).collect();
        assert_eq!(calls, expected, "the counts of {replica}");
    }
}
