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
    Announcement, AnnouncementKind, Encoding, Endpoints, LoadReport, Message, Root, ServiceLoadReport, ServiceOffer,
    Stamp, Topic, WIRE_VERSION, from_cbor, to_cbor, to_json,
};

const FLEET: &str = "plant-a";
/// Rounds of each codec; the quickest counts, since all that others do on the machine only adds.
const ROUNDS: usize = 301;
/// Repetitions within a round: long against the clock's grain, and short enough that some rounds run undisturbed.
const REPEATED: u32 = 100;

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
        "codec": codec(),
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

/// A report of 26 fields and 8 services, by our codec and by serde_json, in turns so that both have the same machine.
fn codec() -> serde_json::Value {
    let report = busy_report();
    let (cbor, json) = (to_cbor(&report).expect("cbor"), to_json(&report).expect("json"));
    let rounds: Vec<[f64; 4]> = (0..ROUNDS)
        .map(|_| {
            [
                each(|| drop(black_box(to_cbor(black_box(&report))))),
                each(|| drop(black_box(serde_json::to_vec(black_box(&report))))),
                each(|| drop(black_box(from_cbor::<LoadReport>(black_box(&cbor))))),
                each(|| drop(black_box(serde_json::from_slice::<LoadReport>(black_box(&json))))),
            ]
        })
        .collect();
    let quickest = |at: usize| rounds.iter().map(|round| round[at]).fold(f64::INFINITY, f64::min);
    json!({
        "cbor_bytes": cbor.len(), "json_bytes": json.len(),
        "cbor_encode_ns": quickest(0), "json_encode_ns": quickest(1),
        "cbor_decode_ns": quickest(2), "json_decode_ns": quickest(3),
    })
}

/// Nanoseconds for one.
fn each(mut work: impl FnMut()) -> f64 {
    timed(|| (0..REPEATED).for_each(|_| work())).as_secs_f64() * 1e9 / f64::from(REPEATED)
}

fn busy_report() -> LoadReport {
    let service = |number: u32| ServiceLoadReport {
        service: format!("service-{number}"),
        requests_per_s: 12.75 + f64::from(number),
        in_flight: 3,
        queued: 1,
        utilisation: Some(0.71),
        service_time_s: Some(0.0421),
        latency_p50_s: Some(0.0395),
        latency_p95_s: Some(0.0812),
        latency_p99_s: Some(0.1377),
        ready_local: 2,
        ready_cloud: 1,
        wanted: 3,
    };
    LoadReport {
        node: "gateway-7".into(),
        session: 12,
        sequence: 4_711,
        at: "2026-03-01T12:00:00.000Z".into(),
        uptime_s: 86_400,
        tick_ms: 1_000,
        cpu: Some(0.417),
        cpu_count: 4,
        memory: Some(0.321),
        memory_used_bytes: 2_634_022_912,
        memory_total_bytes: 8_274_771_968,
        network: Some(0.021),
        network_rx_bytes_per_s: Some(131_072.5),
        network_tx_bytes_per_s: Some(262_144.25),
        load_average_1m: Some(1.62),
        process_cpu: Some(0.037),
        process_memory_bytes: 13_631_488,
        requests_per_s: 131.5,
        in_flight: 24,
        queued: 8,
        errors_per_s: 0.25,
        replicas_local: 16,
        replicas_cloud: 8,
        spend_hour: 1.2345,
        broker_connected: true,
        services: (0..8).map(service).collect(),
    }
}
