//! Nodes with brokers of their own that meet at the fleet's: seen by each other there, at work without it, and with all that
//! happened meanwhile told once when it is back, or when another one takes over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate::wire::describe;

use super::clients::{Broker, Message, Subscriber, free_port, publish, retained};
use super::embedded::{CBOR, JSON, mqtt};
use super::fleet::{path, run, seen, wait_for_alive};
use super::proxy::{Proxy, Weather};
use super::story::last_event;
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

/// The fleet's brokers: one behind a way that opens once somebody listens, and one that is not there yet.
struct Fleet {
    home: Home,
    first: Broker,
    way: Proxy,
    second: Broker,
    ears: Vec<Subscriber>,
}

impl Fleet {
    fn found() -> Self {
        let home = Home::new();
        run(&home, &["init", "test", "--dir", &path(&home, "fleet")]);
        let first = Broker::at(&home, free_port(), "allow_anonymous true");
        let way = Proxy::start(&first.address());
        let second = Broker::at(&home, free_port(), "allow_anonymous true");
        let mut fleet = Self { home, first, way, second, ears: Vec::new() };
        fleet.raise();
        fleet
    }

    /// Starts the first broker; no node reaches it before a subscriber does, since what is said to a broker that keeps nothing
    /// and has no subscriber is lost there.
    fn raise(&mut self) {
        self.way.set(Weather::Storm);
        self.first.up();
        let ear = listening(&self.first, self.ears.len());
        self.ears.push(ear);
        self.way.set(Weather::Fair);
    }

    /// SIGKILL, at a moment when nothing is on its way there: what it acknowledged and did not hand on is not the node's.
    fn kill(&self) {
        self.way.set(Weather::Storm);
    }

    fn ear(&self) -> &Subscriber {
        self.ears.last().expect("somebody listens")
    }

    fn enroll(&self, name: &str) -> PathBuf {
        run(&self.home, &["enroll", name, "--dir", &path(&self.home, "fleet")]);
        self.home.path().join("fleet/nodes").join(name)
    }

    /// A node with a broker of its own, and the fleet's two.
    fn spec(&self, name: &str, credentials: &Path) -> Spec {
        let state_dir = self.home.path().join(format!("state-{name}"));
        Spec::new().with("[service.digits.local]\nmax_replicas = 1").with(&format!(
            "[node]\nid = {name:?}\nstate_dir = {state_dir:?}\ncredentials = {credentials:?}\n\
             [mqtt]\nuplink = [\"mqtt://{}\", \"mqtt://{}\"]\nuplink_load_interval = '1s'\nrefresh = '1s'\n\
             keepalive = '5s'",
            self.way.address(),
            self.second.address()
        ))
    }
}

/// A subscriber to everything that certainly hears what comes from now on.
fn listening(broker: &Broker, number: usize) -> Subscriber {
    let marker = format!("marker/{number}");
    publish(&broker.address(), &marker, b"here");
    let ear = Subscriber::start(&broker.address(), "#");
    ear.wait_for_topic(&marker);
    ear
}

/// The link to the fleet's brokers, as the console tells it.
fn uplink(node: &Node) -> Value {
    let links = node.get_json("/api/v1/node")["telemetry"]["links"].clone();
    let found = links.as_array().and_then(|links| links.iter().find(|link| link["link"] == "uplink").cloned());
    found.unwrap_or_else(|| panic!("no uplink: {links}"))
}

fn wait_for_uplink(node: &Node, broker: &str) {
    wait_until(PATIENCE, &format!("it is connected to {broker}"), || {
        let link = uplink(node);
        (link["connected"] == true && link["broker"] == broker).then_some(())
    });
}

/// How often each event of a node was heard, by id.
fn told(heard: &[Message], node: &str) -> BTreeMap<String, usize> {
    let events = format!("{CBOR}/node/{node}/event/");
    let mut count = BTreeMap::new();
    for message in heard.iter().filter(|message| message.topic.starts_with(&events)) {
        let event = describe(&message.topic, &message.bytes).unwrap_or_else(|e| panic!("{e}: {message:?}"));
        *count.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    count
}

fn assert_serves(node: &Node) {
    let image = edge_config::models::heldout().next().unwrap().0;
    assert_eq!(node.infer(image).status, 200);
}

/// Somebody writes on a topic of the node's at its own broker, which is an event.
fn provoke(node: &Node, name: &str) {
    let before = node.events("topic.repaired").len();
    wait_until(PATIENCE, "a foreign write is repaired", || {
        publish(&mqtt(node), &format!("{CBOR}/node/{name}/state"), b"foreign");
        (node.events("topic.repaired").len() > before).then_some(())
    });
}

#[test]
fn nodes_meet_at_the_fleets_broker_go_on_without_it_and_tell_it_once_what_happened_meanwhile() {
    let mut fleet = Fleet::found();
    let (files_a, files_b) = (fleet.enroll("gw-a"), fleet.enroll("gw-b"));
    let a = fleet.home.start(&fleet.spec("gw-a", &files_a));
    let b = fleet.home.start(&fleet.spec("gw-b", &files_b));
    wait_for_alive(&a, "gw-b", true);
    wait_for_alive(&b, "gw-a", true);
    assert_eq!(seen(&a, "gw-b").map(|one| one["state"].clone()), Some("online".into()));
    wait_for_uplink(&a, fleet.way.address());
    fleet.ear().wait_for("the load of a", |m| m.topic == format!("{CBOR}/node/gw-a/load"));
    let started = format!("{CBOR}/node/gw-b/event/node.started");
    fleet.ear().wait_for("the start of b", |m| m.topic == started);

    fleet.kill();
    fleet.first.kill();
    for (node, other) in [(&a, "gw-b"), (&b, "gw-a")] {
        let lost = node.wait_for_event(PATIENCE, "link.lost");
        assert!(lost["reason"].as_str().is_some_and(|reason| reason.starts_with("uplink: ")), "{lost}");
        wait_for_alive(node, other, false);
    }
    let before_storm = last_event(&a);
    for (node, name) in [(&a, "gw-a"), (&b, "gw-b")] {
        let at_home = Subscriber::start(&mqtt(node), &format!("{JSON}/#"));
        at_home.wait_for_state(0, "online");
        let after = at_home.count();
        assert_serves(node);
        provoke(node, name);
        at_home.wait_for_after(after, "load goes on at home", |m| m.topic == format!("{JSON}/node/{name}/load"));
        at_home.wait_for_after(after, "what happens is told at home", |m| m.topic.ends_with("/event/topic.repaired"));
    }
    let said = last_event(&a);
    assert!(said > before_storm);

    fleet.raise();
    wait_for_alive(&a, "gw-b", true);
    wait_for_alive(&b, "gw-a", true);
    wait_until(PATIENCE, "all that was said is told at the uplink", || {
        let heard = told(&fleet.ear().heard(), "gw-a");
        (before_storm..=said).all(|number| heard.contains_key(&format!("1-{number}"))).then_some(())
    });
    let heard = told(&fleet.ear().heard(), "gw-a");
    for number in before_storm..=said {
        assert_eq!(heard[&format!("1-{number}")], 1, "event 1-{number} of {heard:?}");
    }

    // Another one takes over.
    fleet.second.up();
    let ear = listening(&fleet.second, 0);
    fleet.kill();
    fleet.first.kill();
    for node in [&a, &b] {
        wait_for_uplink(node, &fleet.second.address());
    }
    let now = |node: &Node, other: &str| seen(node, other).map(|one| one["sent_at"].clone());
    let (of_b, of_a) = (now(&a, "gw-b"), now(&b, "gw-a"));
    wait_until(PATIENCE, "they see each other there", || {
        (now(&a, "gw-b") != of_b && now(&b, "gw-a") != of_a).then_some(())
    });
    for topic in ["discovery/gw-a", "node/gw-a/state", "node/gw-b/service/digits"] {
        ear.wait_for_topic(&format!("{CBOR}/{topic}"));
    }

    // Its Will at the second broker is believed, though the first one had counted more connections, or fewer.
    b.kill9();
    wait_for_alive(&a, "gw-b", false);
    wait_until(PATIENCE, "it is lost", || (seen(&a, "gw-b")?["state"] == "lost").then_some(()));
    let readable: Vec<_> =
        fleet.ears.iter().chain([&ear]).flat_map(Subscriber::heard).filter(|m| m.topic.starts_with(JSON)).collect();
    assert!(readable.is_empty(), "JSON went to the fleet: {readable:?}");
    assert_serves(&a);
}

#[test]
fn a_word_on_trust_that_is_told_at_one_box_reaches_every_boxs_own_broker() {
    let fleet = Fleet::found();
    let (files_a, files_b) = (fleet.enroll("gw-a"), fleet.enroll("gw-b"));
    fleet.enroll("gw-z");
    let a = fleet.home.start(&fleet.spec("gw-a", &files_a));
    let b = fleet.home.start(&fleet.spec("gw-b", &files_b));
    wait_for_alive(&b, "gw-a", true);
    run(&fleet.home, &["revoke", "gw-z", "--dir", &path(&fleet.home, "fleet")]);
    let word = fleet.home.path().join("fleet/trust.cbor");
    std::fs::copy(&word, files_a.join("trust.cbor")).unwrap();
    a.wait_for_event(PATIENCE, "trust.changed");
    b.wait_for_event(PATIENCE, "trust.changed");
    let word = std::fs::read(word).unwrap();
    let topic = format!("{CBOR}/fleet/trust");
    for address in [mqtt(&a), fleet.first.address(), mqtt(&b)] {
        wait_until(PATIENCE, &format!("{address} keeps the new word"), || {
            (retained(&address, &topic) == word).then_some(())
        });
    }
}

#[test]
fn json_goes_to_the_fleet_where_it_is_asked_for() {
    let fleet = Fleet::found();
    let files = fleet.enroll("gw-a");
    let node = fleet.home.start(&fleet.spec("gw-a", &files).with("[mqtt]\nuplink_json = true"));
    fleet.ear().wait_for_state(0, "online");
    fleet.ear().wait_for_topic(&format!("{JSON}/discovery/gw-a"));
    fleet.ear().wait_for_topic(&format!("{JSON}/node/gw-a/event/node.started"));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    fleet.ear().wait_for_state(0, "offline");
    fleet
        .ear()
        .wait_for("the announcement is cleared", |m| m.topic == format!("{CBOR}/discovery/gw-a") && m.is_empty());
}

#[test]
fn a_certificate_lets_a_node_in_at_the_second_broker_and_it_keeps_to_the_rules_there() {
    let fleet = super::fleet::Fleet::found();
    let files = fleet.enroll("gw-a", "node");
    let dead = free_port();
    let node = fleet.home.start(&Spec::new().with("[service.digits.local]\nmax_replicas = 1").with(&format!(
        "[node]\nid = 'gw-a'\ncredentials = {files:?}\n[mqtt]\nuplink_json = true\nrefresh = '1s'\n\
         uplink = [\"mqtts://127.0.0.1:{dead}\", \"mqtts://127.0.0.1:{}\"]",
        fleet.port
    )));
    wait_for_uplink(&node, &format!("127.0.0.1:{}", fleet.port));
    // Whatever it says is taken there: nothing is given up, and no event waits.
    wait_until(PATIENCE, "what was said is taken", || {
        let telemetry = node.get_json("/api/v1/node")["telemetry"].clone();
        let sent = uplink(&node)["sent_bytes"].as_u64()? > 1_000;
        (sent && telemetry["spool"]["saved"].as_u64()? > 0 && telemetry["spool"]["events"]["uplink"] == 0).then_some(())
    });
    assert_eq!(uplink(&node)["dropped"], 0);
    assert!(!node.log().contains("refuses"), "{}", node.log());
}

#[test]
fn a_node_whose_uplink_was_never_there_starts_and_serves() {
    let fleet = Fleet::found();
    fleet.kill();
    let files = fleet.enroll("gw-a");
    let node = fleet.home.start(&fleet.spec("gw-a", &files));
    assert_serves(&node);
    let link = wait_until(PATIENCE, "it says why", || Some(uplink(&node)).filter(|link| !link["last_error"].is_null()));
    assert_eq!((&link["connected"], &link["connections"]), (&false.into(), &0.into()));
    let printed = fleet.home.command(&["status", "--console", &node.console_url()]);
    assert!(printed.stdout.contains("uplink NOT connected"), "{}", printed.stdout);
}
