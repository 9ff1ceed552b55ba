//! The JSON Schema of a configuration file, for editors. What a reader asks for is what is known (see `section`), so the schema
//! is not written down a second time: configurations that use each kind of everything are read, and what was asked for is noted.
//!
//! It is as strict as a single file can be: every key and its shape, no key that is missing, since layers complete each other.
//! Which keys belong to which kind is told by `config check`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::section::{Context, Section};
use crate::sources::{Machine, Override, Sources};

/// One key that a reader asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// The table, as in `service`, [`ANY_NAME`], `local`.
    pub(crate) table: Vec<String>,
    pub(crate) key: String,
    /// Its shape; `None` for a table, and for a key that means nothing in that configuration.
    pub(crate) schema: Option<Value>,
}

/// In a probe, whatever name an operator chooses.
const ANY_NAME: &str = "any-name";

/// Settings that together ask for every key. None has to be right: a reader goes on after a problem.
const PROBES: &[&[(&str, &str)]] = &[
    &[],
    &[
        ("service.any-name.local.runtime", "onnx"),
        ("service.any-name.burst.max_replicas", "1"),
        ("service.any-name.burst.files.any-name", "/f"),
        ("service.any-name.mqtt.enabled", "true"),
    ],
    &[("service.any-name.local.runtime", "process"), ("service.any-name.scaling.metric", "latency_p95")],
    &[("service.any-name.scaling.policy", "concurrency")],
    &[("service.any-name.scaling.policy", "predictive")],
    &[("service.any-name.scaling.metric", "cpu")],
    &[("service.any-name.scaling.metric", "memory")],
    &[("service.any-name.scaling.metric", "network")],
    &[("service.any-name.scaling.metric", "request_rate")],
    &[("service.any-name.scaling.metric.topic", "line1/queue")],
    &[("service.any-name.burst.model.url", "https://h/m.onnx")],
    &[("adapter.any-name.kind", "process")],
    &[("adapter.any-name.kind", "docker")],
    &[("adapter.any-name.kind", "ssh")],
    &[("adapter.any-name.kind", "exec")],
    &[("adapter.any-name.kind", "kubernetes")],
    &[("mqtt.broker", "mqtts://h"), ("mqtt.username", "u")],
    &[("mqtt.uplink", "[\"mqtts://h\"]")],
    &[("mqtt.listen_tls", "127.0.0.1:8883")],
];

/// The schema of a configuration file (JSON Schema draft-07, which editors for TOML read).
pub fn schema() -> Value {
    let mut root = Table::default();
    for asked in PROBES.iter().flat_map(|probe| probe_for(probe)) {
        root.enter(asked);
    }
    let mut schema = root.schema();
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("Tidegate configuration"));
    Value::Object(schema)
}

/// What reading a configuration asks for.
fn probe_for(settings: &[(&str, &str)]) -> Vec<Asked> {
    let set = |sources: Sources, (key, value): &(&str, &str)| sources.set(Override::new(key.split('.'), value));
    // What a default is made from stands for itself.
    let machine = Machine { host_name: "the-host-name".to_owned(), root: true };
    let sources = settings.iter().fold(Sources { machine, ..Sources::default() }, set);
    let merged = crate::layers::merge(&sources);
    let (context, table) = Context::noting(merged);
    crate::read(Section::root(&context, &table), &sources);
    context.into_asked()
}

/// One table of the configuration.
#[derive(Debug, Default)]
struct Table {
    keys: BTreeMap<String, Vec<Value>>,
    tables: BTreeMap<String, Self>,
}

impl Table {
    fn enter(&mut self, asked: Asked) {
        let table = asked.table.into_iter().fold(self, |table, name| table.tables.entry(name).or_default());
        let Some(schema) = asked.schema else { return };
        let shapes = table.keys.entry(asked.key).or_default();
        if !shapes.contains(&schema) {
            shapes.push(schema);
        }
    }

    fn schema(self) -> Map<String, Value> {
        // A key may be a word or a table.
        let mut shapes = self.keys;
        for (name, table) in self.tables {
            shapes.entry(name).or_default().push(Value::Object(table.schema()));
        }
        let mut properties: Map<String, Value> =
            shapes.into_iter().map(|(key, shapes)| (key, any_of(shapes))).collect();
        let named = properties.remove(ANY_NAME).unwrap_or(Value::Bool(false));
        Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), Value::Object(properties)),
            ("additionalProperties".to_owned(), named),
        ])
    }
}

/// The one shape, or that any of them will do, where a key means different things to different kinds.
fn any_of(mut shapes: Vec<Value>) -> Value {
    if shapes.len() == 1 { shapes.swap_remove(0) } else { json!({ "anyOf": shapes }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that some reader knows and that has no shape in any probe would be refused by an editor.
    #[test]
    fn every_key_that_is_known_has_a_shape() {
        let asked: Vec<Asked> = PROBES.iter().flat_map(|probe| probe_for(probe)).collect();
        let has_shape = |one: &Asked| {
            let table: Vec<&String> = one.table.iter().chain([&one.key]).collect();
            asked.iter().any(|other| {
                let is_key = other.schema.is_some() && other.table == one.table && other.key == one.key;
                is_key || other.table.iter().collect::<Vec<_>>().starts_with(&table)
            })
        };
        let without: Vec<&Asked> = asked.iter().filter(|one| !has_shape(one)).collect();
        assert!(without.is_empty(), "add a probe that asks for {without:#?}");
        assert!(asked.len() > 200, "only {} keys were asked for", asked.len());
    }

    /// A threshold is in its metric's unit, so each metric has a probe.
    #[test]
    fn every_metric_has_a_probe() {
        let probed = |metric: &str| PROBES.iter().flat_map(|probe| probe.iter()).any(|(_, value)| *value == metric);
        for (word, metric) in crate::scaling::METRIC.words {
            assert!(probed(word) || *metric == crate::Metric::Utilisation, "add a probe for {word}");
        }
    }

    #[test]
    fn a_schema_says_what_is_allowed_in_words_and_in_figures() {
        let schema = schema();
        let of = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {schema:#}"));
        let queue = of("/properties/gateway/properties/queue");
        assert_eq!(
            (&queue["type"], &queue["minimum"], &queue["maximum"]),
            (&json!("integer"), &json!(0), &json!(100_000))
        );
        assert_eq!(queue["description"], "A whole number from 0 to 100000. Default: 1024.");
        let kind = of("/properties/adapter/additionalProperties/properties/kind/enum");
        assert_eq!(kind, &json!(["process", "docker", "ssh", "exec", "kubernetes"]));
        assert_eq!(of("/properties/adapter/properties"), &json!({}));
        assert_eq!(of("/properties/gateway/additionalProperties"), &json!(false));
        let threshold = of("/properties/service/additionalProperties/properties/scaling/properties/threshold/anyOf");
        let types: Vec<&Value> = threshold.as_array().unwrap().iter().map(|one| &one["type"]).collect();
        assert!(types.contains(&&json!("string")) && types.contains(&&json!("number")), "{threshold}");
    }
}
