//! A service that is scaled by what a machine publishes: out, in, and held where nothing is heard.

mod support;

use std::process::Command;
use std::time::Duration;

use support::{Home, Node, PATIENCE, Spec, wait_until};

const TOPIC: &str = "line1/queue";

/// A queue of more than fifteen parts calls for more; twice a second at most.
fn spec(metric: &str) -> Spec {
    Spec::scaled_by(&format!(
        "policy = \"threshold\"\nthreshold = 10\nband = 10\nscale_factor = 120\ninterval = \"1s\"\nwindow = \"1s\"\n{metric}"
    ))
}

const DEPTH: &str = "metric = { topic = \"line1/queue\", pointer = \"/depth\", max_age = \"3s\" }";

fn publish(node: &Node, payload: &str) {
    let announced = node.get_json("/api/v1/node")["mqtt"].as_str().expect("a broker").to_owned();
    let (host, port) = announced.rsplit_once(':').unwrap();
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", host, "-p", port, "-t", TOPIC, "-q", "1", "-m", payload]);
    assert!(command.status().expect("mosquitto_pub is installed (tests/run does it)").success());
}

/// Says it again until the condition holds.
fn tell_until(node: &Node, payload: &str, what: &str, condition: impl Fn() -> bool) {
    wait_until(PATIENCE, what, || {
        publish(node, payload);
        condition().then_some(())
    });
}

fn wanted(node: &Node) -> u64 {
    node.service("digits")["wanted"].as_u64().unwrap_or(0)
}

fn reason(node: &Node) -> String {
    node.service("digits")["reason"].as_str().unwrap_or_default().to_owned()
}

fn ready(node: &Node) -> (u64, u64) {
    let row = node.service("digits");
    (row["ready_local"].as_u64().unwrap_or(0), row["ready_cloud"].as_u64().unwrap_or(0))
}

#[test]
fn what_a_machine_publishes_scales_out_and_in_and_silence_holds() {
    let home = Home::new();
    let node = home.start(&spec(DEPTH));
    wait_until(PATIENCE, "nothing was told yet", || reason(&node).contains("custom metric has no value").then_some(()));
    tell_until(&node, r#"{"depth": 40}"#, "two here and two there", || ready(&node) == (2, 2));
    assert!(
        node.events("burst.started")[0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("custom metric 40.00 is at or above 15.00"),
        "{:?}",
        node.events("burst.started")
    );

    // Nobody says anything any more: what is there stays, and it is said why.
    wait_until(PATIENCE, "silence is told", || {
        reason(&node).contains("has no value now: the last decision holds").then_some(())
    });
    assert_eq!((ready(&node), wanted(&node)), ((2, 2), 4));
    // What is no number is none.
    for wrong in ["", "full", r#"{"depth": "many"}"#, r#"{"length": 3}"#, r#"{"depth": 1e999}"#] {
        tell_until(&node, wrong, "it is heard", || true);
    }
    wait_until(PATIENCE, "it is told what is wrong", || {
        node.log().contains("nothing stands at the pointer \"/depth\"").then_some(())
    });

    tell_until(&node, r#"{"depth": 2}"#, "one is left", || ready(&node) == (1, 0));
    wait_until(PATIENCE, "every instance's end is confirmed", || home.instances().is_empty().then_some(()));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn a_number_of_all_replicas_together_is_shared_out_among_them() {
    let home = Home::new();
    let node = home.start(&spec("metric = { topic = \"line1/queue\", max_age = \"5s\", per_replica = true }"));
    // 20 on one is above 15, which calls for two more; a third of it on each of three is in between.
    tell_until(&node, "20", "three", || ready(&node) == (2, 1));
    tell_until(&node, "20", "in between", || reason(&node).contains("custom metric 6.667 is between 5.00 and 15.00"));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
