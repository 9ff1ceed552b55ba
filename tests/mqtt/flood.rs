//! A node under a flood of hostile messages on every topic of its tree: it serves on, counts what it refused by its kind,
//! and takes no more memory for it.
//!
//! `TIDEGATE_HOSTILE_MESSAGES=1000000 cargo test --test mqtt a_flood` sends a million instead of fifty thousand (also
//! `tests/run --with hostile`). Measured once, on two cores that were busy with much else: 24 minutes, 30.9 MB resident
//! before it and 2.0 MB more after it.

use std::collections::BTreeMap;

use fastrand::Rng;
use tidegate::trust::{Authority, Credential, EARLIEST, Role, Subject};
use tidegate::wire::{
    Announcement, AnnouncementKind, Encoding, Message, Root, ServiceOffer, Stamp, Topic, WIRE_VERSION,
};

use super::clients::{Broker, Subscriber, at_broker, retained};
use super::embedded::{CBOR, JSON, mqtt};
use super::publisher::{Publisher, connect, packet, send_raw};
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

/// In the default run; through a broker beside the node a tenth of it.
const MESSAGES: usize = 50_000;

/// Messages that are sent at once, half of them for the node: what waits at the broker for a subscriber is bounded.
const WINDOW: usize = 200;

/// What may be resident more after the flood than before it, whatever its length: buffers grow to the largest message
/// and are kept. Of a million messages a hundred thousand come from strangers of their own: a registry that took them in
/// would hold more than this.
const GROWTH_BYTES: u64 = 10 << 20;

/// The other topics of the tree: those that a node does not read, later ones too, and those on which sensors ask, where all of
/// it is a request that a replica answers with an error.
const OTHER_TOPICS: &[&str] = &[
    "node/gateway-t/load",
    "node/gateway-t/event/burst.ended",
    "node/gateway-t/command/scale/x",
    "node/x/load",
    "infer/digits/client-1",
    "infer/digits/client-1/17",
    "infer/digits",
    "infer/digits/client-1/17/x",
    "infer/other/client-1",
    "reply/client-1/1",
    "fleet/trust/x",
    "x",
    "",
];

/// Who attacks: somebody of another fleet of the same name, and, worse, a node that was let into ours.
struct Hands {
    stranger: Credential,
    insider: Credential,
}

impl Hands {
    /// The node is a fleet of its own; whoever has its root can let somebody in.
    fn new(home: &Home) -> Self {
        let own = Authority::open(&home.state_dir().join("fleet")).unwrap();
        let other = Authority::found(&home.path().join("elsewhere"), "test", EARLIEST).unwrap();
        let enroll = |fleet: &Authority, name: &str| {
            let subject = Subject { fleet: "test".into(), name: name.into(), role: Role::Node, hosts: Vec::new() };
            fleet.enroll(&subject, 100 * 365 * 86_400, EARLIEST).unwrap()
        };
        Self { stranger: enroll(&other, "stranger"), insider: enroll(&own, INSIDER) }
    }
}

const INSIDER: &str = "insider";

/// A kind of hostile message.
struct Attack {
    name: &'static str,
    /// Below the fleet's root; the number makes it one of many.
    topic: fn(usize) -> String,
    payload: fn(&mut Rng, usize, &Hands) -> Vec<u8>,
    /// The `kind` under which the node counts it. All kinds that there are stand here and nowhere else.
    counted: &'static str,
}

const UNSIGNED: &str = "unsigned";
const MALFORMED: &str = "malformed";
const FOREIGN: &str = "foreign";
const NOT_THEIRS: &str = "not_theirs";
const UNKNOWN_TOPIC: &str = "unknown_topic";

const ATTACKS: &[Attack] = &[
    Attack { name: "noise", topic: stranger, payload: noise, counted: UNSIGNED },
    Attack { name: "truncated", topic: stranger, payload: truncated, counted: UNSIGNED },
    Attack { name: "a flipped bit in the head", topic: stranger, payload: not_a_map, counted: UNSIGNED },
    Attack { name: "bytes behind it", topic: stranger, payload: trailing, counted: UNSIGNED },
    Attack { name: "deep", topic: stranger, payload: |_, _, _| vec![0x81; 4_000], counted: UNSIGNED },
    Attack { name: "a length that lies", topic: stranger, payload: lying, counted: UNSIGNED },
    Attack { name: "JSON", topic: stranger, payload: |_, _, _| br#"{"kind":"node"}"#.to_vec(), counted: UNSIGNED },
    Attack { name: "of another node", topic: |_| "discovery/x".to_owned(), payload: announced, counted: UNSIGNED },
    Attack { name: "with many services", topic: stranger, payload: with_services, counted: UNSIGNED },
    Attack { name: "an instance", topic: instance, payload: announced_instance, counted: UNSIGNED },
    Attack { name: "a state", topic: |_| "node/x/state".to_owned(), payload: announced, counted: UNSIGNED },
    Attack {
        name: "our own state",
        topic: |_| "node/gateway-t/state".to_owned(),
        payload: announced,
        counted: UNSIGNED,
    },
    Attack {
        name: "our own instance",
        topic: |_| "discovery/gateway-t/l-1".to_owned(),
        payload: announced,
        counted: UNSIGNED,
    },
    Attack {
        name: "our own burst",
        topic: |_| "node/gateway-t/burst/l-1".to_owned(),
        payload: announced,
        counted: UNSIGNED,
    },
    Attack { name: "a command", topic: |_| "node/gateway-t/command/who".to_owned(), payload: noise, counted: UNSIGNED },
    Attack { name: "roots", topic: |_| "fleet/trust".to_owned(), payload: noise, counted: FOREIGN },
    Attack { name: "over the limit", topic: stranger, payload: |_, _, _| vec![0x84; 66_000], counted: MALFORMED },
    Attack { name: "deep behind the head", topic: stranger, payload: deep_behind_the_head, counted: MALFORMED },
    Attack { name: "a signed one, cut", topic: stranger, payload: cut, counted: MALFORMED },
    Attack {
        name: "too many segments",
        topic: |_| "discovery/a/b/c/d".to_owned(),
        payload: announced,
        counted: UNKNOWN_TOPIC,
    },
    Attack {
        name: "a name that is too long",
        topic: |_| format!("discovery/{}", "x".repeat(65)),
        payload: announced,
        counted: UNKNOWN_TOPIC,
    },
    Attack {
        name: "of another fleet's node",
        topic: |_| "discovery/stranger".to_owned(),
        payload: by_stranger,
        counted: FOREIGN,
    },
    Attack {
        name: "of our fleet, for another",
        topic: |_| "discovery/x".to_owned(),
        payload: by_insider,
        counted: NOT_THEIRS,
    },
    Attack {
        name: "of our fleet, for us",
        topic: |_| "discovery/gateway-t".to_owned(),
        payload: by_insider,
        counted: NOT_THEIRS,
    },
    Attack { name: "of our fleet, forged", topic: insider, payload: forged, counted: "forged" },
    Attack { name: "of our fleet, noise inside", topic: insider, payload: noise_inside, counted: MALFORMED },
    Attack { name: "of our fleet, deep inside", topic: insider, payload: deep_inside, counted: MALFORMED },
    Attack {
        name: "of our fleet, on another in its payload",
        topic: insider,
        payload: on_another,
        counted: "mismatch",
    },
];

fn insider(_: usize) -> String {
    format!("discovery/{INSIDER}")
}

/// Signed for a topic below `discovery/`.
fn sealed(by: &Credential, below: &str, index: usize, payload: Vec<u8>) -> Vec<u8> {
    let (root, topic) = (Root::new(Encoding::Cbor, "test").unwrap(), Topic::discovery(below).unwrap());
    by.seal(&root, &topic, Stamp { session: 1, sequence: index as u64 + 1 }, payload).unwrap()
}

fn by_stranger(_: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    sealed(&hands.stranger, "stranger", index, encoded(announcement(index)))
}

fn by_insider(random: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    let below = if random.bool() { "x" } else { "gateway-t" };
    sealed(&hands.insider, below, index, encoded(announcement(index)))
}

fn cut(random: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    let whole = by_stranger(random, index, hands);
    whole[..random.usize(1..whole.len())].to_vec()
}

fn deep_behind_the_head(_: &mut Rng, _: usize, _: &Hands) -> Vec<u8> {
    [&[0x84][..], &[0x81; 4_000]].concat()
}

fn forged(random: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    let mut whole = sealed(&hands.insider, INSIDER, index, encoded(announcement(index)));
    let at = whole.len() - 1 - random.usize(..32);
    whole[at] ^= 1 << random.u8(..8);
    whole
}

fn noise_inside(random: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    let inside = noise(random, index, hands);
    sealed(&hands.insider, INSIDER, index, inside)
}

fn deep_inside(_: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    sealed(&hands.insider, INSIDER, index, vec![0x81; 4_000])
}

fn on_another(_: &mut Rng, index: usize, hands: &Hands) -> Vec<u8> {
    sealed(&hands.insider, INSIDER, index, encoded(announcement(index)))
}

fn stranger(index: usize) -> String {
    format!("discovery/stranger-{index}")
}

fn instance(index: usize) -> String {
    format!("discovery/stranger-{index}/l-{index}")
}

fn announcement(index: usize) -> Announcement {
    Announcement {
        kind: AnnouncementKind::Node,
        fleet: "test".to_owned(),
        node: format!("stranger-{index}"),
        session: index as u64,
        ttl_s: u64::MAX,
        wire: WIRE_VERSION,
        ..Announcement::default()
    }
}

fn encoded(announcement: Announcement) -> Vec<u8> {
    Message::Announcement(Box::new(announcement)).encode(Encoding::Cbor).unwrap()
}

fn announced(_: &mut Rng, index: usize, _: &Hands) -> Vec<u8> {
    encoded(announcement(index))
}

fn announced_instance(_: &mut Rng, index: usize, _: &Hands) -> Vec<u8> {
    let (kind, instance) = (AnnouncementKind::Instance, Some(format!("l-{index}")));
    encoded(Announcement { kind, instance, ..announcement(index) })
}

fn with_services(_: &mut Rng, index: usize, _: &Hands) -> Vec<u8> {
    encoded(Announcement { services: vec![ServiceOffer::default(); 200], ..announcement(index) })
}

fn noise(random: &mut Rng, _: usize, _: &Hands) -> Vec<u8> {
    // A break is no beginning of an item, so that no noise happens to be one.
    std::iter::once(0xff).chain(std::iter::repeat_with(|| random.u8(..)).take(200)).collect()
}

fn truncated(random: &mut Rng, index: usize, _: &Hands) -> Vec<u8> {
    let whole = encoded(announcement(index));
    whole[..random.usize(1..whole.len())].to_vec()
}

fn not_a_map(_: &mut Rng, index: usize, _: &Hands) -> Vec<u8> {
    let mut whole = encoded(announcement(index));
    whole[0] ^= 0x80;
    whole
}

fn trailing(random: &mut Rng, index: usize, _: &Hands) -> Vec<u8> {
    let mut whole = encoded(announcement(index));
    whole.push(random.u8(..));
    whole
}

fn lying(random: &mut Rng, _: usize, _: &Hands) -> Vec<u8> {
    let head = [0x5b, 0x7b, 0x9b, 0xbb][random.usize(..4)];
    [&[0xa1, 0x00, head][..], &[0xff; 8], b"some of it"].concat()
}

/// What the node says that it has ignored, by kind.
fn ignored(node: &Node) -> BTreeMap<String, u64> {
    let metrics = node.console("/metrics").text();
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("tidegate_discovery_ignored_total{kind=\""));
    let counted = lines.map(|line| line.split_once("\"} ").unwrap());
    let counted = counted.map(|(kind, count)| (kind.to_owned(), count.parse().unwrap()));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Resident memory of the node's own process.
fn resident_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn messages() -> usize {
    let wanted = std::env::var("TIDEGATE_HOSTILE_MESSAGES");
    wanted.map_or(MESSAGES, |text| text.parse().expect("TIDEGATE_HOSTILE_MESSAGES is a number"))
}

/// One flood: what was sent so far, and what of it the node must have counted.
struct Flood<'a> {
    node: &'a Node,
    hands: Hands,
    publisher: Publisher,
    random: Rng,
    sent: usize,
    to_be_counted: BTreeMap<String, u64>,
}

impl Flood<'_> {
    /// Sends one of each kind, and sees it counted as what it is.
    fn send_each_alone(&mut self) {
        for attack in ATTACKS {
            self.attack(attack);
            self.publisher.send();
            wait_until(PATIENCE, &format!("{} is counted as {}", attack.name, attack.counted), || {
                (ignored(self.node) == self.to_be_counted).then_some(())
            });
        }
    }

    /// Sends `count` messages: of each kind in turn, and as many on topics that it does not read.
    fn send(&mut self, count: usize) {
        let until = self.sent + count;
        while self.sent < until {
            for _ in 0..WINDOW / 2 {
                self.attack(&ATTACKS[self.sent / 2 % ATTACKS.len()]);
                self.elsewhere();
            }
            self.publisher.send();
            self.wait_for_all_but(WINDOW / 2);
        }
        self.wait_for_all_but(0);
    }

    fn attack(&mut self, attack: &Attack) {
        let payload = (attack.payload)(&mut self.random, self.sent, &self.hands);
        let topic = format!("{CBOR}/{}", (attack.topic)(self.sent));
        self.publisher.publish(&topic, &payload, false);
        *self.to_be_counted.entry(attack.counted.to_owned()).or_default() += 1;
        self.sent += 1;
    }

    /// On the topics of either tree that are not the node's to read. Retained too: the topics are few.
    fn elsewhere(&mut self) {
        let tree = if self.random.bool() { CBOR } else { JSON };
        let other = OTHER_TOPICS[self.random.usize(..OTHER_TOPICS.len())];
        let attack = &ATTACKS[self.random.usize(..ATTACKS.len())];
        let payload = (attack.payload)(&mut self.random, self.sent, &self.hands);
        let is_own = other.starts_with("node/gateway-t/");
        self.publisher.publish(&format!("{tree}/{other}"), &payload, !is_own && self.random.bool());
        self.sent += 1;
    }

    fn wait_for_all_but(&self, under_way: usize) {
        let wanted = self.to_be_counted.values().sum::<u64>().saturating_sub(under_way as u64);
        wait_until(PATIENCE, &format!("{wanted} refusals are counted"), || {
            (ignored(self.node).values().sum::<u64>() >= wanted).then_some(())
        });
    }
}

/// A node that sensors ask, and which is as talkative as it has to be.
const ASKED: &str =
    "[node]\nlog = 'error'\n[service.digits.burst]\nmax_replicas = 0\n[service.digits.mqtt]\nenabled = true";

/// Floods a node through the broker at `address`, and holds it to what it owes meanwhile and afterwards.
fn assert_stands(home: &Home, node: &Node, address: &str, messages: usize) {
    let publisher = Publisher::connect(address, "hostile");
    let hands = Hands::new(home);
    let mut flood =
        Flood { node, hands, publisher, random: Rng::with_seed(23), sent: 0, to_be_counted: BTreeMap::new() };
    let load = node.load(1);
    flood.send_each_alone();
    // Once through everything, so that what is measured is growth and not the first use of anything.
    flood.send(messages / 10);
    let (before, answered) = (resident_bytes(node), load.answered());
    let started = std::time::Instant::now();
    flood.send(messages);
    let growth = resident_bytes(node).saturating_sub(before);
    let took = started.elapsed();
    println!("{messages} messages in {took:?}, {before} bytes were resident, {growth} more are");
    assert!(growth < GROWTH_BYTES, "{growth} bytes more are resident after {messages} messages");
    assert!(load.answered() > answered, "no request was answered meanwhile");
    load.stop().assert_sound();
    assert_eq!(ignored(node), flood.to_be_counted, "what was refused is counted by its kind");
    let discovered = node.get_json("/api/v1/discovery");
    assert!(discovered.as_array().is_some_and(|all| all.len() <= 1), "strangers were taken in: {discovered}");
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], true);
    assert!(node.events("link.lost").is_empty());
    let metrics = node.console("/metrics").text();
    let is_request = |line: &&str| line.starts_with("tidegate_mqtt_infer_requests_total{result=\"answered\"}");
    let answered = metrics.lines().find(is_request).and_then(|line| line.rsplit_once(' ')).expect("it is counted");
    assert!(answered.1.parse::<u64>().unwrap() > 0, "no request of the flood was looked at");
    let own = retained(address, &format!("{CBOR}/discovery/gateway-t"));
    assert!(own.windows(6).any(|part| part == b"digits"), "our own word does not stand any more");
}

#[test]
fn a_flood_of_hostile_messages_costs_neither_requests_nor_memory() {
    let home = Home::new();
    let node = home.start(&Spec::new().with(ASKED));
    assert_stands(&home, &node, &mqtt(&node), messages());
}

#[test]
fn a_flood_through_a_broker_elsewhere_is_stood_too() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let node = home.start(&at_broker(&broker.address()).with(ASKED));
    assert_stands(&home, &node, &broker.address(), messages() / 10);
}

#[test]
fn packets_that_are_none_end_their_sender_and_nobody_else() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let address = mqtt(&node);
    let seen = Subscriber::start(&address, &format!("{JSON}/#"));
    seen.wait_for_topic(&format!("{JSON}/node/gateway-t/state"));
    let mut random = Rng::with_seed(29);
    let whole = [connect("x"), packet(0x30, b"\0\x01t\0payload"), packet(0x82, b"\0\x01\0\0\x01#\0")].concat();
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..=3) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(1..=bytes.len()));
        send_raw(&address, &bytes);
    }
    // Lengths that promise a quarter of a gigabyte, of every packet there is.
    for kind in 0..16_u8 {
        send_raw(&address, &[kind << 4, 0xff, 0xff, 0xff, 0x7f, 0x00]);
        send_raw(&address, &[connect("y"), vec![kind << 4, 0xff, 0xff, 0xff, 0x7f, 0x00]].concat());
    }
    seen.wait_for_after(seen.count(), "load goes on", |m| m.topic.ends_with("/load"));
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], true);
    assert!(node.events("link.lost").is_empty());
    assert_eq!(node.infer(edge_config::models::heldout().next().unwrap().0).status, 200);
}
