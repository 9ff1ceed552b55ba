//! What the tests of a whole node share: a home for it, the real binary in it, an HTTP client, load, and the process
//! table. Whatever a home's nodes started is ended by process id when the home is dropped, also after a failure.
//!
//! ```ignore
//! let home = Home::new();
//! let node = home.start(&Spec::new().with("[adapter.cloud]\nlease_ttl = '5s'"));
//! let load = node.load(6);
//! wait_until(PATIENCE, "an instance is ready", || (node.service("digits")["ready_cloud"] != 0).then_some(()));
//! let tally = load.stop();
//! let ended = node.terminate();
//! ```

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod account;
pub(crate) mod disk;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod older;
pub(crate) mod process_table;
pub(crate) mod python;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use http::{Answer, Client};
use load::Load;
use process_table::Process;

/// Ample on a machine that builds and tests other things at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

/// Marks every process of a home, in its environment.
pub(crate) const TAG: &str = "TIDEGATE_TEST_TAG";

/// Looks until the condition gives something, or fails the test after `patience`.
pub(crate) fn wait_until<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// A port that nobody has now, for what has to name one beforehand.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The configuration of a node: small, quick to decide, every listener on a free port.
#[derive(Clone)]
pub(crate) struct Spec {
    table: toml::Table,
    environment: Vec<(String, String)>,
}

/// Two replicas here, two instances there, a decision every second.
const BASE: &str = r#"
[node]
id = "gateway-t"
fleet = "test"
tick = "250ms"
drain_timeout = "10s"
log = "info"
[mqtt]
listen = "127.0.0.1:0"
[gateway]
listen = "127.0.0.1:0"
[console]
listen = "127.0.0.1:0"
[budget]
currency = "EUR"
per_hour = 50.0
per_day = 500.0
"#;

const DIGITS: &str = r#"
[service.digits.local]
runtime = "onnx"
model = "builtin:digits"
max_replicas = 2
concurrency = 1
[service.digits.burst]
adapters = ["cloud"]
max_replicas = 2
[adapter.cloud]
kind = "process"
price_per_hour = 0.40
minimum_billing = "60s"
lease_ttl = "20s"
start_timeout = "30s"
"#;

const BY_THRESHOLD: &str = r#"
policy = "threshold"
metric = "utilisation"
threshold = 0.80
band = 0.10
scale_factor = 120
interval = "1s"
window = "1s"
min_replicas = 1
"#;

impl Spec {
    /// The service `digits`, with up to two local replicas and two instances of the adapter `cloud`.
    pub(crate) fn new() -> Self {
        Self::scaled_by(BY_THRESHOLD)
    }

    /// The same, scaled by these keys of `service.digits.scaling` in place of a threshold.
    pub(crate) fn scaled_by(scaling: &str) -> Self {
        Self::without_services().with(DIGITS).with(&format!("[service.digits.scaling]\n{scaling}"))
    }

    /// Listeners, a quick tick and a budget, and nothing to serve yet.
    pub(crate) fn without_services() -> Self {
        Self { table: toml::Table::new(), environment: Vec::new() }.with(BASE)
    }

    /// Lays more TOML over it, key by key.
    pub(crate) fn with(mut self, toml: &str) -> Self {
        merge(&mut self.table, toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}")));
        self
    }

    /// Takes a key out of a table.
    pub(crate) fn remove(&mut self, table: &str, key: &str) {
        self.table.get_mut(table).and_then(toml::Value::as_table_mut).and_then(|table| table.remove(key));
    }

    /// Takes one key out of a section.
    pub(crate) fn without(mut self, section: &str, key: &str) -> Self {
        let section = self.table.get_mut(section).and_then(toml::Value::as_table_mut).expect("the section is there");
        section.remove(key).expect("the key is there");
        self
    }

    /// Adds to the environment of the node.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is added to the environment.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The configuration as it stands in the file: in `home`, and with its tag in the environment of every service.
    fn to_toml(&self, home: &Home) -> String {
        let mut spec = self.clone();
        let state_dir = spec.table.get("node").and_then(|node| node.get("state_dir"));
        if state_dir.is_none() {
            spec = spec.with(&format!("[node]\nstate_dir = {:?}", home.state_dir().display().to_string()));
        }
        let services = spec.table.get("service").and_then(toml::Value::as_table);
        let names: Vec<String> = services.into_iter().flat_map(|services| services.keys().cloned()).collect();
        for name in names {
            spec = spec.with(&format!("[service.{name}.local.env]\n{TAG} = {:?}", home.tag));
        }
        toml::to_string(&spec.table).unwrap()
    }
}

fn merge(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// A directory for nodes, one after the other, and everything that they start.
pub(crate) struct Home {
    directory: TempDir,
    tag: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("tidegate-test-").tempdir().unwrap();
        let tag = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
        Self { directory, tag }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes a file here and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes the configuration of a node.
    pub(crate) fn config(&self, spec: &Spec) -> PathBuf {
        self.file("tidegate.toml", spec.to_toml(self))
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn start(&self, spec: &Spec) -> Node {
        let node = self.start_unready(spec);
        node.wait_ready();
        node
    }

    /// Starts a node and waits until it listens.
    pub(crate) fn start_unready(&self, spec: &Spec) -> Node {
        let config = self.config(spec);
        let arguments = [OsString::from("run"), "-c".into(), config.into()];
        Node::spawn(self.tidegate(&arguments, &spec.environment))
    }

    /// Runs a node that is expected to end by itself.
    pub(crate) fn run_to_end(&self, spec: &Spec) -> Finished {
        let config = self.config(spec);
        self.finish(self.tidegate(&[OsString::from("run"), "-c".into(), config.into()], &spec.environment))
    }

    /// Runs another command of the program to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Finished {
        self.command_with(arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn command_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.finish(self.tidegate(&arguments, &environment.collect::<Vec<_>>()))
    }

    /// The program, marked as this home's, with nothing of the caller's configuration.
    pub(crate) fn tidegate(&self, arguments: &[OsString], environment: &[(String, String)]) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let inherited = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_"));
        for (name, _) in inherited {
            command.env_remove(name);
        }
        command.args(arguments).env(TAG, &self.tag).envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("HOME", self.path()).env("XDG_STATE_HOME", self.path().join("xdg-state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    /// Runs a command that was made by [`Home::tidegate`], or one around it, to its end.
    pub(crate) fn finish(&self, command: Command) -> Finished {
        let mut running = Running::spawn(command);
        let status = running.wait();
        Finished { code: status.code(), stdout: running.stdout.text(), stderr: running.stderr.text() }
    }

    /// Everything alive that a node here started, nodes apart, by any of its marks.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.everything().into_iter().filter(|process| !process.is_node()).collect()
    }

    /// The wrappers of the instances: one for each instance.
    pub(crate) fn instances(&self) -> Vec<Process> {
        self.everything().into_iter().filter(Process::is_instance).collect()
    }

    fn everything(&self) -> Vec<Process> {
        let directory = self.path().display().to_string();
        let mark = format!("{TAG}={}", self.tag);
        let is_ours = |process: &Process| {
            process.environment.contains(&mark) || process.arguments.iter().any(|word| word.contains(&directory))
        };
        process_table::processes().into_iter().filter(is_ours).collect()
    }

    /// Fails unless no process is left soon.
    pub(crate) fn assert_empty_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !self.everything().is_empty() {
            std::thread::sleep(LOOK_INTERVAL);
        }
        let left = self.everything();
        assert!(left.is_empty(), "still there after {patience:?}: {left:#?}");
    }
}

/// The same command by another program, which has words of its own before the others.
pub(crate) fn run_by<'a>(
    program: &Path,
    before: &[&std::ffi::OsStr],
    ours: &Command,
    arguments: impl Iterator<Item = &'a std::ffi::OsStr>,
) -> Command {
    use std::os::unix::process::CommandExt;
    let mut theirs = Command::new(program);
    theirs.args(before).args(arguments);
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => theirs.env(name, value),
            None => theirs.env_remove(name),
        };
    }
    theirs.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    theirs
}

impl Drop for Home {
    /// Until none is left: what is ended may have been about to start another.
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.everything();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for process in left {
                let _gone = kill(process.pid, Signal::SIGKILL);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// A command that ended by itself.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Where a node listens, as `host:port`.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) gateway: String,
    pub(crate) console: String,
    pub(crate) mqtt: Option<String>,
}

/// A running node. Dropped, it is killed.
pub(crate) struct Node {
    running: Running,
    pub(crate) addresses: Addresses,
}

/// How a node ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
    pub(crate) stderr: String,
}

impl Node {
    /// Starts it and reads where it listens.
    pub(crate) fn spawn(command: Command) -> Self {
        let mut running = Running::spawn(command);
        let addresses = wait_until(PATIENCE, "the node says where it listens", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "the node ended with {ended:?}: {}", running.stderr.text());
            addresses(&running.stdout.text())
        });
        Self { running, addresses }
    }

    pub(crate) fn wait_ready(&self) {
        wait_until(PATIENCE, "the node is ready", || {
            let answer = Client::new(&self.addresses.console).try_get("/readyz")?;
            (answer.status == 200).then_some(())
        });
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.running.child.id().try_into().unwrap())
    }

    /// What it said to standard error so far: its log.
    pub(crate) fn log(&self) -> String {
        self.running.stderr.text()
    }

    /// What it printed so far.
    pub(crate) fn output(&self) -> String {
        self.running.stdout.text()
    }

    /// The console, as a URL for `--console`.
    pub(crate) fn console_url(&self) -> String {
        format!("http://{}", self.addresses.console)
    }

    /// A GET at the console.
    pub(crate) fn console(&self, path: &str) -> Answer {
        Client::new(&self.addresses.console).get(path)
    }

    /// JSON from the console.
    pub(crate) fn get_json(&self, path: &str) -> Value {
        let answer = self.console(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// A service's row of `/api/v1/services`, or null before the first decision.
    pub(crate) fn service(&self, name: &str) -> Value {
        let services = self.get_json("/api/v1/services");
        services.as_array().and_then(|all| all.iter().find(|row| row["name"] == name)).cloned().unwrap_or_default()
    }

    /// The data of every event of a kind, oldest first.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.get_json("/api/v1/events");
        let ours = events.as_array().unwrap().iter().filter(|event| event["type"] == kind);
        ours.map(|event| event["data"].clone()).collect()
    }

    /// Waits for an event of that kind.
    pub(crate) fn wait_for_event(&self, patience: Duration, kind: &str) -> Value {
        wait_until(patience, kind, || self.events(kind).into_iter().next())
    }

    /// A connection to the gateway that is kept for many requests.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.addresses.gateway)
    }

    /// One image through the gateway, on a connection of its own.
    pub(crate) fn infer(&self, pixels: &[u8]) -> Answer {
        self.client().post("/v2/models/digits/infer", &images(&[pixels]))
    }

    /// Load until it is told to stop: each of `clients` sends its next image once it has the answer to the last.
    pub(crate) fn load(&self, clients: usize) -> Load {
        Load::start(&self.addresses.gateway, clients)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the node is there");
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGKILL: nothing of the node's own runs after that.
    pub(crate) fn kill9(self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let since = Instant::now();
        let status = self.running.wait();
        Ended { code: status.code(), took: since.elapsed(), stderr: self.running.stderr.text() }
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.running.child.try_wait().unwrap().is_none()
    }
}

/// The last line that a node prints at its start tells of its services.
fn addresses(output: &str) -> Option<Addresses> {
    let find = |name: &str| {
        let line = output.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        Some(line.rsplit_once("//")?.1.to_owned())
    };
    find("service")?;
    Some(Addresses { gateway: find("gateway")?, console: find("console")?, mqtt: find("mqtt") })
}

/// The body of an inference request for images of 64 pixels.
pub(crate) fn images(images: &[&[u8]]) -> Value {
    let data: Vec<u8> = images.iter().flat_map(|pixels| pixels.iter().copied()).collect();
    json!({ "inputs": [{ "name": "image", "shape": [images.len(), 1, 8, 8], "datatype": "FP32", "data": data }] })
}

/// The digit that each image of an answer was taken for.
pub(crate) fn digits(answer: &Answer) -> Vec<u8> {
    let json = answer.json();
    let logits: Vec<f64> =
        json["outputs"][0]["data"].as_array().expect("an output").iter().map(|v| v.as_f64().unwrap()).collect();
    let best = |row: &[f64]| (0..10_u8).max_by(|a, b| row[*a as usize].total_cmp(&row[*b as usize])).unwrap();
    logits.chunks(10).map(best).collect()
}

/// A started process with what it said; killed when dropped.
struct Running {
    child: Child,
    stdout: Said,
    stderr: Said,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stdout = Said::listen(child.stdout.take().unwrap());
        let stderr = Said::listen(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Its exit status, once it ended by itself and all that it said is read.
    fn wait(&mut self) -> ExitStatus {
        let status = wait_until(PATIENCE, "the program ends", || self.child.try_wait().unwrap());
        self.stdout.finish();
        self.stderr.finish();
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what the program said ---\n{}--- end ---", self.stderr.text());
        }
    }
}

/// What a process said to one of its outputs.
struct Said {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Said {
    fn listen(output: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = text.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut text = heard.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// All is read once every holder of the other end is gone, which children of a killed node may not be yet.
    fn finish(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.reader.take_if(|reader| reader.is_finished()).map(JoinHandle::join);
    }
}
