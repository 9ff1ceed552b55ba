//! What was said and not yet heard: events wait on disk, in number and bytes bounded, until the broker has them.
//!
//! A file and a thread of its own beside the journal: a burst of events must not delay the intent of a launch, and a spool
//! that is damaged and set aside must not cost the ledger. Whoever appends never waits: all that waits when the thread comes
//! round is one transaction and one sync. What was on disk is handed to the link of its tree in order, as far as that has
//! room, and leaves the disk when the link releases it; after a kill it is handed again, the same bytes with the same id.

mod desk;
mod letterbox;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use desk::Desk;
use letterbox::{Entry, Letterbox};

/// Most events, and most bytes of topics and payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    events: u64,
    bytes: u64,
}

/// How many events there are, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    events: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.events += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: u64) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn exceeds(self, bound: Bound) -> bool {
        self.events > bound.events || self.bytes > bound.bytes
    }
}

/// What one tree may have on disk: a node that bursts once a minute says about ten events a minute, so this is the better
/// part of a day, and 8 MiB are little on any card.
const ON_DISK: Bound = Bound { events: 10_000, bytes: 8 << 20 };
/// What may be in memory while the disk cannot be written, or is slower than what is said: thousands of both trees.
const IN_MEMORY: Bound = Bound { events: 8_192, bytes: 4 << 20 };

/// An event on its way to one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Names it until it is released.
    pub ticket: u64,
    /// The full topic.
    pub topic: String,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// Takes letters for one link on the spool's thread; must not wait. False: no room before the next release.
pub type Outlet = Box<dyn Fn(Letter) -> bool + Send>;

/// What the spool is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Events on disk, by link.
    pub events: BTreeMap<&'static str, u64>,
    /// Their bytes, all links.
    pub bytes: u64,
    /// Events put on disk since the start, all links.
    pub saved: u64,
    /// Events that are in memory only, because the disk does not take them.
    pub unsaved: u64,
    /// Events given up because too many waited.
    pub dropped: u64,
    /// Why the disk cannot be written.
    pub problem: Option<String>,
}

/// Handle of the spool's thread, which ends when the handle is dropped. No call waits for the disk.
pub struct Spool {
    letterbox: Arc<Letterbox>,
    thread: Option<JoinHandle<()>>,
}

/// Where a link says that it is done with letters; clones share it and keep no thread alive.
#[derive(Clone)]
pub struct Releases {
    letterbox: Arc<Letterbox>,
    link: &'static str,
}

impl Releases {
    /// The broker has these, or will never take them.
    pub fn released(&self, tickets: &[u64]) {
        self.letterbox.release(self.link, tickets);
    }
}

impl Spool {
    /// Opens or makes the spool in a locked state directory, for these links. Never fails: a corrupt one is set aside, and
    /// without a disk events wait in memory until it can be written. `session` is this run's number.
    pub fn open(directory: &Path, session: u64, links: &[&'static str]) -> Self {
        let letterbox = Arc::new(Letterbox::default());
        let mut desk = Desk::open(&directory.join("spool.sqlite"), session, links, letterbox.clone());
        let thread = std::thread::Builder::new().name("spool".into()).spawn(move || desk.run());
        if let Err(error) = &thread {
            letterbox.close();
            tracing::error!(%error, "the spool has no thread: events wait in memory only");
        }
        Self { letterbox, thread: thread.ok() }
    }

    /// Takes an event in; it goes to its link once it is on disk, or once the disk has failed. Never waits. False: the
    /// spool has ended, and the event is still the caller's to say.
    #[must_use = "an event that was not taken is still to be said"]
    pub fn append(&self, link: &'static str, topic: &str, payload: &[u8]) -> bool {
        self.letterbox.post(Entry { link, topic: topic.to_owned(), payload: payload.to_vec() })
    }

    /// Hands what waits for a link to it from now on, oldest first.
    pub fn attach(&self, link: &'static str, outlet: Outlet) {
        self.letterbox.attach(link, outlet);
    }

    /// Where a link says that it is done with letters.
    pub fn releases(&self, link: &'static str) -> Releases {
        Releases { letterbox: self.letterbox.clone(), link }
    }

    /// Answered once everything that was appended before is on disk, or the disk has failed, and links that have room have
    /// it.
    pub fn flush(&self) -> oneshot::Receiver<()> {
        self.letterbox.flush()
    }

    /// What it is doing.
    pub fn status(&self) -> SpoolStatus {
        self.letterbox.status()
    }
}

impl Drop for Spool {
    /// Waits for what was appended to be on disk.
    fn drop(&mut self) {
        self.letterbox.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the spool's thread ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests;
