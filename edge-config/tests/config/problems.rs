//! What is refused, in which words.

use edge_config::{Origin, Sources, load};

use crate::{Folder, SERVICE, any_problems, config, problems};

/// Asserts that a main file has exactly this problem.
#[track_caller]
fn one(text: &str, expected: &str) {
    assert_eq!(problems(text), [expected], "for\n{text}");
}

/// Asserts that a service with these tables added has exactly one problem, which contains `expected`.
#[track_caller]
fn service(text: &str, expected: &str) {
    let found = problems(&format!("{SERVICE}{text}"));
    assert!(found.len() == 1 && found[0].contains(expected), "expected {expected:?}, found {found:#?}");
}

#[test]
fn many_mistakes_in_many_places_are_told_at_once() {
    let folder = Folder::new();
    folder.write("conf.d/10-site.toml", "[budget]\ncurrency = \"Euro\"\n");
    let text = "\
[node]
id = \"Gateway 7\"
tik = \"1s\"

[service.digits.local]
runtime = \"onnx\"
max_replicas = 0

[service.digits.scaling]
policy = \"predictve\"
threshold = 80
";
    let errors = load(folder.sources(text).env([("TIDEGATE__GATEWAY__QUEUE", "many")])).unwrap_err();
    let expected = "\
8 problems in the configuration:
  conf.d/10-site.toml:2: budget.currency = \"Euro\" must be three capital letters, as in \"EUR\"
  edge.toml:2: node.id = \"Gateway 7\" must be 1 to 40 of a-z, 0-9 and -, and not \"all\" (every node)
  edge.toml:3: node.tik is not a known key; did you mean `tick`?
  edge.toml:5: service.digits.local.model is missing; it must be the path of an .onnx file, or \"builtin:digits\"
  edge.toml:7: service.digits.local.max_replicas = 0 must be a whole number from 1 to 256
  edge.toml:10: service.digits.scaling.policy = \"predictve\" must be threshold, concurrency or predictive; did you mean \"predictive\"?
  edge.toml:11: service.digits.scaling.threshold = 80 must be a fraction (0.80 is 80 %) above 0, at most 10
  environment variable TIDEGATE__GATEWAY__QUEUE: gateway.queue = \"many\" must be a whole number from 0 to 100000";
    assert_eq!(folder.text(&errors), expected);

    let first = &errors.problems()[1];
    assert_eq!((first.key.as_str(), first.value.as_deref()), ("node.id", Some("\"Gateway 7\"")));
    assert!(matches!(&first.origin, Origin::File { line: Some(2), path } if path.ends_with("edge.toml")));
}

#[test]
fn unknown_keys_suggest_the_nearest_or_list_what_there_is() {
    one("[node]\nstatedir = \"/x\"", "edge.toml:2: node.statedir is not a known key; did you mean `state_dir`?");
    one("[services.x]", "edge.toml:1: services is not a known key; did you mean `service`?");
    one("[console]\nport = 1", "edge.toml:2: console.port is not a known key of version 0.1.0; here it may be listen");
    service(
        "[service.s.scale]",
        "service.s.scale is not a known key of version 0.1.0; here it may be placement, residency, peers,",
    );
    service("[service.s.burts]\nadapters = []", "did you mean `burst`?");
    let found = problems("[mqtt]\npassword = \"hunter2\"");
    assert!(found[0].contains("mqtt.password is not a known key") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn an_unknown_key_in_the_environment_is_a_problem_too() {
    let sources = Sources::default().env([("TIDEGATE__NODE__STATEDIR", "/x"), ("TIDEGATE__NODE", "x")]);
    let errors = load(sources).unwrap_err().to_string();
    assert!(errors.contains("TIDEGATE__NODE: node is a section; name a key in it"), "{errors}");
    assert!(errors.contains("node.statedir is not a known key; did you mean `state_dir`?"), "{errors}");
    let errors = load(Sources::default().env([("TIDEGATE__NODE__", "x")])).unwrap_err().to_string();
    assert!(errors.contains("has an empty part"), "{errors}");
}

#[test]
fn wrong_types_are_problems_like_any_other() {
    one("[node]\nid = 7", "edge.toml:2: node.id = 7 must be 1 to 40 of a-z, 0-9 and -, and not \"all\"");
    one("[node]\ntick = 5", "edge.toml:2: node.tick = 5 must be a duration from \"50ms\" to \"1m\"");
    one("[mqtt]\njson = \"yes\"", "edge.toml:2: mqtt.json = \"yes\" must be true or false");
    one("[gateway]\nqueue = \"5\"", "edge.toml:2: gateway.queue = \"5\" must be a whole number from 0 to 100000");
    one("[gateway]\nqueue = 1.5", "edge.toml:2: gateway.queue = 1.5 must be a whole number from 0 to 100000");
    one(
        "[budget]\nper_hour = nan",
        "edge.toml:2: budget.per_hour = NaN must be an amount of money from 0 to 1000000000",
    );
    one("[service]\nx = 3", "edge.toml:2: service.x = 3 must be a table");
    one("[node]\nlog = 2026-01-01", "edge.toml:2: node.log = 2026-01-01 must not be a date; put quotes around a text");
    one(
        "[gateway]\nqueue = 99999999999999999999",
        "edge.toml:2: gateway.queue = 99999999999999999999 must be a number within 64 bits",
    );
    service("[service.s]\nlocal = 3", "duplicate key");
}

#[test]
fn values_outside_of_a_table_are_told_together_with_the_rest() {
    let found = problems("node = 3\n[mqtt]\njson = 1");
    assert_eq!(
        found,
        [
            "edge.toml:1: node is not allowed outside of a table; tables are node, mqtt, gateway, console, service, \
             adapter or budget",
            "edge.toml:3: mqtt.json = 1 must be true or false"
        ]
    );
}

#[test]
fn what_repeats_is_a_table_by_name() {
    one("[[service]]\nname = \"s\"", "edge.toml:1: service must be tables by name, as in [service.NAME]");
    one("adapter = \"a\"", "edge.toml:1: adapter must be tables by name, as in [adapter.NAME]");
}

#[test]
fn every_syntax_error_of_every_file_is_told_with_its_line() {
    let folder = Folder::new();
    folder.write("conf.d/a.toml", "[budget\n");
    let errors = load(folder.sources("[node]\nid = \"a\nlog = \"x\"\n")).unwrap_err();
    let text = folder.text(&errors);
    assert!(text.contains("conf.d/a.toml:1: this line is no TOML here: "), "{text}");
    assert!(text.contains("edge.toml:2: this line is no TOML here: "), "{text}");
    let twice = problems("[node]\nid = \"a\"\nid = \"b\"");
    assert!(twice.len() == 1 && twice[0].starts_with("edge.toml:3: ") && twice[0].contains("duplicate key"));
}

#[test]
fn files_that_are_none_are_told_apart() {
    let folder = Folder::new();
    let read = |path| {
        let errors = load(Sources { file: Some(path), ..Sources::default() }).unwrap_err();
        folder.text(&errors)
    };
    let missing = read(folder.0.path().join("none.toml"));
    assert!(missing.contains("none.toml: this file cannot be read: No such file"), "{missing}");
    assert!(read(folder.0.path().to_owned()).contains("this file cannot be read: "));
    assert!(read(folder.write("binary.toml", [0xff, 0xfe])).contains("this file is not UTF-8 text"));
    let huge = read(folder.write("huge.toml", vec![b'#'; (1 << 20) + 1]));
    assert!(huge.contains("this file has more than 1048576 bytes"), "{huge}");

    let conf_d = Some(folder.write("conf.d", "a file"));
    let errors = load(Sources { conf_d, ..Sources::default() }).unwrap_err().to_string();
    assert!(errors.contains("this folder cannot be listed"), "{errors}");
}

#[test]
fn listeners_beyond_loopback_are_refused_with_what_to_do() {
    let found = problems("[console]\nlisten = \"0.0.0.0:9999\"");
    assert!(found[0].contains("listen = \"0.0.0.0:9999\" reaches beyond this machine, and authentication is not"));
    assert!(found.len() == 1 && found[0].contains("use a loopback address"), "{found:?}");
    let found = problems("[mqtt]\nlisten = \"0.0.0.0:9999\"");
    assert!(found[0].contains("listen = \"0.0.0.0:9999\" reaches beyond this machine, and there anybody"), "{found:?}");
    assert!(found.len() == 1 && found[0].contains("mqtt.listen_tls = \"0.0.0.0:8883\""), "{found:?}");
    let found = problems("[gateway]\nlisten = \"[::]:8080\"");
    assert!(found.len() == 1 && found[0].ends_with("with gateway.allow_unauthenticated = true"), "{found:?}");
    let open = config("[gateway]\nlisten = \"0.0.0.0:80\"\nallow_unauthenticated = true");
    assert!(open.gateway.listen.ip().is_unspecified());
    for loopback in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        config(&format!("[console]\nlisten = \"{loopback}\""));
    }
    let found = problems("[console]\nlisten = \"localhost:80\"");
    assert!(found[0].contains("must be an IP address and a port"), "{found:?}");
}

#[test]
fn a_hub_is_the_embedded_brokers_and_its_users_come_in_by_tls() {
    let hub = config("[mqtt]\nlisten_tls = \"0.0.0.0:8883\"\nusers_file = \"/etc/tidegate/users\"").mqtt;
    assert_eq!(hub.hub().unwrap().listen, "0.0.0.0:8883".parse().unwrap());
    assert_eq!(hub.hub().unwrap().users_file.as_deref(), Some(std::path::Path::new("/etc/tidegate/users")));
    assert!(hub.embedded_listen().unwrap().ip().is_loopback(), "this box keeps its own listener");
    assert!(config("[mqtt]\nlisten_tls = \"[::]:0\"").mqtt.hub().unwrap().users_file.is_none());
    assert!(config("[mqtt]\nlisten_tls = \"[::]:0\"\nenabled = false").mqtt.hub().is_none());
    assert!(config("").mqtt.hub().is_none());
    one(
        "[mqtt]\nusers_file = \"/etc/tidegate/users\"",
        "edge.toml:2: mqtt.users_file = \"/etc/tidegate/users\" is for those who come in by mqtt.listen_tls; set that, or remove it",
    );
    let found = problems("[mqtt]\nbroker = \"mqtts://hub\"\nlisten_tls = \"0.0.0.0:8883\"\nusers_file = \"u\"");
    assert!(found.len() == 2 && found.iter().all(|one| one.contains("but mqtt.broker names another")), "{found:?}");
    one(
        "[mqtt]\nlisten_tls = \"0.0.0.0:1883\"",
        "edge.toml:2: mqtt.listen_tls = \"0.0.0.0:1883\" is the address of mqtt.listen too; give each its own port",
    );
    let found = problems("[mqtt]\nlisten_tls = \"0.0.0.0:8081\"");
    assert!(found.len() == 1 && found[0].contains("console.listen is the address of mqtt.listen_tls"), "{found:?}");
}

#[test]
fn two_listeners_on_one_port_are_refused() {
    one(
        "[gateway]\nlisten = \"127.0.0.1:1883\"",
        "edge.toml:2: gateway.listen = \"127.0.0.1:1883\" is the address of mqtt.listen too; give each its own port",
    );
    let found = problems("[gateway]\nlisten = \"0.0.0.0:8081\"\nallow_unauthenticated = true");
    assert!(found.len() == 1 && found[0].contains("console.listen is the address of gateway.listen too"), "{found:?}");
    config("[gateway]\nlisten = \"127.0.0.1:0\"\n[console]\nlisten = \"127.0.0.1:0\"");
    config("[gateway]\nlisten = \"127.0.0.1:1883\"\n[mqtt]\nbroker = \"mqtt://hub\"");
}

#[test]
fn exactly_one_broker_is_used() {
    let both = "[mqtt]\nbroker = \"mqtt://hub\"\nlisten = \"127.0.0.1:1\"";
    let found = problems(both);
    assert!(found.len() == 1 && found[0].contains("only one is used; remove either"), "{found:?}");
    let found = problems("[mqtt]\nusername = \"me\"");
    assert!(found.len() == 1 && found[0].contains("is for a broker elsewhere; set mqtt.broker"), "{found:?}");
    let found = problems("[mqtt]\nbroker = \"mqtt://hub\"\npassword_file = \"/x\"");
    assert!(found.len() == 1 && found[0].contains("needs mqtt.username beside it"), "{found:?}");
    let found = problems("[mqtt]\nbroker = \"mqtt://me:hunter2@hub\"\nusername = \"me\"");
    assert!(found.len() == 1 && !found[0].contains("hunter2") && found[0].contains("password_file"), "{found:?}");
    let found = problems("[mqtt]\nbroker = \"mqtt://hub\"\nca_file = \"/x\"");
    assert!(found.len() == 1 && found[0].contains("write mqtt.broker with mqtts://"), "{found:?}");
    let found = problems("[mqtt]\nbroker = \"mqtts://hub\"\nkey_file = \"/x\"");
    assert!(found.len() == 1 && found[0].contains("needs mqtt.certificate_file beside it"), "{found:?}");
}

#[test]
fn what_a_later_version_brings_is_said_to_come() {
    for kind in ["slurm", "nomad", "ecs", "lepton"] {
        let line = format!(
            "edge.toml:2: adapter.a.kind = {kind:?} is not yet available, use process, docker, ssh, exec or kubernetes"
        );
        one(&format!("[adapter.a]\nkind = {kind:?}"), &line);
    }
    for runtime in ["container", "external"] {
        let line =
            format!("edge.toml:2: service.s.local.runtime = {runtime:?} is not yet available, use onnx or process");
        one(&format!("[service.s.local]\nruntime = {runtime:?}\nmodel = \"left alone\""), &line);
    }
    one(
        "[adapter.a]\nkind = \"proces\"",
        "edge.toml:2: adapter.a.kind = \"proces\" must be process, docker, ssh, exec or kubernetes; did you mean \"process\"?",
    );
}

#[test]
fn a_service_needs_what_its_runtime_runs() {
    one("[service.s]\nqueue = 1", "edge.toml:1: service.s.local.runtime is missing; it must be onnx or process");
    one(
        "[service.s.local]\nruntime = \"process\"",
        "edge.toml:1: service.s.local.command is missing; it must be an array of text, as in [\"python3\", \"app.py\", \
         \"--port\", \"{port}\"]",
    );
    let onnx = "[service.s.local]\nruntime = \"onnx\"\n";
    let found = problems(onnx);
    assert!(found.len() == 1 && found[0].contains("service.s.local.model is missing"), "{found:?}");
    let found = problems(&format!("{onnx}model = \"builtin:cats\""));
    assert!(found[0].contains("must be the path of an .onnx file, or \"builtin:digits\""), "{found:?}");
    let found = problems(&format!("{onnx}model = \"m.onnx\"\ncommand = [\"x\"]"));
    assert!(found.len() == 1 && found[0].contains("is for runtime = \"process\""), "{found:?}");
    service("threads = 2", "service.s.local.threads = 2 is for runtime = \"onnx\"");
    for command in ["[]", "[\"\"]", "[1]", "\"x y\""] {
        let found = problems(&format!("[service.s.local]\nruntime = \"process\"\ncommand = {command}"));
        assert!(found.len() == 1 && found[0].contains("must be an array of text"), "{command}: {found:?}");
    }
}

#[test]
fn a_burst_needs_an_adapter_that_exists() {
    let adapter = "[adapter.demo-cloud]\nkind = \"process\"\n";
    service("[service.s.burst]\nmax_replicas = 2", "service.s.burst.adapters is missing");
    service("[service.s.burst]\nadapters = []", "must be an array of adapters' names");
    service("[service.s.burst]\nadapters = [\"a\"]", "no adapter is called that; add a table [adapter.a]");
    service(&format!("[service.s.burst]\nadapters = [\"demo-clod\"]\n{adapter}"), "did you mean \"demo-cloud\"?");
    service(&format!("[service.s.burst]\nadapters = [\"x\"]\n{adapter}"), "there is demo-cloud");
    service(&format!("[service.s.burst]\nadapters = [\"demo-cloud\", \"demo-cloud\"]\n{adapter}"), "twice");
}

#[test]
fn replicas_must_be_able_to_reach_their_minimum() {
    service("max_replicas = 2\n[service.s.scaling]\nmin_replicas = 3", "must be at most 2");
    let burst = "[service.s.burst]\nadapters = [\"a\"]\nmax_replicas = 1\n[adapter.a]\nkind = \"process\"\n";
    config(&format!("{SERVICE}max_replicas = 2\n{burst}[service.s.scaling]\nmin_replicas = 3"));
    service("max_replicas = 0\n[service.s.scaling]\nmin_replicas = 3", "from 1 to 256");
}

#[test]
fn thresholds_stand_in_their_metrics_unit() {
    let scaling = |text: &str, expected: &str| service(&format!("[service.s.scaling]\n{text}"), expected);
    scaling("metric = \"cpu\"\nthreshold = 80", "must be a fraction (0.80 is 80 %) above 0, at most 1");
    scaling("metric = \"memory\"\nthreshold = 1", "must be under 1.0");
    scaling("threshold = 0", "above 0, at most 10");
    scaling("metric = \"latency_p95\"\nthreshold = 0.2", "must be a duration from \"1ms\" to \"10m\"");
    scaling("metric = \"latency_p95\"", "threshold is missing; it must be a duration from \"1ms\" to \"10m\"");
    scaling("metric = \"request_rate\"", "threshold is missing; it must be requests a second above 0");
    scaling("metric = \"network\"", "metric = \"network\" needs node.link_speed_mbit");
    scaling(
        "metric = \"gpu\"\nthreshold = 80",
        "must be utilisation, cpu, memory, network, request_rate or latency_p95",
    );
    scaling("threshold = 0.2\nband = 0.4", "band = 0.4 must be under 0.4, twice the threshold");
    scaling("metric = \"cpu\"\nthreshold = 0.9\nband = 0.3", "with threshold = 0.9 its upper edge is beyond 1.0");
    scaling("metric = \"latency_p95\"\nthreshold = \"100ms\"\nband = \"1s\"", "must be under \"200ms\"");
    scaling("scale_factor = 0", "must be replicas a minute above 0");
    scaling("interval = \"500ms\"", "must be at least one tick (node.tick is \"1s\")");
    scaling("window = \"500ms\"", "must be at least one tick");
    scaling("late_request_cost = -1", "must be an amount of money from 0");
    scaling("policy = \"predictve\"", "must be threshold, concurrency or predictive; did you mean \"predictive\"?");
    scaling("policy = \"predictive\"\nthreshold = 0.5", "threshold = 0.5 is for policy = \"threshold\"; remove it");
    scaling("policy = \"concurrency\"\nlate_after = \"2s\"", "is for policy = \"predictive\"; remove it");
    scaling("policy = \"threshold\"\ntarget_utilisation = 0.5", "is for policy = \"concurrency\"; remove it");
    scaling("policy = [\"threshold\", \"threshold\"]", "names \"threshold\" twice");
    scaling("policy = []", "must be threshold, concurrency or predictive, or an array of several of them");
    scaling("policy = [\"threshold\", \"concurency\"]", "did you mean \"concurrency\"?");
    scaling("policy = [\"threshold\", \"concurrency\"]\nlate_after = \"2s\"", "is for policy = \"predictive\"");
    scaling("policy = \"concurrency\"\ntarget_utilisation = 1.5", "must be a fraction (0.70 is 70 %) above 0");
    scaling("policy = \"predictive\"\nlate_after = \"0s\"", "must be a duration from \"1ms\" to \"1h\"");
}

#[test]
fn adapters_have_a_kind_a_name_and_a_lease_that_can_be_renewed() {
    one("[adapter.a]", "edge.toml:1: adapter.a.kind is missing; it must be process, docker, ssh, exec or kubernetes");
    let adapter = |text: &str| any_problems(&format!("[adapter.a]\nkind = \"process\"\n{text}")).join("\n");
    assert!(adapter("lease_ttl = \"4s\"").contains("must be a duration from \"5s\" to \"1day\""));
    for price in ["-0.4", "0"] {
        let told = adapter(&format!("price_per_hour = {price}"));
        assert!(told.contains("(free = true instead, where it costs nothing), above 0"), "{told}");
    }
    assert_eq!(adapter("free = true"), "");
    assert!(adapter("free = true\nprice_per_hour = 1").contains("remove it, or remove free = true"));
    assert!(adapter("region = \"Europe West\"").contains("as in \"eu-central\""));
    assert!(adapter("cpus = [0, 0]").contains("each once"));
    assert!(adapter("cpus = [-1]").contains("CPU numbers from 0 to 1023"));
    assert!(adapter("billing_step = \"0s\"").contains("from \"1s\""));
    one("[adapter.A]\nkind = \"process\"", "edge.toml:1: adapter.A as a name must be 1 to 40 of a-z, 0-9 and -");
    let found = problems("[service.\"a/b\".local]\nruntime = \"process\"\ncommand = [\"x\"]");
    assert!(found.len() == 1 && found[0].contains("service.a/b as a name must be 1 to 40"), "{found:?}");
}

#[test]
fn each_kind_of_adapter_has_keys_of_its_own_and_a_price() {
    let adapter = |text: &str| any_problems(&format!("[adapter.a]\n{text}")).join("\n");
    let of = |kind: &str, text: &str| adapter(&format!("kind = \"{kind}\"\nfree = true\n{text}"));
    assert!(adapter("kind = \"docker\"").contains("price_per_hour is missing: what one instance costs an hour"));
    assert!(adapter("kind = \"dokcer\"").contains("did you mean \"docker\"?"));
    assert!(adapter("kind = \"slurm\"").contains("is not yet available, use process, docker, ssh, exec or kubernetes"));
    assert_eq!(of("docker", ""), "");
    assert!(of("docker", "cpus = [0]").contains("is for kind = \"process\"; remove it, or change the kind"));
    assert!(of("docker", "host = \"/var/run/docker.sock\"").contains("must be unix:///PATH, tcp://HOST:PORT"));
    assert!(of("docker", "tls_ca = \"ca.pem\"").contains("set tls_ca, tls_cert and tls_key, or none of them"));
    assert!(of("docker", "publish = \"eth0\"").contains("must be an IP address"));
    assert!(of("ssh", "").contains("host is missing; it must be a text without spaces"));
    assert!(of("ssh", "host = \"-oProxyCommand=x\"").contains("does not begin with -"));
    assert!(of("ssh", "host = \"box\"\nport = 0").contains("from 1 to 65535"));
    assert!(of("exec", "").contains("command is missing"));
    assert!(of("exec", "command = [\"a\"]\nsecrets = \"KEY=hunter2\"").contains("adapter.a.secrets"));
    assert!(of("kubernetes", "reach = \"ingress\"").contains("ingress_host is missing"));
    assert!(of("kubernetes", "reach = \"pods\"").contains("did you mean \"pod\"?"));
    assert_eq!(of("kubernetes", "namespace = \"burst\"\nnode_selector = { gpu = \"a100\" }"), "");
}

/// A service that bursts to `a` and `b`, with these tables added.
fn bursting(text: &str) -> Vec<String> {
    let adapters =
        "[service.s.burst]\nadapters = [\"a\", \"b\"]\n[adapter.a]\nkind = \"process\"\n[adapter.b]\nkind = \"exec\"";
    any_problems(&format!("{SERVICE}{adapters}\ncommand = [\"x\"]\n{text}"))
}

#[test]
fn a_budget_that_cannot_hold_one_instance_is_told_with_what_one_needs() {
    let found = bursting("price_per_hour = 36.0\n[budget]\nper_hour = 0.01");
    assert_eq!(found, Vec::<String>::new(), "a is free");
    let text = "[adapter.a]\nkind = \"process\"\nprice_per_hour = 36.0\n[budget]\nper_hour = 3.77\nper_day = 100";
    let found = any_problems(text);
    assert!(
        found.len() == 1 && found[0].contains("per_hour = 3.77 holds no instance of any adapter: one of a needs 3.78"),
        "{found:?}"
    );
    assert!(found[0].contains("raise the cap, or lower adapter.a.lease_ttl"), "{found:?}");
    let enough = text.replace("3.77", "3.79");
    assert_eq!(any_problems(&enough), Vec::<String>::new());
    let minimum = text.replace("price_per_hour", "minimum_billing = \"1h\"\nprice_per_hour");
    let found = any_problems(&minimum);
    assert!(found[0].contains("needs 36.0") && found[0].contains("or lower adapter.a.minimum_billing"), "{found:?}");
}

#[test]
fn adapters_that_placement_or_residency_forbid_are_told_when_none_is_left() {
    let somewhere = "free = true\nregion = \"us-east\"\n";
    assert_eq!(
        bursting(&format!("{somewhere}[service.s]\nresidency = [\"eu-central\"]")).len(),
        0,
        "a is on this machine"
    );
    let only_b = |text: &str| {
        let adapters = "[service.s.burst]\nadapters = [\"b\"]\n[adapter.b]\nkind = \"exec\"\ncommand = [\"x\"]";
        any_problems(&format!("{SERVICE}{adapters}\n{somewhere}{text}")).join("\n")
    };
    assert!(
        only_b("[service.s]\nresidency = [\"eu-central\"]")
            .contains("its residency needs one with region = eu-central")
    );
    assert_eq!(only_b("[service.s]\nresidency = [\"eu-central\", \"us-east\"]"), "");
    assert!(only_b("[service.s]\nplacement = \"site\"").contains("it needs one with site = true"));
    assert_eq!(only_b("site = true\n[service.s]\nplacement = \"site\""), "");
    assert!(only_b("[service.s]\nresidency = [\"EU\"]").contains("must be an array of regions"));
}

#[test]
fn what_is_only_on_this_machine_goes_only_where_files_are_taken() {
    let folder = Folder::new();
    let model = folder.write("m.onnx", "");
    let text = |more: &str| {
        format!(
            "[service.s.local]\nruntime = \"onnx\"\nmodel = {:?}\n[service.s.burst]\nadapters = [\"a\"]\n{more}\n\
             [adapter.a]\nkind = \"kubernetes\"\nfree = true",
            model.display().to_string()
        )
    };
    let found = any_problems(&text(""));
    assert!(
        found.len() == 1 && found[0].contains("brings no files of this machine to its instances, and the model"),
        "{found:?}"
    );
    assert_eq!(any_problems(&text("command = [\"serve\", \"/in/the/image.onnx\"]")), Vec::<String>::new());
    let files = "[service.s.burst.files]\napp = \"/nonexistent/app.py\"";
    let found = any_problems(&text(files));
    assert!(
        found.iter().any(|problem| problem.contains("files.app") && problem.contains("is no file on this machine")),
        "{found:?}"
    );
}

#[test]
fn an_image_is_for_adapters_that_run_images() {
    let text = |kind: &str| {
        format!(
            "[service.s.local]\nruntime = \"process\"\ncommand = [\"serve\"]\n[service.s.burst]\nadapters = [\"a\"]\n\
             image = \"s:1\"\n[adapter.a]\nfree = true\nkind = {kind}"
        )
    };
    for kind in ["\"process\"", "\"ssh\"\nhost = \"box\"", "\"exec\"\ncommand = [\"/bin/true\"]"] {
        let found = any_problems(&text(kind));
        assert!(found.len() == 1 && found[0].contains("\"a\", which runs no images"), "{kind}: {found:?}");
    }
    for kind in ["\"docker\"", "\"exec\"\ncommand = [\"/bin/true\"]\nruns_images = true"] {
        assert_eq!(any_problems(&text(kind)), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn a_wrong_environment_of_a_replica_is_told_without_its_values() {
    let found = problems(&format!("{SERVICE}env = {{ TOKEN = \"hunter2\", PORT = 5 }}"));
    assert!(found.len() == 1 && found[0].contains("\"PORT\" is not") && !found[0].contains("hunter2"), "{found:?}");
    let found = problems(&format!("{SERVICE}env = \"TOKEN=hunter2\""));
    assert!(found.len() == 1 && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn a_broken_value_brings_no_follow_up_problems() {
    let text = "[node]\ntick = \"2s\"\n[service.s.scaling]\nmetric = \"cpuu\"\nthreshold = 5\nband = 9";
    service(text, "did you mean \"cpu\"?");
    let burst = "[service.s.burst]\nadapters = [\"a\"]\n[adapter.a]\nkind = \"slurm\"";
    service(burst, "adapter.a.kind = \"slurm\" is not yet available");
}

#[test]
fn durations_that_would_overflow_are_refused_and_long_values_are_cut() {
    let found = problems("[node]\ndrain_timeout = \"18446744073709551615s1000ms\"");
    assert!(found[0].contains("must be a duration"), "{found:?}");
    let found = problems(&format!("[node]\nid = \"{}\"", "x".repeat(5000)));
    assert!(found.len() == 1 && found[0].len() < 200, "{found:?}");
}

#[test]
fn a_model_that_instances_fetch_has_an_address_and_a_digest_and_is_for_the_built_in_server() {
    let model = "runtime = \"onnx\"\nmodel = \"builtin:digits\"\n";
    let with = |local: &str, burst: &str| {
        any_problems(&format!(
            "[service.s.local]\n{local}[service.s.burst]\nadapters = [\"a\"]\n{burst}\n[adapter.a]\nkind = \"exec\"\n\
             command = [\"x\"]\nfree = true"
        ))
    };
    let digest = format!("model_sha256 = \"{}\"", "0a".repeat(32));
    let url = "model = \"https://models.example/digits.onnx\"";
    assert_eq!(with(model, &format!("{url}\n{digest}")), Vec::<String>::new());
    let told = |local: &str, burst: &str, words: &str| {
        let found = with(local, burst);
        assert!(found.iter().any(|problem| problem.contains(words)), "{burst}: {found:?}");
    };
    told(model, url, "model_sha256 is missing; with burst.model it must be 64 hexadecimal digits");
    told(model, &digest, "model is missing; with burst.model_sha256 it must be the address of an ONNX file");
    told(
        model,
        &format!("model = \"models/digits.onnx\"\n{digest}"),
        "must be an address that begins with https:// or http://",
    );
    for wrong in ["https:///digits.onnx", "https://user:secret@models.example/digits.onnx"] {
        told(model, &format!("model = \"{wrong}\"\n{digest}"), "and a host, without user and password");
    }
    told(model, &format!("{url}\nmodel_sha256 = \"0a\""), "must be 64 hexadecimal digits");
    told(model, &format!("{url}\n{digest}\ncommand = [\"y\"]"), "is for what the built-in server runs");
    let process = "runtime = \"process\"\ncommand = [\"z\"]\n";
    told(process, &format!("{url}\n{digest}"), "is for what the built-in server runs");
}

#[test]
fn who_is_asked_over_mqtt_needs_a_broker_and_a_path() {
    let asked = "[service.s.mqtt]\nenabled = true\n";
    let found = problems(&format!("{SERVICE}{asked}[mqtt]\nenabled = false"));
    assert!(found.len() == 1 && found[0].contains("needs mqtt.enabled = true"), "{found:?}");
    for path in ["", "classify", "/a b", "/a#b", "/\u{e4}"] {
        let found = problems(&format!("{SERVICE}{asked}path = {path:?}"));
        assert!(found.len() == 1 && found[0].contains("must be a path as in"), "{path:?}: {found:?}");
    }
    let found = problems("[mqtt]\ninfer = \"ovn\"");
    assert!(found.len() == 1 && found[0].contains("did you mean \"own\"?"), "{found:?}");
    let found = problems(&format!("{SERVICE}[service.s.mqtt]\nenable = true"));
    assert!(found.len() == 1 && found[0].contains("did you mean `enabled`?"), "{found:?}");
}

#[test]
fn a_listener_for_other_nodes_needs_a_fleet_a_way_to_it_and_a_port_of_its_own() {
    let node = "[node]\ncredentials = \"/etc/tidegate/credentials\"\n";
    let found = |gateway: &str| problems(&format!("{node}[gateway]\n{gateway}"));
    let advised = |gateway: &str, advice: &str| {
        let found = found(gateway);
        assert!(found.len() == 1 && found[0].contains(advice), "expected {advice:?}, found {found:#?}");
    };
    let alone = problems("[gateway]\npeer_listen = \"127.0.0.1:8443\"");
    assert!(alone.len() == 1 && alone[0].contains("`tidegate fleet enroll` and set node.credentials"), "{alone:?}");
    advised("peer_listen = \"0.0.0.0:8443\"", "set gateway.peer_host");
    advised("peer_host = \"gw-8.lan\"", "says how to reach gateway.peer_listen");
    advised("peer_listen = \"[::]:8443\"\npeer_host = \"gw-8.lan:8443\"", "without a port");
    advised("peer_listen = \"127.0.0.1:8080\"", "is the address of gateway.listen too");
    advised("peer_listen = \"127.0.0.1:8443\"\n[mqtt]\nenabled = false", "mqtt.enabled = false");
    let read = config(&format!("{node}[gateway]\npeer_listen = \"0.0.0.0:8443\"\npeer_host = \"fd00::8\"")).gateway;
    assert_eq!((read.peer_listen.map(|one| one.port()), read.peer_host.as_deref()), (Some(8443), Some("fd00::8")));
    let place = problems("[node]\nsite = \"Hall 3\"");
    assert!(place.len() == 1 && place[0].contains("must be one word"), "{place:?}");
}

#[test]
fn a_custom_metric_has_one_source_and_a_topic_of_its_own() {
    let metric = |text: &str, expected: &str| {
        service(&format!("[service.s.scaling]\nthreshold = 5\nmetric = {{ {text} }}"), expected);
    };
    metric("", "needs a topic, as in { topic = \"line1/queue\" }, or a path that each replica answers");
    metric("topic = \"a\", path = \"/b\"", "has a topic and a path; one of them tells the number");
    metric("topic = \"line1/+\"", "must be one topic: with + or # several would tell the same number");
    metric("topic = \"\"", "must be an MQTT topic of at most 200 bytes");
    metric("topic = \"tidegate/v1/plant-a/node/x/load\"", "is no input");
    metric("topic = \"$SYS/load\"", "must be a topic of your own");
    metric("path = \"calls\"", "must be a path as in");
    metric("topic = \"a\", pointer = \"depth\"", "must begin with /, as in \"/depth\"");
    metric("topic = \"a\", max_age = \"10ms\"", "must be a duration from \"1s\" to \"1day\"");
    metric("topic = \"a\", pointr = \"/a\"", "did you mean `pointer`?");
    metric("path = \"/a\", per_replica = true", "is for a topic: what replicas answer is of each of them already");
    let scaling = |text: &str, expected: &str| service(&format!("[service.s.scaling]\n{text}"), expected);
    scaling("metric = { topic = \"a\" }", "threshold is missing; it must be a number in the metric's own unit above 0");
    scaling("policy = \"predictive\"\nmetric = { topic = \"a\" }", "is for policy = \"threshold\"");
    service(
        "[mqtt]\nenabled = false\n[service.s.scaling]\nthreshold = 5\nmetric = { topic = \"a\" }",
        "needs mqtt.enabled = true: without it there is no broker to hear a topic from",
    );
}
