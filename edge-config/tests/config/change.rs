//! What a running node can take up of another configuration, and what it is told to restart for.

use edge_config::{Change, load};

use super::Folder;

const BASE: &str = "
[node]
id = 'gw'
[service.digits.local]
runtime = 'onnx'
model = 'builtin:digits'
max_replicas = 2
[service.digits.local.env]
SECRET = 'one'
[service.digits.burst]
adapters = ['cloud']
max_replicas = 2
[service.digits.scaling]
threshold = 0.5
[adapter.cloud]
kind = 'process'
price_per_hour = 1.0
[budget]
per_hour = 5.0
per_day = 20.0
";

fn change(from: &str, to: &str) -> Change {
    let folder = Folder::new();
    let load = |text: &str| load(folder.sources(text)).unwrap_or_else(|errors| panic!("{errors}"));
    load(from).change_to(&load(to))
}

fn replaced(what: &str, by: &str) -> Change {
    assert!(BASE.contains(what), "{what}");
    change(BASE, &BASE.replace(what, by))
}

#[test]
fn what_decisions_are_made_from_is_live_and_each_key_is_named() {
    assert_eq!(change(BASE, BASE), Change::default());
    let cases = [
        ("threshold = 0.5", "threshold = 0.5\nscale_factor = 3.0", "service.digits.scaling.scale_factor"),
        ("per_hour = 5.0", "", "budget.per_hour"),
        ("price_per_hour = 1.0", "price_per_hour = 2.0", "adapter.cloud.price_per_hour"),
        ("id = 'gw'", "id = 'gw'\nlog = 'debug'", "node.log"),
        ("model = 'builtin:digits'", "model = 'builtin:digits'\nthreads = 3", "service.digits.local.threads"),
        ("'one'", "'two'", "service.digits.local.env"),
    ];
    for (what, by, key) in cases {
        assert_eq!(replaced(what, by), Change { live: vec![key.into()], at_start: Vec::new() });
    }
}

#[test]
fn a_default_that_services_take_over_is_named_with_each_of_them() {
    let change = replaced("[service.digits.local]", "[gateway]\nqueue = 7\n[service.digits.local]");
    assert_eq!(change.live, ["gateway.queue", "service.digits.queue"]);
    assert!(change.at_start.is_empty());
}

#[test]
fn what_was_bound_launched_or_written_at_the_start_is_told_apart() {
    let cases = [
        ("id = 'gw'", "id = 'other'", "node.id"),
        ("[budget]", "[mqtt]\nrefresh = '5s'\n[budget]", "mqtt.refresh"),
        ("[budget]", "[budget]\ncurrency = 'USD'", "budget.currency"),
        ("kind = 'process'", "kind = 'process'\ncpus = [0]", "adapter.cloud.cpus"),
        ("model = 'builtin:digits'", "model = 'builtin:digits'\nconcurrency = 3", "service.digits.local.concurrency"),
    ];
    for (what, by, key) in cases {
        assert_eq!(replaced(what, by), Change { live: Vec::new(), at_start: vec![key.into()] }, "{key}");
    }
}

#[test]
fn a_program_in_a_models_place_is_live_unless_the_service_is_asked_over_mqtt() {
    let (model, program) = ("runtime = 'onnx'\nmodel = 'builtin:digits'", "runtime = 'process'\ncommand = ['server']");
    let plain = replaced(model, program);
    assert_eq!(plain.at_start, Vec::<String>::new(), "{plain:?}");
    let asked = BASE.replace("[budget]", "[service.digits.mqtt]\nenabled = true\n[budget]");
    let path = change(&asked, &asked.replace(model, program)).at_start;
    assert_eq!(path, ["service.digits.mqtt.path"], "by which it was subscribed to");
}

#[test]
fn services_and_adapters_come_and_go_as_whole_tables() {
    let service = "[service.more.local]\nruntime = 'onnx'\nmodel = 'builtin:digits'\n[budget]";
    let adapter = "[adapter.other]\nkind = 'process'\nprice_per_hour = 1.0\n[budget]";
    for (table, name) in [(service, "service.more"), (adapter, "adapter.other")] {
        let live = Change { live: vec![name.into()], at_start: Vec::new() };
        assert_eq!(replaced("[budget]", table), live);
        assert_eq!(change(&BASE.replace("[budget]", table), BASE), live);
    }
    // Links subscribe to requests as they begin.
    let asked = format!("[service.more.mqtt]\nenabled = true\n{service}");
    assert_eq!(replaced("[budget]", &asked).at_start, ["service.more"]);
    assert_eq!(change(&BASE.replace("[budget]", &asked), BASE).live, ["service.more"]);
}
