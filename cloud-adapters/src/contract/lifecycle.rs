//! From launch to termination, and the ways in which an instance ends before it is terminated.

use std::time::Duration;

use super::ContractHarness;
use super::sample::{id, owner};
use super::wait::{until_alive, until_ended, until_running};
use crate::{InstanceState, LaunchRequest, LifeBound, Reach};

/// Launched, running and reachable, terminated, unknown; the same told by `describe`, `list` and the provider.
pub async fn an_instance_is_described_from_launch_to_termination(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    assert_eq!(adapter.describe(&launch).await.expect("describe"), None, "nothing was launched yet");
    let request = harness.request(&launch, &owner());
    let launched = adapter.launch(&request).await.expect("launch");
    assert_eq!((&launched.launch, &launched.owner, &launched.service), (&launch, &owner(), &request.service));
    let running = until_running(harness.patience(), &*adapter, &launch).await;
    let authority = running.reach.as_ref().map(Reach::authority).expect("a running instance is reachable");
    assert!(authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()), "{authority}");
    assert!(running.age.is_some_and(|age| age <= harness.patience()), "{:?}", running.age);
    let listed = adapter.list(&owner()).await.expect("list");
    assert_eq!(listed.iter().map(|instance| &instance.launch).collect::<Vec<_>>(), [&launch]);
    assert_eq!(harness.alive(&launch), 1);
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(harness.alive(&launch), 0, "Ok means that it no longer runs");
    assert_eq!(adapter.describe(&launch).await.expect("describe"), None);
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

/// What a node launched and did not live to see is in the list of its next session, and can be terminated by it.
pub async fn a_node_gone_before_ready_leaves_what_the_next_one_finds(harness: &dyn ContractHarness) {
    let launch = id("gw-1");
    let first = harness.adapter();
    first.launch(&harness.request(&launch, &owner())).await.expect("launch");
    drop(first);
    let next = harness.adapter();
    let mut next_session = owner();
    next_session.session += 1;
    let found = next.list(&next_session).await.expect("list");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].owner, owner(), "the label keeps the session that launched it");
    next.terminate(&launch).await.expect("terminate");
    assert_eq!(next.list(&next_session).await.expect("list"), []);
    assert_eq!(harness.alive(&launch), 0);
}

/// A workload that cannot start ends its instance, and the record says so.
pub async fn a_workload_that_never_starts_ends_with_a_reason(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    adapter.launch(&harness.request_that_never_starts(&launch, &owner())).await.expect("the provider accepts it");
    let ended = until_ended(harness.patience(), &*adapter, &launch).await;
    let InstanceState::Ended { reason } = &ended.state else { unreachable!("it was waited for") };
    assert!(!reason.is_empty());
    assert_eq!(ended.reach, None);
    until_alive(harness, &launch, 0).await;
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

/// A crash is seen, told with a reason, and kept in the list until somebody has taken note.
pub async fn a_killed_instance_is_listed_as_ended_until_terminated(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    adapter.launch(&harness.request(&launch, &owner())).await.expect("launch");
    until_running(harness.patience(), &*adapter, &launch).await;
    harness.kill_hard(&launch);
    let ended = until_ended(harness.patience(), &*adapter, &launch).await;
    assert!(matches!(&ended.state, InstanceState::Ended { reason } if !reason.is_empty()), "{ended:?}");
    let listed = adapter.list(&owner()).await.expect("list");
    assert!(matches!(&listed[..], [kept] if kept.launch == launch && kept.is_ended()), "{listed:?}");
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

/// Instances run to completion: neither the provider nor a repeated launch brings one back.
pub async fn ended_instances_are_never_started_again(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let request = harness.request(&launch, &owner());
    adapter.launch(&request).await.expect("launch");
    until_running(harness.patience(), &*adapter, &launch).await;
    harness.kill_hard(&launch);
    until_ended(harness.patience(), &*adapter, &launch).await;
    for client in [adapter.clone(), harness.adapter()] {
        let again = client.launch(&request).await.expect("launch again");
        assert!(again.is_ended(), "{again:?}");
    }
    assert_eq!(harness.alive(&launch), 0);
    adapter.terminate(&launch).await.expect("terminate");
}

/// Where life is renewable, an instance whose lease nobody renews is gone without a call of ours.
pub async fn an_unrenewed_instance_ends_itself(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    if adapter.capabilities().life_bound != LifeBound::Renewable {
        return;
    }
    let lease_ttl = Duration::from_secs(1);
    adapter.launch(&LaunchRequest { lease_ttl, ..harness.request(&launch, &owner()) }).await.expect("launch");
    until_alive(harness, &launch, 1).await;
    until_alive(harness, &launch, 0).await;
    until_ended(harness.patience(), &*adapter, &launch).await;
    adapter.terminate(&launch).await.expect("terminate");
}
