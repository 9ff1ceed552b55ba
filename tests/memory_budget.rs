//! Each target says how much memory a node may hold there (`device.memory_budget_mib`). Here a node with that target's profile runs
//! in a control group of that size while everything that its limits let in comes at once.

#[path = "memory_budget/cgroup.rs"]
mod cgroup;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;

use cgroup::Cgroup;
use cloud_adapters::contract::is_left_out_without_root;
use support::http::{connect, read_answer};
use support::{Home, Node, PATIENCE, Spec, python, run_by, wait_until};
use toml::Table;

/// As large as a body may be that is held until its answer begins.
const HELD_BODY_BYTES: usize = 256 * 1024;
/// Bodies of the greatest length, which are passed on as they come: a gigabyte of them at most.
const STREAMS: usize = 32;
const MIB: u64 = 1024 * 1024;

fn table(path: &Path) -> Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The budgets, each with the profiles of the targets that have it and the name of one.
fn budgets() -> BTreeMap<(u64, String), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = fs::read_dir(root.join("firmware-targets")).unwrap().map(|entry| entry.unwrap().path());
    let mut found = BTreeMap::new();
    for folder in folders.filter(|folder| folder.join("target.toml").exists()) {
        let manifest = table(&folder.join("target.toml"));
        let budget = manifest["device"]["memory_budget_mib"].as_integer().unwrap().try_into().unwrap();
        let profile = manifest["install"]["profile"].as_str().unwrap().to_owned();
        found.insert((budget, profile), folder.file_name().unwrap().to_string_lossy().into_owned());
    }
    found
}

/// The profile's limits, with one service whose server answers when the file is there, and is not in the node's control group:
/// replicas are not the node's memory.
fn spec(profile: &str, released: &Path, outside: &Path) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("edge-config/profiles/{profile}.toml"));
    let mut limits = table(&path);
    limits.retain(|section, _| section == "mqtt" || section == "gateway");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memory_budget/held_server.py");
    let command = format!("[{:?}, {script:?}, '{{port}}', {released:?}, {outside:?}]", python::interpreter());
    let service = "[service.work]\nrequest_timeout = '2m'\n[service.work.local]\nruntime = 'process'\nready = '/'\nconcurrency = 1\nmax_replicas = 1\n";
    let addresses = "[mqtt]\nlisten = '127.0.0.1:0'\n[gateway]\nlisten = '127.0.0.1:0'\nrequest_timeout = '2m'\n";
    let spec = Spec::without_services().with(&toml::to_string(&limits).unwrap()).with(addresses).with(service);
    spec.with(&format!("[service.work.local]\ncommand = {command}"))
}

fn limit(profile: &str, key: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("edge-config/profiles/{profile}.toml"));
    let limit = table(&path).get("gateway").and_then(|gateway| gateway.get(key)).and_then(toml::Value::as_integer);
    let default = match key {
        "max_connections" | "queue" => 1024,
        "max_body_bytes" => 16 * 1024 * 1024,
        other => panic!("no default of gateway.{other} is known here"),
    };
    limit.map_or(default, |limit| limit.try_into().unwrap())
}

fn start_in(cgroup: &Cgroup, home: &Home, spec: &Spec) -> Node {
    let config = home.config(spec);
    let ours = home.tidegate(&["run".into(), "-c".into(), config.into()], &[]);
    let members = cgroup.members();
    let first_into_it = ["-c".as_ref(), "echo $$ >\"$0\" && exec \"$@\"".as_ref(), members.as_os_str()];
    let words = std::iter::once(ours.get_program()).chain(ours.get_args());
    let node = Node::spawn(run_by(Path::new("/bin/sh"), &first_into_it, &ours, words));
    node.wait_ready();
    node
}

/// Clients that send a body each, all at once; `None` where the connection was closed instead of an answer.
fn send(gateway: &str, count: usize, length: usize) -> Vec<JoinHandle<Option<u16>>> {
    let one = |_| {
        let gateway = gateway.to_owned();
        std::thread::Builder::new().stack_size(128 * 1024).spawn(move || post(&gateway, length)).unwrap()
    };
    (0..count).map(one).collect()
}

fn post(gateway: &str, length: usize) -> Option<u16> {
    let mut stream = connect(gateway).ok()?;
    let head = format!("POST /services/work/ HTTP/1.1\r\nhost: {gateway}\r\ncontent-length: {length}\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes()).ok()?;
    let piece = [b'x'; 16 * 1024];
    let mut left = length;
    while left > 0 {
        let count = left.min(piece.len());
        // A refusal may come before the body has gone.
        if stream.get_mut().write_all(&piece[..count]).is_err() {
            break;
        }
        left -= count;
    }
    read_answer(&mut stream).ok().map(|answer| answer.status)
}

/// How often each answer came.
fn answers(clients: Vec<JoinHandle<Option<u16>>>) -> BTreeMap<Option<u16>, usize> {
    let mut answers = BTreeMap::new();
    for client in clients {
        *answers.entry(client.join().unwrap()).or_default() += 1;
    }
    answers
}

fn anonymous_kib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Each connection with a body, and as many of them waiting as may.
fn flood(node: &Node, released: &Path, profile: &str, (connections, length): (usize, usize)) {
    let _held_again = fs::remove_file(released);
    let clients = send(&node.addresses.gateway, connections, length);
    let waits = limit(profile, "queue").min(connections - 1);
    wait_until(PATIENCE, "one request is at the server, and as many wait as may", || {
        let work = node.service("work");
        (work["in_flight"] == 1 && work["queued"].as_u64()? >= waits as u64).then_some(())
    });
    let held = anonymous_kib(node);
    fs::write(released, "").unwrap();
    let answers = answers(clients);
    println!(
        "{connections} bodies of {length} bytes, {waits} of them waiting: {held} KiB of its own; answers {answers:?}"
    );
    // Who is refused while the body is still on its way may find the connection closed before the answer was read.
    assert!(answers.keys().all(|status| matches!(status, Some(200 | 429) | None)), "{answers:?}");
    assert!(answers[&Some(200)] > waits, "what waited was answered: {answers:?}");
}

#[test]
fn a_node_does_its_most_within_the_memory_of_each_target() {
    if is_left_out_without_root("control groups") {
        return;
    }
    for ((budget, profile), target) in budgets() {
        let cgroup = Cgroup::new(&target, budget * MIB);
        let home = Home::new();
        let released = home.path().join("released");
        let node = start_in(&cgroup, &home, &spec(&profile, &released, &Cgroup::outside()));
        println!("{target}: {profile} within {budget} MiB");
        flood(&node, &released, &profile, (limit(&profile, "max_connections"), HELD_BODY_BYTES));
        flood(&node, &released, &profile, (STREAMS, limit(&profile, "max_body_bytes")));
        assert_eq!(cgroup.killed(), 0, "{target}: the kernel had to kill something");
        println!(
            "{target}: {} KiB of its own after it, with the pages of files at most {} KiB",
            anonymous_kib(&node),
            cgroup.peak_bytes() / 1024
        );
        let ended = node.terminate();
        assert_eq!(ended.code, Some(0), "{target}: {}", ended.stderr);
    }
}
