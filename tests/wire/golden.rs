//! The vectors of this version. A vector that once was released is never changed: what it says must stay readable.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tidegate::wire::{
    LeaseRenewal, LeaseState, LeaseStatus, Stamp, describe, from_cbor, from_json, seal, to_cbor, to_json,
};

use super::samples::{self, Sample};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire-v1"))
}

/// The content of a golden file, or with `BLESS=1` what it now becomes.
fn golden(name: &str, today: &str) -> String {
    let path = folder().join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, today).unwrap();
    }
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// 32 bytes a line, so that a change shows where it is.
fn hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn golden_cbor(sample: &Sample) -> Vec<u8> {
    unhex(&golden(&format!("{}.cbor.hex", sample.name), &hex(&sample.cbor())))
}

#[test]
fn messages_are_encoded_as_they_always_were() {
    for sample in samples::all() {
        assert_eq!(hex(&golden_cbor(&sample)), hex(&sample.cbor()), "{}", sample.name);
        let mirror = pretty(&sample.json());
        assert_eq!(golden(&format!("{}.json", sample.name), &mirror), mirror, "{}", sample.name);
    }
}

#[test]
fn golden_vectors_decode_to_the_messages_they_were_made_from() {
    for sample in samples::all() {
        assert_eq!(sample.decode(&golden_cbor(&sample)).as_ref(), Ok(&sample.message), "{}", sample.name);
    }
}

/// With a signature that nobody checks, where the topic asks for one.
fn as_published(sample: &Sample) -> Vec<u8> {
    let payload = golden_cbor(sample);
    if !sample.topic.is_signed() {
        return payload;
    }
    let stamp = Stamp { session: 12, sequence: 1 };
    seal(&samples::root(), &sample.topic, stamp, &[vec![0x30]], payload, |_| vec![0; 64]).unwrap()
}

#[test]
fn watch_shows_the_same_for_both_trees() {
    let json_root = tidegate::wire::Root::new(tidegate::wire::Encoding::Json, "plant-a").unwrap();
    for sample in samples::all() {
        let cbor = describe(&samples::root().topic(&sample.topic), &as_published(&sample)).unwrap();
        let payload = sample.message.encode(tidegate::wire::Encoding::Json).unwrap();
        let json = describe(&json_root.topic(&sample.topic), &payload).unwrap();
        assert_eq!(cbor, json, "{}", sample.name);
    }
}

#[test]
fn an_event_is_a_cloud_event_in_structured_mode() {
    let events: Vec<_> = samples::all().into_iter().filter(|sample| sample.rule == "event").collect();
    assert!(!events.is_empty());
    for json in events.iter().map(Sample::json) {
        assert_eq!(json["specversion"], "1.0");
        assert_eq!(json["datacontenttype"], "application/json");
        for required in ["id", "source", "type"] {
            assert!(json[required].as_str().is_some_and(|text| !text.is_empty()), "{required}: {json}");
        }
        assert!(json["data"].is_object());
        // CloudEvents 1.0, "Naming Conventions": attributes are lower-case letters and digits.
        let plain = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        assert!(json.as_object().unwrap().keys().all(plain), "{json}");
    }
    assert_eq!(events[0].json()["type"], "burst.ended");
}

#[test]
fn lease_messages_are_the_json_they_always_were() {
    let renewal = LeaseRenewal { launch: "gateway-7-12-1".into(), session: 12, sequence: 3, ttl_ms: 20_000 };
    let status = LeaseStatus {
        launch: "gateway-7-12-1".into(),
        service: "digits".into(),
        state: LeaseState::Ready,
        remaining_ms: 19_993,
        in_flight: 2,
        served: 4_711,
    };
    let text = |json: Vec<u8>| String::from_utf8(json).unwrap() + "\n";
    let renewal_golden = golden("lease-renewal.json", &text(to_json(&renewal).unwrap()));
    let status_golden = golden("lease-status.json", &text(to_json(&status).unwrap()));
    assert_eq!(renewal_golden, text(to_json(&renewal).unwrap()));
    assert_eq!(status_golden, text(to_json(&status).unwrap()));
    assert_eq!(from_json(renewal_golden.as_bytes()), Ok(renewal));
    assert_eq!(from_json(status_golden.as_bytes()), Ok(status));
}

#[test]
fn every_golden_file_belongs_to_a_message() {
    let messages =
        samples::all().into_iter().flat_map(|Sample { name, .. }| [format!("{name}.cbor.hex"), format!("{name}.json")]);
    let leases = ["lease-renewal.json", "lease-status.json"].map(str::to_owned);
    let expected: BTreeSet<String> = messages.chain(leases).collect();
    let found = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_busy_load_report_stays_small() {
    let report = samples::busy_load_report();
    let payload = to_cbor(&report).unwrap();
    assert!((500..=900).contains(&payload.len()), "{} bytes", payload.len());
    assert_eq!(from_cbor(&payload), Ok(report));
}
