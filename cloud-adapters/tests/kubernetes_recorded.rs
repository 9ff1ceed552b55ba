//! The Kubernetes adapter against what a real API server (1.20.2) answered: the same calls in the same order, each with
//! the same body, and the same conclusions. `tests/run --with kubernetes` runs it against the server itself, and
//! `TIDEGATE_KUBERNETES_RECORD=1` there writes these files anew.

#[path = "kubernetes/scenario.rs"]
mod scenario;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cloud_adapters::kubernetes::call::{Answer, Call, Pending};
use scenario::Exchange;

async fn replay(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/recorded").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).expect("a recording");
    let recorded: VecDeque<Exchange> = serde_json::from_str(&text).expect("exchanges");
    assert!(!recorded.is_empty(), "{name} is empty");
    let left = Arc::new(Mutex::new(recorded));
    let expected = Arc::clone(&left);
    let transport = scenario::answering(move |call: Call| -> Pending<Answer> {
        let exchange = expected.lock().expect("lock").pop_front().unwrap_or_else(|| panic!("nobody asked {call:?}"));
        let Exchange { status, now, answer, .. } = exchange.clone();
        let answer = Answer { status, now, body: answer };
        assert_eq!(Exchange::new(call, &answer), exchange);
        Box::pin(async move { Ok(answer) })
    });
    scenario::play(name, transport, async |_| {}).await;
    assert_eq!(left.lock().expect("lock").len(), 0, "calls that did not come");
}

#[tokio::test(start_paused = true)]
async fn an_instance_lives_as_recorded() {
    replay("life").await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_seen_as_recorded() {
    replay("crash").await;
}

#[tokio::test(start_paused = true)]
async fn a_check_asks_as_recorded() {
    replay("check").await;
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_is_told_as_recorded() {
    replay("quota").await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_as_recorded() {
    replay("refusals").await;
}

#[test]
fn every_scenario_has_its_recording_and_no_recording_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/recorded");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("recordings")
        .map(|entry| entry.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut all = scenario::ALL;
    all.sort_unstable();
    assert_eq!(names, all);
}
