//! The embedded broker: what anyone's subscriber sees of a node at rest.

use serde_json::Value;

use super::clients::{Subscriber, retained};
use crate::support::{Home, Node, Spec};

pub(crate) const JSON: &str = "tidegate-json/v1/test";
pub(crate) const CBOR: &str = "tidegate/v1/test";

/// Fails unless the object has every member, and of the words that stand for one, none is empty.
pub(crate) fn assert_members(what: &str, value: &Value, members: &[&str]) {
    for member in members {
        assert!(value.get(member).is_some(), "{what} has no {member}: {value}");
        assert_ne!(value[member], "", "{what} has an empty {member}: {value}");
    }
}

pub(crate) fn mqtt(node: &Node) -> String {
    node.addresses.mqtt.clone().expect("an embedded broker")
}

/// The line that a starting node prints for people.
pub(crate) fn printed_line(node: &Node) -> String {
    let output = node.output();
    let line = output.lines().find_map(|line| line.strip_prefix("watch ")).expect("a line on how to watch");
    line.trim().to_owned()
}

#[test]
fn the_line_that_the_node_prints_shows_its_tree_in_json() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let seen = Subscriber::of_printed(&printed_line(&node));

    let said = seen.wait_for_topic(&format!("{JSON}/discovery/gateway-t")).json();
    let members =
        ["kind", "fleet", "node", "session", "ttl_s", "sent_at", "version", "wire", "config_digest", "endpoints"];
    assert_members("discovery", &said, &members);
    assert_eq!((said["kind"].as_str(), said["node"].as_str()), (Some("node"), Some("gateway-t")));
    assert_eq!(said["endpoints"]["gateway"], node.addresses.gateway.as_str());
    assert_eq!(said["endpoints"]["console"], node.addresses.console.as_str());
    assert_eq!(said["endpoints"]["mqtt"], mqtt(&node).as_str());
    let offer = &said["services"][0];
    assert_members("an offer", offer, &["name", "protocol", "capacity", "spare", "concurrency", "price_per_hour"]);
    assert_eq!((offer["name"].as_str(), offer["protocol"].as_str()), (Some("digits"), Some("oip-v2")));
    assert_eq!(offer["placement"], "any");

    let state = seen.wait_for_topic(&format!("{JSON}/node/gateway-t/state")).json();
    assert_eq!(state["state"], "online");
    assert_members("state", &state, &["fleet", "node", "session", "at", "reason"]);

    let load = seen.wait_for_topic(&format!("{JSON}/node/gateway-t/load")).json();
    assert_members("load", &load, &["session", "sequence", "at", "cpu", "memory", "network", "replicas_local"]);
    assert_members("load", &load, &["requests_per_s", "in_flight", "queued", "spend_hour", "broker_connected"]);
    assert_eq!(load["services"][0]["service"], "digits");

    let service = seen.wait_for_topic(&format!("{JSON}/node/gateway-t/service/digits")).json();
    let members = ["wanted", "ready_local", "ready_cloud", "in_flight", "queued", "reason", "spend_hour", "currency"];
    assert_members("service", &service, &members);
}

#[test]
fn a_late_subscriber_gets_what_is_retained_and_no_old_load() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let early = Subscriber::start(&mqtt(&node), &format!("{JSON}/#"));
    early.wait_for_topic(&format!("{JSON}/node/gateway-t/service/digits"));
    early.wait_for_topic(&format!("{JSON}/discovery/gateway-t"));
    early.wait_for_topic(&format!("{JSON}/node/gateway-t/load"));

    let late = Subscriber::start(&mqtt(&node), &format!("{JSON}/#"));
    late.wait_for(&format!("{JSON} load"), |message| message.topic.ends_with("/load"));
    let heard = late.heard();
    let first_live = heard.iter().position(|message| !message.retained).unwrap();
    // What the fleet believes is said within seconds, if nobody else has.
    let is_the_nodes = |topic: &&str| !topic.ends_with("/fleet/trust");
    let topics = heard[..first_live].iter().map(|message| message.topic.as_str());
    let mut retained: Vec<_> = topics.filter(is_the_nodes).collect();
    retained.sort_unstable();
    let expected = ["discovery/gateway-t", "node/gateway-t/service/digits", "node/gateway-t/state"];
    assert_eq!(retained, expected.map(|topic| format!("{JSON}/{topic}")));
    assert!(heard.iter().all(|message| !message.retained || !message.topic.ends_with("/load")), "{heard:?}");
}

#[test]
fn watch_decodes_the_cbor_tree() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let ended = home.command(&["watch", "--json", "--count", "6", "--broker", &mqtt(&node)]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        assert!(line["topic"].as_str().is_some_and(|topic| topic.starts_with(CBOR)), "{line}");
        assert!(line["retained"].is_boolean() && line["message"].is_object(), "{line}");
        assert!(line["message"].get("error").is_none(), "{line}");
    }
    let state = lines.iter().find(|line| line["topic"] == format!("{CBOR}/node/gateway-t/state")).expect("a state");
    assert_eq!(state["message"]["state"], "online");
    assert_eq!(state["retained"], true);
    // A signed message: an array of four, whose payload is a map with integer keys, the first of them 0.
    let signed = retained(&mqtt(&node), &format!("{CBOR}/node/gateway-t/state"));
    assert_eq!(signed[0], 0x84);
    assert!(signed.windows(2).any(|part| part == [0xa7, 0x00]), "{signed:02x?}");
}
