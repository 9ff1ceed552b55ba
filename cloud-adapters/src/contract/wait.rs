//! Waiting for a condition with a deadline, for the cases and for an adapter's own tests.

use std::time::Duration;

use tokio::time::Instant;

use super::ContractHarness;
use crate::{CloudAdapter, Instance, InstanceState, LaunchId, LaunchRequest};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Polls until there is a value; panics with what it waited for when patience is over.
pub async fn until<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until what was launched runs; panics when it ends instead.
pub async fn until_running(patience: Duration, adapter: &dyn CloudAdapter, launch: &LaunchId) -> Instance {
    until(patience, "the instance to run", async || {
        let instance = adapter.describe(launch).await.expect("describe").expect("it was launched");
        assert!(!instance.is_ended(), "it ended while it was to run: {instance:?}");
        (instance.state == InstanceState::Running).then_some(instance)
    })
    .await
}

/// Launches, and waits until it runs.
pub async fn launch_and_run(patience: Duration, adapter: &dyn CloudAdapter, request: &LaunchRequest) -> Instance {
    adapter.launch(request).await.expect("launch");
    until_running(patience, adapter, &request.launch).await
}

/// Waits until what was launched has ended.
pub async fn until_ended(patience: Duration, adapter: &dyn CloudAdapter, launch: &LaunchId) -> Instance {
    until(patience, "the instance to end", async || {
        let instance = adapter.describe(launch).await.expect("describe").expect("it is kept until terminated");
        instance.is_ended().then_some(instance)
    })
    .await
}

/// Waits until what was launched has ended, for what its provider says of it.
pub async fn end_reason(patience: Duration, adapter: &dyn CloudAdapter, launch: &LaunchId) -> String {
    match until_ended(patience, adapter, launch).await.state {
        InstanceState::Ended { reason } => reason,
        state => unreachable!("it was waited for, and is {state:?}"),
    }
}

pub(super) async fn until_alive(harness: &dyn ContractHarness, launch: &LaunchId, instances: usize) {
    until(harness.patience(), "the provider to run the expected number of instances", async || {
        (harness.alive(launch) == instances).then_some(())
    })
    .await;
}
