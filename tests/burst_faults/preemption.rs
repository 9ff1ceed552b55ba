//! Instances that their provider takes away: a spot market, made of the example program for the `exec` adapter, which says
//! that an instance will go soon once a file names it.

use std::path::{Path, PathBuf};

use super::support::{Home, Node, PATIENCE, Spec, wait_until};
use super::{SURGE, wait_for_answers, wait_for_cloud};

/// Passes requests on to the example, and adds the notice to its answers.
const MARKET: &str = r#"
import json, os, subprocess, sys
answer = json.loads(subprocess.run([sys.executable, os.environ["EXAMPLE"]], stdin=sys.stdin, capture_output=True).stdout)
going = open(os.environ["GOING"]).read().split() if os.path.exists(os.environ["GOING"]) else []
told = answer.get("ok", {})
for instance in [told.get("instance"), *told.get("instances", [])]:
    if instance and instance["launch"] in going:
        instance["notice"] = "somebody pays more for it"
print(json.dumps(answer))
"#;

struct Market {
    account: PathBuf,
    going: PathBuf,
}

impl Market {
    fn new(home: &Home) -> Self {
        Self { account: home.path().join("market"), going: home.path().join("going") }
    }

    /// The digits service with the market before a dearer adapter that takes nothing away.
    fn spec(&self, home: &Home, burst: &str) -> Spec {
        let python = std::env::var("TIDEGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let program = home.file("market.py", MARKET);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/exec-adapter/local_processes.py");
        let market = format!(
            "[adapter.market]\nkind = 'exec'\ncommand = ['{python}', '{}']\nlisten = '127.0.0.1:0'\ntls = false\n\
             instance_dir = '{account}/instances/{{launch}}'\nprice_per_hour = 0.10\nspot = true\nlease_ttl = '20s'\n\
             start_timeout = '30s'\n[adapter.market.env]\nTIDEGATE_PROGRAM = '{}'\nACCOUNT = '{account}'\n\
             EXAMPLE = '{}'\nGOING = '{}'\n[service.digits.burst]\nadapters = ['market', 'cloud']\n{burst}",
            program.display(),
            env!("CARGO_BIN_EXE_tidegate"),
            example.display(),
            self.going.display(),
            account = self.account.display(),
        );
        // What an instance runs is found where the program looks for it.
        let folder = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap().display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        Spec::new().with(&market).env("PATH", &path)
    }

    fn take_away(&self, launch: &str) {
        std::fs::write(&self.going, launch).unwrap();
    }

    /// Whether a launch still runs there, told by the process table.
    fn runs(&self, launch: &str) -> bool {
        !cloud_adapters::contract::wrappers_in(&self.account.join("instances").join(launch)).is_empty()
    }
}

/// The instances that a node has ready, each with its adapter.
fn ready(node: &Node) -> Vec<(String, String)> {
    let bursts = node.get_json("/api/v1/bursts");
    let ready = bursts.as_array().unwrap().iter().filter(|burst| burst["state"] == "ready");
    let word = |burst: &serde_json::Value, name: &str| burst[name].as_str().unwrap().to_owned();
    ready.map(|burst| (word(burst, "launch"), word(burst, "adapter"))).collect()
}

#[test]
fn an_instance_that_will_be_taken_away_is_replaced_and_drained_without_losing_a_request() {
    let home = Home::new();
    let market = Market::new(&home);
    let node = home.start(&market.spec(&home, "max_replicas = 1"));
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    let (first, adapter) = ready(&node).remove(0);
    assert_eq!(adapter, "market", "the cheapest");
    assert!(market.runs(&first));
    wait_for_answers(&load, 50);
    market.take_away(&first);
    let told = node.wait_for_event(PATIENCE, "burst.preempted");
    assert_eq!(told["launch"], first.clone());
    assert_eq!(told["error"], "the provider takes it away: somebody pays more for it");
    wait_until(PATIENCE, "another takes its place", || ready(&node).into_iter().find(|(launch, _)| *launch != first));
    wait_until(PATIENCE, "it is gone", || (!market.runs(&first)).then_some(()));
    wait_for_answers(&load, 50);
    load.stop().assert_sound();
    let node_ended = node.terminate();
    assert_eq!(node_ended.code, Some(0), "{}", node_ended.stderr);
    home.assert_empty_within(PATIENCE);
}

#[test]
fn the_floor_is_where_nobody_takes_instances_away_and_the_rest_where_it_is_cheapest() {
    let home = Home::new();
    let market = Market::new(&home);
    let node = home.start(&market.spec(&home, "max_replicas = 2\non_demand_floor = 1"));
    let load = node.load(SURGE * 2);
    wait_for_cloud(&node, 2);
    let mut adapters: Vec<String> = ready(&node).into_iter().map(|(_, adapter)| adapter).collect();
    adapters.sort();
    assert_eq!(adapters, ["cloud", "market"]);
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(PATIENCE);
}
