//! What the cases share: an owner, ids, and waiting for a condition with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::ContractHarness;
use crate::{CloudAdapter, Instance, InstanceState, LaunchId, Owner};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

pub(super) fn owner() -> Owner {
    Owner { fleet: "contract".into(), node: "gateway-1".into(), session: 1 }
}

pub(super) fn id(text: &str) -> LaunchId {
    text.parse().expect("a launch id")
}

/// Polls until there is a value; panics with what it waited for when patience is over.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(
    harness: &dyn ContractHarness,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + harness.patience();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {:?} in vain for {what}", harness.patience());
        tokio::time::sleep(POLL).await;
    }
}

pub(super) async fn until_running(
    harness: &dyn ContractHarness,
    adapter: &dyn CloudAdapter,
    launch: &LaunchId,
) -> Instance {
    until(harness, "the instance to run", || async {
        let instance = adapter.describe(launch).await.expect("describe").expect("it was launched");
        assert!(!instance.is_ended(), "it ended while it was to run: {instance:?}");
        (instance.state == InstanceState::Running).then_some(instance)
    })
    .await
}

pub(super) async fn until_ended(
    harness: &dyn ContractHarness,
    adapter: &dyn CloudAdapter,
    launch: &LaunchId,
) -> Instance {
    until(harness, "the instance to end", || async {
        let instance = adapter.describe(launch).await.expect("describe").expect("it is kept until terminated");
        instance.is_ended().then_some(instance)
    })
    .await
}

pub(super) async fn until_alive(harness: &dyn ContractHarness, launch: &LaunchId, instances: usize) {
    until(harness, "the provider to run the expected number of instances", || async {
        (harness.alive(launch) == instances).then_some(())
    })
    .await;
}
