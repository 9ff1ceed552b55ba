//! Launches under way in this process. A launch whose caller stopped waiting goes on, and a termination must come after
//! it, by whichever client, or it would find nothing and the instance would appear behind its back.
//!
//! It is the process's own table because two clients of one process are the only ones that race so closely: what a
//! crashed process had asked for has long arrived when the next one asks.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::LaunchId;

/// A namespace and a launch in it.
type Key = (String, LaunchId);

static TABLE: LazyLock<Mutex<BTreeMap<Key, Weak<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);

/// Held while a launch is under way.
pub(super) type Flight = OwnedMutexGuard<()>;

/// Waits until no other launch of the id is under way, and is the one that is.
pub(super) async fn enter(namespace: &str, launch: &LaunchId) -> Flight {
    lock(namespace, launch).lock_owned().await
}

fn lock(namespace: &str, launch: &LaunchId) -> Arc<tokio::sync::Mutex<()>> {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    // The table is as long as there are launches under way, and no longer.
    table.retain(|_, lock| lock.strong_count() > 0);
    let key = (namespace.to_owned(), launch.clone());
    if let Some(lock) = table.get(&key).and_then(Weak::upgrade) {
        return lock;
    }
    let lock = Arc::new(tokio::sync::Mutex::new(()));
    table.insert(key, Arc::downgrade(&lock));
    lock
}
