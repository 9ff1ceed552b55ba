//! What a load report costs to write and to read, beside serde_json: `benches/run mqtt` runs it and judges; prints one JSON
//! object. It belongs to the crate `wire`, so that both are built as the program builds its codec.

use std::hint::black_box;
use std::time::Instant;

use serde_json::json;
use wire::{LoadReport, ServiceLoadReport, from_cbor, to_cbor, to_json};

/// Rounds of each codec; the quickest counts, since all that others do on the machine only adds.
const ROUNDS: usize = 301;
/// Repetitions within a round: long against the clock's grain, and short enough that some rounds run undisturbed.
const REPEATED: u32 = 100;

/// A report of 26 fields and 8 services, by our codec and by serde_json, in turns so that both have the same machine.
fn main() {
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
    let figures = json!({
        "cbor_bytes": cbor.len(), "json_bytes": json.len(),
        "cbor_encode_ns": quickest(0), "json_encode_ns": quickest(1),
        "cbor_decode_ns": quickest(2), "json_decode_ns": quickest(3),
    });
    println!("{figures}");
}

/// Nanoseconds for one.
fn each(mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..REPEATED).for_each(|_| work());
    began.elapsed().as_secs_f64() * 1e9 / f64::from(REPEATED)
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
