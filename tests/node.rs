//! A whole node as its users meet it: it serves, tells how it is, and ends when it is asked to.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::http::{connect, read_answer};
use support::{Home, Node, PATIENCE, Spec, digits, images, wait_until};

/// What is promised of the model that comes with the program.
const LEAST_ACCURACY: f64 = 0.97;

/// The drain timeout of [`Spec::new`].
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A node that keeps to itself, whatever the load.
fn local_only() -> Spec {
    Spec::new().with("[service.digits.burst]\nmax_replicas = 0")
}

fn heldout() -> Vec<(&'static [u8], u8)> {
    edge_config::models::heldout().map(|(pixels, label)| (pixels.as_slice(), label)).collect()
}

#[test]
fn the_gateway_answers_right_for_nearly_every_held_out_image() {
    let home = Home::new();
    let node = home.start(&local_only());
    let mut client = node.client();
    let heldout = heldout();
    let mut right = 0;
    for batch in heldout.chunks(25) {
        let pixels: Vec<&[u8]> = batch.iter().map(|(pixels, _)| *pixels).collect();
        let answer = client.post("/v2/models/digits/infer", &images(&pixels));
        assert_eq!((answer.status, answer.placement()), (200, Some("local")), "{answer:?}");
        right += digits(&answer).iter().zip(batch).filter(|(digit, (_, label))| *digit == label).count();
    }
    let accuracy = right as f64 / heldout.len() as f64;
    println!("accuracy over {} held-out images: {accuracy}", heldout.len());
    assert!(heldout.len() >= 100 && accuracy >= LEAST_ACCURACY, "{right} of {}", heldout.len());
}

#[test]
fn an_answer_tells_where_it_comes_from_and_how_long_it_took() {
    let home = Home::new();
    let node = home.start(&local_only());
    let answer = node.infer(heldout()[0].0);
    assert_eq!(answer.placement(), Some("local"));
    for header in ["x-tidegate-replica", "server-timing", "x-request-id"] {
        assert!(answer.header(header).is_some_and(|value| !value.is_empty()), "no {header}: {answer:?}");
    }
    let replica = wait_until(PATIENCE, "the replica is shown", || {
        Some(node.get_json("/api/v1/replicas").get(0)?["replica"].as_str()?.to_owned())
    });
    assert_eq!(answer.header("x-tidegate-replica"), Some(replica.as_str()));
    let named = node.client().request("GET", "/v2/models/digits", &[("x-request-id", "mine-1")], b"");
    assert_eq!(named.header("x-request-id"), Some("mine-1"), "{named:?}");
    let server = node.client().get("/v2").json();
    assert!(server["extensions"].is_array(), "{server}");
    assert_eq!(node.client().get("/v2/health/ready").status, 200);
    assert_eq!(node.client().get("/v2/models/digits/ready").status, 200);
    assert_eq!(node.client().get("/v2/models/digits/config").status, 200);
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

fn assert_members(what: &str, value: &Value, wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|key| !keys(value).contains(**key)).collect();
    assert!(missing.is_empty(), "{what} lacks {missing:?}: {value}");
}

#[test]
fn the_console_has_the_members_that_others_rely_on() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    wait_until(PATIENCE, "a decision was made, and told with the replica that is there", || {
        let service = node.service("digits");
        (service["wanted"] == 1 && service["ready_local"] == 1).then_some(())
    });
    assert_eq!((node.console("/healthz").status, node.console("/readyz").status), (200, 200));
    let about = node.get_json("/api/v1/node");
    assert_members("node", &about, &["node", "fleet", "session", "version", "ready", "broker_connected", "load"]);
    assert_eq!((&about["node"], &about["fleet"], &about["session"]), (&"gateway-t".into(), &"test".into(), &1.into()));
    let service = node.service("digits");
    let wanted = ["name", "wanted", "ready_local", "ready_cloud", "in_flight", "queued", "reason"];
    assert_members("service", &service, &wanted);
    assert_eq!((&service["ready_local"], &service["ready_cloud"]), (&1.into(), &0.into()));
    assert!(service["reason"].as_str().is_some_and(|reason| reason.contains("utilisation")), "{service}");
    let replica = &node.get_json("/api/v1/replicas")[0];
    assert_members("replica", replica, &["replica", "service", "placement", "state", "address", "in_flight"]);
    assert_eq!((&replica["placement"], &replica["state"]), (&"local".into(), &"ready".into()));
    assert_eq!(node.get_json("/api/v1/bursts"), Value::Array(Vec::new()));
    assert_members("spend", &node.get_json("/api/v1/spend"), &["currency", "hour", "day", "committed"]);
    let discovered =
        wait_until(PATIENCE, "the node hears itself", || node.get_json("/api/v1/discovery").get(0).cloned());
    assert_eq!(discovered["node"], "gateway-t", "{discovered}");
    assert!(node.get_json("/api/v1/decisions").is_array());
    let event = &node.get_json("/api/v1/events")[0];
    assert_members("event", event, &["specversion", "id", "source", "type", "time", "data"]);
    assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"node.started".into()));
    assert!(node.console("/").text().contains("/api/v1/services"));
    assert_eq!(node.console("/nowhere").status, 404);
}

/// The names and labels that boards and alerts know; those of a burst are looked for where one happens.
const METRICS: [(&str, &[&str]); 13] = [
    (
        "http_server_request_duration_seconds_bucket",
        &["http_request_method", "http_route", "http_response_status_code"],
    ),
    ("http_server_active_requests", &[]),
    ("tidegate_requests_total", &["service", "placement", "code"]),
    ("tidegate_queue_requests", &["service"]),
    ("tidegate_queue_duration_seconds_bucket", &["service"]),
    ("tidegate_replicas", &["service", "placement", "adapter", "state"]),
    ("tidegate_replicas_desired", &["service"]),
    ("tidegate_spend_total", &["service", "adapter", "currency"]),
    ("tidegate_budget_limit", &["window", "currency"]),
    ("tidegate_budget_remaining", &["window", "currency"]),
    ("tidegate_budget_reserved", &["window", "currency"]),
    ("tidegate_build_info", &["version"]),
    ("tidegate_credential_expiry_timestamp_seconds", &[]),
];

#[test]
fn the_metrics_have_the_names_that_boards_know() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    assert_eq!(node.infer(heldout()[0].0).status, 200);
    wait_until(PATIENCE, "a decision was made", || node.service("digits")["wanted"].as_u64());
    let missing = || {
        let text = node.console("/metrics").text();
        let has = |name: &str, labels: &[&str]| {
            let mut samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            samples.any(|line| labels.iter().all(|label| line.contains(&format!("{label}=\""))))
        };
        let missing = METRICS.iter().filter(|(name, labels)| !has(name, labels)).collect::<Vec<_>>();
        missing.into_iter().map(|(name, labels)| format!("{name}{labels:?}")).collect::<Vec<_>>()
    };
    // Gauges follow at the next tick.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !missing().is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(missing().is_empty(), "missing: {:#?}", missing());
    let zeros = node.console("/metrics").text();
    assert!(
        zeros.lines().any(|line| line.starts_with("tidegate_replicas{")
            && line.contains("placement=\"cloud\"")
            && line.ends_with(" 0")),
        "an absent instance is a zero, not nothing: {zeros}"
    );
}

#[test]
fn status_says_in_five_lines_how_the_node_is() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    wait_until(PATIENCE, "the replica is counted", || (node.service("digits")["ready_local"] == 1).then_some(()));
    let said = home.command(&["status", "--console", &node.console_url()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.stdout.lines().count(), 5, "{}", said.stdout);
    for word in ["gateway-t", "ready", "digits", "1 local", "EUR", "credential until 20", &node.addresses.gateway] {
        assert!(said.stdout.contains(word), "no {word:?} in: {}", said.stdout);
    }
    let said = home.command(&["status", "--json", "--console", &node.console_url()]);
    let json: Value = serde_json::from_str(&said.stdout).expect("one JSON value");
    assert_members("status --json", &json, &["node", "services", "spend"]);
}

#[test]
fn the_tables_of_a_running_node_have_a_row_each_and_are_json_where_asked() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    wait_until(PATIENCE, "a decision was made", || node.service("digits")["wanted"].as_u64());
    let url = node.console_url();
    for (command, head, rows) in
        [(&["service", "list"][..], "NAME", 1), (&["burst", "list"], "LAUNCH", 0), (&["spend"], "CURRENCY", 1)]
    {
        let arguments = [command, &["--console", &url]].concat();
        let said = home.command(&arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.stdout.starts_with(head) && said.stdout.lines().count() == 1 + rows, "{}", said.stdout);
        let said = home.command(&[&arguments[..], &["--json"]].concat());
        serde_json::from_str::<Value>(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    }
}

#[test]
fn a_question_to_no_node_says_what_to_do() {
    let home = Home::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in [&["status"][..], &["service", "list"], &["burst", "list"], &["spend"]] {
        let said = home.command(&[command, &["--console", &format!("http://{closed}")]].concat());
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains("tidegate run") && said.stderr.contains("--console"), "{}", said.stderr);
    }
}

#[test]
fn config_check_says_ok_and_config_show_what_is_in_force() {
    let home = Home::new();
    let secret = "[service.digits.local.env]\nAPI_TOKEN = 'hush-hush'";
    let file = home.config(&Spec::new().with(secret)).display().to_string();
    let said = home.command(&["config", "check", &file]);
    assert_eq!((said.code, said.stdout.starts_with("ok")), (Some(0), true), "{said:?}");
    let said = home.command(&["config", "show", &file]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for word in ["gateway-t", "lease_ttl", "20s", "threshold"] {
        assert!(said.stdout.contains(word), "no {word:?} in: {}", said.stdout);
    }
    assert!(!said.stdout.contains("hush-hush"), "a replica's environment may hold secrets: {}", said.stdout);
}

#[test]
fn a_users_model_is_served_without_a_configuration() {
    let home = Home::new();
    let model = home.file("My Model.onnx", edge_config::models::DIGITS_ONNX);
    let arguments = [OsString::from("run"), "--model".into(), model.into()];
    // Other nodes on this machine may hold the usual ports and, for root, the usual state directory.
    let state_dir = home.state_dir().display().to_string();
    let environment = [
        ("TIDEGATE__GATEWAY__LISTEN", "127.0.0.1:0"),
        ("TIDEGATE__CONSOLE__LISTEN", "127.0.0.1:0"),
        ("TIDEGATE__MQTT__LISTEN", "127.0.0.1:0"),
        ("TIDEGATE__NODE__STATE_DIR", &state_dir),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let node = Node::spawn(home.tidegate(&arguments, &environment));
    node.wait_ready();
    let services = node.get_json("/api/v1/services");
    let name = wait_until(PATIENCE, "the service is shown", || {
        Some(node.get_json("/api/v1/services").get(0)?["name"].as_str()?.to_owned())
    });
    assert_eq!(name, "my-model", "{services}");
    let answer = node.client().post("/v2/models/my-model/infer", &images(&[heldout()[0].0]));
    assert_eq!((answer.status, digits(&answer)), (200, vec![heldout()[0].1]), "{answer:?}");
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn no_cloud_in_the_environment_forbids_bursts_and_status_says_so() {
    let home = Home::new();
    let node = home.start(&Spec::new().env("TIDEGATE_NO_CLOUD", "1"));
    let load = node.load(8);
    wait_until(PATIENCE, "both local replicas are up and more are wanted", || {
        let service = node.service("digits");
        (service["ready_local"] == 2 && service["wanted"].as_u64() > Some(2)).then_some(())
    });
    let shown = wait_until(PATIENCE, "the reason says what stands in the way", || {
        let reason = node.service("digits")["reason"].as_str()?.to_owned();
        reason.contains("TIDEGATE_NO_CLOUD").then_some(reason)
    });
    println!("{shown}");
    let said = home.command(&["status", "--console", &node.console_url()]);
    assert_eq!(said.stdout.lines().count(), 5, "{}", said.stdout);
    assert!(said.stdout.contains("TIDEGATE_NO_CLOUD"), "{}", said.stdout);
    assert_eq!(home.instances().len(), 0);
    assert_eq!(node.get_json("/api/v1/bursts"), Value::Array(Vec::new()));
    let tally = load.stop();
    tally.assert_sound();
    assert_eq!(tally.from("cloud"), 0);
}

/// Images of a request that takes most of a second, and a few seconds on a busy machine.
const LONG_BATCH: usize = 40;

/// Sends a request that takes a while, and waits until the gateway has it.
fn long_request(node: &Node) -> std::thread::JoinHandle<support::http::Answer> {
    let mut client = node.client();
    let heldout = heldout();
    let pixels: Vec<&'static [u8]> = heldout.iter().take(LONG_BATCH).map(|(pixels, _)| *pixels).collect();
    let request = std::thread::spawn(move || client.post("/v2/models/digits/infer", &images(&pixels)));
    wait_until(PATIENCE, "the request is in flight", || is_busy(node).then_some(()));
    request
}

fn is_busy(node: &Node) -> bool {
    node.console("/metrics").text().lines().any(|line| line == "http_server_active_requests 1")
}

fn a_signal_drains_and_ends_everything(signal: Signal) {
    let home = Home::new();
    let node = home.start(&local_only());
    let request = long_request(&node);
    node.signal(signal);
    let ended = node.wait();
    println!("ended after {:?}", ended.took);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < DRAIN_TIMEOUT, "took {:?}", ended.took);
    let answer = request.join().unwrap();
    assert_eq!(
        (answer.status, digits(&answer).len()),
        (200, LONG_BATCH),
        "the request in flight was answered: {answer:?}"
    );
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn sigterm_answers_what_is_in_flight_and_leaves_no_process() {
    a_signal_drains_and_ends_everything(Signal::SIGTERM);
}

#[test]
fn sigint_means_sigterm() {
    a_signal_drains_and_ends_everything(Signal::SIGINT);
}

#[test]
fn an_idle_node_with_open_connections_ends_at_once() {
    let home = Home::new();
    let node = home.start(&local_only());
    let (mut client, mut idle) = (node.client(), support::http::Client::new(&node.addresses.console));
    assert_eq!((client.get("/v2").status, idle.get("/healthz").status), (200, 200));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(4), "took {:?} with nothing to do", ended.took);
}

#[test]
fn a_second_signal_forces_the_end() {
    let home = Home::new();
    let node = home.start(&local_only().with("[node]\ndrain_timeout = '5m'"));
    // A request whose body never comes: in flight for as long as the drain lasts.
    let mut held = connect(&node.addresses.gateway).unwrap();
    let head = "POST /v2/models/digits/infer HTTP/1.1\r\nhost: gateway\r\ncontent-length: 1000\r\n\r\n{";
    held.get_mut().write_all(head.as_bytes()).unwrap();
    wait_until(PATIENCE, "the request is in flight", || is_busy(&node).then_some(()));
    node.signal(Signal::SIGTERM);
    wait_until(PATIENCE, "the node says that it stops", || node.log().contains("second signal").then_some(()));
    node.signal(Signal::SIGINT);
    let ended = node.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    assert!(read_answer(&mut held).is_err(), "the held request cannot have been answered");
    home.assert_empty_within(PATIENCE);
}

#[test]
fn a_session_is_a_counter_that_survives_a_restart() {
    let home = Home::new();
    for session in 1..=2 {
        let node = home.start(&local_only());
        assert_eq!(node.get_json("/api/v1/node")["session"], session);
        assert_eq!(node.terminate().code, Some(0));
    }
}
