//! A fleet at a broker that knows everyone by their certificate: enrolled with `tidegate fleet`, let in by Mosquitto under the
//! rules that we ship, seen by each other, watched from a laptop, and put out again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::clients::{Broker, Subscriber, at_broker, free_port, retained};
use super::embedded::{CBOR, JSON};
use super::publisher::Publisher;
use crate::support::{Home, Node, PATIENCE, Spec, older, wait_until};

/// The rules that we ship, for the fleet `test`.
const RULES: &str = include_str!("../../examples/mosquitto/tidegate.acl");

pub(crate) struct Fleet {
    pub(crate) home: Home,
    pub(crate) port: u16,
    _broker: Broker,
}

impl Fleet {
    pub(crate) fn found() -> Self {
        let home = Home::new();
        run(&home, &["init", "test", "--dir", &path(&home, "fleet")]);
        let port = free_port();
        let fleet = |arguments: &[&str]| run(&home, arguments);
        fleet(&["enroll", "broker", "--dir", &path(&home, "fleet"), "--host", "127.0.0.1"]);
        let rules = home.file("rules", RULES.replace("plant-a", "test").replace("operator-1", "laptop"));
        let files = home.path().join("fleet/nodes/broker");
        let files = |name: &str| files.join(name).display().to_string();
        let settings = format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
             allow_anonymous false\nacl_file {}\nuser root\nmax_queued_messages 100000",
            files("roots.pem"),
            files("node.pem"),
            files("node.key"),
            rules.display()
        );
        let mut broker = Broker::at(&home, port, &settings);
        broker.up();
        Self { home, port, _broker: broker }
    }

    /// Lets somebody in; the folder with their files.
    pub(crate) fn enroll(&self, name: &str, role: &str) -> PathBuf {
        run(&self.home, &["enroll", name, "--role", role, "--dir", &path(&self.home, "fleet")]);
        self.home.path().join("fleet/nodes").join(name)
    }

    pub(crate) fn spec(&self, name: &str, credentials: &Path) -> Spec {
        let mut spec = Spec::new().with("[service.digits.local]\nmax_replicas = 1");
        spec.remove("mqtt", "listen");
        let state_dir = self.home.path().join(format!("state-{name}"));
        spec.with(&format!(
            "[node]\nid = {name:?}\nstate_dir = {state_dir:?}\ncredentials = {credentials:?}\n\
             [mqtt]\nbroker = \"mqtts://127.0.0.1:{}\"\nrefresh = '1s'\nkeepalive = '5s'",
            self.port
        ))
    }
}

pub(crate) fn path(home: &Home, below: &str) -> String {
    home.path().join(below).display().to_string()
}

pub(crate) fn run(home: &Home, arguments: &[&str]) -> String {
    let ended = home.command(&[&["fleet"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    ended.stdout
}

/// What a node knows of another one.
pub(crate) fn seen(node: &Node, other: &str) -> Option<Value> {
    let all = node.get_json("/api/v1/discovery");
    let of_other = |one: &&Value| one["node"] == other && one["own"] == false && one["instance"].is_null();
    all.as_array().and_then(|all| all.iter().find(of_other).cloned())
}

pub(crate) fn wait_for_alive(node: &Node, other: &str, alive: bool) {
    let what = format!("{other} is {}", if alive { "alive" } else { "not alive" });
    wait_until(PATIENCE, &what, || seen(node, other).filter(|one| one["alive"] == alive));
}

pub(crate) fn ignored(node: &Node, kind: &str) -> u64 {
    let metrics = node.console("/metrics").text();
    let start = format!("tidegate_discovery_ignored_total{{kind=\"{kind}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn nodes_that_were_let_in_see_each_other_and_one_that_was_put_out_is_believed_no_longer() {
    let fleet = Fleet::found();
    let (files_a, files_b) = (fleet.enroll("gw-a", "node"), fleet.enroll("gw-b", "node"));
    let a = fleet.home.start(&fleet.spec("gw-a", &files_a));
    let b = fleet.home.start(&fleet.spec("gw-b", &files_b));
    wait_for_alive(&a, "gw-b", true);
    wait_for_alive(&b, "gw-a", true);
    let of_b = seen(&a, "gw-b").unwrap();
    assert_eq!((&of_b["state"], &of_b["services"][0]["name"]), (&"online".into(), &"digits".into()), "{of_b}");

    assert_laptop_sees(&fleet, "gw-b");

    // Gone without a word: its Last Will is believed, since it signed that.
    b.kill9();
    wait_for_alive(&a, "gw-b", false);
    assert_eq!(seen(&a, "gw-b").map(|one| one["state"].clone()), Some("lost".into()));
    let b = fleet.home.start(&fleet.spec("gw-b", &files_b));
    wait_for_alive(&a, "gw-b", true);
    assert_eq!((ignored(&a, "foreign"), ignored(&a, "forged"), ignored(&a, "revoked")), (0, 0, 0));

    // One node is given the new word, and all of them hear it.
    let told = run(&fleet.home, &["revoke", "gw-b", "--dir", &path(&fleet.home, "fleet")]);
    assert!(told.contains("revoked 1 credential"), "{told}");
    std::fs::copy(fleet.home.path().join("fleet/trust.cbor"), files_a.join("trust.cbor")).unwrap();
    a.wait_for_event(PATIENCE, "trust.changed");
    b.wait_for_event(PATIENCE, "trust.changed");
    wait_until(PATIENCE, "gw-b is forgotten", || seen(&a, "gw-b").is_none().then_some(()));
    // It was forgotten with the new word; what it says is ignored when it next says something.
    wait_until(PATIENCE, "what gw-b says is ignored", || (ignored(&a, "revoked") > 0).then_some(()));
    let columns = "gw-b                                     node       20";
    let listed = run(&fleet.home, &["list", "--dir", &path(&fleet.home, "fleet")]);
    assert!(listed.lines().any(|line| line.starts_with(columns) && line.ends_with("revoked")), "{listed}");
}

#[test]
fn nodes_one_release_apart_see_each_other() {
    let Some(program) = older::program() else { return };
    let fleet = Fleet::found();
    let (files_a, files_b) = (fleet.enroll("gw-a", "node"), fleet.enroll("gw-b", "node"));
    let a = fleet.home.start(&fleet.spec("gw-a", &files_a));
    let b = older::start(&fleet.home, &program, &fleet.spec("gw-b", &files_b));
    wait_for_alive(&a, "gw-b", true);
    wait_for_alive(&b, "gw-a", true);
    for (node, other) in [(&a, "gw-b"), (&b, "gw-a")] {
        let seen = seen(node, other).unwrap();
        assert_eq!((&seen["state"], &seen["services"][0]["name"]), (&"online".into(), &"digits".into()), "{seen}");
        assert_eq!((ignored(node, "foreign"), ignored(node, "forged"), ignored(node, "malformed")), (0, 0, 0));
    }
    b.kill9();
    wait_for_alive(&a, "gw-b", false);
    a.kill9();
}

/// As `tidegate fleet init` tells it.
fn assert_laptop_sees(fleet: &Fleet, node: &str) {
    let files = fleet.enroll("laptop", "operator");
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", &fleet.port.to_string(), "-C", "1", "-W", "60", "-t"]);
    command.arg(format!("tidegate-json/v1/test/node/{node}/state"));
    for (option, name) in [("--cafile", "roots.pem"), ("--cert", "node.pem"), ("--key", "node.key")] {
        command.arg(option).arg(files.join(name));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let state: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!((&state["node"], &state["state"]), (&node.into(), &"online".into()));
}

#[test]
fn a_new_credential_in_its_place_counts_without_a_restart() {
    let fleet = Fleet::found();
    let files = fleet.enroll("gw-a", "node");
    let a = fleet.home.start(&fleet.spec("gw-a", &files));
    wait_until(PATIENCE, "it is connected", || (a.get_json("/api/v1/node")["broker_connected"] == true).then_some(()));
    fleet.enroll("gw-a", "node");
    a.wait_for_event(PATIENCE, "credential.renewed");

    // What is of somebody else is not taken, and what works stays.
    let other = fleet.enroll("gw-b", "node");
    for name in ["node.key", "node.pem"] {
        std::fs::copy(other.join(name), files.join(name)).unwrap();
    }
    let told = a.wait_for_event(PATIENCE, "credential.expiring");
    assert!(told["error"].as_str().is_some_and(|error| error.contains("the credential of gw-b")), "{told}");
    assert_eq!(a.events("credential.renewed").len(), 1);
}

#[test]
fn what_a_node_left_behind_is_cleared_and_what_is_there_stays() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let node = home.start(&at_broker(&broker.address()));
    let state = |tree: &str| retained(&broker.address(), &format!("{tree}/node/gateway-t/state"));
    assert!(!state(CBOR).is_empty());
    let prune = |more: &[&str]| {
        let ended = home.command(&[&["fleet", "prune", "test", "--broker", &broker.address()], more].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    assert!(prune(&[]).contains("nothing to clear"));
    assert!(!state(CBOR).is_empty());

    node.kill9();
    let seen = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    seen.wait_for_state(0, "lost");
    let told = prune(&["--dry-run"]);
    assert!(told.starts_with("gateway-t (lost): would clear"), "{told}");
    let told = prune(&[]);
    assert!(told.starts_with("gateway-t (lost): cleared"), "{told}");
    let left = Subscriber::start(&broker.address(), "#");
    let own = home.start(&at_broker(&broker.address()).with("[node]\nid = 'gateway-u'"));
    left.wait_for_topic(&format!("{JSON}/node/gateway-u/state"));
    let ghosts: Vec<_> =
        left.heard().into_iter().filter(|one| one.retained && one.topic.contains("gateway-t")).collect();
    assert!(ghosts.is_empty(), "{ghosts:?}");
    drop(own);

    let dead = home.command(&["fleet", "prune", "test", "--broker", &format!("127.0.0.1:{}", free_port())]);
    assert!(dead.code == Some(1) && dead.stderr.contains("nobody listens there"), "{}", dead.stderr);
    let nobody = home.command(&["fleet", "prune", "test", "--broker", "127.0.0.1"]);
    assert!(nobody.code == Some(2) && nobody.stderr.contains("--broker takes HOST:PORT"), "{}", nobody.stderr);
}

#[test]
fn more_ghosts_than_wait_for_a_broker_are_cleared_to_the_last() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let mut hand = Publisher::connect(&broker.address(), "hand");
    for number in 0..3_000 {
        hand.publish(&format!("{CBOR}/node/gone/burst/l-{number}"), b"junk", true);
    }
    hand.send();
    let ended = home.command(&["fleet", "prune", "test", "--broker", &broker.address()]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "gone (without a state): cleared 3000 topics\n"),
        "{}",
        ended.stderr
    );
    // Kept messages come at once, in no order; this one is kept, and comes last by its own subscription.
    hand.publish(&format!("{CBOR}/the/last"), b"kept", true);
    hand.send();
    let left = Subscriber::start(&broker.address(), &format!("{CBOR}/#"));
    left.wait_for_topic(&format!("{CBOR}/the/last"));
    let more = retained(&broker.address(), &format!("{CBOR}/node/gone/burst/l-2999"));
    assert!(more.is_empty() && left.count() == 1, "{:?}", left.heard());
}

#[test]
fn who_prunes_with_a_credential_goes_by_signed_words_and_says_what_the_broker_refused() {
    let fleet = Fleet::found();
    let (files, laptop) = (fleet.enroll("gw-a", "node"), fleet.enroll("laptop", "operator"));
    let a = fleet.home.start(&fleet.spec("gw-a", &files));
    wait_until(PATIENCE, "it is connected", || (a.get_json("/api/v1/node")["broker_connected"] == true).then_some(()));
    // Anybody who may write there can say so.
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &fleet.port.to_string(),
        "-r",
        "-q",
        "1",
        "-m",
        r#"{"state":"online"}"#,
        "-t",
    ]);
    command.arg(format!("{JSON}/node/gone/state"));
    for (option, name) in [("--cafile", "roots.pem"), ("--cert", "node.pem"), ("--key", "node.key")] {
        command.arg(option).arg(laptop.join(name));
    }
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    let prune = |credentials: &Path| {
        let broker = format!("mqtts://127.0.0.1:{}", fleet.port);
        let credentials = credentials.display().to_string();
        fleet.home.command(&["fleet", "prune", "test", "--broker", &broker, "--credentials", &credentials])
    };
    let refused = prune(&files);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("the broker took 0 of 1 topics"), "{}", refused.stderr);
    let done = prune(&laptop);
    let told = "gone (without a state that the fleet has signed): cleared 1 topics\n";
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), told), "{}", done.stderr);
    assert!(prune(&laptop).stdout.contains("nothing to clear"), "gw-a is there");
}

#[test]
fn no_node_is_called_as_all_of_them_are() {
    let home = Home::new();
    run(&home, &["init", "test", "--dir", &path(&home, "fleet")]);
    let refused = home.command(&["fleet", "enroll", "all", "--dir", &path(&home, "fleet")]);
    assert!(refused.code == Some(1) && refused.stderr.contains("every node"), "{}", refused.stderr);
    let ended = home.run_to_end(&Spec::new().with("[node]\nid = 'all'"));
    assert!(ended.code == Some(2) && ended.stderr.contains("node.id"), "{}", ended.stderr);
}

#[test]
fn a_credential_that_does_not_fit_is_refused_at_the_start_with_what_to_do() {
    let home = Home::new();
    run(&home, &["init", "test", "--dir", &path(&home, "fleet")]);
    run(&home, &["enroll", "gw-b", "--dir", &path(&home, "fleet")]);
    let refused = |credentials: &str, expected: &[&str]| {
        let spec = Spec::new().with(&format!("[node]\ncredentials = {credentials:?}"));
        let ended = home.run_to_end(&spec);
        assert_ne!(ended.code, Some(0));
        for words in expected {
            assert!(ended.stderr.contains(words), "{words:?} in {}", ended.stderr);
        }
    };
    refused(&path(&home, "fleet/nodes/gw-b"), &["gw-b", "gateway-t", "set node.id"]);
    refused(&path(&home, "nowhere"), &["holds no credential", "fleet enroll gateway-t"]);
    std::fs::remove_file(home.path().join("fleet/nodes/gw-b/node.key")).unwrap();
    refused(&path(&home, "fleet/nodes/gw-b"), &["lacks node.key", "fleet enroll"]);

    run(&home, &["enroll", "issuer", "--role", "authority", "--dir", &path(&home, "fleet")]);
    let listed = run(&home, &["list", "--dir", &path(&home, "fleet/nodes/issuer")]);
    assert_eq!(listed.lines().count(), 1, "an authority that has renewed nothing yet: {listed}");
    let twice = home.command(&["fleet", "init", "test", "--dir", &path(&home, "fleet")]);
    assert!(twice.code == Some(1) && twice.stderr.contains("holds a fleet already"), "{}", twice.stderr);
    let unknown = home.command(&["fleet", "revoke", "gw-z", "--dir", &path(&home, "fleet")]);
    assert!(
        unknown.code == Some(1) && unknown.stderr.contains("no credential was issued to gw-z"),
        "{}",
        unknown.stderr
    );
    let nowhere = home.command(&["fleet", "enroll", "gw-z", "--dir", &path(&home, "nowhere")]);
    assert!(nowhere.code == Some(1) && nowhere.stderr.contains("fleet init"), "{}", nowhere.stderr);
    let bad = home.command(&["fleet", "init", "Plant A"]);
    assert!(bad.code == Some(1) && bad.stderr.contains("Plant A"), "{}", bad.stderr);
}
