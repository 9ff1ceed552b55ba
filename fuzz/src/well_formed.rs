//! The look over a CBOR payload that comes before every decoder, held against an independent reader (ciborium): what we
//! take it takes, and what it takes we refuse only for what `docs/wire.cddl` leaves out of the format.

use std::io::Cursor;

use ciborium::Value;
use serde::de::IgnoredAny;
use tidegate::wire::{MAX_PAYLOAD_BYTES, WireError, from_cbor};

/// Levels of arrays and maps that the format has, as docs/wire.cddl says.
const MAX_DEPTH: usize = 16;

/// What well-formed CBOR is refused for, by its words.
const STRICTNESS: &[&str] = &[
    "nested deeper than 16 levels",
    "indefinite and reserved lengths are not part of the format",
    "tags are not part of the format",
    "this simple value is not part of the format",
    "a number is not finite",
];

/// Reads any item and nothing else.
pub fn decode(data: &[u8]) {
    let _ = from_cbor::<IgnoredAny>(data);
}

/// Holds our look at the data against the reference's.
pub fn target(data: &[u8]) {
    let ours = from_cbor::<IgnoredAny>(data);
    let theirs = reference(data);
    match (&ours, &theirs) {
        (Ok(_), theirs) => assert!(theirs.is_some(), "taken, and the reference refuses it"),
        (Err(WireError::Malformed { at, what }), Some(_)) => {
            assert!(STRICTNESS.contains(what), "refused at {at} ({what}), and the reference takes it");
        }
        (Err(WireError::TooLarge { bytes }), _) => assert!(*bytes > MAX_PAYLOAD_BYTES),
        _ => {}
    }
    if let Some(value) = theirs.filter(|value| is_within_format(value, 0)) {
        assert_taken_when_written_anew(&value);
    }
}

/// All of the data as one item, by the reference; none where it refuses or leaves a rest.
fn reference(data: &[u8]) -> Option<Value> {
    let mut reader = Cursor::new(data);
    let value = ciborium::from_reader(&mut reader).ok()?;
    (reader.position() == data.len() as u64).then_some(value)
}

fn is_within_format(value: &Value, depth: usize) -> bool {
    let is_fine = |nested: &Value| depth < MAX_DEPTH && is_within_format(nested, depth + 1);
    match value {
        Value::Array(items) => items.iter().all(is_fine),
        Value::Map(entries) => entries.iter().all(|(key, value)| is_fine(key) && is_fine(value)),
        Value::Float(number) => number.is_finite(),
        Value::Integer(_) | Value::Bytes(_) | Value::Text(_) | Value::Bool(_) | Value::Null => true,
        _ => false,
    }
}

/// As the reference writes it, it has definite lengths and nothing that we leave out: the look must let it pass.
fn assert_taken_when_written_anew(value: &Value) {
    let mut written = Vec::new();
    ciborium::into_writer(value, &mut written).expect("a value that was read can be written");
    let ours = from_cbor::<IgnoredAny>(&written);
    let is_taken = !matches!(ours, Err(WireError::Malformed { .. }));
    assert!(is_taken, "refused as the reference writes it: {ours:?} {written:02x?}");
}
