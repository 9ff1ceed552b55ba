//! Containers of a real `dockerd`, which all cells share: each is another node of the fleet. Counted by asking the daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use cloud_adapters::{CloudAdapter, DockerAdapter, DockerOptions, Workload};
use tidegate::logic::route::PublicKeyPin;

use super::super::collector;
use super::super::relay::Relay;
use super::{Provider, node_of};

#[path = "../../../cloud-adapters/tests/docker/certificates.rs"]
#[allow(dead_code, reason = "the adapter's own tests use the rest")]
mod certificates;
#[path = "../../../cloud-adapters/tests/docker/engine.rs"]
#[allow(dead_code, reason = "the adapter's own tests use the rest")]
mod engine;

/// What the node's process has to know, a line each: the daemon's socket, the collector's address.
const FACTS: &str = "docker-facts";

/// What containers run: the node's own binary as the wrapper, and this program as the server.
const IMAGE: &str = "tidegate-matrix:1";
const SERVER: &str = "usr/local/bin/server";

/// The daemon of the cells that run now; whoever is last ends it.
static DAEMON: Mutex<Weak<Daemon>> = Mutex::new(Weak::new());

struct Daemon {
    engine: engine::Engine,
    collector: String,
}

pub(super) struct Containers {
    daemon: Arc<Daemon>,
    node: String,
    relay: Relay,
}

/// The daemon, held by the test for as long as it plays cells; `None` where this machine cannot have one, which was said.
pub(crate) fn hold() -> Option<impl Send> {
    let engine = engine::Engine::start()?;
    engine.import(IMAGE, &[], &image());
    let collector = collector::start(engine.bridge.address.into());
    let daemon = Arc::new(Daemon { engine, collector });
    *DAEMON.lock().expect("the daemon") = Arc::downgrade(&daemon);
    Some(daemon)
}

pub(super) fn open(home: &Path) -> Containers {
    let daemon = DAEMON.lock().expect("the daemon").upgrade().expect("a daemon is held");
    let facts = format!("{}\n{}", daemon.engine.socket().display(), daemon.collector);
    std::fs::write(home.join(FACTS), facts).expect("write");
    Containers { daemon, node: node_of(home), relay: Relay::new() }
}

impl Containers {
    /// The launches of the node's containers.
    fn containers(&self, which: &str) -> Vec<String> {
        let filters = format!("%7B%22label%22%3A%5B%22tidegate.node%3D{}%22%5D%7D", self.node);
        let (status, answer) =
            self.daemon.engine.api("GET", &format!("/containers/json?{which}filters={filters}"), &[]);
        assert_eq!(status, 200, "{answer}");
        let found: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("a list");
        let launch = |container: &serde_json::Value| container["Labels"]["tidegate.launch"].as_str().map(str::to_owned);
        found.iter().filter_map(launch).collect()
    }
}

impl Provider for Containers {
    fn alive(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        self.containers("").into_iter().for_each(|launch| *counted.entry(launch).or_default() += 1);
        counted
    }

    /// A container that has ended costs nothing and is kept for whoever asks.
    fn strays(&self) -> Vec<String> {
        self.containers("")
    }

    /// Only who can tell the launch's key from another's may speak with it.
    fn log(&self) -> String {
        let of = |launch: String| {
            let path = format!("/containers/tidegate-{launch}/logs?stdout=1&stderr=1&timestamps=1");
            format!("{launch}:\n{}", self.daemon.engine.api("GET", &path, &[]).1)
        };
        self.containers("all=1&").into_iter().map(of).collect()
    }

    fn way(&self, _launch: &str, authority: &str, pin: PublicKeyPin) -> Option<String> {
        Some(self.relay.to(authority, pin))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for launch in self.containers("all=1&") {
            self.daemon.engine.api("DELETE", &format!("/containers/tidegate-{launch}?force=1&v=1"), &[]);
        }
    }
}

pub(super) fn client(home: &Path) -> Arc<dyn CloudAdapter> {
    let host = Some(format!("unix://{}", facts(home).0));
    let options = DockerOptions { host, ..DockerOptions::new("docker", env!("CARGO_BIN_EXE_tidegate")) };
    Arc::new(DockerAdapter::new(options).expect("an address"))
}

fn facts(home: &Path) -> (String, String) {
    let facts = std::fs::read_to_string(home.join(FACTS)).expect("facts");
    let (socket, collector) = facts.split_once('\n').expect("two lines");
    (socket.to_owned(), collector.to_owned())
}

/// Has a workload run in a container.
pub(super) fn contain(workload: &mut Workload, home: &Path) {
    workload.image = Some(IMAGE.to_owned());
    workload.argv[0] = format!("/{SERVER}");
    workload.env.insert(collector::ADDRESS.to_owned(), facts(home).1);
}

/// Both programs, with what they are linked to.
fn image() -> Vec<u8> {
    let own = std::env::current_exe().expect("this program");
    let wrapper = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let mut tar = tar::Builder::new(Vec::new());
    engine::add(&mut tar, SERVER, &std::fs::read(&own).expect("this program"), 0o755);
    engine::add(&mut tar, "usr/local/bin/tidegate", &std::fs::read(wrapper).expect("the wrapper"), 0o755);
    engine::add_libraries(&mut tar, &[&own, wrapper]);
    tar.into_inner().expect("an archive")
}
