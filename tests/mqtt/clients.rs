//! Mosquitto's broker and clients, each with its own process, ended by its id.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{Home, PATIENCE, Spec, wait_until};

/// Ends its process when dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A Mosquitto broker with a configuration and a port of its own.
pub(crate) struct Broker {
    port: u16,
    config: std::path::PathBuf,
    process: Option<Guard>,
}

impl Broker {
    /// Takes everyone, keeps nothing over a restart.
    pub(crate) fn start(home: &Home) -> Self {
        let mut broker = Self::at(home, free_port(), "allow_anonymous true");
        broker.up();
        broker
    }

    /// Not started yet.
    pub(crate) fn at(home: &Home, port: u16, settings: &str) -> Self {
        // Late QoS 1 subscribers lose retained messages at the default queue limit.
        let text = format!("listener {port} 127.0.0.1\npersistence false\nmax_queued_messages 0\n{settings}\n");
        Self { port, config: home.file(&format!("mosquitto-{port}.conf"), text), process: None }
    }

    /// Starts it and waits until it listens.
    pub(crate) fn up(&mut self) {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("mosquitto");
        command.env("PATH", path).arg("-c").arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().expect("mosquitto is installed (tests/run does it)");
        let mut guard = Guard(child);
        wait_until(PATIENCE, "mosquitto listens", || {
            let ended = guard.0.try_wait().unwrap();
            assert!(ended.is_none(), "mosquitto ended with {ended:?}: is port {} taken?", self.port);
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        self.process = Some(guard);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// A signal to the running broker.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let process = self.process.as_ref().expect("it runs");
        let pid = nix::unistd::Pid::from_raw(process.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).expect("the broker is there");
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// The service `digits` on this box alone, publishing to a broker elsewhere, quick to say everything again.
pub(crate) fn at_broker(address: &str) -> Spec {
    let mut spec = Spec::new().with("[service.digits.local]\nmax_replicas = 1");
    spec.remove("mqtt", "listen");
    spec.with(&format!("[mqtt]\nbroker = \"mqtt://{address}\"\nrefresh = '2s'\nkeepalive = '5s'"))
}

/// A message as a subscriber printed it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) retained: bool,
    pub(crate) topic: String,
    pub(crate) payload: String,
    /// As it came.
    pub(crate) bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The topic was cleared.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.payload.as_str(), "" | "(null)")
    }
}

/// A running `mosquitto_sub` and what it has printed.
pub(crate) struct Subscriber {
    _process: Guard,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Subscriber {
    /// Subscribes to `filter` at a broker, `host:port`.
    pub(crate) fn start(address: &str, filter: &str) -> Self {
        let mut command = mosquitto("mosquitto_sub", address);
        // In hex, since a payload may hold any byte and a line may not.
        command.args(["-t", filter, "-q", "1", "-F", "%r %t %x"]);
        Self::listen(command, |line| {
            let (retained, rest) = line.split_once(' ')?;
            let (topic, payload) = rest.split_once(' ')?;
            let bytes = unhex(payload);
            let payload = String::from_utf8_lossy(&bytes).into_owned();
            Some(Message { retained: retained == "1", topic: topic.to_owned(), payload, bytes })
        })
    }

    /// Runs a line that the program printed for people, with `-v`: topic, blank, payload.
    pub(crate) fn of_printed(line: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]);
        Self::listen(command, |line| {
            let (topic, payload) = line.split_once(' ')?;
            let bytes = payload.as_bytes().to_vec();
            Some(Message { retained: false, topic: topic.to_owned(), payload: payload.to_owned(), bytes })
        })
    }

    fn listen(mut command: Command, parse: fn(&str) -> Option<Message>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("mosquitto_sub is installed (tests/run does it)");
        let output = BufReader::new(child.stdout.take().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let book = heard.clone();
        std::thread::spawn(move || {
            let messages = output.lines().map_while(Result::ok).filter_map(|line| parse(&line));
            messages.for_each(|message| book.lock().unwrap().push(message));
        });
        Self { _process: Guard(child), heard }
    }

    /// Everything so far, oldest first.
    pub(crate) fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }

    /// How many messages so far.
    pub(crate) fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// The first message that `wanted` likes; waits for it.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.wait_for_after(0, what, wanted)
    }

    /// As [`Subscriber::wait_for`], after the first `skip` messages.
    pub(crate) fn wait_for_after(&self, skip: usize, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        wait_until(PATIENCE, what, || self.heard.lock().unwrap().iter().skip(skip).find(|m| wanted(m)).cloned())
    }

    /// The first message on a topic with content.
    pub(crate) fn wait_for_topic(&self, topic: &str) -> Message {
        self.wait_for(topic, |message| message.topic == topic && !message.is_empty())
    }

    /// Waits for a state of the node on its state topic, by its word in the JSON tree.
    pub(crate) fn wait_for_state(&self, skip: usize, state: &str) -> Message {
        let is_readable = |m: &Message| m.topic.starts_with("tidegate-json/") && m.topic.ends_with("/state");
        let wanted = |m: &Message| is_readable(m) && !m.is_empty() && m.json()["state"] == state;
        self.wait_for_after(skip, &format!("the state {state}"), wanted)
    }
}

/// What a broker holds at `topic` now; none after a second without an answer.
pub(crate) fn retained(address: &str, topic: &str) -> Vec<u8> {
    let mut command = mosquitto("mosquitto_sub", address);
    command.args(["-t", topic, "-F", "%x", "-C", "1", "-W", "1"]);
    let output = command.output().unwrap();
    unhex(String::from_utf8(output.stdout).unwrap().trim())
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Publishes bytes, retained, as anyone may.
pub(crate) fn publish(address: &str, topic: &str, payload: &[u8]) {
    let mut command = mosquitto("mosquitto_pub", address);
    command.args(["-t", topic, "-r", "-q", "1"]);
    match payload.is_empty() {
        true => command.arg("-n"),
        false => command.arg("-s"),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("mosquitto_pub is installed (tests/run does it)");
    // Fails where it ends before it has read everything: its exit status does not tell what a broker of version 5 took.
    let _ = child.stdin.take().unwrap().write_all(payload);
    let _ended = child.wait().unwrap();
}

/// Connects as `client_id`, which ends whoever has that name, and goes.
pub(crate) fn connect_as(address: &str, client_id: &str) {
    let mut command = mosquitto("mosquitto_sub", address);
    let status = command.args(["-i", client_id, "-t", "t", "-E"]).status().unwrap();
    assert!(status.success(), "{client_id}: {status}");
}

fn mosquitto(program: &str, address: &str) -> Command {
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new(program);
    command.args(["-h", host, "-p", port, "-V", "5"]);
    command
}
