//! What must not happen: more than there is room for, guesses at a wrong configuration, hands on what others own,
//! secrets in sight, calls without an end.

use std::time::Duration;

use super::ContractHarness;
use super::sample::{id, owner};
use super::wait::{until_alive, until_ended, until_running};
use crate::deadline::with_deadline;
use crate::{AdapterError, CloudAdapter, LaunchRequest, Owner, Retry, Workload};

/// A full account sends the caller to the next adapter; a known id is answered all the same; room comes back.
pub async fn a_full_account_says_no_capacity_until_one_ends(harness: &dyn ContractHarness) {
    let Some(adapter) = harness.adapter_with_capacity(1) else { return };
    let (first, second) = (id("gw-1"), id("gw-2"));
    adapter.launch(&harness.request(&first, &owner())).await.expect("there is room for one");
    let full = adapter.launch(&harness.request(&second, &owner())).await.expect_err("there is none for two");
    assert_eq!(full.retry(), Retry::NextAdapter, "{full}");
    assert_eq!(adapter.describe(&second).await.expect("describe"), None, "nothing was started");
    assert_eq!(harness.alive(&second), 0);
    adapter.launch(&harness.request(&first, &owner())).await.expect("it has its place already");
    until_running(harness.patience(), &*adapter, &first).await;
    harness.kill_hard(&first);
    until_ended(harness.patience(), &*adapter, &first).await;
    adapter.launch(&harness.request(&second, &owner())).await.expect("an ended instance takes no room");
    for launch in [first, second] {
        adapter.terminate(&launch).await.expect("terminate");
    }
}

/// A wrong configuration fails at once, for good, with words that say what is wrong, and starts nothing.
pub async fn bad_configuration_starts_nothing_and_is_never_retried(harness: &dyn ContractHarness) {
    let launch = id("gw-1");
    let clients = harness.misconfigured();
    assert!(!clients.is_empty(), "an adapter that cannot be misconfigured needs no case, and there is none");
    for (word, adapter) in clients {
        let error = adapter.launch(&harness.request(&launch, &owner())).await.expect_err(word);
        assert_eq!(error.retry(), Retry::Never, "{error}");
        assert!(error.to_string().contains(word), "`{error}` should speak of `{word}`");
        assert_eq!(harness.alive(&launch), 0);
    }
    assert_eq!(harness.adapter().list(&owner()).await.expect("list"), []);
}

/// A request that nobody could run is refused before the provider hears of it.
pub async fn bad_requests_are_refused(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let good = harness.request(&launch, &owner());
    let no_command = Workload::default();
    for bad in [
        LaunchRequest { workload: no_command, ..good.clone() },
        LaunchRequest { concurrency: 0, ..good.clone() },
        LaunchRequest { service: String::new(), ..good.clone() },
        LaunchRequest { lease_ttl: Duration::ZERO, ..good },
    ] {
        let error = adapter.launch(&bad).await.expect_err("a bad request");
        assert_eq!(error.retry(), Retry::Never, "{error}");
    }
    assert_eq!(adapter.describe(&launch).await.expect("describe"), None);
}

/// Other nodes and fleets on one account do not see each other, and their launch ids are not each other's to take.
pub async fn instances_of_others_are_neither_listed_nor_touched(harness: &dyn ContractHarness) {
    let adapter = harness.adapter();
    let other_node = Owner { node: "gateway-2".into(), ..owner() };
    let other_fleet = Owner { fleet: "another".into(), ..owner() };
    let all = [(id("gw-1"), owner()), (id("gw-2"), other_node), (id("gw-3"), other_fleet)];
    for (launch, owner) in &all {
        adapter.launch(&harness.request(launch, owner)).await.expect("launch");
    }
    for (launch, owner) in &all {
        let listed = adapter.list(owner).await.expect("list");
        assert_eq!(listed.iter().map(|instance| &instance.launch).collect::<Vec<_>>(), [launch]);
        until_running(harness.patience(), &*adapter, launch).await;
    }
    let stolen = adapter.launch(&harness.request(&all[1].0, &owner())).await.expect_err("the id is another node's");
    assert_eq!(stolen.retry(), Retry::Never, "{stolen}");
    adapter.terminate(&all[0].0).await.expect("terminate");
    for (launch, owner) in &all[1..] {
        assert_eq!(harness.alive(launch), 1, "{launch} is not ours");
        assert_eq!(adapter.list(owner).await.expect("list").len(), 1);
        adapter.terminate(launch).await.expect("terminate");
    }
}

/// A call that takes too long is cut off as transient, and the next one goes on from there.
pub async fn calls_past_their_deadline_are_transient_and_can_be_repeated(harness: &dyn ContractHarness) {
    let launch = id("gw-1");
    let request = harness.request(&launch, &owner());
    let hasty = with_deadline(harness.adapter(), Duration::ZERO);
    let patient = with_deadline(harness.adapter(), harness.patience());
    cut_off_or_done(hasty.launch(&request).await);
    patient.launch(&request).await.expect("launch again");
    until_running(harness.patience(), &patient, &launch).await;
    cut_off_or_done(hasty.terminate(&launch).await);
    patient.terminate(&launch).await.expect("terminate again");
    until_alive(harness, &launch, 0).await;
}

/// A provider on the same machine may answer within the millisecond that is the least deadline.
fn cut_off_or_done<T>(answer: Result<T, AdapterError>) {
    if let Err(error) = answer {
        assert_eq!(error.retry(), Retry::Backoff, "{error}");
    }
}

/// The token travels as a secret: no argument, label or name of the instance holds it, and no answer about it.
pub async fn the_token_is_shown_nowhere(harness: &dyn ContractHarness) {
    let (adapter, launch) = (harness.adapter(), id("gw-1"));
    let request = harness.request(&launch, &owner());
    adapter.launch(&request).await.expect("launch");
    let running = until_running(harness.patience(), &*adapter, &launch).await;
    let token = request.token.expose();
    let texts = harness.public_texts(&launch);
    assert!(!texts.is_empty(), "the harness must find the instance's texts");
    for text in texts.into_iter().chain([format!("{running:?}"), format!("{request:?}")]) {
        assert!(!text.contains(token), "the token stands in {text}");
    }
    adapter.terminate(&launch).await.expect("terminate");
}
