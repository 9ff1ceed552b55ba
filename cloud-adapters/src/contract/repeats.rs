//! Every call may be repeated, and may be cut off at any moment: what it asked for happens once.

use std::time::Duration;

use super::ContractHarness;
use super::sample::{id, owner};
use super::wait::{until_alive, until_running};
use crate::Reach;

/// Where a call is cut off: before it is polled, and at moments before, during and after its work.
const CUTS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_micros(200),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(100),
];

/// A repeated launch is answered with the first one's instance, while it starts and while it runs, by any client.
pub async fn launching_again_returns_the_same_instance(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let request = harness.request(&launch, &owner());
    for _ in 0..3 {
        assert_eq!(adapter.launch(&request).await.expect("launch").launch, launch);
    }
    let running = until_running(harness.patience(), &*adapter, &launch).await;
    let again = harness.adapter().launch(&request).await.expect("launch again");
    assert_eq!(again.state, running.state);
    match (&again.reach, &running.reach) {
        // Each client keeps a tunnel of its own, and its end stays where it is.
        (Some(Reach::Tunnel { .. }), Some(Reach::Tunnel { .. })) => {
            let same_client = adapter.launch(&request).await.expect("launch once more");
            assert_eq!(same_client.reach, running.reach);
        }
        (again, running) => assert_eq!(again, running),
    }
    assert_eq!(harness.alive(&launch), 1);
    assert_eq!(adapter.list(&owner()).await.expect("list").len(), 1);
    adapter.terminate(&launch).await.expect("terminate");
}

/// Two clients that launch one id in the same moment get one instance.
pub async fn launching_at_once_from_two_clients_leaves_one_instance(harness: &dyn ContractHarness) {
    let (one, other, launch) = (harness.adapter(), harness.adapter(), id("gw-1"));
    let request = harness.request(&launch, &owner());
    let (first, second) = tokio::join!(one.launch(&request), other.launch(&request));
    assert_eq!(first.expect("launch").launch, second.expect("launch").launch);
    until_running(harness.patience(), &*one, &launch).await;
    until_alive(harness, &launch, 1).await;
    one.terminate(&launch).await.expect("terminate");
    assert_eq!(harness.alive(&launch), 0);
}

/// A crash between the request and its answer, then the same launch by the next session: one instance, which runs.
pub async fn a_launch_cut_off_at_any_moment_leaves_one_instance(harness: &dyn ContractHarness) {
    for (index, cut) in CUTS.into_iter().enumerate() {
        let launch = id(&format!("gw-{index}"));
        let request = harness.request(&launch, &owner());
        // The future is dropped where it stands; an answer in time is as good.
        let _ = tokio::time::timeout(cut, harness.adapter().launch(&request)).await;
        let next = harness.adapter();
        next.launch(&request).await.expect("launch again");
        until_running(harness.patience(), &*next, &launch).await;
        until_alive(harness, &launch, 1).await;
        next.terminate(&launch).await.expect("terminate");
        assert_eq!(harness.alive(&launch), 0, "cut off after {cut:?}");
    }
    assert_eq!(harness.adapter().list(&owner()).await.expect("list"), []);
}

/// A launch that was cut off and is terminated at once leaves nothing behind, late or not; nor does a termination that
/// was cut off itself.
pub async fn a_termination_cut_off_at_any_moment_can_be_repeated(harness: &dyn ContractHarness) {
    for (index, cut) in CUTS.into_iter().enumerate() {
        let launch = id(&format!("gw-{index}"));
        let adapter = harness.adapter();
        let _ = tokio::time::timeout(cut, adapter.launch(&harness.request(&launch, &owner()))).await;
        let _ = tokio::time::timeout(cut, adapter.terminate(&launch)).await;
        harness.adapter().terminate(&launch).await.expect("terminate again");
        assert_eq!(harness.alive(&launch), 0, "cut off after {cut:?}");
        assert_eq!(adapter.list(&owner()).await.expect("list"), [], "cut off after {cut:?}");
    }
}

/// The second termination finds nothing to do.
pub async fn terminating_twice_is_ok(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    adapter.launch(&harness.request(&launch, &owner())).await.expect("launch");
    until_running(harness.patience(), &*adapter, &launch).await;
    let (first, second) = tokio::join!(adapter.terminate(&launch), adapter.terminate(&launch));
    first.expect("terminate");
    second.expect("terminate at the same time");
    adapter.terminate(&launch).await.expect("terminate once more");
    assert_eq!(harness.alive(&launch), 0);
}

/// What was never launched is as good as ended, on an account that holds others as on an empty one.
pub async fn terminating_an_unknown_id_is_ok(harness: &dyn ContractHarness) {
    let (adapter, known) = (harness.adapter(), id("gw-1"));
    adapter.terminate(&id("gw-unknown")).await.expect("on an empty account");
    adapter.launch(&harness.request(&known, &owner())).await.expect("launch");
    adapter.terminate(&id("gw-unknown")).await.expect("beside another");
    until_running(harness.patience(), &*adapter, &known).await;
    assert_eq!(harness.alive(&known), 1);
    adapter.terminate(&known).await.expect("terminate");
}
