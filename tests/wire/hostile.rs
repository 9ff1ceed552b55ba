//! Payloads made to do harm: each is refused without a panic, and a length that lies before memory is reserved.

use ciborium::Value;
use tidegate::wire::{
    Announcement, Encoding, LeaseStatus, LoadReport, MAX_PAYLOAD_BYTES, Message, NodeState, ServiceLoadReport,
    WireError, from_cbor, from_json, to_cbor, to_json,
};

use super::samples;
use super::schema::read;

#[test]
fn a_payload_cut_anywhere_is_refused() {
    for sample in samples::all() {
        let payload = sample.cbor();
        // An empty payload is a cleared topic.
        for length in 1..payload.len() {
            let decoded = sample.decode(&payload[..length]);
            assert!(matches!(decoded, Err(WireError::Malformed { .. })), "{} {length}: {decoded:?}", sample.name);
        }
    }
}

#[test]
fn bytes_after_the_message_are_refused() {
    for sample in samples::all() {
        for extra in [0x00, 0xf6, 0xff, 0xa0] {
            let payload = [sample.cbor(), vec![extra]].concat();
            let at = payload.len() - 1;
            let what = "bytes follow the message";
            assert_eq!(sample.decode(&payload), Err(WireError::Malformed { at, what }), "{}", sample.name);
        }
    }
}

/// Damage may leave a message that is valid, a changed letter for example; it must then be one that can be written and
/// read again.
fn refused_or_sound(sample: &samples::Sample, payload: &[u8]) {
    if let Ok(message) = sample.decode(payload) {
        let again = message.encode(Encoding::Cbor).unwrap();
        assert_eq!(sample.decode(&again).as_ref(), Ok(&message), "{} {payload:02x?}", sample.name);
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_leaves_a_sound_message() {
    for sample in samples::all() {
        let payload = sample.cbor();
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut flipped = payload.clone();
                flipped[at] ^= 1 << bit;
                refused_or_sound(&sample, &flipped);
            }
        }
    }
}

#[test]
fn arbitrary_bytes_are_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    let samples = samples::all();
    for _ in 0..20_000 {
        let payload: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        for sample in &samples {
            assert!(sample.decode(&payload).is_err());
        }
    }
}

#[test]
fn spliced_messages_are_refused_or_sound() {
    let mut random = fastrand::Rng::with_seed(11);
    let samples = samples::all();
    let payloads: Vec<Vec<u8>> = samples.iter().map(samples::Sample::cbor).collect();
    for _ in 0..20_000 {
        let (head, tail) = (&payloads[random.usize(..payloads.len())], &payloads[random.usize(..payloads.len())]);
        let spliced = [&head[..random.usize(..=head.len())], &tail[random.usize(..=tail.len())..]].concat();
        for sample in &samples {
            refused_or_sound(sample, &spliced);
        }
    }
}

#[test]
fn deep_nesting_is_refused_before_it_is_followed() {
    // An array of one, a map with key 0 or with a key to skip, a tag: each to the limit of the payload.
    for unit in [&[0x81][..], &[0xa1, 0x00], &[0xa1, 0x18, 0xc8], &[0xc0], &[0x9f], &[0xbf, 0x00]] {
        let payload = unit.repeat(MAX_PAYLOAD_BYTES / unit.len());
        let decoded = from_cbor::<LoadReport>(&payload);
        assert!(matches!(decoded, Err(WireError::Malformed { .. })), "{unit:02x?}: {decoded:?}");
    }
}

#[test]
fn a_length_that_lies_is_refused_before_anything_is_reserved_for_it() {
    // Head of a text, bytes, array or map with a length of 4 and of 8 bytes, in a field and in one to be skipped.
    for key in [&[0x00][..], &[0x18, 0x19], &[0x18, 0xc8]] {
        for major in [0x40, 0x60, 0x80, 0xa0] {
            for (width, info) in [(4, 0x1a), (8, 0x1b)] {
                for fill in [0x7f, 0xff] {
                    let payload = [&[0xa1], key, &[major | info], &vec![fill; width], b"some of it"].concat();
                    let decoded = from_cbor::<LoadReport>(&payload);
                    let what = "a length points beyond the payload";
                    assert_eq!(decoded, Err(WireError::Malformed { at: 1 + key.len(), what }), "{payload:02x?}");
                }
            }
        }
    }
}

#[test]
fn a_value_of_a_wrong_type_is_refused_in_every_field() {
    let wrong = [
        Value::Array(vec![Value::Bool(true)]),
        Value::Bytes(vec![0xff]),
        Value::Map(vec![(Value::from(0), Value::Array(vec![]))]),
    ];
    for sample in samples::all() {
        let whole = read(&sample.cbor());
        for index in 0..whole.as_map().unwrap().len() {
            for value in &wrong {
                let mut entries = whole.as_map().unwrap().clone();
                entries[index].1 = value.clone();
                let mut payload = Vec::new();
                ciborium::into_writer(&Value::Map(entries), &mut payload).unwrap();
                let decoded = sample.decode(&payload);
                let refused = matches!(decoded, Err(WireError::Unexpected(_)));
                assert!(refused, "{} {index} {value:?}: {decoded:?}", sample.name);
            }
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_neither_written_nor_read() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let report = LoadReport { cpu: Some(number), ..LoadReport::default() };
        assert!(matches!(to_cbor(&report), Err(WireError::Malformed { what: "a number is not finite", .. })));
        let mut payload = Vec::new();
        ciborium::into_writer(&Value::Map(vec![(Value::from(6), Value::from(number))]), &mut payload).unwrap();
        let decoded = from_cbor::<LoadReport>(&payload);
        assert_eq!(decoded, Err(WireError::Malformed { at: 2, what: "a number is not finite" }));
        assert_eq!(from_json::<serde_json::Value>(&to_json(&report).unwrap()).unwrap()["cpu"], serde_json::Value::Null);
    }
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    // {0: 1, 0: 2, …} of a state: which of the two counts is not for a reader to guess.
    let payload = [0xa2, 0x00, 0x01, 0x00, 0x02];
    let error = from_cbor::<NodeState>(&payload).unwrap_err().to_string();
    assert!(error.contains("duplicate field"), "{error}");
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let payload = [0xa1, 0x01, 0x62, 0xc3, 0x28];
    assert!(matches!(from_cbor::<NodeState>(&payload), Err(WireError::Unexpected(_))));
}

#[test]
fn a_payload_over_the_limit_is_neither_written_nor_read() {
    let services = vec![ServiceLoadReport { service: "x".repeat(60), ..ServiceLoadReport::default() }; 1_000];
    let report = LoadReport { services, ..LoadReport::default() };
    assert!(matches!(to_cbor(&report), Err(WireError::TooLarge { bytes }) if bytes > MAX_PAYLOAD_BYTES));
    assert!(matches!(to_json(&report), Err(WireError::TooLarge { .. })));
    let bytes = MAX_PAYLOAD_BYTES + 1;
    assert_eq!(from_cbor::<LoadReport>(&vec![0x00; bytes]), Err(WireError::TooLarge { bytes }));
    assert_eq!(from_json::<LeaseStatus>(&vec![b' '; bytes]), Err(WireError::TooLarge { bytes }));
}

#[test]
fn a_payload_at_the_limit_is_read() {
    let filled = |length| NodeState { reason: "x".repeat(length), ..NodeState::default() };
    let rest = to_cbor(&filled(60_000)).unwrap().len() - 60_000;
    let payload = to_cbor(&filled(MAX_PAYLOAD_BYTES - rest)).unwrap();
    assert_eq!(payload.len(), MAX_PAYLOAD_BYTES);
    assert!(from_cbor::<NodeState>(&payload).is_ok());
}

#[test]
fn a_flood_of_tiny_entries_stays_within_the_payload() {
    // {…, 11: [{0: ""}, {0: ""}, …]}: as many services as fit into a payload.
    let head = [0xa5, 0x00, 0x01, 0x01, 0x60, 0x02, 0x60, 0x03, 0x00, 0x0b, 0x99, 0x55, 0x00];
    let payload = [&head[..], &[0xa1, 0x00, 0x60].repeat(0x5500)].concat();
    let announcement: Announcement = from_cbor(&payload).unwrap();
    assert_eq!(announcement.services.len(), 0x5500);
    // What it takes in memory is bounded by the payload's limit.
    let entry = size_of_val(&announcement.services[0]);
    assert!(entry * announcement.services.len() < 8 << 20, "{entry} bytes each");
}

#[test]
fn hostile_json_on_the_lease_channel_is_refused() {
    let deep = "[".repeat(MAX_PAYLOAD_BYTES);
    for payload in ["", "{", "{}", "null", "[]", "{\"launch\":1}", "{\"launch\":\"l\"} x", "\u{feff}{}", &deep] {
        let decoded = from_json::<LeaseStatus>(payload.as_bytes());
        assert!(matches!(decoded, Err(WireError::Json(_))), "{:.20}: {decoded:?}", payload);
    }
}

#[test]
fn named_keys_are_read_too_but_never_make_a_message_half() {
    let text = |text: &str| Value::Text(text.to_owned());
    let named = Value::Map(vec![(text("state"), Value::from(1)), (text("fleet"), text("plant-a"))]);
    let mut payload = Vec::new();
    ciborium::into_writer(&named, &mut payload).unwrap();
    let topic = tidegate::wire::Topic::state("gateway-7").unwrap();
    let decoded = Message::decode(&samples::root(), &topic, &payload);
    assert!(matches!(decoded, Err(WireError::Unexpected(_))), "{decoded:?}");
}
