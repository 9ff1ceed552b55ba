//! The one clock of the data plane: time since the process's epoch for `logic`, instants of the runtime for its timers.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// Time since the epoch.
    pub(super) fn now(self) -> Duration {
        self.epoch.elapsed()
    }

    /// The runtime's instant for a time since the epoch.
    pub(super) fn instant(self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + at)
    }
}
