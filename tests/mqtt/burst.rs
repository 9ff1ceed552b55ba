//! A burst from its first decision to its end, told in both trees, retained and live.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout};

use super::clients::{Message, Subscriber};
use super::embedded::{JSON, assert_members, mqtt};
use crate::support::{Home, Node, PATIENCE, Spec, python, wait_until};

/// The script that reads the CBOR tree with paho and cbor2, by `docs/wire.cddl`, and holds it against the JSON tree.
/// It ends once it has met every kind of topic that it was given.
struct Reader(Child, BufReader<ChildStdout>);

impl Reader {
    fn start(node: &Node) -> Self {
        let address = mqtt(node);
        let (_, port) = address.rsplit_once(':').unwrap();
        let mut command = python::script("mqtt/read_trees.py");
        command.args(["--port", port, "--fleet", "test", "--cddl"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wire.cddl"));
        command.args(["discovery", "instance", "state", "load", "service", "burst", "event"]);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // What is said before it hears is not said again.
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "subscribed\n");
        Self(child, output)
    }

    fn assert_read_all(mut self) {
        let status = wait_until(PATIENCE * 2, "every kind of topic was read", || self.0.try_wait().unwrap());
        let mut said = String::new();
        self.1.read_to_string(&mut said).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success(), "{said}");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn kinds(heard: &[Message]) -> Vec<String> {
    let events = heard.iter().filter_map(|message| message.topic.split_once("/event/"));
    events.map(|(_, kind)| kind.to_owned()).collect()
}

#[test]
fn a_burst_is_told_from_its_decision_to_its_end() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let seen = Subscriber::start(&mqtt(&node), &format!("{JSON}/#"));
    seen.wait_for_topic(&format!("{JSON}/node/gateway-t/state"));
    let reader = Reader::start(&node);

    let load = node.load(6);
    let ready = seen.wait_for("an instance is ready", |m| m.topic.ends_with("/event/burst.ready")).json();
    let launch = ready["data"]["launch"].as_str().expect("a launch").to_owned();
    let burst_topic = format!("{JSON}/node/gateway-t/burst/{launch}");
    let instance_topic = format!("{JSON}/discovery/gateway-t/{launch}");
    seen.wait_for_topic(&instance_topic);
    assert_late_subscriber_sees(&node, &burst_topic, &instance_topic);
    reader.assert_read_all();
    load.stop().assert_sound();

    seen.wait_for("the end", |m| m.topic.ends_with("/event/burst.ended") && m.json()["data"]["launch"] == launch);
    for topic in [&burst_topic, &instance_topic] {
        seen.wait_for(&format!("{topic} is cleared"), |m| m.topic == **topic && m.is_empty());
    }
    assert_story(&seen.heard(), &launch);
}

/// A subscriber that comes in the middle of it sees the instance at once.
fn assert_late_subscriber_sees(node: &Node, burst_topic: &str, instance_topic: &str) {
    let late = Subscriber::start(&mqtt(node), &format!("{JSON}/#"));
    let burst = late.wait_for(burst_topic, |m| m.retained && m.topic == burst_topic).json();
    assert_members("burst", &burst, &["launch", "service", "adapter", "state", "reason", "started_at", "cost"]);
    assert_eq!((burst["adapter"].as_str(), burst["service"].as_str()), (Some("cloud"), Some("digits")));
    let said = late.wait_for(instance_topic, |m| m.retained && m.topic == instance_topic).json();
    assert_eq!(said["kind"], "instance");
    assert!(said["endpoints"]["gateway"].is_string(), "{said}");
    assert_eq!(said["services"][0]["adapter"], "cloud");
    assert_eq!(said["services"][0]["price_per_hour"], 0.4);
}

/// Events are CloudEvents, each with its reason, in the order of what happened.
fn assert_story(heard: &[Message], launch: &str) {
    let events: Vec<_> = heard.iter().filter(|message| message.topic.contains("/event/")).collect();
    for event in &events {
        let event = event.json();
        assert_members("an event", &event, &["specversion", "id", "source", "type", "time", "data"]);
        assert_eq!(
            (event["specversion"].as_str(), event["source"].as_str()),
            (Some("1.0"), Some("/tidegate/test/gateway-t"))
        );
    }
    let ours: Vec<_> = events.iter().filter(|event| event.json()["data"]["launch"] == launch).collect();
    let kinds_of_ours: Vec<_> = ours.iter().map(|event| event.json()["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds_of_ours, ["burst.started", "burst.ready", "burst.ended"]);
    assert!(ours[0].json()["data"]["reason"].as_str().is_some_and(|why| why.contains("utilisation")), "{ours:?}");
    assert!(ours[2].json()["data"]["cost"].is_number(), "{ours:?}");
    let kinds = kinds(heard);
    let position =
        |kind: &str| kinds.iter().position(|seen| seen == kind).unwrap_or_else(|| panic!("no {kind}: {kinds:?}"));
    assert!(position("scale.decided") < position("burst.started"), "{kinds:?}");
    assert!(position("replica.ready") < position("burst.ended"), "{kinds:?}");
}
