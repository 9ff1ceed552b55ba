//! What comes for the spool's thread, taken in without waiting: a lock held for moments, and bounds.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{IN_MEMORY, Outlet, SpoolStatus, Tally};

/// What the broker has is taken off the disk this late, so that many go in one write. A kill in between says them twice.
const RELEASE_DELAY: Duration = Duration::from_secs(1);

/// An event that came in and is not on disk yet.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) link: &'static str,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

impl Entry {
    pub(super) fn bytes(&self) -> u64 {
        (self.topic.len() + self.payload.len()) as u64
    }
}

/// All that came since the last look.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) entries: VecDeque<Entry>,
    tally: Tally,
    /// Given up because the thread was too far behind.
    pub(super) dropped: u64,
    pub(super) released: Vec<(&'static str, u64)>,
    pub(super) outlets: Vec<(&'static str, Outlet)>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    /// The handle is gone; nothing comes after this.
    pub(super) ending: bool,
    /// The thread is gone.
    closed: bool,
}

/// What the thread waits for beside mail.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// A link had no room: its next release is urgent.
    pub(super) hungry: bool,
    /// There is something to do by then even if nothing comes.
    pub(super) within: Option<Duration>,
}

/// Where it comes in.
#[derive(Default)]
pub(super) struct Letterbox {
    mail: Mutex<Mail>,
    came: Condvar,
    status: Mutex<SpoolStatus>,
}

impl Letterbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut Mail)) {
        put(&mut self.mail());
        self.came.notify_one();
    }

    /// Whether there is still a thread to take it. The oldest goes when that is too far behind.
    pub(super) fn post(&self, entry: Entry) -> bool {
        let mut mail = self.mail();
        if mail.closed {
            return false;
        }
        mail.tally.add(entry.bytes());
        mail.entries.push_back(entry);
        while mail.tally.exceeds(IN_MEMORY) {
            let Some(oldest) = mail.entries.pop_front() else { break };
            mail.tally.remove(oldest.bytes());
            mail.dropped += 1;
        }
        drop(mail);
        self.came.notify_one();
        true
    }

    pub(super) fn release(&self, link: &'static str, tickets: &[u64]) {
        self.put(|mail| mail.released.extend(tickets.iter().map(|ticket| (link, *ticket))));
    }

    pub(super) fn attach(&self, link: &'static str, outlet: Outlet) {
        self.put(|mail| mail.outlets.push((link, outlet)));
    }

    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        // Without a thread the sender is dropped, which answers too.
        self.put(|mail| {
            if !mail.closed {
                mail.flushes.push(done)
            }
        });
        wait
    }

    pub(super) fn end(&self) {
        self.put(|mail| mail.ending = true);
    }

    /// The thread is gone: nobody takes anything any more.
    pub(super) fn close(&self) {
        self.put(|mail| *mail = Mail { closed: true, ..Mail::default() });
    }

    pub(super) fn status(&self) -> SpoolStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_status(&self, status: SpoolStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Waits for mail and takes all of it.
    pub(super) fn take(&self, wish: Wish) -> Mail {
        let mut mail = self.mail();
        while !is_urgent(&mail, wish.hungry) {
            let release = (!mail.released.is_empty()).then_some(RELEASE_DELAY);
            let Some(within) = wish.within.into_iter().chain(release).min() else {
                mail = self.came.wait(mail).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (woken, waited) = self.came.wait_timeout(mail, within).unwrap_or_else(PoisonError::into_inner);
            mail = woken;
            if waited.timed_out() {
                break;
            }
        }
        std::mem::take(&mut mail)
    }
}

fn is_urgent(mail: &Mail, hungry: bool) -> bool {
    let more = !mail.entries.is_empty() || !mail.outlets.is_empty() || !mail.flushes.is_empty();
    more || mail.ending || (hungry && !mail.released.is_empty())
}
