//! What messages cost, in this process: `benches/run mqtt` runs it and judges; prints one JSON object.
//!
//! A fleet of ten thousand is enrolled for real and each node's announcement is signed by its own key; what is timed is what a
//! late joiner does with them, and what one that was there all the time does with the next round.

use std::hint::black_box;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use serde_json::json;
use tidegate::actors::hearing::Hearing;
use tidegate::actors::publisher::Identity;
use tidegate::host::clock::Clock;
use tidegate::mqtt::Incoming;
use tidegate::trust::{Authority, Credential, EARLIEST, Role, Signer, Subject, Verifier};
use tidegate::wire::registry::{Ear, Registry};
use tidegate::wire::{
    Announcement, AnnouncementKind, Encoding, Endpoints, Message, Root, ServiceOffer, Stamp, Topic, WIRE_VERSION,
};

const FLEET: &str = "plant-a";

fn main() {
    let nodes = std::env::var("TIDEGATE_BENCH_NODES").map_or(10_000, |text| text.parse().expect("a number of nodes"));
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let authority = Authority::found(folder.path(), FLEET, EARLIEST).expect("a fleet");
    let fleet: Vec<Credential> = (0..nodes).map(|number| enroll(&authority, number)).collect();
    let first: Vec<Incoming> = fleet.iter().enumerate().map(|(number, by)| announced(by, number, 1)).collect();
    let again: Vec<Incoming> = fleet.iter().enumerate().map(|(number, by)| announced(by, number, 2)).collect();
    let bytes = first.iter().map(|message| message.payload.len()).sum::<usize>() / nodes;

    let verified = verification(&authority, &first);
    let (hearing, registry) = hearing(&authority);
    let mut applied = Duration::ZERO;
    let held = measure(|| applied = timed(|| first.iter().for_each(|message| hearing.hear(message, Ear::Home))));
    assert_eq!(registry.len(), nodes, "every announcement was applied");
    let next = timed(|| again.iter().for_each(|message| hearing.hear(message, Ear::Home)));

    let figures = json!({
        "nodes": nodes,
        "announcement_bytes": bytes,
        "apply_s": applied.as_secs_f64(),
        "verify_s": verified.as_secs_f64(),
        "held_bytes_each": held.bytes_current / i64::try_from(nodes).expect("few"),
        "next_us_each": next.as_secs_f64() * 1e6 / nodes as f64,
    });
    println!("{figures}");
}

fn enroll(authority: &Authority, number: usize) -> Credential {
    let name = format!("gateway-{number}");
    let subject = Subject { fleet: FLEET.into(), name, role: Role::Node, hosts: Vec::new() };
    authority.enroll(&subject, 100 * 365 * 86_400, EARLIEST).expect("a credential")
}

fn root() -> Root {
    Root::new(Encoding::Cbor, FLEET).expect("a fleet's name")
}

/// Two services, as a gateway has them.
fn announced(by: &Credential, number: usize, sequence: u64) -> Incoming {
    let node = format!("gateway-{number}");
    let offer = |name: &str| ServiceOffer {
        name: name.into(),
        protocol: "oip-v2".into(),
        ready_local: 2,
        concurrency: 4,
        capacity: 8,
        spare: 8,
        ..ServiceOffer::default()
    };
    let said = Announcement {
        kind: AnnouncementKind::Node,
        fleet: FLEET.into(),
        node: node.clone(),
        session: 12,
        ttl_s: 90,
        sent_at: "2026-03-01T12:00:00.000Z".into(),
        version: "0.1.0".into(),
        wire: WIRE_VERSION,
        config_digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        endpoints: Endpoints {
            gateway: Some("10.0.0.7:8080".into()),
            console: Some("10.0.0.7:8081".into()),
            mqtt: Some("10.0.0.7:1883".into()),
            peers: Some("10.0.0.7:8443".into()),
        },
        services: vec![offer("digits"), offer("speech")],
        ..Announcement::default()
    };
    let topic = Topic::discovery(&node).expect("a topic");
    let payload = Message::Announcement(Box::new(said)).encode(Encoding::Cbor).expect("a payload");
    let payload = by.seal(&root(), &topic, Stamp { session: 12, sequence }, payload).expect("a signature");
    Incoming { topic: root().topic(&topic), payload, retained: sequence == 1, expiry: None, properties: None }
}

fn hearing(authority: &Authority) -> (Hearing, std::sync::Arc<Registry>) {
    let verifier = std::sync::Arc::new(Verifier::new(
        root(),
        authority.anchors().clone(),
        authority.trust_message().expect("a word"),
    ));
    let registry = std::sync::Arc::<Registry>::default();
    let identity = Identity { fleet: FLEET.into(), node: "late".into(), session: 1 };
    let subject = Subject { fleet: FLEET.into(), name: "late".into(), role: Role::Node, hosts: Vec::new() };
    let own = authority.enroll(&subject, 365 * 86_400, EARLIEST).expect("a credential");
    let signer = std::sync::Arc::new(Signer::new(root(), 1, own));
    (Hearing::new(identity, Clock::start(), signer, verifier, registry.clone(), vec![Ear::Home]), registry)
}

/// Signatures and certificates alone.
fn verification(authority: &Authority, messages: &[Incoming]) -> Duration {
    let verifier = Verifier::new(root(), authority.anchors().clone(), authority.trust_message().expect("a word"));
    let topics: Vec<Topic> = messages.iter().map(|message| Root::parse(&message.topic).expect("ours").1).collect();
    timed(|| {
        for (topic, message) in topics.iter().zip(messages) {
            black_box(verifier.open(topic, &message.payload, EARLIEST).expect("believed"));
        }
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
