//! Reads the subset of CDDL that `docs/wire.cddl` is written in, and holds what the code encodes against it.

use std::collections::{BTreeMap, BTreeSet};

use ciborium::Value;
use serde_json::Value as Json;
use tidegate::wire::{AnnouncementKind, BurstState, CommandName, EventKind, NodeStateKind, Placement, PlacementRule};

use super::samples;

#[derive(Debug)]
pub(super) struct Field {
    pub(super) optional: bool,
    pub(super) key: u64,
    pub(super) kind: String,
    pub(super) name: String,
    /// What it means, in the words of its comment.
    pub(super) meaning: String,
}

/// The rules of `docs/wire.cddl` by name.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) maps: BTreeMap<String, Vec<Field>>,
    pub(super) enums: BTreeMap<String, BTreeMap<u64, String>>,
}

impl Schema {
    pub(super) fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wire.cddl");
        Self::parse(&std::fs::read_to_string(path).unwrap())
    }

    fn parse(cddl: &str) -> Self {
        let mut schema = Self::default();
        let mut lines = cddl.lines().filter(|line| !line.trim().is_empty() && !line.starts_with(';'));
        while let Some(line) = lines.next() {
            let (name, opening) = line.split_once(" = ").unwrap_or_else(|| panic!("no rule: {line}"));
            let body = lines.by_ref();
            match opening {
                "{" => {
                    let fields = body.take_while(|line| *line != "}").filter_map(field).collect();
                    schema.maps.insert(name.to_owned(), fields);
                }
                "&(" => {
                    let words = body.take_while(|line| !line.starts_with(')')).map(word).collect();
                    schema.enums.insert(name.to_owned(), words);
                }
                choice => {
                    let known = ["message", "signed", "protected"].contains(&name);
                    assert!(known, "a rule that the tests cannot read: {choice}");
                }
            }
        }
        schema
    }

    pub(super) fn field(&self, rule: &str, key: u64) -> &Field {
        let field = self.maps.get(rule).and_then(|fields| fields.iter().find(|field| field.key == key));
        field.unwrap_or_else(|| panic!("docs/wire.cddl has no key {key} of {rule}"))
    }

    /// Whether `value` is of type `kind` and says the same as its JSON mirror. Notes each key that it meets.
    fn check(&self, kind: &str, value: &Value, json: &Json, seen: &mut BTreeSet<(String, u64)>) {
        if let Some(choice) = kind.strip_suffix(" / null") {
            return if value.is_null() { assert!(json.is_null()) } else { self.check(choice, value, json, seen) };
        }
        if let Some(entry) = kind.strip_prefix("[* ").and_then(|rest| rest.strip_suffix(']')) {
            let (values, mirror) = (value.as_array().unwrap(), json.as_array().unwrap());
            assert_eq!(values.len(), mirror.len(), "{kind}");
            return values.iter().zip(mirror).for_each(|(value, json)| self.check(entry, value, json, seen));
        }
        if let Some(words) = self.enums.get(kind) {
            let number = unsigned(value);
            return assert_eq!(words.get(&number).map(String::as_str), json.as_str(), "{kind} {number}");
        }
        match kind {
            "bstr" => {
                let digits: String = value.as_bytes().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(Some(digits.as_str()), json.as_str());
            }
            "tstr" => assert_eq!(value.as_text(), json.as_str()),
            "bool" => assert_eq!(value.as_bool(), json.as_bool()),
            "uint" => assert_eq!(Some(unsigned(value)), json.as_u64()),
            "uint .size 4" => {
                assert_eq!(Some(unsigned(value)), json.as_u64());
                assert!(u32::try_from(unsigned(value)).is_ok());
            }
            "float" => assert_eq!(value.as_float(), json.as_f64()),
            rule => self.check_map(rule, value, json, seen),
        }
    }

    fn check_map(&self, rule: &str, value: &Value, json: &Json, seen: &mut BTreeSet<(String, u64)>) {
        let entries = value.as_map().unwrap_or_else(|| panic!("{rule} is not a map: {value:?}"));
        let mirror = json.as_object().unwrap();
        assert!(entries.is_sorted_by_key(|(key, _)| unsigned(key)), "{rule}: keys are not in order");
        assert_eq!(entries.len(), mirror.len(), "{rule}: cbor and json differ in fields");
        for (key, value) in entries {
            let key = unsigned(key);
            let field = self.field(rule, key);
            let json = mirror.get(&field.name).unwrap_or_else(|| panic!("{rule}: json lacks {}", field.name));
            self.check(&field.kind, value, json, seen);
            seen.insert((rule.to_owned(), key));
        }
    }

    /// The rule of what a field of type `kind` holds, or of the entries of its array; none where that is no map.
    pub(super) fn rule_of(&self, kind: &str) -> Option<&str> {
        let bare = kind.trim_start_matches("[* ").trim_end_matches(" / null").trim_end_matches(']');
        self.maps.get_key_value(bare).map(|(rule, _)| rule.as_str())
    }
}

/// `? 4: tstr / null, ; instance  the launch id`, or none for the line that lets later keys in.
fn field(line: &str) -> Option<Field> {
    let (entry, comment) = line.split_once(';').unwrap_or_else(|| panic!("no comment: {line}"));
    let entry = entry.trim().trim_end_matches(',');
    if entry == "* uint => any" {
        return None;
    }
    let (key, kind) = entry.split_once(": ").unwrap();
    let (name, meaning) = comment.trim().split_once(' ').unwrap_or_else(|| panic!("no meaning: {line}"));
    Some(Field {
        optional: key.starts_with('?'),
        key: key.trim_start_matches("? ").parse().unwrap(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        meaning: meaning.trim().to_owned(),
    })
}

/// `burst.started: 1,`
fn word(line: &str) -> (u64, String) {
    let (word, number) = line.trim().trim_end_matches(',').split_once(": ").unwrap();
    (number.parse().unwrap(), word.to_owned())
}

pub(super) fn unsigned(value: &Value) -> u64 {
    let integer = value.as_integer().unwrap_or_else(|| panic!("not an integer: {value:?}"));
    integer.try_into().unwrap()
}

pub(super) fn read(payload: &[u8]) -> Value {
    ciborium::from_reader(payload).unwrap()
}

#[test]
fn what_is_encoded_is_what_the_cddl_says() {
    let schema = Schema::load();
    let mut seen = BTreeSet::new();
    for sample in samples::all() {
        schema.check(sample.rule, &read(&sample.cbor()), &sample.json(), &mut seen);
    }
    let described = schema.maps.iter().flat_map(|(rule, fields)| fields.iter().map(move |field| (rule, field.key)));
    for (rule, key) in described {
        assert!(seen.contains(&(rule.clone(), key)), "docs/wire.cddl has {rule} key {key}, which no message has");
    }
}

#[test]
fn the_numbers_of_the_cddl_are_those_of_the_code() {
    fn words<T: Copy>(all: &[T], number: fn(T) -> u32, word: fn(T) -> &'static str) -> BTreeMap<u64, String> {
        let known = all.iter().map(|&value| (u64::from(number(value)), word(value).to_owned()));
        known.chain([(0, "other".to_owned())]).collect()
    }
    let code = BTreeMap::from([
        ("announcement-kind", words(AnnouncementKind::ALL, AnnouncementKind::number, AnnouncementKind::as_str)),
        ("placement-rule", words(PlacementRule::ALL, PlacementRule::number, PlacementRule::as_str)),
        ("node-state-kind", words(NodeStateKind::ALL, NodeStateKind::number, NodeStateKind::as_str)),
        ("burst-state", words(BurstState::ALL, BurstState::number, BurstState::as_str)),
        ("event-kind", words(EventKind::ALL, EventKind::number, EventKind::as_str)),
        ("command-name", words(CommandName::ALL, CommandName::number, CommandName::as_str)),
        ("placement", words(Placement::ALL, Placement::number, Placement::as_str)),
    ]);
    let schema = Schema::load();
    let cddl: BTreeMap<_, _> = schema.enums.iter().map(|(name, words)| (name.as_str(), words.clone())).collect();
    assert_eq!(cddl, code);
}

#[test]
fn keys_of_the_cddl_count_from_zero() {
    for (rule, fields) in Schema::load().maps {
        let keys: Vec<u64> = fields.iter().map(|field| field.key).collect();
        assert_eq!(keys, (0..keys.len() as u64).collect::<Vec<_>>(), "{rule}");
    }
}

#[test]
fn a_load_report_has_its_26_fields() {
    let schema = Schema::load();
    assert_eq!(schema.maps["load-report"].len(), 26);
}
