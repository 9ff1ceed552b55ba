//! What a configuration that says little comes out as, and what one that says much is read as.

use std::time::Duration;

use edge_config::{Balance, Broker, Inference, Metric, MetricSource, PlacementRule, Ready, Runtime, ScalingPolicy};

use crate::{SERVICE, config};

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = config("");
    assert_eq!(config.node.id.as_str(), "localhost");
    assert_eq!(config.node.fleet.as_str(), "default");
    assert_eq!(config.node.tick, Duration::from_secs(1));
    assert_eq!(config.node.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.mqtt.embedded_listen(), Some("127.0.0.1:1883".parse().unwrap()));
    assert!(config.mqtt.enabled && config.mqtt.json);
    assert_eq!(config.gateway.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.gateway.max_body_bytes, 16 * 1024 * 1024);
    assert_eq!(config.gateway.balance, Balance::PeakEwma);
    assert_eq!(config.console.listen, "127.0.0.1:8081".parse().unwrap());
    assert_eq!(config.budget.currency, "EUR");
    assert!(config.services.is_empty() && config.adapters.is_empty());
}

#[test]
fn a_service_that_says_little_is_one_replica_that_stays_here() {
    let config = config(&format!("{SERVICE}[gateway]\nqueue = 9\nbalance = \"least_request\""));
    let service = &config.services["s"];
    assert_eq!(service.local.ready, Ready::Tcp);
    assert_eq!((service.local.max_replicas, service.local.concurrency), (1, 1));
    assert_eq!((service.queue, service.balance), (9, Balance::LeastRequest), "the gateway's, unless it has its own");
    assert_eq!((service.placement, service.instances_max()), (PlacementRule::Any, 0));
    let scaling = &service.scaling;
    assert_eq!(scaling.metric, Metric::Utilisation);
    assert!((scaling.threshold - 0.80).abs() < 1e-12 && (scaling.band - 0.10).abs() < 1e-12);
    assert_eq!((scaling.min_replicas, scaling.window), (1, Duration::from_secs(1)));
}

#[test]
fn a_service_that_stays_here_has_no_instances() {
    let text = "[service.s]\nplacement = \"PLACEMENT\"\n[service.s.burst]\nadapters = [\"a\"]\nmax_replicas = 3\n\
                [adapter.a]\nkind = \"process\"\n";
    for (placement, instances) in [("any", 3), ("site", 3), ("local", 0)] {
        let config = config(&format!("{SERVICE}{}", text.replace("PLACEMENT", placement)));
        assert_eq!(config.services["s"].instances_max(), instances, "{placement}");
    }
}

#[test]
fn the_band_follows_the_threshold_unless_it_is_set() {
    let band = |text: &str| config(&format!("{SERVICE}[service.s.scaling]\n{text}")).services["s"].scaling.band;
    assert!((band("metric = \"latency_p95\"\nthreshold = \"200ms\"") - 0.025).abs() < 1e-9);
    assert!((band("metric = \"request_rate\"\nthreshold = 80") - 10.0).abs() < 1e-9);
    assert!((band("metric = \"cpu\"\nthreshold = 0.99") - 0.02).abs() < 1e-9, "the upper edge stays within the whole");
    assert!(band("band = 0").abs() < 1e-12);
    assert!((band("metric = \"cpu\"\nthreshold = 0.95\nband = 0.10") - 0.10).abs() < 1e-12);
}

#[test]
fn who_names_no_policy_gets_the_one_whose_keys_are_set_and_else_the_forecast() {
    let policy =
        |text: &str| config(&format!("{SERVICE}[service.s.scaling]\n{text}")).services["s"].scaling.policies.clone();
    assert_eq!(policy(""), [ScalingPolicy::Predictive]);
    assert_eq!(policy("late_after = \"2s\"\nmin_replicas = 0"), [ScalingPolicy::Predictive]);
    for key in ["threshold = 0.7", "band = 0.05", "scale_factor = 4", "interval = \"10s\"", "metric = \"cpu\""] {
        assert_eq!(policy(key), [ScalingPolicy::Threshold], "{key}");
    }
    let several = [ScalingPolicy::Predictive, ScalingPolicy::Threshold];
    assert_eq!(policy("policy = [\"predictive\", \"threshold\"]\nthreshold = 0.9\nlate_after = \"1s\""), several);
    for key in ["target_utilisation = 0.5", "scale_down_delay = \"1m\""] {
        assert_eq!(policy(key), [ScalingPolicy::Concurrency], "{key}");
    }
}

#[test]
fn a_custom_metric_comes_from_a_topic_or_from_each_replica() {
    let custom = |metric: &str| {
        let text = format!("{SERVICE}[service.s.scaling]\nthreshold = 20\nmetric = {{ {metric} }}");
        let scaling = config(&text).services["s"].scaling.clone();
        assert_eq!((scaling.metric, scaling.threshold, scaling.band), (Metric::Custom, 20.0, 2.5));
        scaling.custom.unwrap()
    };
    let queue = custom("topic = \"line1/queue\", pointer = \"/depth\", max_age = \"30s\", per_replica = true");
    assert_eq!(queue.source, MetricSource::Topic("line1/queue".to_owned()));
    assert_eq!((queue.pointer.as_str(), queue.max_age), ("/depth", Duration::from_secs(30)));
    assert!(queue.per_replica && !queue.counter);
    let calls = custom("path = \"/calls\", counter = true");
    assert_eq!(calls.source, MetricSource::Path("/calls".to_owned()));
    assert_eq!((calls.pointer.as_str(), calls.max_age, calls.counter), ("", Duration::from_secs(10), true));
}

#[test]
fn slow_ticks_stretch_what_hangs_on_them() {
    let config = config(&format!("{SERVICE}[node]\ntick = \"2s\""));
    assert_eq!(config.services["s"].scaling.window, Duration::from_secs(2));
}

#[test]
fn a_broker_elsewhere_takes_the_place_of_the_embedded_one() {
    let config = config("[mqtt]\nbroker = \"mqtt://hub\"\nusername = \"me\"\npassword_file = \"/run/secret\"");
    assert_eq!(config.mqtt.embedded_listen(), None);
    let Broker::External { address, credentials: Some(credentials), .. } = &config.mqtt.broker else {
        panic!("{:?}", config.mqtt.broker)
    };
    assert_eq!((address.host.as_str(), address.port), ("hub", 1883));
    assert_eq!(credentials.password_file.as_deref(), Some("/run/secret".as_ref()));
}

#[test]
fn without_mqtt_there_is_no_broker() {
    assert_eq!(config("[mqtt]\nenabled = false").mqtt.embedded_listen(), None);
}

#[test]
fn an_onnx_service_is_ready_when_its_model_is() {
    let config = config("[service.m.local]\nruntime = \"onnx\"\nmodel = \"/m.onnx\"\nthreads = 2");
    let local = &config.services["m"].local;
    assert_eq!(local.ready, Ready::Http("/v2/health/ready".to_owned()));
    assert!(matches!(local.runtime, Runtime::Onnx { threads: 2, .. }));
}

#[test]
fn durations_read_as_one_says_them() {
    let seconds = |text: &str| config(&format!("[node]\ndrain_timeout = \"{text}\"")).node.drain_timeout;
    assert_eq!(seconds("250ms"), Duration::from_millis(250));
    assert_eq!(seconds("1m"), Duration::from_secs(60));
    assert_eq!(seconds("1m30s"), Duration::from_secs(90));
    assert_eq!(seconds("0s"), Duration::ZERO);
}

#[test]
fn a_service_is_asked_over_mqtt_only_where_that_is_said() {
    let text = "[service.m.local]\nruntime = \"onnx\"\nmodel = \"/m.onnx\"\n";
    assert_eq!(config(text).services["m"].mqtt, None);
    assert_eq!(config(&format!("{text}[service.m.mqtt]\npath = \"/x\"")).services["m"].mqtt, None);
    let path = |text: &str, name: &str| config(text).services[name].mqtt.clone().expect("it is enabled").path;
    assert_eq!(path(&format!("{text}[service.m.mqtt]\nenabled = true"), "m"), "/v2/models/m/infer");
    assert_eq!(path(&format!("{SERVICE}[service.s.mqtt]\nenabled = true"), "s"), "/");
    assert_eq!(path(&format!("{SERVICE}[service.s.mqtt]\nenabled = true\npath = \"/a?b=c\""), "s"), "/a?b=c");
    assert_eq!(config("").mqtt.infer, Inference::Shared);
    assert_eq!(config("[mqtt]\ninfer = \"own\"").mqtt.infer, Inference::Own);
}
