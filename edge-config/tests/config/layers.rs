//! Which layer wins, and that each value knows where it is from.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use edge_config::{Config, Machine, ModelSource, Override, Profile, Runtime, Sources, load};

use crate::{Folder, SERVICE, config};

#[test]
fn later_layers_win_key_by_key() {
    let folder = Folder::new();
    folder.write("conf.d/20-b.toml", "[node]\nfleet = \"b\"\nlog = \"warn\"");
    folder.write("conf.d/10-a.toml", "[node]\nfleet = \"a\"\ntick = \"2s\"\nlog = \"debug\"");
    folder.write("conf.d/99-ignored.toml.bak", "nonsense");
    folder.write("conf.d/.hidden.toml", "nonsense");
    let sources = folder.sources("[node]\nid = \"main\"\nfleet = \"main\"\ntick = \"5s\"\ndrain_timeout = \"7s\"");
    let sources = sources
        .env([("TIDEGATE__NODE__LOG", "error"), ("TIDEGATE__NODE__DRAIN_TIMEOUT", "8s"), ("TIDEGATE_NO_CLOUD", "1")])
        .set(Override::new(["node", "drain_timeout"], "9s"));
    let node = load(sources).unwrap().node;
    assert_eq!(node.id.as_str(), "main");
    assert_eq!(node.tick, Duration::from_secs(2), "conf.d over the main file");
    assert_eq!(node.fleet.as_str(), "b", "conf.d in the order of names");
    assert_eq!(node.log, "error", "the environment over conf.d");
    assert_eq!(node.drain_timeout, Duration::from_secs(9), "arguments over the environment");
}

#[test]
fn every_value_tells_where_it_is_from() {
    let folder = Folder::new();
    let file = folder.write("conf.d/10.toml", "\n[gateway]\nqueue = 7");
    let sources = folder.sources("[node]\nid = \"main\"").env([("TIDEGATE__NODE__LOG", "error")]);
    let shown = load(sources.set(Override::new(["console", "listen"], "[::1]:0"))).unwrap().show();
    let main = file.parent().unwrap().with_file_name("edge.toml");
    for line in [
        format!("id = \"main\"  # {}:2", main.display()),
        format!("queue = 7  # {}:3", file.display()),
        "log = \"error\"  # environment variable TIDEGATE__NODE__LOG".to_owned(),
        "listen = \"[::1]:0\"  # command line".to_owned(),
        "tick = \"1s\"  # default".to_owned(),
        "# per_hour is not set".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line:?} is not in\n{shown}");
    }
}

#[test]
fn a_layer_changes_one_key_of_one_service() {
    let folder = Folder::new();
    folder.write("conf.d/x.toml", "[service.s.local]\nmax_replicas = 3\ncommand = [\"other\", \"x\"]");
    let service = &load(folder.sources(SERVICE)).unwrap().services["s"];
    assert_eq!(service.local.max_replicas, 3);
    let Runtime::Process { command } = &service.local.runtime else { panic!("not a process") };
    assert_eq!(command, &["other", "x"], "an array is replaced as a whole");
}

#[test]
fn variables_are_text_and_still_set_numbers_flags_arrays_and_names() {
    let folder = Folder::new();
    let sources = folder.sources(SERVICE).env([
        ("TIDEGATE__MQTT__JSON", "false"),
        ("TIDEGATE__GATEWAY__QUEUE", "5"),
        ("TIDEGATE__BUDGET__PER_HOUR", "1.5"),
        ("TIDEGATE__NODE__FLEET", "7"),
        ("TIDEGATE__SERVICE__S__LOCAL__COMMAND", "[\"a\", \"{port}\"]"),
        ("TIDEGATE__SERVICE__S__LOCAL__CPUS", "[1, 0]"),
        ("TIDEGATE__SERVICE__S__LOCAL__ENV__Api_Key", "hunter2"),
    ]);
    let config = load(sources).unwrap();
    assert!(!config.mqtt.json);
    assert_eq!(config.gateway.queue, 5);
    assert_eq!(config.budget.per_hour, Some(1.5));
    assert_eq!(config.node.fleet.as_str(), "7", "where text is asked for, a number is text");
    let local = &config.services["s"].local;
    assert_eq!(local.cpus, Some(vec![0, 1]));
    assert_eq!(local.env.iter().collect::<Vec<_>>(), [("Api_Key", "hunter2")]);
}

#[test]
fn a_variable_finds_a_name_with_a_dash_and_an_empty_one_goes_back_to_the_default() {
    let folder = Folder::new();
    let text = "[adapter.demo-cloud]\nkind = \"process\"\nprice_per_hour = 9\n[node]\nlog = \"debug\"";
    let sources = folder
        .sources(text)
        .env([("TIDEGATE__ADAPTER__DEMO_CLOUD__PRICE_PER_HOUR", "0.5"), ("TIDEGATE__NODE__LOG", "")]);
    let config = load(sources).unwrap();
    assert_eq!(config.adapters.len(), 1);
    assert!((config.adapters["demo-cloud"].price_per_hour - 0.5).abs() < 1e-12);
    assert_eq!(config.node.log, "info");
}

#[test]
fn relative_paths_in_a_file_are_relative_to_that_file() {
    let folder = Folder::new();
    let sources = folder.sources("[service.m.local]\nruntime = \"onnx\"\nmodel = \"m.onnx\"");
    let config = load(sources.env([("TIDEGATE__NODE__STATE_DIR", "/var/x")])).unwrap();
    assert_eq!(config.node.state_dir, Path::new("/var/x"));
    assert_eq!(model(&config, "m"), &ModelSource::File(folder.0.path().join("m.onnx")));
}

#[test]
fn defaults_come_from_the_machine() {
    let machine = Machine { host_name: "Edge_1.plant".to_owned(), root: false };
    let config = load(Sources { machine, ..Sources::default() }.env([("HOME", "/home/me")])).unwrap();
    assert_eq!(config.node.id.as_str(), "edge-1");
    assert_eq!(config.node.state_dir, Path::new("/home/me/.local/state/tidegate"));

    let machine = Machine { root: false, ..Machine::default() };
    let errors = load(Sources { machine, ..Sources::default() }).unwrap_err().to_string();
    assert!(errors.contains("node.state_dir is missing, and neither XDG_STATE_HOME nor HOME is set"), "{errors}");
}

#[test]
fn a_model_is_served_under_its_files_name_and_bursts_as_the_quickstart_does() {
    let model_file = |path: &str| Sources { model: Some(path.into()), ..Sources::default() };
    let config = load(model_file("/models/My Net.v2.onnx")).unwrap();
    let (name, service) = config.services.iter().next().unwrap();
    assert_eq!((name.as_str(), config.services.len()), ("my-net.v2", 1));
    assert_eq!(model(&config, "my-net.v2"), &ModelSource::File("/models/My Net.v2.onnx".into()));
    assert_eq!(service.local.max_replicas, 2);
    assert_eq!(service.burst.as_ref().unwrap().adapters[0].as_str(), "demo-cloud");
    assert_eq!(config.budget.per_hour, Some(2.0));

    let builtin = load(model_file("builtin:digits")).unwrap();
    assert_eq!(model(&builtin, "digits"), &ModelSource::BuiltinDigits);

    let errors = load(model_file("/models/….onnx")).unwrap_err().to_string();
    assert!(errors.contains("--model") && errors.contains("rename the file"), "{errors}");
}

#[test]
fn a_model_beside_a_file_takes_its_settings_from_the_file() {
    let folder = Folder::new();
    let mut sources = folder.sources("[service.net.local]\nmax_replicas = 5\nmodel = \"old.onnx\"");
    sources.model = Some("/models/net.onnx".into());
    let config = load(sources).unwrap();
    assert_eq!(config.services["net"].local.max_replicas, 5);
    assert_eq!(config.services["net"].burst, None, "the file names no adapter");
    assert_eq!(model(&config, "net"), &ModelSource::File("/models/net.onnx".into()), "the argument wins");
    assert!(config.adapters.is_empty());
}

#[test]
fn a_variable_that_is_no_text_is_a_problem_and_others_are_none_of_ours() {
    let broken = OsString::from_vec(vec![0xff]);
    let errors = load(Sources::default().env([("TIDEGATE__NODE__LOG", broken.clone())])).unwrap_err().to_string();
    assert!(errors.contains("environment variable TIDEGATE__NODE__LOG: node.log must be UTF-8 text"), "{errors}");
    assert!(load(Sources::default().env([("OTHER", broken)])).is_ok());
}

#[test]
fn the_digest_changes_with_the_values_and_with_nothing_else() {
    let digest = |text: &str| config(text).digest();
    let base = digest("[node]\ntick = \"1s\"");
    assert_eq!(base.len(), 12);
    assert_eq!(base, digest("# the default, said another way\n[node]\nid = \"other\"\ntick = \"1000ms\""));
    assert_ne!(base, digest("[node]\ntick = \"2s\""));
    assert_ne!(base, digest(SERVICE));
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    let folder = Folder::new();
    for profile in Profile::ALL {
        let config = load(Sources { profile: Some(profile), ..Sources::default() }).unwrap();
        let again = load(folder.sources(&config.show())).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.digest(), again.digest(), "{profile}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let text =
        format!("{SERVICE}env = {{ TOKEN = \"hunter2\" }}\n[mqtt]\nbroker = \"mqtt://hub\"\nusername = \"me\"\n");
    let config = config(&format!("{text}password_file = \"/run/secret\""));
    assert_eq!(config.services["s"].local.env.iter().next(), Some(("TOKEN", "hunter2")));
    assert!(!config.show().contains("hunter2") && config.show().contains("TOKEN = \"(hidden)\""));
    assert!(!format!("{config:?}").contains("hunter2"));
}

fn model<'a>(config: &'a Config, service: &str) -> &'a ModelSource {
    match &config.services[service].local.runtime {
        Runtime::Onnx { model, .. } => model,
        other => panic!("{other:?} has no model"),
    }
}
