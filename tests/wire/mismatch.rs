//! A payload that speaks of something else than its topic is refused, and so is what stands on no topic of ours.

use tidegate::wire::{Message, Root, Topic, TopicError, WireError, describe};

use super::samples;

/// The field that a sample's payload is refused for on another topic.
fn refused_for(sample: &str, topic: &str) -> &'static str {
    let sample = samples::all().into_iter().find(|candidate| candidate.name == sample).unwrap();
    let (root, topic) = Root::parse(topic).unwrap();
    match Message::decode(&root, &topic, &sample.cbor()) {
        Err(WireError::Mismatch { field, .. }) => field,
        other => panic!("{topic}: {other:?}"),
    }
}

#[test]
fn a_claim_of_the_topic_that_the_payload_denies_is_refused() {
    assert_eq!(refused_for("announcement-node", "tidegate/v1/plant-b/discovery/gateway-7"), "fleet");
    assert_eq!(refused_for("announcement-node", "tidegate/v1/plant-a/discovery/gateway-8"), "node");
    assert_eq!(refused_for("announcement-node", "tidegate/v1/plant-a/discovery/gateway-7/l-1"), "instance");
    assert_eq!(refused_for("announcement-instance", "tidegate/v1/plant-a/discovery/gateway-7"), "instance");
    assert_eq!(refused_for("announcement-instance", "tidegate/v1/plant-b/discovery/gateway-7/l-1"), "fleet");
    assert_eq!(refused_for("announcement-instance", "tidegate/v1/plant-a/discovery/gateway-8/l-1"), "node");
    assert_eq!(refused_for("node-state", "tidegate/v1/plant-a/node/gateway-8/state"), "node");
    assert_eq!(refused_for("node-state", "tidegate/v1/plant-b/node/gateway-7/state"), "fleet");
    assert_eq!(refused_for("load-report", "tidegate/v1/plant-a/node/gateway-8/load"), "node");
    assert_eq!(refused_for("service-status", "tidegate/v1/plant-a/node/gateway-7/service/flask"), "service");
    assert_eq!(refused_for("service-status", "tidegate/v1/plant-a/node/gateway-8/service/digits"), "node");
    assert_eq!(refused_for("burst-status", "tidegate/v1/plant-a/node/gateway-7/burst/l-9"), "launch");
    assert_eq!(refused_for("burst-status", "tidegate/v1/plant-a/node/gateway-8/burst/gateway-7-12-1"), "node");
    assert_eq!(refused_for("event", "tidegate/v1/plant-a/node/gateway-8/event/burst.ended"), "node");
    assert_eq!(refused_for("event", "tidegate/v1/plant-b/node/gateway-7/event/burst.ended"), "node");
    assert_eq!(refused_for("event", "tidegate/v1/plant-a/node/gateway-7/event/burst.started"), "kind");
}

#[test]
fn no_message_decodes_on_the_topic_of_another_kind() {
    let samples = samples::all();
    for sample in &samples {
        for other in samples.iter().filter(|other| other.rule != sample.rule) {
            let decoded = Message::decode(&samples::root(), &other.topic, &sample.cbor());
            assert!(decoded.is_err(), "{} as {}: {decoded:?}", sample.name, other.name);
        }
    }
}

#[test]
fn an_empty_payload_says_that_the_topic_was_cleared() {
    assert_eq!(Message::decode(&samples::root(), &Topic::load("n").unwrap(), b""), Ok(Message::Cleared));
    for topic in ["tidegate/v1/f/discovery/n", "tidegate-json/v1/f/discovery/n"] {
        assert_eq!(describe(topic, b""), Ok(serde_json::Value::Null));
    }
}

#[test]
fn a_foreign_topic_is_named_in_the_error() {
    let error = describe("homeassistant/status", b"online").unwrap_err();
    assert_eq!(error, WireError::Topic(TopicError::Unknown("homeassistant/status".into())));
    assert_eq!(error.to_string(), "\"homeassistant/status\" is not a topic that this version knows");
}

#[test]
fn errors_say_what_is_wrong_with_the_payload() {
    let load = |payload: &[u8]| describe("tidegate/v1/f/node/n/load", payload).unwrap_err().to_string();
    assert_eq!(load(b"{}"), "the payload is not well-formed cbor: the payload ends within an item (byte 0)");
    let missing = load(&[0xa0]);
    assert!(missing.contains("missing field `node`"), "{missing}");
    let json = describe("tidegate-json/v1/f/node/n/load", b"{]").unwrap_err().to_string();
    assert!(json.starts_with("the payload is not the expected json: "), "{json}");
    let foreign = samples::all()[3].cbor();
    let mismatch = describe("tidegate/v1/plant-a/node/gateway-8/load", &foreign).unwrap_err().to_string();
    assert_eq!(mismatch, "the topic's node is \"gateway-8\" but the payload says \"gateway-7\"");
}
