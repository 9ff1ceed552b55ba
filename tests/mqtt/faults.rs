//! What networks and brokers do to a link, one at a time: the node serves on, its actors tick, it says what is wrong in
//! words, the link comes back by itself, and no event is lost.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tidegate::mqtt::link::{Link, LinkObserver, LinkOptions, LinkStatus};
use tidegate::mqtt::{Incoming, Outgoing, Qos};

use super::clients::{Broker, Subscriber, at_broker, free_port, publish, retained};
use super::embedded::{CBOR, JSON};
use super::proxy::{Proxy, Weather};
use super::story::{Story, last_event};
use crate::support::{Home, Node, PATIENCE, wait_until};

/// The link of the CBOR tree, as the console tells it.
fn link(node: &Node) -> Value {
    node.get_json("/api/v1/node")["telemetry"]["links"][0].clone()
}

fn wait_connected(node: &Node, connected: bool) {
    wait_until(PATIENCE, &format!("connected: {connected}"), || {
        let links = node.get_json("/api/v1/node")["telemetry"]["links"].clone();
        links.as_array().unwrap().iter().all(|link| link["connected"] == connected).then_some(())
    });
}

/// Waits until the console says why there is no link, in these words.
fn wait_reason(node: &Node, words: &str) {
    let mut last = Value::Null;
    wait_until(PATIENCE, &format!("the reason is told: {words}"), || {
        last = link(node)["last_error"].clone();
        last.as_str().is_some_and(|why| why.contains(words)).then_some(())
    });
    wait_until(PATIENCE, "the log says so too", || node.log().lines().any(|line| line.contains(words)).then_some(()));
}

/// No actor is blocked: reports go on, health is good, requests are answered.
fn assert_lively(node: &Node) {
    let sequence = || node.get_json("/api/v1/node")["load"]["sequence"].as_u64();
    let first = sequence();
    wait_until(PATIENCE, "reports go on", || (sequence() >= Some(first? + 3)).then_some(()));
    assert_eq!(node.console("/healthz").status, 200);
    let (pixels, _) = edge_config::models::heldout().next().unwrap();
    assert_eq!(node.infer(pixels).status, 200);
}

/// A metric of all links, by its labels as they are printed.
fn metric(node: &Node, name: &str) -> f64 {
    let text = node.console("/metrics").text();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn a_connection_that_stands_still_in_either_direction_is_given_up_and_made_again() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let seen = Subscriber::start(&broker.address(), "#");
    // One after the other would be twice the keepalive each; so one node for each direction, under ids of their own.
    let cases = [Weather::DeafToNode, Weather::DeafToBroker].map(|weather| {
        let (home, proxy) = (Home::new(), Proxy::start(&broker.address()));
        let spec =
            at_broker(proxy.address()).with(&format!("[node]\nid = \"{}\"", format!("{weather:?}").to_lowercase()));
        let node = home.start(&spec);
        (home, proxy, node, weather)
    });
    for (_, proxy, node, weather) in &cases {
        wait_connected(node, true);
        proxy.set(*weather);
    }
    for (_, proxy, node, _) in &cases {
        let load = node.load(1);
        assert_lively(node);
        wait_until(PATIENCE, "the standstill is noticed", || (link(node)["connected"] == false).then_some(()));
        wait_reason(node, "does not answer");
        assert_lively(node);
        load.stop().assert_sound();
        proxy.set(Weather::Fair);
    }
    for (_, _, node, weather) in &cases {
        wait_connected(node, true);
        let restored = node.wait_for_event(PATIENCE, "link.restored");
        assert!(restored["reason"].as_str().is_some_and(|why| why.contains("away for")), "{restored}");
        let lost = node.wait_for_event(PATIENCE, "link.lost");
        assert!(lost["reason"].as_str().is_some_and(|why| why.contains("does not answer")), "{lost}");
        assert!(
            metric(node, "tidegate_mqtt_reconnects_total") >= 2.0 && metric(node, "tidegate_mqtt_connected") == 2.0
        );
        let said = last_event(node);
        let name = format!("/node/{}/", format!("{weather:?}").to_lowercase());
        wait_until(PATIENCE, "every event arrives", || {
            let heard: Vec<_> = seen.heard().into_iter().filter(|message| message.topic.contains(&name)).collect();
            Story::of(&heard).has(1, said).then_some(())
        });
    }
}

#[test]
fn a_broker_that_accepts_and_never_answers_is_told_in_words_and_events_wait_on_disk() {
    let home = Home::new();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = home.start(&at_broker(&mute.local_addr().unwrap().to_string()));
    let load = node.load(1);
    assert_lively(&node);
    wait_reason(&node, "does not answer");
    let said = last_event(&node);
    wait_until(PATIENCE, "every event waits on disk", || {
        let spool = node.get_json("/api/v1/node")["telemetry"]["spool"].clone();
        let waiting = |tree: &str| spool["events"][tree].as_u64();
        (waiting("cbor") >= Some(said) && waiting("json") >= Some(said)).then_some(())
    });
    assert!(metric(&node, "tidegate_mqtt_spool_events") >= 2.0);
    load.stop().assert_sound();
    let status = home.command(&["status", "--console", &node.console_url()]);
    assert!(status.stdout.contains("does not answer") && status.stdout.contains("events wait on disk"), "{status:?}");
    assert!(node.terminate().stderr.contains("wait on disk for the next start"));
}

#[test]
fn a_broker_whose_name_is_not_found_is_told_in_words() {
    let home = Home::new();
    let node = home.start(&at_broker("broker.invalid:1883"));
    let load = node.load(1);
    wait_reason(&node, "name is not found");
    assert_lively(&node);
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn what_is_no_broker_is_told_in_words_and_left_for_the_one_that_comes() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let seen = Subscriber::start(&broker.address(), "#");
    let proxy = Proxy::start(&broker.address());
    proxy.set(Weather::Nonsense);
    let node = home.start(&at_broker(proxy.address()));
    let load = node.load(1);
    let said_all = || {
        let log = node.log();
        ["does not begin as an MQTT broker", "in the middle of a packet", "not MQTT", "a packet of"]
            .iter()
            .all(|words| log.contains(words))
            .then_some(())
    };
    wait_until(PATIENCE, "each kind of nonsense is told in words", said_all);
    assert_lively(&node);
    proxy.set(Weather::Fair);
    wait_connected(&node, true);
    load.stop().assert_sound();
    let said = last_event(&node);
    wait_until(PATIENCE, "every event arrives", || Story::of(&seen.heard()).has(1, said).then_some(()));
}

#[test]
fn packets_that_are_too_large_are_given_up_and_cost_no_connection() {
    let home = Home::new();
    let mut broker = Broker::at(&home, free_port(), "allow_anonymous true\nmax_packet_size 700");
    broker.up();
    let seen = Subscriber::start(&broker.address(), "#");
    let node = home.start(&at_broker(&broker.address()));
    seen.wait_for_state(0, "online");
    // A report in JSON has over 800 bytes, four times a second; an event has 350.
    wait_until(PATIENCE, "what is too large is counted", || {
        (metric(&node, "tidegate_mqtt_dropped_total") >= 5.0).then_some(())
    });
    let log = node.log();
    let told = |link: &str| {
        let about = |line: &&str| line.contains("larger than the MQTT broker takes") && line.contains(link);
        log.lines().filter(about).count()
    };
    // A signed announcement may be too large as well, on the other link.
    assert!(told("link=\"json\"") == 1 && told("link=\"cbor\"") <= 1, "told once by each link: {log}");
    let said = last_event(&node);
    wait_until(PATIENCE, "every event arrives", || Story::of(&seen.heard()).has(1, said).then_some(()));
    assert_lively(&node);
    let links = node.get_json("/api/v1/node")["telemetry"]["links"].clone();
    for link in links.as_array().unwrap() {
        assert_eq!((link["connected"].as_bool(), link["connections"].as_u64()), (Some(true), Some(1)), "{links}");
    }
}

#[test]
fn a_packet_larger_than_the_node_takes_does_not_reach_it() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let node = home.start(&at_broker(&broker.address()));
    wait_connected(&node, true);
    let topic = format!("{CBOR}/discovery/stranger");
    publish(&broker.address(), &topic, &vec![0x41; 300_000]);
    assert_eq!(retained(&broker.address(), &topic).len(), 300_000, "the broker has it");
    // What came after it was heard, so it was passed over.
    publish(&broker.address(), &format!("{CBOR}/discovery/other"), b"junk");
    wait_until(PATIENCE, "the next is heard", || {
        (metric(&node, "tidegate_discovery_ignored_total{kind=\"unsigned\"}") >= 1.0).then_some(())
    });
    assert_eq!((link(&node)["connected"].as_bool(), link(&node)["connections"].as_u64()), (Some(true), Some(1)));
    assert!(node.events("link.lost").is_empty());
    let seen = Subscriber::start(&broker.address(), &format!("{JSON}/#"));
    seen.wait_for("load goes on", |message| message.topic.ends_with("/load"));
    assert_eq!(node.terminate().code, Some(0));
}

/// Hears nothing.
struct Deaf;

impl LinkObserver for Deaf {
    fn received(&self, _: Incoming) {}
    fn changed(&self, _: &LinkStatus) {}
}

/// Resident bytes of this process, from the kernel.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// So many messages take some seconds, and unbounded they would take more than the memory that is allowed.
const MESSAGES: u32 = 200_000;

#[test]
fn messages_without_end_into_a_stopped_broker_cost_bounded_memory_and_the_newest_arrive() {
    let messages =
        super::kills::number("TIDEGATE_BACKLOG_MESSAGES").map_or(MESSAGES, |messages| u32::try_from(messages).unwrap());
    let home = Home::new();
    let broker = Broker::start(&home);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = LinkOptions {
        name: "test",
        client_id: "writer".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: broker.port(),
        keepalive: Duration::from_secs(5),
        credentials: None,
        tls: None,
        alternatives: Vec::new(),
        last_will: None,
        others_alone: false,
        prepare: None,
        subscriptions: Vec::new(),
    };
    let link = {
        let _inside = runtime.enter();
        Link::start(options, Arc::new(Deaf))
    };
    wait_until(PATIENCE, "connected", || link.status().connected.then_some(()));
    broker.signal(Signal::SIGSTOP);
    let before = resident_bytes();
    let mut most = 0;
    for number in 0..messages {
        let qos = if number % 2 == 0 { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        // Half a kilobyte, as a report: a hundred megabytes in all.
        let payload = format!("{number:0500}").into_bytes();
        link.publish(Outgoing {
            topic: "t/report".to_owned(),
            payload,
            retained: false,
            qos,
            expiry: None,
            properties: None,
        });
        if number % 10_000 == 0 {
            most = most.max(link.held_bytes());
        }
    }
    let (grown, status) = (resident_bytes().saturating_sub(before), link.status());
    println!("{most} bytes held at most, the process grew by {grown}, {} given up", status.dropped);
    assert!(most < 4 << 20, "{most} bytes held");
    assert!(grown < 64 << 20, "{grown} bytes more in the process");
    assert!(status.dropped > u64::from(messages) * 9 / 10 && status.waiting < 2_000, "{status:?}");

    broker.signal(Signal::SIGCONT);
    let seen = Subscriber::start(&broker.address(), "t/#");
    wait_until(PATIENCE, "the newest arrive", || {
        link.publish(Outgoing {
            topic: "t/last".to_owned(),
            payload: b"last".to_vec(),
            retained: true,
            qos: Qos::AtLeastOnce,
            expiry: None,
            properties: None,
        });
        seen.heard().iter().any(|message| message.topic == "t/last").then_some(())
    });
}
