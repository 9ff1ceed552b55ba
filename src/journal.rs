//! What was promised to a provider, on disk, before it is asked.
//!
//! SQLite with a write-ahead log and full sync, on a thread of its own: an SD card's fsync must not stall a lease. Beside
//! it in the state directory stand the lock (one node a directory), the session counter, and the node secret from which
//! launch secrets derive, so that instances can be adopted even when the journal itself was lost.

mod calendar;
mod memory;
mod recordings;
mod spool;
mod state_dir;
mod store;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{self, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::host::clock::unix_ms_now;
use calendar::Moment;
use memory::Memories;
use recordings::Recordings;

pub use crate::logic::burst::Recorded as Stage;
pub use memory::Memory;
pub use recordings::{Decided, Kept, decided, recordings_at};
pub use spool::{Letter, Outlet, Releases, Spool, SpoolStatus};
pub use state_dir::{StateDir, StateDirError, holder, holds_lock, raise_session};
use store::Store;

/// Why a journal call failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full, read-only or broken; nothing was recorded.
    #[error(
        "the journal in the state directory cannot be written: {0}; free some space or mend the disk (no launches until then, everything else goes on)"
    )]
    Write(String),
    /// The database could not be opened even after a fresh start.
    #[error("the journal cannot be opened: {0}; check node.state_dir")]
    Open(String),
    /// It was written by a newer Tidegate.
    #[error(
        "the journal has schema {found}, this version knows up to {known}; install the newer version again, or move the journal away"
    )]
    Newer {
        /// Schema in the file.
        found: i64,
        /// Newest schema that this build reads.
        known: i64,
    },
    /// The journal's thread is gone.
    #[error("the journal has been closed")]
    Closed,
}

/// One launch from its intent to its end. Times are milliseconds since the Unix epoch, by this box's calendar as it stands
/// now: a row that was written before the calendar was set right is corrected when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchRow {
    /// The launch id: idempotency token and label at the provider.
    pub launch: String,
    /// The service it serves.
    pub service: String,
    /// The adapter that was asked.
    pub adapter: String,
    /// The session that intended it.
    pub session: u64,
    /// Why it was launched, in words.
    pub reason: String,
    /// Where it stands: the last stage that was recorded.
    pub stage: Stage,
    /// When the intent was written.
    pub intended_at_ms: i64,
    /// When it first answered as ready.
    pub ready_at_ms: Option<i64>,
    /// When its end was decided: from then on its lease was not renewed. None before, and in rows of versions that did not
    /// record it.
    pub ending_at_ms: Option<i64>,
    /// When its end was confirmed.
    pub ended_at_ms: Option<i64>,
    /// Why it ended.
    pub end_reason: Option<String>,
    /// Price in millionths of the currency unit per hour, as it stood at the launch.
    pub price_per_hour_micro: i64,
    /// The least that a launch costs, as billed time.
    pub minimum_billing_ms: i64,
    /// Billing granularity.
    pub billing_step_ms: i64,
    /// What it cost in millionths, once it ended.
    pub cost_micro: Option<i64>,
    /// The currency of price and cost; `None` in rows of versions that did not record it.
    pub currency: Option<String>,
}

/// How a launch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When, in Unix milliseconds.
    pub ended_at_ms: i64,
    /// Why, in words.
    pub reason: String,
    /// The whole cost in millionths of the currency unit.
    pub cost_micro: i64,
}

/// Writes that wait for the disk. A few per instance are usual; a disk that is this far behind has failed.
const MAX_WAITING: usize = 1_024;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// Handle of the journal's thread. Calls wait for the disk; the thread ends when the handle is dropped.
pub struct Journal {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    memories: Memories,
    recordings: Recordings,
    lost_at_ms: Option<i64>,
    first_session: u64,
}

impl Journal {
    /// Opens or makes the journal in a locked state directory. A corrupt one is set aside and a fresh one begun.
    pub fn open(state_dir: &StateDir) -> Result<Self, JournalError> {
        Self::open_file(&state_dir.path().join("journal.sqlite"), state_dir.session())
    }

    fn open_file(path: &Path, session: u64) -> Result<Self, JournalError> {
        let mut store = Store::open_or_set_aside(path, session, &Moment::now())?;
        let first_session = store.first_session()?;
        let lost_at_ms = path.parent().and_then(store::last_set_aside).map(|seconds| seconds.saturating_mul(1_000));
        let (jobs, queue) = mpsc::sync_channel::<Job>(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || queue.into_iter().for_each(|job| job(&mut store)))
            .map_err(|error| JournalError::Open(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let (memories, recordings) = (Memories::of(folder), Recordings::of(folder));
        Ok(Self { jobs: Some(jobs), thread: Some(thread), memories, recordings, lost_at_ms, first_session })
    }

    /// When a corrupt journal was last set aside, by this run or a former one, in Unix milliseconds: what was spent before
    /// is unknown.
    pub fn lost_at_ms(&self) -> Option<i64> {
        self.lost_at_ms
    }

    /// The first session that it knows everything of. Launches of earlier ones may have been in a journal that was lost.
    pub fn first_session(&self) -> u64 {
        self.first_session
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            // Nobody waits any more when the caller was cancelled; the write itself has been done.
            let _ = answer.send(job(store));
        });
        self.jobs.as_ref().ok_or(JournalError::Closed)?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                JournalError::Write(format!("{MAX_WAITING} writes wait for a disk that is too slow"))
            }
            TrySendError::Disconnected(_) => JournalError::Closed,
        })?;
        answered.await.map_err(|_| JournalError::Closed)?
    }

    /// Writes the intent to launch. Only when this returned may the provider be asked. The same launch id again is
    /// no error and changes nothing.
    pub async fn intend(&self, row: LaunchRow) -> Result<(), JournalError> {
        let now = Moment::now();
        self.call(move |store| store.insert(&row, &now)).await
    }

    /// Records that a launch reached a stage. A stage never goes back.
    pub async fn reached(&self, launch: &str, stage: Stage, at_ms: i64) -> Result<(), JournalError> {
        let (launch, now) = (launch.to_owned(), Moment::now());
        self.call(move |store| store.advance(&launch, stage, at_ms, &now)).await
    }

    /// Closes a launch with its cost.
    pub async fn close_row(&self, launch: &str, closing: Closing) -> Result<(), JournalError> {
        let (launch, now) = (launch.to_owned(), Moment::now());
        self.call(move |store| store.close(&launch, &closing, &now)).await
    }

    /// Every launch that it knows with its session, the oldest first.
    pub async fn launches(&self) -> Result<Vec<(String, u64)>, JournalError> {
        self.call(Store::launches).await
    }

    /// Every launch that is not closed, and those that ended at or after `since_ms`, oldest first.
    pub async fn rows_since(&self, since_ms: i64) -> Result<Vec<LaunchRow>, JournalError> {
        let now = Moment::now();
        self.call(move |store| store.rows_since(since_ms, &now)).await
    }

    /// Keeps what was learnt of a service's load, without waiting for the disk: what cannot be kept is told and learnt again.
    pub fn keep_memory(&self, service: &str, bytes: Vec<u8>) {
        let (memories, service, now) = (self.memories.clone(), service.to_owned(), Moment::now());
        self.keep(move || {
            if let Err(error) = memories.write(&service, bytes, now) {
                tracing::warn!(service, %error, "what was learnt of the load is not kept on disk");
            }
        });
    }

    /// Keeps a recording of a service's decisions, whose times are by a clock that is at `now`; in the same way.
    pub fn keep_recording(&self, service: &str, bytes: Vec<u8>, now: Duration) {
        let (recordings, service) = (self.recordings.clone(), service.to_owned());
        // Both clocks at one moment: the disk may take its time.
        let at_ms = unix_ms_now();
        self.keep(move || {
            if let Err(error) = recordings.write(&service, bytes, now, at_ms) {
                tracing::warn!(service, %error, "decisions are not recorded on disk");
            }
        });
    }

    fn keep(&self, job: impl FnOnce() + Send + 'static) {
        let job: Job = Box::new(move |_| job());
        if self.jobs.as_ref().is_none_or(|jobs| jobs.try_send(job).is_err()) {
            tracing::warn!("the disk is too slow to keep what was learnt and decided");
        }
    }

    /// What was kept of it, by this run or a former one.
    pub fn memory(&self, service: &str) -> Option<Memory> {
        self.memories.read(service, &Moment::now())
    }

    /// Lets go, without waiting for it, of what was kept long ago of services that are not among these.
    pub fn forget_others(&self, services: BTreeSet<String>) {
        let (memories, recordings) = (self.memories.clone(), self.recordings.clone());
        self.keep(move || {
            let forgotten = [memories.forget_others(&services), recordings.forget_others(&services)];
            for error in forgotten.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "what is kept of services that are gone stays on disk");
            }
        });
    }

    /// A sign of life: what was asked before has been done.
    pub async fn answers(&self) -> Result<(), JournalError> {
        self.call(|_| Ok(())).await
    }

    /// Notes a step of the calendar, which would otherwise be noted with the next call. To be called now and then.
    pub async fn keep_up(&self) -> Result<(), JournalError> {
        let now = Moment::now();
        self.call(move |store| {
            store.keep_up(&now);
            Ok(())
        })
        .await
    }
}

impl Drop for Journal {
    /// Waits for what was asked to be on disk.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests;
