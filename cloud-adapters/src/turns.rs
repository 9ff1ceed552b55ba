//! One call at a time for each launch id. A launch whose caller gave it up goes on to its end; a termination, or a second
//! launch, of that id waits for it, so that what it makes is found and nothing is made after the last look.
//!
//! The turns are the process's, not an adapter's: a node that reads its configuration again makes a new adapter while
//! the old one's calls are still on their way. Two processes of one node are kept apart by its state directory's lock, and
//! what a crashed one had asked for has long arrived when the next one asks.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::{AdapterError, LaunchId};

/// Where an id is one, such as a namespace, and the id.
type Key = (String, LaunchId);

static TURNS: LazyLock<Mutex<BTreeMap<Key, Weak<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);

/// The right to change what stands at the provider for one launch id.
#[derive(Debug)]
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// Waits until no other call is at work on the id. Callers are served in the order in which they came.
pub(crate) async fn wait_for(scope: &str, launch: &LaunchId) -> Turn {
    let turn = turn_of(scope, launch);
    Turn { _guard: turn.lock_owned().await }
}

impl Turn {
    /// Runs to its end even when the caller stops waiting, and keeps the turn until then.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        call: impl Future<Output = Result<T, AdapterError>> + Send + 'static,
    ) -> Result<T, AdapterError> {
        let running = tokio::spawn(async move {
            let _turn = self;
            call.await
        });
        running.await.unwrap_or_else(|error| Err(AdapterError::transient("the launch broke off").because(error)))
    }
}

fn turn_of(scope: &str, launch: &LaunchId) -> Arc<tokio::sync::Mutex<()>> {
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    // Only ids that somebody is at work on are kept, so the map is as long as there are calls.
    turns.retain(|_, turn| turn.strong_count() > 0);
    let turn = turns.entry((scope.to_owned(), launch.clone())).or_default();
    turn.upgrade().unwrap_or_else(|| {
        let new = Arc::default();
        *turn = Arc::downgrade(&new);
        new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_waited_for_and_forgotten_when_it_is_over() {
        let (one, other) = ("turn-1".parse().expect("an id"), "turn-2".parse().expect("an id"));
        let held = wait_for("here", &one).await;
        drop(wait_for("here", &other).await);
        drop(wait_for("elsewhere", &one).await);
        let again = one.clone();
        let second = tokio::spawn(async move { drop(wait_for("here", &again).await) });
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "the id is in use");
        drop(held);
        second.await.expect("no panic");
        drop(wait_for("here", &other).await);
        let turns = TURNS.lock().expect("no panic");
        assert!(!turns.contains_key(&("here".to_owned(), one)), "it would stay for ever: {:?}", turns.keys());
    }

    #[tokio::test]
    async fn what_is_given_up_keeps_its_turn_until_its_end() {
        let launch: LaunchId = "turn-3".parse().expect("an id");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let turn = wait_for("here", &launch).await;
        let given_up = tokio::spawn(turn.run(async { Ok(ended.await) }));
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(given_up.await.is_err_and(|error| error.is_cancelled()));
        let next = tokio::spawn(async move { drop(wait_for("here", &launch).await) });
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "the call goes on");
        end.send(()).expect("it is waited for");
        next.await.expect("no panic");
    }
}
