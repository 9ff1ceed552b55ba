//! Looks whether all parts of the node get something done, and feeds the service manager's watchdog while they do.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::host::clock::Clock;
use crate::host::service_manager;
use crate::journal::{Journal, JournalError};
use crate::logic::watchdog::{self, Part, Stalled, Watchdog};

/// Each part counts here what it gets done.
#[derive(Debug, Default)]
pub(super) struct Progress {
    scheduler: AtomicU64,
    gateway: AtomicU64,
    journal: AtomicU64,
    stalled: Mutex<Option<Stalled>>,
}

impl Progress {
    /// A part got something done.
    pub(super) fn made(&self, part: Part) {
        self.count(part).fetch_add(1, Ordering::Relaxed);
    }

    /// What was stalled at the last look.
    pub(super) fn stalled(&self) -> Option<Stalled> {
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, part: Part) -> &AtomicU64 {
        match part {
            Part::Scheduler => &self.scheduler,
            Part::Gateway => &self.gateway,
            Part::Journal => &self.journal,
        }
    }

    fn saw(&self, stalled: Option<Stalled>) {
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) = stalled;
    }
}

/// How often and how patiently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    look_every: Duration,
    patience: Duration,
    is_fed: bool,
}

impl Rhythm {
    /// As the service manager wants it, if it wants anything.
    pub(super) fn of(tick: Duration) -> Self {
        let period = service_manager::watchdog_period();
        Self {
            look_every: watchdog::look_every(period),
            patience: watchdog::patience(period, tick),
            is_fed: period.is_some(),
        }
    }
}

/// Looks until the node stops: then parts end one after the other, and the service manager waits for the end instead.
pub(super) async fn watch(progress: Arc<Progress>, rhythm: Rhythm, clock: Clock, stopped: impl Future<Output = ()>) {
    let mut watchdog = Watchdog::new(rhythm.patience, clock.now());
    let mut looks = tokio::time::interval(rhythm.look_every);
    let mut stopped = pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = looks.tick() => {}
        }
        let stalled = watchdog.look(|part| progress.count(part).load(Ordering::Relaxed), clock.now());
        tell(progress.stalled(), stalled);
        progress.saw(stalled);
        if rhythm.is_fed && stalled.is_none() {
            off_the_runtime(service_manager::feed_watchdog).await;
        }
    }
}

/// Says once when a part stalls, and once when it goes on.
fn tell(before: Option<Stalled>, now: Option<Stalled>) {
    match (before, now) {
        (None, Some(stalled)) => {
            tracing::error!("{stalled}; a service manager's watchdog is not fed until it goes on");
            service_manager::status(&stalled.to_string());
        }
        (Some(stalled), None) => {
            tracing::info!("the {} makes progress again", stalled.part);
            service_manager::status("serving");
        }
        _ => {}
    }
}

/// A service manager that does not read its socket must not hold the broker and the links.
async fn off_the_runtime(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "the service manager was not told");
    }
}

/// Asks the journal's thread for a sign of life, again and again. The journal is the others' to keep and to close.
pub(super) async fn ask_journal(progress: Arc<Progress>, rhythm: Rhythm, journal: Weak<Journal>) {
    while let Some(journal) = journal.upgrade() {
        match journal.answers().await {
            Ok(()) => progress.made(Part::Journal),
            Err(JournalError::Closed) => return,
            Err(error) => tracing::debug!(%error, "the journal did not answer"),
        }
        drop(journal);
        tokio::time::sleep(rhythm.look_every).await;
    }
}

/// Counts for the gateway; to be polled by the task that accepts its connections, so that it stands still with that.
pub(super) async fn beat_of_gateway(progress: Arc<Progress>, rhythm: Rhythm) {
    let mut beats = tokio::time::interval(rhythm.look_every);
    loop {
        beats.tick().await;
        progress.made(Part::Gateway);
    }
}
