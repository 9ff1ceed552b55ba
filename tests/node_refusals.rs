//! What a node says and does when something is wrong: a clear error with what to do, the right exit code, and nothing
//! that already runs is lost.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use support::{Finished, Home, Node, PATIENCE, Spec, images, wait_until};

/// Exit codes for scripts.
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Asserts that it ended with this code, said all these words, and started nothing.
fn assert_refused(home: &Home, said: &Finished, code: i32, words: &[&str]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "no {word:?} in: {}", said.stderr);
    }
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    home.assert_empty_within(PATIENCE);
}

fn with_model(path: &str) -> Spec {
    Spec::new().with(&format!("[service.digits.local]\nmodel = {path:?}"))
}

#[test]
fn a_missing_model_is_named() {
    let home = Home::new();
    let path = home.path().join("nowhere.onnx").display().to_string();
    assert_refused(&home, &home.run_to_end(&with_model(&path)), USAGE, &[&path, "readable ONNX file"]);
    assert_refused(&home, &home.command(&["run", "--model", &path]), USAGE, &[&path, "readable ONNX file"]);
}

#[test]
fn a_corrupt_model_is_refused_before_anything_starts() {
    let home = Home::new();
    let onnx = edge_config::models::DIGITS_ONNX;
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(20_000).collect();
    let contents: [(&str, &[u8]); 5] = [
        ("noise.onnx", &noise),
        ("empty.onnx", b""),
        ("text.onnx", b"<html><body>404 not found</body></html>"),
        ("half.onnx", &onnx[..onnx.len() / 2]),
        ("nearly.onnx", &onnx[..onnx.len() - 7]),
    ];
    for (name, bytes) in contents {
        let path = home.file(name, bytes).display().to_string();
        assert_refused(&home, &home.run_to_end(&with_model(&path)), USAGE, &[name, "check"]);
    }
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for section in ["gateway", "console", "mqtt"] {
        let spec = Spec::new().with(&format!("[{section}]\nlisten = {address:?}"));
        assert_refused(&home, &home.run_to_end(&spec), FAILED, &[&format!("{section}.listen"), &address, "port 0"]);
    }
}

#[test]
fn an_unusable_state_directory_is_named() {
    let home = Home::new();
    let file = home.file("a-file", "not a directory").join("state").display().to_string();
    for path in [file.as_str(), "/proc/tidegate"] {
        let spec = Spec::new().with(&format!("[node]\nstate_dir = {path:?}"));
        assert_refused(&home, &home.run_to_end(&spec), FAILED, &["error:", path, "state_dir"]);
    }
}

#[test]
fn a_second_node_on_the_same_state_directory_is_refused_and_the_first_serves_on() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let second = home.run_to_end(&Spec::new());
    assert_eq!(second.code, Some(FAILED), "{second:?}");
    let state_dir = home.state_dir().display().to_string();
    for word in ["error:", &state_dir, "state_dir"] {
        assert!(second.stderr.contains(word), "no {word:?} in: {}", second.stderr);
    }
    assert_serves(&node);
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}

fn assert_serves(node: &Node) {
    let (pixels, _) = edge_config::models::heldout().next().unwrap();
    let answer = node.infer(pixels);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn five_mistakes_are_told_at_once() {
    let home = Home::new();
    let mistakes = "
        [node]
        tick = '1ms'
        [gatway]
        listen = '127.0.0.1:0'
        [service.digits.local]
        max_replicas = 0
        [service.digits.burst]
        adapters = ['clod']
        [service.digits.scaling]
        policy = 'clever'";
    let spec = Spec::new().with(mistakes);
    let words = ["node.tick", "gatway", "max_replicas", "clod", "policy", "tidegate.toml"];
    assert_refused(&home, &home.run_to_end(&spec), USAGE, &words);
    let file = home.config(&spec).display().to_string();
    assert_refused(&home, &home.command(&["config", "check", &file]), USAGE, &words);
    assert_refused(&home, &home.command(&["config", "check", &file]), USAGE, &["gateway", "cloud", "threshold"]);
    let absent = home.path().join("absent.toml").display().to_string();
    assert_refused(&home, &home.command(&["run", "-c", &absent]), USAGE, &[&absent]);
    let broken = home.file("broken.toml", "[node\nid = ").display().to_string();
    assert_refused(&home, &home.command(&["run", "-c", &broken]), USAGE, &["broken.toml"]);
}

#[test]
fn without_a_broker_the_node_serves_all_the_same() {
    let home = Home::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = home.start(&Spec::new().without("mqtt", "listen").with(&format!("[mqtt]\nbroker = 'mqtt://{closed}'")));
    assert_serves(&node);
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], false);
    let said = home.command(&["status", "--console", &node.console_url()]);
    assert!(said.stdout.contains(&format!(", mqtt://{closed} NOT connected (serving goes on): ")), "{}", said.stdout);
    assert_eq!(said.stdout.lines().count(), 5, "{}", said.stdout);
    assert!(node.log().contains(&closed.to_string()), "the log names the broker: {}", node.log());
    let load = node.load(8);
    wait_until(PATIENCE, "it bursts", || (node.service("digits")["ready_cloud"].as_u64()? > 0).then_some(()));
    load.stop().assert_sound();
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
}

/// Serving goes on while an adapter's launches go wrong; returns the error of the event.
fn launches_fail(home: &Home, spec: &Spec) -> String {
    let node = home.start(spec);
    let load = node.load(8);
    let failed = node.wait_for_event(PATIENCE, "burst.failed");
    let answered = load.answered();
    wait_until(PATIENCE, "requests are answered all the while", || (load.answered() > answered + 50).then_some(()));
    let service = node.service("digits");
    assert_eq!((&service["ready_local"], &service["ready_cloud"]), (&2.into(), &0.into()), "{service}");
    let tally = load.stop();
    tally.assert_sound();
    assert_eq!(tally.from("cloud"), 0);
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
    assert_eq!((&failed["service"], &failed["adapter"]), (&Value::from("digits"), &Value::from("cloud")), "{failed}");
    failed["error"].as_str().expect("an error").to_owned()
}

#[test]
fn an_adapter_whose_launches_fail_costs_no_request() {
    let home = Home::new();
    let why = launches_fail(&home, &Spec::new().with("[service.digits.burst]\ncommand = ['/no/such/server']"));
    println!("{why}");
    assert!(why.contains("/no/such/server"), "{why}");
}

#[test]
fn an_instance_that_ends_at_once_costs_no_request() {
    let home = Home::new();
    let why = launches_fail(&home, &Spec::new().with("[service.digits.burst]\ncommand = ['sh', '-c', 'exit 3']"));
    println!("{why}");
    assert!(why.contains("code 3"), "{why}");
}

#[test]
fn an_instance_that_never_becomes_ready_is_ended() {
    let home = Home::new();
    let spec = "[service.digits.burst]\ncommand = ['sleep', '600']\n[adapter.cloud]\nstart_timeout = '2s'";
    let why = launches_fail(&home, &Spec::new().with(spec));
    println!("{why}");
    assert!(why.contains("ready"), "{why}");
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let home = Home::new();
    let node = home.start(&Spec::new().with("[gateway]\nmax_body_bytes = 4096"));
    let mut client = node.client();
    let large = client.try_request("POST", "/v2/models/digits/infer", &[], &[b' '; 5000]).unwrap();
    assert_eq!((large.status, large.header("content-type")), (413, Some("application/problem+json")), "{large:?}");
    assert!(large.text().contains("4096"), "{large:?}");
    let unknown = node.client().post("/v2/models/nobody/infer", &images(&[]));
    assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/problem+json")));
    assert!(unknown.json()["error"].as_str().is_some_and(|error| error.contains("nobody")), "{unknown:?}");
    assert_eq!(node.client().get("/services/nobody/").status, 404);
    let nonsense = node.client().request("POST", "/v2/models/digits/infer", &[], b"{]");
    assert_eq!(nonsense.status, 400, "{nonsense:?}");
    assert!(nonsense.json()["error"].is_string(), "{nonsense:?}");
    assert_serves(&node);
}

/// `local` replicas, one of which is killed under load.
fn a_killed_replica_is_restarted(local: u32) {
    let home = Home::new();
    let spec = format!(
        "[service.digits.burst]\nmax_replicas = 0\n[service.digits.local]\nmax_replicas = {local}\n\
         [service.digits.scaling]\nmin_replicas = {local}"
    );
    let node = home.start(&Spec::new().with(&spec));
    wait_until(PATIENCE, "all replicas are ready", || (node.service("digits")["ready_local"] == local).then_some(()));
    let load = node.load(3);
    wait_until(PATIENCE, "requests are answered", || (load.answered() > 20).then_some(()));
    let victim = home.processes().into_iter().find(support::process_table::Process::is_model_server).unwrap();
    kill(victim.pid, Signal::SIGKILL).unwrap();
    let failed = node.wait_for_event(PATIENCE, "replica.failed");
    assert!(failed["error"].as_str().is_some_and(|why| why.contains("signal: 9")), "{failed}");
    wait_until(PATIENCE, "another took its place", || {
        let servers = home.processes().into_iter().filter(support::process_table::Process::is_model_server);
        (servers.count() == local as usize && node.service("digits")["ready_local"] == local).then_some(())
    });
    let answered = load.answered();
    wait_until(PATIENCE, "requests are answered again", || (load.answered() > answered + 20).then_some(()));
    load.stop().assert_sound();
}

#[test]
fn a_killed_replica_is_restarted_and_no_request_is_lost() {
    a_killed_replica_is_restarted(2);
}

#[test]
fn the_only_replica_is_killed_and_requests_wait_for_the_next() {
    a_killed_replica_is_restarted(1);
}
