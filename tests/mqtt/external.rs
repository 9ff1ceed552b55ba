//! A Mosquitto of the site's own: last wills, a goodbye, a broker that dies and comes back, one that comes late.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::clients::{Broker, Subscriber, at_broker, free_port, publish};
use super::embedded::{CBOR, JSON};
use crate::support::{Home, PATIENCE, wait_until};

const TREES: [&str; 2] = [CBOR, JSON];

/// What each tree says of the node's state now, by `tidegate watch` for CBOR and Mosquitto for JSON.
fn states(home: &Home, broker: &Broker) -> [String; 2] {
    TREES.map(|tree| {
        let topic = format!("{tree}/node/gateway-t/state");
        let ended = home.command(&["watch", &topic, "--json", "--count", "1", "--broker", &broker.address()]);
        let line: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
        line["message"]["state"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    })
}

#[test]
fn a_killed_node_is_lost_in_both_trees() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let seen = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    let node = home.start(&at_broker(&broker.address()));
    seen.wait_for_state(0, "online");
    wait_until(PATIENCE, "both trees say online", || (states(&home, &broker) == ["online"; 2]).then_some(()));
    node.kill9();
    let lost = seen.wait_for_state(0, "lost").json();
    assert_eq!((lost["node"].as_str(), lost["session"].as_u64()), (Some("gateway-t"), Some(1)));
    wait_until(PATIENCE, "both trees say lost", || (states(&home, &broker) == ["lost"; 2]).then_some(()));
}

#[test]
fn a_stopped_node_is_offline_and_takes_back_what_it_offered() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let seen = Subscriber::start(&broker.address(), "#");
    let node = home.start(&at_broker(&broker.address()));
    let offers =
        TREES.map(|tree| [format!("{tree}/discovery/gateway-t"), format!("{tree}/node/gateway-t/service/digits")]);
    for topic in offers.iter().flatten() {
        seen.wait_for_topic(topic);
    }
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(states(&home, &broker), ["offline"; 2]);
    // The broker hands messages on in the order of a publisher, so all that the node said of its offers is there.
    seen.wait_for_state(0, "offline");
    for topic in offers.iter().flatten() {
        let cleared = |m: &super::clients::Message| m.topic == *topic && m.is_empty();
        seen.wait_for(&format!("{topic} is cleared"), cleared);
        let last = seen.heard().into_iter().rfind(|m| m.topic == *topic).unwrap();
        assert!(last.is_empty(), "said again after it was cleared: {last:?}");
    }
    let late = Subscriber::start(&broker.address(), "#");
    late.wait_for_state(0, "offline");
    // What the fleet believes is said within seconds, and stays.
    let stays = |m: &super::clients::Message| m.topic.ends_with("/state") || m.topic.ends_with("/fleet/trust");
    let left: Vec<_> = late.heard().into_iter().filter(|m| !stays(m)).collect();
    assert!(left.is_empty(), "still retained: {left:?}");
}

#[test]
fn a_broker_that_dies_costs_no_request_and_gets_everything_back_when_it_returns() {
    let home = Home::new();
    let mut broker = Broker::start(&home);
    let node = home.start(&at_broker(&broker.address()));
    let before = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    before.wait_for_topic(&format!("{JSON}/discovery/gateway-t"));

    let load = node.load(1);
    broker.kill();
    node.wait_for_event(PATIENCE, "link.lost");
    let answered = load.answered();
    wait_until(PATIENCE, "requests are answered without a broker", || (load.answered() > answered + 20).then_some(()));
    // Events are said once, so whoever is to hear them is there before the node is.
    node.signal(Signal::SIGSTOP);
    broker.up();
    let after = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    publish(&broker.address(), &format!("{JSON}/probe"), b"there");
    after.wait_for("it is subscribed", |m| m.topic.ends_with("/probe"));
    node.signal(Signal::SIGCONT);
    for topic in ["discovery/gateway-t", "node/gateway-t/state", "node/gateway-t/service/digits"] {
        after.wait_for_topic(&format!("{JSON}/{topic}"));
    }
    after.wait_for("the loss is told", |m| m.topic.ends_with("/event/link.lost"));
    after.wait_for("load goes on", |m| m.topic.ends_with("/load"));
    wait_until(PATIENCE, "both trees say online", || (states(&home, &broker) == ["online"; 2]).then_some(()));
    load.stop().assert_sound();
}

#[test]
fn a_node_that_was_there_before_its_broker_connects_when_it_comes() {
    let home = Home::new();
    let mut broker = Broker::at(&home, free_port(), "allow_anonymous true");
    let node = home.start(&at_broker(&broker.address()));
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], false);
    assert_eq!(node.infer(edge_config::models::heldout().next().unwrap().0).status, 200);
    // The node waits until somebody listens: its first words are not retained.
    node.signal(Signal::SIGSTOP);
    broker.up();
    let marker = format!("{JSON}/marker");
    publish(&broker.address(), &marker, b"here");
    let seen = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    seen.wait_for_topic(&marker);
    node.signal(Signal::SIGCONT);
    seen.wait_for_state(0, "online");
    seen.wait_for_topic(&format!("{JSON}/discovery/gateway-t"));
    // What happened before is told too.
    seen.wait_for("the start", |m| m.topic.ends_with("/event/node.started"));
    wait_until(Duration::from_secs(30), "the console knows", || {
        (node.get_json("/api/v1/node")["broker_connected"] == true).then_some(())
    });
}
