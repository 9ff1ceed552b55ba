//! Every example that we ship or print is a configuration.

use std::path::Path;

use edge_config::{ModelSource, Profile, Runtime, ScalingPolicy, Sources, load};

use crate::Folder;

/// The example of the design document, with its policy to be filled in.
const DESIGN_EXAMPLE: &str = r#"
[node]
id = "gateway-7"
fleet = "plant-a"

[service.digits.local]
runtime = "onnx"               # onnx | process | container | external
model = "digits.onnx"
max_replicas = 2
concurrency = 4                # requests one replica takes at once
[service.digits.burst]
adapters = ["demo-cloud"]
max_replicas = 8
[service.digits.scaling]
policy = "POLICY"

[adapter.demo-cloud]
kind = "process"               # process | docker | ssh | exec | kubernetes | slurm | nomad | ecs | lepton
price_per_hour = 0.40
minimum_billing = "60s"

[budget]
currency = "EUR"
per_hour = 2.00
per_day = 20.00
"#;

#[test]
fn every_file_in_profiles_is_compiled_in_and_loads() {
    let mut files = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles")).unwrap() {
        let path = entry.unwrap().path();
        let profile: Profile = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!(profile.text(), std::fs::read_to_string(&path).unwrap());
        let compiled_in = load(Sources { profile: Some(profile), ..Sources::default() }).unwrap();
        let from_file = load(Sources { file: Some(path), ..Sources::default() }).unwrap();
        assert_eq!(compiled_in.digest(), from_file.digest(), "{profile}");
        assert!((compiled_in.services["digits"].scaling.band - 0.10).abs() < 1e-12, "{profile}");
        files += 1;
    }
    assert_eq!(files, Profile::ALL.len());
}

/// The profile with what its comments offer: all lines below the paragraph that introduces it.
fn with_comments(head: &str, comments: &str) -> edge_config::Config {
    let offered = comments.lines().skip_while(|line| !line.starts_with("# ["));
    let offered: Vec<&str> = offered.map(|line| line.trim_start_matches("# ").trim_start_matches('#')).collect();
    let folder = Folder::new();
    load(folder.sources(&format!("{head}\n{}", offered.join("\n")))).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_burst_in_a_profiles_comments_is_a_configuration_too() {
    let text = Profile::GatewaySmall.text();
    let (head, comments) = text.split_once("# To burst").unwrap();
    let config = with_comments(head, comments);
    assert_eq!(config.services["digits"].instances_max(), 1);
}

#[test]
fn the_server_in_the_comments_of_the_gpu_profile_is_a_configuration_too() {
    let text = Profile::GatewayGpu.text();
    let (head, comments) = text.split_once("# A server of your own").unwrap();
    let config = with_comments(head, comments);
    assert_eq!((config.services.len(), config.services["llm"].local.concurrency), (2, 4));
}

#[test]
fn the_quickstart_is_what_its_comments_say() {
    let config = load(Sources { profile: Some(Profile::Quickstart), ..Sources::default() }).unwrap();
    let digits = &config.services["digits"];
    assert_eq!(digits.local.runtime, Runtime::Onnx { model: ModelSource::BuiltinDigits, threads: 1 });
    assert_eq!((digits.local.max_replicas, digits.local.concurrency), (2, 1));
    let step = digits.scaling.scale_factor * digits.scaling.interval.as_secs_f64() / 60.0;
    assert!((step - 2.0).abs() < 1e-9, "two at a time, not {step}");
    let adapter = &config.adapters["demo-cloud"];
    assert_eq!((adapter.kind.as_str(), adapter.minimum_billing.as_secs()), ("process", 60));
    assert_eq!((config.budget.per_hour, config.budget.per_day), (Some(2.0), Some(20.0)));
}

#[test]
fn the_designs_example_loads() {
    let folder = Folder::new();
    let config = load(folder.sources(&DESIGN_EXAMPLE.replace("POLICY", "predictive"))).unwrap();
    assert_eq!(config.services["digits"].local.concurrency, 4);
    assert_eq!(config.services["digits"].instances_max(), 8);
    assert_eq!(config.services["digits"].scaling.policies, [ScalingPolicy::Predictive]);
}

#[test]
fn a_profile_that_does_not_exist_is_refused_with_those_that_do() {
    let error = "quick".parse::<Profile>().unwrap_err().to_string();
    assert_eq!(
        error,
        "no profile is called \"quick\"; there are quickstart, gateway-small, gateway-gpu, hub and cellular"
    );
}
