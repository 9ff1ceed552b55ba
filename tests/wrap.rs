//! The wrapper and its shim, as the real binary: what they start is gone when it must be, counted in the process table.

mod replica;

#[path = "wrap/figures.rs"]
mod figures;
#[path = "wrap/first_process.rs"]
mod first_process;
#[path = "wrap/readiness.rs"]
mod readiness;
#[path = "wrap/secured.rs"]
mod secured;

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use replica::{
    Answer, Program, descendants, eventually, get, group_members, is_alive, kibibytes_of, post, read_answer, relu,
    request, tidegate, try_request,
};
use serde_json::json;
use tempfile::TempDir;

/// The most that a shim may hold: there is one for each local replica.
const SHIM_LIMIT_KIB: u64 = if cfg!(debug_assertions) { 2048 + UNOPTIMISED_KIB } else { 2048 };
/// What the loader relocates more of a program that was not optimised: 2,268 KB in all were measured of it, 1,240 of one that was.
const UNOPTIMISED_KIB: u64 = 512;
/// The part of it that the shim itself allocates.
const SHIM_HEAP_LIMIT_KIB: u64 = 384;

fn shim(grace: &str, script: &str) -> Program {
    Program::start(tidegate(&["wrap", "--shim", "--grace", grace, "--", "sh", "-c", script]))
}

/// Waits until the shim's group holds this many besides the shim.
fn wait_for_members(shim: &Program, count: usize) {
    eventually("the server is up", || (group_members(shim.pid()).len() == count + 1).then_some(()));
}

fn assert_group_empties(group: Pid) {
    eventually("the group is empty", || group_members(group).is_empty().then_some(()));
}

#[test]
fn at_the_end_of_its_pipe_the_shim_ends_the_server_and_all_that_it_started() {
    let mut shim = shim("10s", "sleep 1000 & sleep 1000 & wait");
    wait_for_members(&shim, 3);
    shim.close_stdin();
    assert_eq!(shim.ended().code(), Some(128 + 15));
    assert_group_empties(shim.pid());
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace() {
    let mut shim = shim("100ms", "trap '' TERM; sleep 1000 & sleep 1000 & wait");
    wait_for_members(&shim, 3);
    shim.close_stdin();
    assert_eq!(shim.ended().code(), Some(128 + 9));
    assert_group_empties(shim.pid());
}

#[test]
fn sigterm_to_the_shim_ends_the_server() {
    let mut shim = shim("10s", "sleep 1000 & wait");
    wait_for_members(&shim, 2);
    shim.signal(Signal::SIGTERM);
    assert_eq!(shim.ended().code(), Some(128 + 15));
    assert_group_empties(shim.pid());
}

#[test]
fn the_servers_exit_code_is_the_shims_and_leaves_no_grandchild() {
    let mut shim = shim("10s", "sleep 1000 & exit 7");
    assert_eq!(shim.ended().code(), Some(7));
    assert_group_empties(shim.pid());
}

#[test]
fn a_killed_shim_leaves_no_server() {
    let mut shim = shim("10s", "exec sleep 1000");
    wait_for_members(&shim, 1);
    shim.signal(Signal::SIGKILL);
    shim.child.wait().unwrap();
    assert_group_empties(shim.pid());
}

#[test]
fn the_server_gets_its_signals_although_the_shim_blocks_its_own() {
    // The shell's trap runs only if SIGTERM is not blocked in it, and tells by its exit code.
    let mut shim = shim("10s", "trap 'exit 42' TERM; while :; do sleep 0.05; done");
    wait_for_members(&shim, 2);
    shim.close_stdin();
    assert_eq!(shim.ended().code(), Some(42));
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let output = tidegate(&["wrap", "--shim", "--", "/no/such/server"]).stderr(std::process::Stdio::piped()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot run '/no/such/server'"));
}

#[test]
fn the_shim_stays_small() {
    let shim = shim("10s", "exec sleep 1000");
    wait_for_members(&shim, 1);
    let (anonymous, file) = (kibibytes_of(shim.pid(), "RssAnon"), kibibytes_of(shim.pid(), "RssFile"));
    println!("shim: RssAnon {anonymous} KiB, RssFile {file} KiB");
    // File pages are shared with every other process of this program.
    assert!(anonymous < SHIM_LIMIT_KIB, "{anonymous} KiB of its own");
    let heap = allocated_kib(shim.pid());
    assert!(heap < SHIM_HEAP_LIMIT_KIB, "{heap} KiB allocated");
}

/// Written pages of mappings that no file stands behind.
fn allocated_kib(pid: Pid) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut is_ours, mut sum) = (false, 0);
    for line in maps.lines() {
        if line.split_once(' ').is_some_and(|(range, _)| range.contains('-')) {
            is_ours = !line.contains('/');
        } else if let Some(size) = line.strip_prefix("Anonymous:").filter(|_| is_ours) {
            sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        }
    }
    sum
}

/// An instance of the small model under the wrapper.
struct Instance {
    program: Program,
    directory: TempDir,
}

impl Instance {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |command, directory| {
            command.arg("--").arg(env!("CARGO_BIN_EXE_tidegate")).args(["model", "serve", "--port", "{port}"]);
            command.arg(relu(directory));
        })
    }

    fn start_with(arguments: &[&str], server: impl FnOnce(&mut Command, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = tidegate(&["wrap", "--service", "relu", "--launch", "l-1", "--ready", "/v2/health/ready"]);
        command.arg("--run-dir").arg(directory.path()).args(arguments);
        server(&mut command, directory.path());
        Self { program: Program::start(command), directory }
    }

    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.path().join(name)).ok()
    }

    fn address(&self) -> String {
        eventually("the address is written", || self.file("address")).trim().to_owned()
    }

    /// Its address, once its server answers.
    fn ready(&self) -> String {
        let address = self.address();
        eventually("the server is ready", || {
            (get(&address, "/.tidegate/status").json()["state"] == "ready").then_some(())
        });
        address
    }

    /// Asserts that it ends with that exit code, leaves that reason, and no process.
    fn ends(&mut self, code: i32, reason: &str, processes: &[Pid]) {
        assert_eq!(self.program.ended().code(), Some(code));
        assert_eq!(self.file("ended").expect("the reason is written").trim(), reason);
        assert_eq!(self.file("address"), None);
        eventually("no process is left", || (!processes.iter().any(|pid| is_alive(*pid))).then_some(()));
    }
}

fn infer(address: &str) -> Answer {
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [-1, 2] }] });
    post(address, "/v2/models/relu/infer", &body)
}

fn renew(address: &str, launch: &str, sequence: u64, ttl_ms: u64) -> Answer {
    let renewal = json!({ "launch": launch, "session": 1, "sequence": sequence, "ttl_ms": ttl_ms });
    post(address, "/.tidegate/lease", &renewal)
}

/// A request whose body is not all sent: in flight for as long as the test likes.
fn hold_request(address: &str) -> TcpStream {
    let before = get(address, "/.tidegate/status").json()["in_flight"].as_u64().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("POST /v2/models/relu/infer HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    stream.write_all(format!("{head}content-length: {}\r\n\r\n", HELD_BODY.len()).as_bytes()).unwrap();
    eventually("the request is in flight", || {
        (get(address, "/.tidegate/status").json()["in_flight"] == before + 1).then_some(())
    });
    stream
}

const HELD_BODY: &str = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[-1,2]}]}"#;

fn finish_request(mut stream: TcpStream) -> Option<Answer> {
    stream.write_all(HELD_BODY.as_bytes()).ok()?;
    read_answer(&mut stream)
}

#[test]
fn a_killed_wrapper_leaves_no_server() {
    let mut instance = Instance::start(&[]);
    instance.ready();
    let started = descendants(instance.program.pid());
    assert_eq!(started.len(), 2, "a shim and a server");
    instance.program.signal(Signal::SIGKILL);
    instance.program.child.wait().unwrap();
    eventually("no process is left", || (!started.iter().any(|pid| is_alive(*pid))).then_some(()));
}

#[test]
fn requests_reach_the_server_and_are_counted() {
    let instance = Instance::start(&[]);
    let address = instance.ready();
    let answer = infer(&address);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["outputs"][0]["data"], json!([0.0, 2.0]));
    assert_eq!(get(&address, "/v2/models/none").status, 404);
    let status = eventually("nothing is in flight", || {
        let status = get(&address, "/.tidegate/status").json();
        (status["in_flight"] == 0).then_some(status)
    });
    assert_eq!(status["served"], 2);
    assert_eq!((&status["launch"], &status["service"]), (&json!("l-1"), &json!("relu")));
}

#[test]
fn never_renewed_it_ends_itself_and_its_server() {
    let mut instance = Instance::start(&["--lease-ttl", "3s"]);
    instance.ready();
    let started = descendants(instance.program.pid());
    instance.ends(0, "the lease expired", &started);
}

#[test]
fn an_expired_lease_lets_held_requests_finish_and_takes_no_new_ones() {
    let mut instance = Instance::start(&["--drain-timeout", "50s"]);
    let address = instance.ready();
    let started = descendants(instance.program.pid());
    let held = hold_request(&address);
    assert_eq!(renew(&address, "l-1", 1, 1).status, 200);
    let refused = eventually("it drains", || Some(infer(&address)).filter(|answer| answer.status != 200));
    assert_eq!((refused.status, refused.header("x-tidegate-draining")), (503, Some("1")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(finish_request(held).expect("the held request is answered").status, 200);
    instance.ends(0, "the lease expired", &started);
}

#[test]
fn a_drain_waits_no_longer_than_its_timeout() {
    let mut instance = Instance::start(&["--drain-timeout", "200ms", "--grace", "200ms"]);
    let address = instance.ready();
    let started = descendants(instance.program.pid());
    let held = hold_request(&address);
    assert_eq!(post(&address, "/.tidegate/drain", &json!({})).json()["state"], "draining");
    instance.ends(0, "its owner asked for the drain", &started);
    drop(held);
}

#[test]
fn a_renewal_extends_the_lease_and_a_stale_or_foreign_one_is_refused() {
    let mut instance = Instance::start(&["--lease-ttl", "30s"]);
    let address = instance.ready();
    let extended = renew(&address, "l-1", 5, 3_600_000).json();
    assert!(extended["remaining_ms"].as_u64().unwrap() > 3_500_000, "{extended}");
    for (launch, sequence) in [("l-1", 5), ("l-1", 4), ("l-2", 6)] {
        let refused = renew(&address, launch, sequence, 1);
        assert_eq!(refused.status, 409, "{refused:?}");
        assert!(!refused.error().is_empty());
    }
    let status = get(&address, "/.tidegate/status").json();
    assert!(status["remaining_ms"].as_u64().unwrap() > 3_500_000, "{status}");
    let bad = request(&address, "POST /.tidegate/lease HTTP/1.1\r\n", b"{\"launch\":7}");
    assert_eq!(bad.status, 400);
    // The lease of 30 s would have kept it: only the renewal can have ended it now.
    let started = descendants(instance.program.pid());
    assert_eq!(renew(&address, "l-1", 6, 0).status, 200);
    instance.ends(0, "the lease expired", &started);
}

#[test]
fn without_the_token_nothing_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "secret\n").unwrap();
    let instance = Instance::start(&["--token-file", token_file.to_str().unwrap()]);
    let address = instance.address();
    let with = |token: &str| request(&address, &format!("GET /.tidegate/status HTTP/1.1\r\n{token}"), b"");
    for wrong in ["", "x-tidegate-authorization: Bearer secre\r\n", "authorization: Bearer secret\r\n"] {
        let refused = with(wrong);
        assert_eq!((refused.status, refused.header("content-type")), (401, Some("application/problem+json")));
        assert_eq!(refused.json()["type"], "urn:tidegate:problem:unauthorized");
    }
    assert_eq!(with("x-tidegate-authorization: Bearer secret\r\n").status, 200);
}

#[test]
fn a_server_that_is_never_ready_ends_the_instance_with_that_reason() {
    let mut instance = Instance::start_with(&["--ready-timeout", "2s"], |command, _| {
        command.args(["--", "sh", "-c", "exec sleep 1000"]);
    });
    let address = instance.address();
    let refused = try_request(&address, "GET / HTTP/1.1\r\n", b"");
    assert!(refused.is_none_or(|answer| answer.status == 503));
    let why = "the server was not ready within 2 s; at the last look: Connection refused (os error 111)";
    instance.ends(1, why, &[]);
}

#[test]
fn the_end_of_its_server_is_the_end_of_the_instance() {
    let mut instance = Instance::start_with(&[], |command, _| {
        command.args(["--", "sh", "-c", "exit $((${#PORT} > 0 ? 3 : 4))"]);
    });
    instance.ends(1, "server exited with code 3", &[]);
}

#[test]
fn sigterm_drains() {
    let mut instance = Instance::start(&["--drain-timeout", "50s"]);
    let address = instance.ready();
    let started = descendants(instance.program.pid());
    let held = hold_request(&address);
    instance.program.signal(Signal::SIGTERM);
    eventually("it drains", || (infer(&address).status == 503).then_some(()));
    assert_eq!(finish_request(held).expect("the held request is answered").status, 200);
    instance.ends(0, "a signal asked for the end", &started);
}

#[test]
fn beyond_its_concurrency_and_the_line_before_it_requests_are_turned_away() {
    let instance = Instance::start(&["--concurrency", "1"]);
    let address = instance.ready();
    // One in progress and four in line.
    let held: Vec<TcpStream> = (0..5).map(|_| hold_request(&address)).collect();
    let refused = infer(&address);
    assert_eq!(refused.status, 429, "{refused:?}");
    for stream in held {
        assert_eq!(finish_request(stream).expect("answered").status, 200);
    }
}

#[test]
fn a_second_instance_in_the_same_run_directory_exits_with_75() {
    let instance = Instance::start(&[]);
    instance.ready();
    let directory = instance.directory.path().to_str().unwrap();
    let second = tidegate(&["wrap", "--service", "relu", "--run-dir", directory, "--", "sleep", "1000"])
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another instance runs in"));
    assert_eq!(instance.file("lock").unwrap().trim(), instance.program.pid().to_string());
}
