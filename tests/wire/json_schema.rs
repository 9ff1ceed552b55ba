//! `docs/schema`: a JSON Schema (draft 2020-12) for each topic of the JSON tree, made from `docs/wire.cddl`, so that no
//! description stands anywhere twice, and held to the code and to an independent validator.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::samples;
use super::schema::{Field, Schema};
use crate::python;

/// A topic's last word, which is also the name of its schema, and its rule in `docs/wire.cddl`.
const TOPICS: &[(&str, &str)] = &[
    ("announcement", "announcement"),
    ("state", "node-state"),
    ("load", "load-report"),
    ("service", "service-status"),
    ("burst", "burst-status"),
    ("event", "event"),
    ("command", "command"),
    ("response", "response"),
    ("trust", "fleet-trust"),
];

/// Units by the end of a field's name; the first that fits.
const UNITS: &[(&str, &str)] = &[
    ("_bytes_per_s", "bytes per second"),
    ("requests_per_s", "requests per second"),
    ("errors_per_s", "requests per second"),
    ("price_per_hour", "currency per hour"),
    ("_bytes", "bytes"),
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
    ("spend_hour", "currency"),
    ("cost", "currency"),
    ("issued_at", "seconds since 1970"),
    ("expires_at", "seconds since 1970"),
    ("process_cpu", "processors"),
    ("cpu", "ratio"),
    ("memory", "ratio"),
    ("network", "ratio"),
    ("utilisation", "ratio"),
];

/// Times, by their name or its end.
const TIMES: [&str; 2] = ["at", "time"];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema"))
}

fn file(topic: &str) -> PathBuf {
    folder().join(format!("{topic}.schema.json"))
}

fn committed(topic: &str) -> Value {
    let text = std::fs::read_to_string(file(topic)).unwrap_or_else(|error| panic!("{topic}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{topic}: {error}"))
}

fn samples_of(rule: &str) -> Vec<samples::Sample> {
    samples::all().into_iter().filter(|sample| sample.rule == rule).collect()
}

/// The schema of a topic as the CDDL file and the samples make it.
fn made(cddl: &Schema, topic: &str, rule: &str) -> Value {
    let mut schema = object(cddl, rule);
    let own = schema.as_object_mut().unwrap();
    let examples: Vec<Value> = samples_of(rule).iter().map(samples::Sample::json).collect();
    own.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    own.insert("$id".into(), json!(format!("urn:tidegate:wire:1:{topic}")));
    own.insert("title".into(), json!(format!("Tidegate {topic}, version 1 of the messages")));
    let places = "as it stands in the JSON tree, tidegate-json/v1/{fleet}, one value of the topic each time";
    let later = "Later versions append members and words; pass over what you do not know.";
    own.insert("description".into(), json!(format!("A {rule} {places}. {later}")));
    own.insert("examples".into(), json!(examples));
    let parts: Map<String, Value> =
        parts(cddl, rule).into_iter().map(|part| (part.clone(), definition(cddl, &part))).collect();
    if !parts.is_empty() {
        own.insert("$defs".into(), Value::Object(parts));
    }
    schema
}

/// Every rule that a rule's fields name, and theirs.
fn parts(cddl: &Schema, rule: &str) -> BTreeSet<String> {
    let Some(fields) = cddl.maps.get(rule) else { return BTreeSet::new() };
    let named = fields.iter().map(|field| bare(&field.kind)).filter(|kind| is_rule(cddl, kind));
    named.flat_map(|kind| [BTreeSet::from([kind.to_owned()]), parts(cddl, kind)].into_iter().flatten()).collect()
}

/// A type without the array around it and without its null.
fn bare(kind: &str) -> &str {
    kind.trim_start_matches("[* ").trim_end_matches(" / null").trim_end_matches(']')
}

fn is_rule(cddl: &Schema, kind: &str) -> bool {
    cddl.maps.contains_key(kind) || cddl.enums.contains_key(kind)
}

fn definition(cddl: &Schema, rule: &str) -> Value {
    match cddl.enums.get(rule) {
        // Open: the list is what this version knows.
        Some(words) => json!({
            "description": "one of the words here; a later version may have more, which read as other",
            "anyOf": [{ "enum": words.values().collect::<Vec<_>>() }, { "type": "string" }],
        }),
        None => object(cddl, rule),
    }
}

fn object(cddl: &Schema, rule: &str) -> Value {
    let fields = &cddl.maps[rule];
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.clone(), property(cddl, field))).collect();
    let required: Vec<&str> = fields.iter().filter(|field| !field.optional).map(|field| field.name.as_str()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": true })
}

fn property(cddl: &Schema, field: &Field) -> Value {
    let nullable = field.kind.ends_with(" / null");
    let mut schema = match field.kind.starts_with("[* ") {
        true if is_rule(cddl, bare(&field.kind)) => json!({ "type": "array", "items": reference(bare(&field.kind)) }),
        true => json!({ "type": "array", "items": plain(bare(&field.kind), false) }),
        false if is_rule(cddl, bare(&field.kind)) && nullable => {
            json!({ "anyOf": [reference(bare(&field.kind)), { "type": "null" }] })
        }
        false if is_rule(cddl, bare(&field.kind)) => reference(&field.kind),
        false => plain(bare(&field.kind), nullable),
    };
    let own = schema.as_object_mut().unwrap();
    own.insert("description".into(), json!(field.meaning));
    own.insert("x-cbor-key".into(), json!(field.key));
    if let Some((_, unit)) = UNITS.iter().find(|(end, _)| field.name.ends_with(end)) {
        own.insert("x-unit".into(), json!(unit));
    }
    let is_text = field.kind.starts_with("tstr");
    if is_text && TIMES.iter().any(|time| field.name == *time || field.name.ends_with(&format!("_{time}"))) {
        own.insert("format".into(), json!("date-time"));
    }
    schema
}

fn reference(rule: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{rule}") })
}

fn plain(kind: &str, nullable: bool) -> Value {
    let (name, bounds) = match kind {
        "tstr" => ("string", json!({})),
        "bstr" => ("string", json!({ "pattern": "^([0-9a-f]{2})*$" })),
        "bool" => ("boolean", json!({})),
        "float" => ("number", json!({})),
        "uint" => ("integer", json!({ "minimum": 0 })),
        "uint .size 4" => ("integer", json!({ "minimum": 0, "maximum": u32::MAX })),
        other => panic!("a type without a counterpart in JSON Schema: {other}"),
    };
    let mut schema = bounds;
    schema["type"] = if nullable { json!([name, "null"]) } else { json!(name) };
    schema
}

/// Every member that a schema knows, as `services/name`.
fn described(schema: &Value) -> BTreeSet<String> {
    members_of(schema, schema, "")
}

fn members_of(whole: &Value, schema: &Value, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}{name}");
        let inner = [&property["items"]["$ref"], &property["$ref"], &property["anyOf"][0]["$ref"]];
        if let Some(reference) = inner.iter().find_map(|reference| reference.as_str()) {
            let definition = whole.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere");
            found.extend(members_of(whole, definition, &format!("{path}/")));
        }
        found.insert(path);
    }
    found
}

/// Every member that a message has, in the same form.
fn written(message: &Value, path: &str) -> BTreeSet<String> {
    match message {
        Value::Array(items) => items.iter().flat_map(|item| written(item, path)).collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| {
                let path = format!("{path}{name}");
                let mut found = written(value, &format!("{path}/"));
                found.insert(path);
                found
            })
            .collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn the_schemas_are_what_the_cddl_says() {
    let cddl = Schema::load();
    for (topic, rule) in TOPICS {
        let text = serde_json::to_string_pretty(&made(&cddl, topic, rule)).unwrap() + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(file(topic), &text).unwrap();
        }
        let stands = std::fs::read_to_string(file(topic)).unwrap_or_else(|error| panic!("{topic}: {error}"));
        assert!(stands == text, "docs/schema/{topic}.schema.json: BLESS=1 cargo test --test wire writes it anew");
    }
}

#[test]
fn a_schema_stands_for_every_message_and_nothing_else() {
    let names: BTreeSet<String> = TOPICS.iter().map(|(topic, _)| format!("{topic}.schema.json")).collect();
    let entries = std::fs::read_dir(folder()).unwrap();
    let stand: BTreeSet<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(stand, names);
    let rules: BTreeSet<&str> = samples::all().iter().map(|sample| sample.rule).collect();
    assert_eq!(TOPICS.iter().map(|(_, rule)| *rule).collect::<BTreeSet<_>>(), rules, "a message has no schema");
}

/// A member that a struct has and the schema has not, and the other way about.
#[test]
fn the_schemas_have_the_members_of_the_messages_and_no_others() {
    for (topic, rule) in TOPICS {
        let whole: BTreeSet<String> = samples_of(rule).iter().flat_map(|sample| written(&sample.json(), "")).collect();
        assert_eq!(described(&committed(topic)), whole, "{topic}");
    }
}

/// With each message, what is damaged in it one way or another must be refused, and what a later version appends taken;
/// the script makes both.
#[test]
fn an_independent_validator_takes_the_messages_and_refuses_damaged_ones() {
    let topic_of = |rule: &str| TOPICS.iter().find(|(_, of)| *of == rule).expect("a schema").0;
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire-v1");
    let lines = samples::all().into_iter().flat_map(|sample| {
        let path = format!("{golden}/{}.json", sample.name);
        let vector: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        [sample.json(), vector]
            .map(|message| json!({ "schema": topic_of(sample.rule), "message": message }).to_string())
    });
    let mut child =
        python::script("wire/fits_schemas.py").arg(folder()).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["messages"].as_u64(), Some(2 * samples::all().len() as u64), "{told}");
    assert!(told["damaged"].as_u64().is_some_and(|damaged| damaged > 500), "{told}");
}
