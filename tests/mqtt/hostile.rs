//! Brokers and neighbours that mean no good, or are out of order: the node serves on and keeps its own word.

use std::net::TcpListener;
use std::time::Duration;

use tidegate::trust::{Authority, EARLIEST, Role, Subject};
use tidegate::wire::{Announcement, AnnouncementKind, Encoding, Message, Root, Stamp, Topic, WIRE_VERSION};

use super::clients::{Broker, Subscriber, at_broker, connect_as, free_port, publish, retained};
use super::embedded::{CBOR, JSON, mqtt};
use super::publisher::Publisher;
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

fn assert_serves(node: &Node) {
    let (pixels, _) = edge_config::models::heldout().next().unwrap();
    let answer = node.infer(pixels);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// How many discovery messages of that kind the node says it has ignored.
fn ignored(node: &Node, kind: &str) -> u64 {
    let metrics = node.console("/metrics").text();
    let start = format!("tidegate_discovery_ignored_total{{kind=\"{kind}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
}

/// A node of a fleet of the same name, whose root is another.
struct Stranger {
    announcement: Vec<u8>,
}

impl Stranger {
    fn new(home: &Home) -> Self {
        let fleet = Authority::found(&home.path().join("elsewhere"), "test", EARLIEST).unwrap();
        let subject = Subject { fleet: "test".into(), name: "stranger".into(), role: Role::Node, hosts: Vec::new() };
        let credential = fleet.enroll(&subject, 100 * 365 * 86_400, EARLIEST).unwrap();
        let (root, topic) = (Root::new(Encoding::Cbor, "test").unwrap(), Topic::discovery("stranger").unwrap());
        let stamp = Stamp { session: 7, sequence: 1 };
        Self { announcement: credential.seal(&root, &topic, stamp, announcement_of("stranger")).unwrap() }
    }
}

fn announcement_of(node: &str) -> Vec<u8> {
    let said = Announcement {
        kind: AnnouncementKind::Node,
        fleet: "test".to_owned(),
        node: node.to_owned(),
        session: 7,
        ttl_s: 60,
        wire: WIRE_VERSION,
        ..Announcement::default()
    };
    Message::Announcement(Box::new(said)).encode(Encoding::Cbor).unwrap()
}

#[test]
fn junk_on_the_discovery_topics_is_counted_and_ignored() {
    let home = Home::new();
    let node = home.start(&Spec::new().with("[mqtt]\nrefresh = '1s'"));
    let (broker, own) = (mqtt(&node), format!("{CBOR}/discovery/gateway-t"));
    let announced = retained(&broker, &own);
    let stranger = Stranger::new(&home);

    let nested = [vec![0x81; 60_000], vec![0x00]].concat();
    let truncated = &announced[..announced.len() / 2];
    let junk: [(&str, &[u8], &str); 11] = [
        ("stranger", b"\xff\xff\xff\xff", "unsigned"),
        ("stranger", b"{\"node\":\"stranger\"}", "unsigned"),
        ("stranger", truncated, "malformed"),
        ("stranger", &nested, "unsigned"),
        ("stranger", &[0x5a; 100_000], "malformed"),
        // What we said, under another name, as an instance of ours, and as one of a node's too many.
        ("stranger", &announced, "not_theirs"),
        ("gateway-t/l-1", &announced, "forged"),
        ("Not A Node", &announced, "not_theirs"),
        ("a/b/c/d/e/f", &announced, "unknown_topic"),
        // What any node can say: without a signature, and with one of its own fleet.
        ("stranger", &announcement_of("stranger"), "unsigned"),
        ("stranger", &stranger.announcement, "foreign"),
    ];
    for (below, payload, kind) in junk {
        let before = ignored(&node, kind);
        publish(&broker, &format!("{CBOR}/discovery/{below}"), payload);
        let what = format!("{below} is counted as {kind}");
        wait_until(PATIENCE, &what, || (ignored(&node, kind) == before + 1).then_some(()));
    }
    assert_eq!(node.get_json("/api/v1/discovery").as_array().map(Vec::len), Some(1), "only our own");
    assert!(!node.events("message.rejected").is_empty());
    assert_serves(&node);
}

#[test]
fn what_others_write_over_the_nodes_own_announcement_is_written_over_again() {
    let home = Home::new();
    let node = home.start(&Spec::new().with("[mqtt]\nrefresh = '1s'"));
    let (broker, own) = (mqtt(&node), format!("{CBOR}/discovery/gateway-t"));
    let is_ours = || retained(&broker, &own).windows(6).any(|part| part == b"digits");
    assert!(is_ours());
    for payload in [&b"\xff\x00junk"[..], &announcement_of("stranger"), b""] {
        publish(&broker, &own, payload);
        wait_until(PATIENCE, "our own word stands again", || is_ours().then_some(()));
    }
    assert!(ignored(&node, "unsigned") >= 2, "{}", node.console("/metrics").text());
    assert!(!node.events("topic.repaired").is_empty());
    for topic in ["state", "load", "service/digits", "burst/l-1", "event/burst.started", "nonsense"] {
        for tree in [CBOR, JSON] {
            publish(&broker, &format!("{tree}/node/gateway-t/{topic}"), b"\x9f\x9f\x9f");
        }
    }
    let seen = Subscriber::start(&broker, &format!("{JSON}/#"));
    seen.wait_for("load goes on", |m| m.topic.ends_with("/load") && m.payload.starts_with('{'));
    seen.wait_for("the status is said again", |m| m.topic.ends_with("/service/digits") && m.payload.starts_with('{'));
    assert_serves(&node);
}

#[test]
fn an_old_word_of_the_nodes_own_that_is_played_again_is_written_over() {
    let home = Home::new();
    // Seldom enough that no refresh mends it, and often enough that there is an old word soon.
    let node = home.start(&Spec::new().with("[mqtt]\nrefresh = '12s'"));
    let (broker, own) = (mqtt(&node), format!("{CBOR}/discovery/gateway-t"));
    let old = retained(&broker, &own);
    let new = wait_until(PATIENCE, "it is said again", || Some(retained(&broker, &own)).filter(|now| *now != old));
    assert!(node.events("topic.repaired").is_empty());
    wait_until(PATIENCE, "what cannot be an echo is repaired", || {
        publish(&broker, &own, &old);
        (!node.events("topic.repaired").is_empty()).then_some(())
    });
    wait_until(PATIENCE, "a newer word stands there", || {
        let now = retained(&broker, &own);
        (now != old && now != new).then_some(())
    });
    assert!(node.events("node.duplicate").is_empty());
}

#[test]
fn what_a_former_run_left_at_a_broker_is_said_over_and_nobody_is_accused() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let spec = at_broker(&broker.address());
    let own = format!("{CBOR}/discovery/gateway-t");
    let node = home.start(&spec);
    let old = retained(&broker.address(), &own);
    node.kill9();
    // As a run leaves it whose configuration had another service.
    let gone = format!("{CBOR}/node/gateway-t/service/gone");
    publish(&broker.address(), &gone, b"of a former run");

    let node = home.start(&spec);
    wait_until(PATIENCE, "its new word stands there", || (retained(&broker.address(), &own) != old).then_some(()));
    wait_until(PATIENCE, "what nobody says any more is gone", || {
        retained(&broker.address(), &gone).is_empty().then_some(())
    });
    publish(&broker.address(), &own, b"somebody");
    wait_until(PATIENCE, "a foreign write is told", || (!node.events("topic.repaired").is_empty()).then_some(()));
    let told = node.events("topic.repaired");
    let reasons: Vec<_> = told.iter().map(|told| told["reason"].as_str().unwrap()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("8 bytes")), "{reasons:?}");
}

#[test]
fn names_without_end_below_the_nodes_own_are_cleared_at_a_pace() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let node = home.start(&at_broker(&broker.address()));
    let seen = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    seen.wait_for_topic(&format!("{JSON}/node/gateway-t/service/digits"));
    let started = std::time::Instant::now();
    let mut hand = Publisher::connect(&broker.address(), "hand");
    for number in 0..1_000 {
        hand.publish(&format!("{CBOR}/node/gateway-t/burst/x-{number}"), b"junk", true);
    }
    hand.send();
    // Heard after all of these, and mended although there is no room for more of them.
    let own = format!("{CBOR}/discovery/gateway-t");
    publish(&broker.address(), &own, b"junk");
    wait_until(PATIENCE, "its own word stands again", || {
        retained(&broker.address(), &own).windows(6).any(|part| part == b"digits").then_some(())
    });
    let cleared = node.events("topic.repaired").len();
    let allowed = 9 * (usize::try_from(started.elapsed().as_secs()).unwrap() + 1);
    assert!((1..=allowed).contains(&cleared), "{cleared} of 1,000 in {:?}", started.elapsed());
    assert_serves(&node);
}

#[test]
fn a_packet_over_the_limit_ends_its_sender_and_nobody_else() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let (broker, topic) = (mqtt(&node), format!("{CBOR}/discovery/stranger"));
    let seen = Subscriber::start(&broker, "#");
    seen.wait_for_topic(&format!("{JSON}/node/gateway-t/state"));
    publish(&broker, &topic, &vec![0x81; 2 << 20]);
    seen.wait_for_after(seen.count(), "load goes on", |m| m.topic.ends_with("/load"));
    assert!(seen.heard().iter().all(|message| message.topic != topic), "two megabytes were taken");
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], true);
    assert!(node.events("link.lost").is_empty());
    assert_serves(&node);
}

#[test]
fn who_takes_the_nodes_client_id_is_followed_by_the_node() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let node = home.start(&at_broker(&broker.address()));
    let seen = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    seen.wait_for_state(0, "online");
    for client_id in ["tidegate_test_gateway-t_cbor", "tidegate_test_gateway-t_json"] {
        let before = seen.count();
        connect_as(&broker.address(), client_id);
        if client_id.ends_with("json") {
            seen.wait_for_state(before, "online");
        } else {
            node.wait_for_event(PATIENCE, "link.restored");
        }
        seen.wait_for_after(seen.count(), "load goes on", |m| m.topic.ends_with("/load"));
    }
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], true);
    assert_serves(&node);
}

#[test]
fn a_broker_that_accepts_and_never_answers_holds_up_nothing() {
    let home = Home::new();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = home.start(&at_broker(&mute.local_addr().unwrap().to_string()));
    let (_held, _) = mute.accept().expect("the node tries");
    assert_serves(&node);
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], false);
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(10), "took {:?}, longer than the drain timeout", ended.took);
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn a_broker_that_refuses_is_named_with_what_to_do() {
    let home = Home::new();
    let mut broker = Broker::at(&home, free_port(), "allow_anonymous false");
    broker.up();
    let node = home.start(&at_broker(&broker.address()));
    wait_until(PATIENCE, "the refusal is in the log", || {
        let log = node.log();
        let line = log.lines().find(|line| line.contains("refuses"))?;
        assert!(line.contains("NotAuthorized") && line.contains("mqtt.username"), "{line}");
        Some(())
    });
    assert_serves(&node);
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], false);
    assert_eq!(node.terminate().code, Some(0));
}
