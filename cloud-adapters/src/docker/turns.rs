//! One call at a time for each launch id. A launch that its caller gave up goes on to its end; a termination, or a
//! second launch, of that id waits for it, so that what it makes is found and nothing is made after the last look.
//!
//! The turns are the process's, not an adapter's: a node that reads its configuration again makes a new adapter while
//! the old one's calls are still on their way. Two processes of one node are kept apart by its state directory's lock.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::LaunchId;

type Turns = BTreeMap<LaunchId, Weak<tokio::sync::Mutex<()>>>;

static TURNS: LazyLock<Mutex<Turns>> = LazyLock::new(Mutex::default);

/// The right to change what stands at the daemon for one launch id.
#[derive(Debug)]
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// Waits until no other call is at work on the id. Callers are served in the order in which they came.
pub(super) async fn wait_for(launch: &LaunchId) -> Turn {
    let turn = turn_of(launch);
    Turn { _guard: turn.lock_owned().await }
}

fn turn_of(launch: &LaunchId) -> Arc<tokio::sync::Mutex<()>> {
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(turn) = turns.get(launch).and_then(Weak::upgrade) {
        return turn;
    }
    // Only ids that somebody is at work on are kept, so the map is as long as there are calls.
    turns.retain(|_, turn| turn.strong_count() > 0);
    let turn = Arc::default();
    turns.insert(launch.clone(), Arc::downgrade(&turn));
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_waited_for_and_forgotten_when_it_is_over() {
        let (one, other) = ("turn-1".parse().expect("an id"), "turn-2".parse().expect("an id"));
        let held = wait_for(&one).await;
        drop(wait_for(&other).await);
        let mut second = std::pin::pin!(wait_for(&one));
        assert!(futures_util::poll!(&mut second).is_pending(), "the id is in use");
        drop(held);
        drop(second.await);
        drop(wait_for(&other).await);
        let turns = TURNS.lock().expect("no panic");
        assert!(!turns.contains_key(&one), "it would stay for ever: {:?}", turns.keys());
    }
}
