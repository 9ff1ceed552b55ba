//! Damage done to a good CBOR message: each kind of it once, so that a reader of the corpus finds it by name.

use ciborium::Value;

use super::corpus::Inputs;

/// A key that no message has: what stands there is to be skipped, whatever it is.
const UNKNOWN_KEY: &[u8] = &[0x18, 0x63];

/// The levels that the format has.
const MAX_DEPTH: usize = 16;

/// Deeper than any message, and than the default of most readers (128 or 256); a full payload nests no worse.
const ABYSS: usize = 600;

/// Wrong for every field: no field is bytes, a number below zero, or an array or a map with these entries.
const WRONG_TYPES: &[(&str, &[u8])] = &[
    ("array", &[0x82, 0xf5, 0xf5]),
    ("bytes", &[0x42, 0xff, 0x00]),
    ("map", &[0xa1, 0x00, 0x80]),
    ("negative", &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
];

/// Right for some fields and wrong for others.
const OTHER_TYPES: &[(&str, &[u8])] = &[
    ("text", b"\x67digits!"),
    ("null", &[0xf6]),
    ("true", &[0xf5]),
    ("half-float", &[0xf9, 0x3c, 0x01]),
    ("float", &[0xfa, 0x3f, 0xc0, 0x00, 0x01]),
    ("largest-number", &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ("largest-of-four-bytes", &[0x1a, 0xff, 0xff, 0xff, 0xff]),
];

/// What the format leaves out, and what is no CBOR at all.
const OUTSIDE: &[(&str, &[u8])] = &[
    ("indefinite-text", &[0x7f, 0x61, 0x61, 0xff]),
    ("indefinite-array", &[0x9f, 0xff]),
    ("reserved-length", &[0x1c]),
    ("tag", &[0xc0, 0x60]),
    ("big-number", &[0xc2, 0x49, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("undefined", &[0xf7]),
    ("simple", &[0xf8, 0xff]),
    ("not-a-number", &[0xf9, 0x7e, 0x00]),
    ("infinite", &[0xfa, 0x7f, 0x80, 0x00, 0x00]),
    ("minus-infinite", &[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0]),
    ("not-utf-8", &[0x62, 0xc3, 0x28]),
    ("surrogate", &[0x63, 0xed, 0xa0, 0x80]),
    ("nul-and-escape", b"\x64\0\x1b[m"),
];

/// A map's entries as the bytes of key and value.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything, done to one message. `first_name` is the name that key 0 has in JSON.
pub(super) fn messages(whole: &[u8], first_name: &str) -> Inputs {
    let entries = entries(whole);
    let mut made = Inputs::new();
    let mut put = |name: String, data: Vec<u8>| assert!(made.insert(format!("made-{name}"), data).is_none());
    for (name, data) in cuts(whole).into_iter().chain(lengths(whole, &entries)).chain(keys(&entries, first_name)) {
        put(name, data);
    }
    for (turn, (name, value)) in WRONG_TYPES.iter().chain(OTHER_TYPES).chain(OUTSIDE).enumerate() {
        // Each at another field, so that together they reach most.
        put(format!("field-{name}"), map(&with_value(&entries, (turn * 5) % entries.len(), value)));
    }
    for (name, value) in nested() {
        put(format!("skipped-{name}"), map(&with_entry(&entries, UNKNOWN_KEY, &value)));
    }
    for (name, value) in floods() {
        let last = entries.len() - 1;
        put(format!("flood-{name}"), map(&with_value(&entries, last, &value)));
        put(format!("flood-skipped-{name}"), map(&with_entry(&entries, UNKNOWN_KEY, &value)));
    }
    made
}

/// Items of every kind alone, for the look over a payload: examples of RFC 8949 (Appendix A), what lies outside of the
/// format, nesting, lengths, and a message.
pub(super) fn items(message: &[u8]) -> Inputs {
    let rfc = RFC_8949.iter().map(|hex| (format!("rfc-8949-{hex}"), unhex(hex)));
    let alone = WRONG_TYPES.iter().chain(OTHER_TYPES).chain(OUTSIDE);
    let alone = alone.map(|(name, value)| (format!("made-{name}"), value.to_vec()));
    let nested = nested().into_iter().map(|(name, value)| (format!("made-{name}"), value));
    let cuts = cuts(message).into_iter().chain(lengths(message, &entries(message)));
    let cuts = cuts.map(|(name, data)| (format!("made-{name}"), data));
    rfc.chain(alone).chain(nested).chain(cuts).chain([("golden".to_owned(), message.to_vec())]).collect()
}

/// An array, cut everywhere that matters, and with something else in the place of each of its items.
pub(super) fn arrays(whole: &[u8]) -> Inputs {
    let value: Value = ciborium::from_reader(whole).unwrap();
    let items: Vec<Vec<u8>> = value.as_array().unwrap().iter().map(written).collect();
    let others = WRONG_TYPES.iter().chain(OTHER_TYPES).chain(OUTSIDE).enumerate().map(|(turn, (name, other))| {
        let mut items = items.clone();
        let at = turn % items.len();
        items[at] = other.to_vec();
        (format!("made-item-{name}"), [&[0x80 | u8::try_from(items.len()).unwrap()][..], &items.concat()].concat())
    });
    cuts(whole).into_iter().map(|(name, data)| (format!("made-{name}"), data)).chain(others).collect()
}

/// Examples of RFC 8949, Appendix A: every major type, definite and indefinite, small and wide.
const RFC_8949: &[&str] = &[
    "00",
    "17",
    "1818",
    "1903e8",
    "1a000f4240",
    "1bffffffffffffffff",
    "c249010000000000000000",
    "3bffffffffffffffff",
    "20",
    "3903e7",
    "f90000",
    "f98000",
    "fb3ff199999999999a",
    "f97bff",
    "fa47c35000",
    "f90001",
    "f9c400",
    "f97c00",
    "f97e00",
    "fb7ff8000000000000",
    "f4",
    "f5",
    "f6",
    "f7",
    "f0",
    "f8ff",
    "c11a514b67b0",
    "d818456449455446",
    "40",
    "4401020304",
    "60",
    "6449455446",
    "62c3bc",
    "64f0908591",
    "80",
    "8301820203820405",
    "a0",
    "a201020304",
    "a56161614161626142616361436164614461656145",
    "5f42010243030405ff",
    "7f657374726561646d696e67ff",
    "9fff",
    "9f018202039f0405ffff",
    "bf61610161629f0203ffff",
    "bf6346756ef563416d7421ff",
];

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn named(name: &str, data: Vec<u8>) -> (String, Vec<u8>) {
    (name.to_owned(), data)
}

/// Truncation and what follows the message.
fn cuts(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let cut = |part: usize| whole[..part].to_vec();
    let with = |rest: &[u8]| [whole, rest].concat();
    vec![
        named("empty", Vec::new()),
        named("cut-after-the-head", cut(1)),
        named("cut-in-half", cut(whole.len() / 2)),
        named("cut-before-the-end", cut(whole.len() - 1)),
        named("trailing-zero", with(&[0x00])),
        named("trailing-break", with(&[0xff])),
        named("twice", with(whole)),
    ]
}

/// Lengths that promise what the payload cannot hold: at the last field, and of the message itself.
fn lengths(whole: &[u8], entries: &Entries) -> Vec<(String, Vec<u8>)> {
    let mut made = Vec::new();
    for (kind, major) in [("bytes", 0x40_u8), ("text", 0x60), ("array", 0x80), ("map", 0xa0)] {
        for (width, info, fill) in [(4, 0x1a, 0x7f), (8, 0x1b, 0xff), (2, 0x19, 0x01)] {
            let head = [vec![major | info], vec![fill; width]].concat();
            let at = entries.len() - 1;
            made.push((format!("length-of-{kind}-{width}"), map(&with_value(entries, at, &head))));
        }
    }
    made.push(named("length-of-the-message", [&[0xbb][..], &[0xff; 8], &whole[1..]].concat()));
    made.push(named("one-entry-more-than-there-is", [&[whole[0] + 1], &whole[1..]].concat()));
    made
}

/// Keys that come twice, by name, out of order, in wide numbers, of a later version, or are none.
fn keys(entries: &Entries, first_name: &str) -> Vec<(String, Vec<u8>)> {
    let (first, last) = (entries[0].clone(), entries[entries.len() - 1].clone());
    let also = |entry: (Vec<u8>, Vec<u8>)| map(&[&entries[..], &[entry]].concat());
    let by_name = written(&Value::Text(first_name.to_owned()));
    let wide = |key: Vec<u8>| map(&[&[(key, first.1.clone())], &entries[1..]].concat());
    let reversed: Entries = entries.iter().rev().cloned().collect();
    vec![
        named("key-twice-first", also(first.clone())),
        named("key-twice-last", also(last)),
        named("key-twice-by-name", also((by_name.clone(), first.1.clone()))),
        named("key-by-name", wide(by_name)),
        named("key-of-two-bytes", wide(vec![0x18, 0x00])),
        named("key-of-nine-bytes", wide([&[0x1b][..], &[0; 8]].concat())),
        named("key-below-zero", wide(vec![0x20])),
        named("key-is-a-map", wide(vec![0xa1, 0x00, 0x00])),
        named("key-of-a-later-version", map(&with_entry(entries, UNKNOWN_KEY, b"\x63new"))),
        named("keys-reversed", map(&reversed)),
        named("no-keys", vec![0xa0]),
        named("indefinite-map", [&[0xbf][..], &map(entries)[head_length(entries)..], &[0xff]].concat()),
        named("tagged-as-cbor", [&[0xd9, 0xd9, 0xf7][..], &map(entries)].concat()),
        named("an-array-of-the-values", array(entries)),
        named("an-array-of-four", [&[0x84, 0x40, 0xa0, 0x58, 0x20][..], &[0xab; 32], &[0x40]].concat()),
    ]
}

/// Nesting up to the limit, beyond it, and far beyond.
fn nested() -> Vec<(String, Vec<u8>)> {
    let arrays = |levels: usize| [vec![0x81; levels], vec![0x00]].concat();
    vec![
        // The message's own map is a level too where this stands in one.
        named("deep-one-less-than-allowed", arrays(MAX_DEPTH - 1)),
        named("deep-as-allowed", arrays(MAX_DEPTH)),
        named("deep-one-more-than-allowed", arrays(MAX_DEPTH + 1)),
        named("deep-arrays", arrays(ABYSS)),
        named("deep-maps", [[0xa1, 0x00].repeat(ABYSS / 2), vec![0x00]].concat()),
        named("deep-in-keys", [vec![0xa1; ABYSS], vec![0x00; ABYSS + 1]].concat()),
        named("deep-tags", [vec![0xc0; ABYSS], vec![0x00]].concat()),
        named("deep-indefinite", vec![0x9f; ABYSS]),
    ]
}

/// As many entries as fit: the smallest thing that a service can be, and the smallest thing there is.
fn floods() -> Vec<(String, Vec<u8>)> {
    let flood = |count: u16, entry: &[u8]| {
        let [high, low] = count.to_be_bytes();
        [&[0x99, high, low][..], &entry.repeat(count.into())].concat()
    };
    vec![named("of-services", flood(700, &[0xa1, 0x00, 0x60])), named("of-nulls", flood(1_500, &[0xf6]))]
}

fn written(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn entries(message: &[u8]) -> Entries {
    let value: Value = ciborium::from_reader(message).unwrap();
    value.as_map().unwrap().iter().map(|(key, value)| (written(key), written(value))).collect()
}

fn with_value(entries: &Entries, at: usize, value: &[u8]) -> Entries {
    let mut entries = entries.clone();
    entries[at].1 = value.to_vec();
    entries
}

fn with_entry(entries: &Entries, key: &[u8], value: &[u8]) -> Entries {
    [&entries[..], &[(key.to_vec(), value.to_vec())]].concat()
}

fn head_length(entries: &Entries) -> usize {
    if entries.len() < 24 { 1 } else { 2 }
}

/// Head and entries, whatever these are.
fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let count = u8::try_from(entries.len()).unwrap();
    let head = if count < 24 { vec![0xa0 | count] } else { vec![0xb8, count] };
    let body = entries.iter().flat_map(|(key, value)| [&key[..], value].concat());
    head.into_iter().chain(body).collect()
}

/// serde takes a list of values for a struct: what comes of that is for the target to see.
fn array(entries: &Entries) -> Vec<u8> {
    let count = u8::try_from(entries.len()).unwrap();
    let head = if count < 24 { vec![0x80 | count] } else { vec![0x98, count] };
    head.into_iter().chain(entries.iter().flat_map(|(_, value)| value.clone())).collect()
}
