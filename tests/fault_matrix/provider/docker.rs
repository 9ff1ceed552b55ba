//! Containers of a real `dockerd`, which all cells share: each is another node of the fleet. Counted by asking the daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use cloud_adapters::{CloudAdapter, DockerAdapter, DockerOptions};

use super::{Provider, node_of};

#[path = "../../../cloud-adapters/tests/docker/certificates.rs"]
#[allow(dead_code, reason = "the adapter's own tests use the rest")]
mod certificates;
#[path = "../../../cloud-adapters/tests/docker/engine.rs"]
#[allow(dead_code, reason = "the adapter's own tests use the rest")]
mod engine;

/// Where the node's process finds the daemon.
const SOCKET: &str = "docker-socket";

/// The daemon of the cells that run now; whoever is last ends it.
static DAEMON: Mutex<Weak<engine::Engine>> = Mutex::new(Weak::new());

pub(super) struct Containers {
    daemon: Arc<engine::Engine>,
    node: String,
}

/// The daemon, held by the test for as long as it plays cells; `None` where this machine cannot have one, which was said.
pub(crate) fn hold() -> Option<impl Send> {
    let daemon = Arc::new(engine::Engine::start()?);
    *DAEMON.lock().expect("the daemon") = Arc::downgrade(&daemon);
    // The image of the node's own binary is made once, not within the deadline of some cell's call.
    let adapter = DockerAdapter::new(options(&daemon.socket())).expect("an address");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(adapter.own_image()).expect("the own image");
    Some(daemon)
}

pub(super) fn open(home: &Path) -> Containers {
    let daemon = DAEMON.lock().expect("the daemon").upgrade().expect("a daemon is held");
    std::fs::write(home.join(SOCKET), daemon.socket().display().to_string()).expect("write");
    Containers { daemon, node: node_of(home) }
}

impl Containers {
    /// The launches of the node's containers.
    fn containers(&self, which: &str) -> Vec<String> {
        let filters = format!("%7B%22label%22%3A%5B%22tidegate.node%3D{}%22%5D%7D", self.node);
        let (status, answer) = self.daemon.api("GET", &format!("/containers/json?{which}filters={filters}"), &[]);
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
    fn way(&self, _launch: &str, _authority: &str) -> Option<String> {
        None
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for launch in self.containers("all=1&") {
            self.daemon.api("DELETE", &format!("/containers/tidegate-{launch}?force=1&v=1"), &[]);
        }
    }
}

pub(super) fn client(home: &Path) -> Arc<dyn CloudAdapter> {
    let socket = std::fs::read_to_string(home.join(SOCKET)).expect("a socket");
    Arc::new(DockerAdapter::new(options(Path::new(&socket))).expect("an address"))
}

fn options(socket: &Path) -> DockerOptions {
    let host = Some(format!("unix://{}", socket.display()));
    DockerOptions { host, ..DockerOptions::new("docker", env!("CARGO_BIN_EXE_tidegate")) }
}
