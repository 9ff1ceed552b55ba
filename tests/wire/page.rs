//! `docs/topics.md`: what stands between its marks is written by the code, so that no example of the page can rot.
//!
//! A mark names a sample: `<!-- example: load-report -->` … `<!-- /example -->`. A topic of a new kind needs a sample in
//! `samples.rs` and a section with such a mark; the first test below says which is missing.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use ciborium::Value;
use tidegate::wire::{Encoding, Message, Qos, Topic};

use super::samples::{self, Sample};
use super::schema::{Field, Schema, read, unsigned};

/// The refresh of a node that sets none, which is what the page's expiries are reckoned by.
const REFRESH: Duration = Duration::from_secs(30);

/// The column where the comments of a line stand, where its value is not longer.
const COMMENT_COLUMN: usize = 36;

const TABLE: (&str, &str) = ("<!-- table -->", "<!-- /table -->");
const EXAMPLE: (&str, &str) = ("<!-- example: ", "<!-- /example -->");

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/topics.md"))
}

/// A topic with the names of what differs, `node/{node}/load`: after each word that says what follows, its place.
fn pattern(topic: &Topic) -> String {
    places(topic, |name| format!("{{{name}}}"))
}

/// The filter for every topic of the kind.
fn filter(topic: &Topic) -> String {
    places(topic, |_| "+".to_owned())
}

fn places(topic: &Topic, place: impl Fn(&str) -> String) -> String {
    let topic = topic.to_string();
    let segments: Vec<&str> = topic.split('/').collect();
    let named = |index: usize| match (segments[0], index) {
        ("fleet", _) => None,
        (_, 1) => Some("node"),
        ("discovery", 2) => Some("instance"),
        (_, 3) if segments[2] == "burst" => Some("launch"),
        (_, 3) if segments[2] == "event" => Some("kind"),
        (_, 3) if segments[2] == "command" => Some("name"),
        (_, 3) if segments[2] == "response" => Some("id"),
        (_, 3) => Some(segments[2]),
        _ => None,
    };
    let written = (0..segments.len()).map(|index| named(index).map_or(segments[index].to_owned(), &place));
    written.collect::<Vec<_>>().join("/")
}

/// The page's table: how each kind of topic is delivered.
fn table(samples: &[Sample]) -> String {
    let mut text =
        "| Topic below the root | Retained | QoS | Expires after | JSON Schema |\n|---|---|---|---|---|\n".to_owned();
    let mut seen = BTreeSet::new();
    for sample in samples.iter().filter(|sample| seen.insert(pattern(&sample.topic))) {
        let delivery = sample.topic.delivery(REFRESH);
        let retained = if delivery.retained { "yes" } else { "no" };
        let qos = match delivery.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
        };
        let expiry = delivery.expiry_s().map_or("never".to_owned(), |seconds| format!("{seconds} s"));
        let expiry = if delivery.retained { expiry } else { "–".to_owned() };
        let schema = schema_link(sample.rule);
        writeln!(text, "| `{}` | {retained} | {qos} | {expiry} | {schema} |", pattern(&sample.topic)).unwrap();
    }
    for (topic, pattern) in opaque() {
        let delivery = topic.delivery(REFRESH);
        assert!(topic.is_opaque() && !delivery.retained && delivery.qos == Qos::AtLeastOnce, "{topic}");
        writeln!(text, "| `{pattern}` | no | 1 | – | the service's own |").unwrap();
    }
    text
}

/// The topics whose payload is a service's matter: there is no sample of it, and no schema.
fn opaque() -> [(Topic, &'static str); 2] {
    [
        (Topic::infer("digits", "cam-1", None).unwrap(), "infer/{service}/{client}"),
        (Topic::reply("cam-1", &["digits"]).unwrap(), "reply/{client}/…"),
    ]
}

fn schema_link(rule: &str) -> String {
    let name = rule.split('-').find(|word| !["node", "report", "status", "fleet"].contains(word)).unwrap();
    format!("[{name}](schema/{name}.schema.json)")
}

/// How to watch the kind of topic, and one message of it in both trees.
fn example(sample: &Sample) -> String {
    let json = sample.message.encode(Encoding::Json).unwrap();
    let pretty = pretty(&sample.message);
    let filter = filter(&sample.topic);
    format!(
        "```sh\nmosquitto_sub -h 127.0.0.1 -p 1883 -v -t 'tidegate-json/v1/+/{filter}'\n\
         tidegate watch 'tidegate/v1/+/{filter}' --broker 127.0.0.1:1883\n```\n\n\
         On `tidegate-json/v1/plant-a/{topic}`, {} bytes of JSON (spaced here for reading):\n\n\
         ```json\n{pretty}\n```\n\n\
         On `tidegate/v1/plant-a/{topic}`, {} bytes of CBOR{signed}, in diagnostic notation with the name of each key:\n\n\
         ```cbor-diag\n{}\n```\n",
        json.len(),
        sample.cbor().len(),
        diagnostic(&Schema::load(), sample.rule, &read(&sample.cbor()), 0),
        topic = sample.topic,
        signed = if sample.topic.is_signed() { " within a COSE_Sign1" } else { "" },
    )
}

/// The message's JSON, its members in the order in which they are sent.
fn pretty(message: &Message) -> String {
    let pretty = match message {
        Message::Announcement(message) => serde_json::to_string_pretty(message),
        Message::State(message) => serde_json::to_string_pretty(message),
        Message::Load(message) => serde_json::to_string_pretty(message),
        Message::Service(message) => serde_json::to_string_pretty(message),
        Message::Burst(message) => serde_json::to_string_pretty(message),
        Message::Event(message) => serde_json::to_string_pretty(message),
        Message::Command(message) => serde_json::to_string_pretty(message),
        Message::Response(message) => serde_json::to_string_pretty(message),
        Message::Trust(message) => serde_json::to_string_pretty(message),
        Message::Cleared => return String::new(),
    };
    pretty.unwrap()
}

/// CBOR diagnostic notation (RFC 8949, section 8), a line for each entry, with the field's name as a comment.
fn diagnostic(cddl: &Schema, rule: &str, value: &Value, level: usize) -> String {
    let inner = "  ".repeat(level + 1);
    let entries = value.as_map().unwrap();
    let mut text = "{\n".to_owned();
    for (index, (key, value)) in entries.iter().enumerate() {
        let field = cddl.field(rule, unsigned(key));
        let comma = if index + 1 < entries.len() { "," } else { "" };
        let written = of_field(cddl, field, value, level + 1);
        let (first, rest) =
            written.split_once('\n').map_or((written.as_str(), None), |(first, rest)| (first, Some(rest)));
        let comma_here = if rest.is_none() { comma } else { "" };
        let line = format!("{inner}{}: {first}{comma_here}", field.key);
        writeln!(text, "{line:COMMENT_COLUMN$} / {} /", comment(cddl, field, value)).unwrap();
        if let Some(rest) = rest {
            writeln!(text, "{rest}{comma}").unwrap();
        }
    }
    text + &"  ".repeat(level) + "}"
}

fn of_field(cddl: &Schema, field: &Field, value: &Value, level: usize) -> String {
    let rule = cddl.rule_of(&field.kind).unwrap_or_default();
    match value {
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) => {
            let inner = "  ".repeat(level + 1);
            let items = items.iter().map(|item| match item {
                Value::Map(_) => inner.clone() + &diagnostic(cddl, rule, item, level + 1),
                plain => inner.clone() + &scalar(plain),
            });
            format!("[\n{}\n{}]", items.collect::<Vec<_>>().join(",\n"), "  ".repeat(level))
        }
        Value::Map(_) => diagnostic(cddl, rule, value, level),
        plain => scalar(plain),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Text(text) => serde_json::to_string(text).unwrap(),
        Value::Integer(_) => unsigned(value).to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".to_owned(),
        Value::Bytes(bytes) => format!("h'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        other => panic!("no message has this: {other:?}"),
    }
}

/// The field's name, and the word of a number that stands for one.
fn comment(cddl: &Schema, field: &Field, value: &Value) -> String {
    let words = cddl.enums.get(field.kind.trim_end_matches(" / null"));
    match words.filter(|_| !value.is_null()) {
        Some(words) => format!("{}: {}", field.name, words[&unsigned(value)]),
        None => field.name.clone(),
    }
}

/// The page with everything between its marks written anew, and the names of the samples that it shows.
fn written(page: &str) -> (String, BTreeSet<String>) {
    let samples = samples::all();
    let (mut text, mut shown) = (String::new(), BTreeSet::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text += line;
        text.push('\n');
        let end = if line == TABLE.0 {
            text += &table(&samples);
            TABLE.1
        } else if let Some(name) = line.strip_prefix(EXAMPLE.0) {
            let name = name.trim_end_matches(" -->");
            let sample = samples.iter().find(|sample| sample.name == name);
            text += &example(sample.unwrap_or_else(|| panic!("docs/topics.md: there is no sample {name:?}")));
            shown.insert(name.to_owned());
            EXAMPLE.1
        } else {
            continue;
        };
        let closing = lines.by_ref().find(|line| *line == end);
        text += closing.unwrap_or_else(|| panic!("docs/topics.md: {line} has no {end}"));
        text.push('\n');
    }
    (text, shown)
}

#[test]
fn the_examples_of_the_page_are_what_the_code_writes() {
    let page = std::fs::read_to_string(file()).unwrap();
    let (anew, _) = written(&page);
    if std::env::var_os("BLESS").is_some() {
        return std::fs::write(file(), &anew).unwrap();
    }
    let differing = page.lines().zip(anew.lines()).position(|(stands, wanted)| stands != wanted);
    let line = differing.map(|line| line + 1);
    assert!(page == anew, "docs/topics.md differs at line {line:?}: BLESS=1 cargo test --test wire writes it anew");
}

#[test]
fn the_page_has_a_section_with_an_example_for_every_kind_of_topic() {
    let page = std::fs::read_to_string(file()).unwrap();
    let (_, shown) = written(&page);
    let samples = samples::all();
    for kind in samples.iter().map(|sample| pattern(&sample.topic)).collect::<BTreeSet<_>>() {
        let heading = format!("## `{kind}`");
        assert!(page.lines().any(|line| line == heading), "docs/topics.md has no section {heading}");
        let of_kind = samples.iter().filter(|sample| pattern(&sample.topic) == kind);
        assert!(of_kind.into_iter().any(|sample| shown.contains(sample.name)), "no example of {kind}");
    }
    for (_, kind) in opaque() {
        assert!(page.lines().any(|line| line == format!("## `{kind}`")), "docs/topics.md has no section on {kind}");
    }
}

#[test]
fn a_page_that_rotted_is_seen() {
    let page = std::fs::read_to_string(file()).unwrap();
    for (stands, instead) in [("\"gateway-7\"", "\"gateway-8\""), ("  0: ", "  1: "), ("| yes | 1 |", "| yes | 0 |")] {
        assert!(page.contains(stands), "{stands}");
        let rotten = page.replacen(stands, instead, 1);
        assert_eq!(written(&rotten).0, page, "{instead} was left on the page");
    }
}
