//! The wrappers that this process started: reaped when they end, so that none stays a zombie, and what their exit tells.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::Child;

use crate::LaunchId;

/// The exit of a wrapper that found another one in its directory (sysexits' EX_TEMPFAIL): it says nothing about that
/// other one.
const EXIT_LOCK_TAKEN: i32 = 75;

#[derive(Debug, Default)]
pub(super) struct Children {
    by_launch: Mutex<BTreeMap<LaunchId, Spawned>>,
}

#[derive(Debug)]
struct Spawned {
    pid: Option<u32>,
    exit: Option<ExitStatus>,
}

impl Children {
    /// Remembers a wrapper until [`forget`](Self::forget), and reaps it when it ends.
    pub(super) fn adopt(self: &Arc<Self>, launch: &LaunchId, mut child: Child) {
        let pid = child.id();
        self.lock().insert(launch.clone(), Spawned { pid, exit: None });
        let (children, launch) = (Arc::clone(self), launch.clone());
        tokio::spawn(async move {
            if let Ok(exit) = child.wait().await {
                children.note_exit(&launch, pid, exit);
            }
        });
    }

    fn note_exit(&self, launch: &LaunchId, pid: Option<u32>, exit: ExitStatus) {
        if let Some(spawned) = self.lock().get_mut(launch).filter(|spawned| spawned.pid == pid) {
            spawned.exit = Some(exit);
        }
    }

    /// How the launch's wrapper ended, where this process started it and it did.
    pub(super) fn exit(&self, launch: &LaunchId) -> Option<ExitStatus> {
        self.lock().get(launch)?.exit.filter(|exit| exit.code() != Some(EXIT_LOCK_TAKEN))
    }

    pub(super) fn forget(&self, launch: &LaunchId) {
        self.lock().remove(launch);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LaunchId, Spawned>> {
        self.by_launch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
