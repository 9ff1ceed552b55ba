//! The spool's thread: everything that came goes on disk in one transaction, then to the links as far as they have room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::letterbox::{Letterbox, Mail, Wish};
use super::store::{READ_AT_ONCE, Row, Store, StoreError, set_aside};
use super::{Bound, IN_MEMORY, Letter, ON_DISK, Outlet, SpoolStatus, Tally};

/// A disk that cannot be written is tried again this often.
const RETRY: Duration = Duration::from_secs(5);

/// What goes to one link.
#[derive(Default)]
struct Line {
    outlet: Option<Outlet>,
    /// The last ticket that the link was given.
    handed: u64,
    /// Given and not released.
    in_flight: BTreeSet<u64>,
    /// Released and still on disk.
    released: BTreeSet<u64>,
    /// Given up since the bound was reached; none while there is room.
    overflow: Option<u64>,
}

impl Line {
    /// Gives these to the link, as far as it has room; returns whether it took them all.
    fn take(&mut self, letters: Vec<Letter>) -> bool {
        let Some(outlet) = &self.outlet else { return false };
        for letter in letters {
            let ticket = letter.ticket;
            if !self.released.contains(&ticket) && self.in_flight.insert(ticket) && !outlet(letter) {
                self.in_flight.remove(&ticket);
                return false;
            }
            self.handed = ticket;
        }
        true
    }
}

/// All that the thread holds.
pub(super) struct Desk {
    letterbox: Arc<Letterbox>,
    path: PathBuf,
    store: Option<Store>,
    lines: BTreeMap<&'static str, Line>,
    /// Not on disk, oldest first: for moments, or because the disk does not take it.
    unsaved: VecDeque<Row>,
    unsaved_tally: Tally,
    next_ticket: u64,
    problem: Option<String>,
    try_again: Option<Instant>,
    saved: u64,
    dropped: u64,
    /// Given up in memory since the disk was last written; none while that was not needed.
    overflow: Option<u64>,
    on_disk: Bound,
}

impl Desk {
    pub(super) fn open(path: &Path, session: u64, links: &[&'static str], letterbox: Arc<Letterbox>) -> Self {
        let mut desk = Self {
            letterbox,
            path: path.to_owned(),
            store: None,
            lines: links.iter().map(|link| (*link, Line::default())).collect(),
            unsaved: VecDeque::new(),
            unsaved_tally: Tally::default(),
            // Grows over the runs, so that what an earlier one left comes first; 32 bits for the events of each.
            next_ticket: (session.min(0x7fff_ffff) << 32) + 1,
            problem: None,
            try_again: None,
            saved: 0,
            dropped: 0,
            overflow: None,
            on_disk: ON_DISK,
        };
        desk.open_store();
        desk.tell_of_the_past();
        desk.publish_status();
        desk
    }

    /// Runs until the handle is dropped.
    pub(super) fn run(&mut self) {
        // Also when this thread panics: whoever speaks must know that nobody listens.
        let _close = CloseOnDrop(self.letterbox.clone());
        let mut wish = Wish::default();
        loop {
            let mut mail = self.letterbox.take(wish);
            self.accept(&mut mail);
            if mail.ending {
                self.try_again = None;
            }
            self.save();
            let hungry = self.hand_all();
            self.publish_status();
            // Nobody waits any more where this fails.
            mail.flushes.drain(..).for_each(|flush| _ = flush.send(()));
            if mail.ending {
                return;
            }
            let owes = self.problem.is_some() && (!self.unsaved.is_empty() || self.owes_releases());
            wish = Wish { hungry, within: (owes || self.store.is_none()).then_some(RETRY) };
        }
    }

    fn accept(&mut self, mail: &mut Mail) {
        self.count_dropped(mail.dropped);
        for (link, outlet) in mail.outlets.drain(..) {
            self.lines.entry(link).or_default().outlet = Some(outlet);
        }
        for entry in mail.entries.drain(..) {
            let letter = Letter { ticket: self.next_ticket, topic: entry.topic, payload: entry.payload };
            self.next_ticket += 1;
            let row = Row { link: entry.link, letter };
            self.unsaved_tally.add(row.bytes());
            self.unsaved.push_back(row);
        }
        let released: BTreeSet<(&'static str, u64)> = mail.released.drain(..).collect();
        self.forget_unsaved(|row| released.contains(&(row.link, row.letter.ticket)));
        for (link, ticket) in released {
            let line = self.lines.entry(link).or_default();
            line.in_flight.remove(&ticket);
            line.released.insert(ticket);
        }
    }

    fn forget_unsaved(&mut self, gone: impl Fn(&Row) -> bool) {
        let tally = &mut self.unsaved_tally;
        self.unsaved.retain(|row| {
            let stays = !gone(row);
            if !stays {
                tally.remove(row.bytes());
            }
            stays
        });
    }

    fn owes_releases(&self) -> bool {
        self.lines.values().any(|line| !line.released.is_empty())
    }

    /// Writes what is not on disk and takes off what was released; what the disk does not take stays in memory.
    fn save(&mut self) {
        let nothing = self.unsaved.is_empty() && !self.owes_releases() && self.store.is_some();
        if nothing || self.try_again.is_some_and(|at| Instant::now() < at) {
            return self.bound_memory();
        }
        if self.store.is_none() {
            self.open_store();
        }
        if let Err(error) = self.apply() {
            self.failed(error);
        }
        self.bound_memory();
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let released: Vec<_> =
            self.lines.iter().flat_map(|(link, line)| line.released.iter().map(|ticket| (*link, *ticket))).collect();
        let handed = self.lines.iter().map(|(link, line)| (*link, line.handed)).collect();
        let dropped = store.apply(self.unsaved.make_contiguous(), &released, &handed, self.on_disk)?;
        self.saved += self.unsaved.len() as u64;
        self.unsaved.clear();
        self.unsaved_tally = Tally::default();
        self.lines.values_mut().for_each(|line| line.released.clear());
        if self.problem.take().is_some() {
            tracing::info!("events wait on disk again");
        }
        if let Some(given_up) = self.overflow.take() {
            tracing::info!(given_up, "the disk takes what is said again");
        }
        self.try_again = None;
        self.tell_full(&dropped);
        Ok(())
    }

    fn failed(&mut self, error: StoreError) {
        match error {
            StoreError::Corrupt(reason) => {
                self.set_aside(&reason);
                self.open_store();
                if let Err(error) = self.apply() {
                    self.unwritable(&error);
                }
            }
            StoreError::Failed(_) => self.unwritable(&error),
        }
    }

    fn unwritable(&mut self, error: &StoreError) {
        let (StoreError::Corrupt(reason) | StoreError::Failed(reason)) = error;
        if self.problem.is_none() {
            tracing::error!(
                reason,
                "events for MQTT cannot be written to the state directory; free some space or mend the disk. Until then \
                 {} of them wait in memory at most, and are lost if the node ends before the broker has them",
                IN_MEMORY.events
            );
        }
        self.problem = Some(reason.clone());
        self.try_again = Some(Instant::now() + RETRY);
    }

    fn open_store(&mut self) {
        let links: Vec<&'static str> = self.lines.keys().copied().collect();
        let opened = match Store::open(&self.path, &links) {
            Err(StoreError::Corrupt(reason)) => {
                self.set_aside(&reason);
                Store::open(&self.path, &links)
            }
            opened => opened,
        };
        match opened {
            Ok(store) => {
                self.store = Some(store);
                // What is there may be older than what was handed from memory.
                self.lines.values_mut().for_each(|line| line.handed = 0);
            }
            Err(error) => self.unwritable(&error),
        }
    }

    fn set_aside(&mut self, reason: &str) {
        self.store = None;
        match set_aside(&self.path) {
            Ok(aside) => tracing::error!(
                reason,
                aside = %aside.display(),
                "the spool of events is corrupt and was set aside; what waited there is not said"
            ),
            Err(error) => tracing::error!(reason, %error, "the spool of events is corrupt and cannot be set aside"),
        }
    }

    /// The oldest that its link does not have goes.
    fn bound_memory(&mut self) {
        let mut dropped = 0;
        while self.unsaved_tally.exceeds(IN_MEMORY) {
            let is_here =
                |row: &Row| self.lines.get(row.link).is_none_or(|l| !l.in_flight.contains(&row.letter.ticket));
            let Some(index) = self.unsaved.iter().position(is_here) else { break };
            let Some(row) = self.unsaved.remove(index) else { break };
            self.unsaved_tally.remove(row.bytes());
            dropped += 1;
        }
        self.count_dropped(dropped);
    }

    fn count_dropped(&mut self, events: u64) {
        if events == 0 {
            return;
        }
        self.dropped += events;
        metrics::counter!("tidegate_mqtt_dropped_total", "link" => "all", "reason" => "spool_full").increment(events);
        if self.overflow.is_none() {
            tracing::warn!(
                "more events came than memory holds while the disk did not take them: the oldest are given up"
            );
        }
        *self.overflow.get_or_insert(0) += events;
    }

    fn tell_full(&mut self, dropped: &BTreeMap<&'static str, u64>) {
        for (link, line) in &mut self.lines {
            let count = dropped.get(link).copied().unwrap_or(0);
            if count > 0 {
                self.dropped += count;
                metrics::counter!("tidegate_mqtt_dropped_total", "link" => *link, "reason" => "spool_full")
                    .increment(count);
                if line.overflow.is_none() {
                    let Bound { events, bytes } = self.on_disk;
                    tracing::warn!(
                        link,
                        "{events} events or {bytes} bytes wait on disk for the MQTT broker, which is all that is kept: the \
                         oldest are given up until it takes some"
                    );
                }
                *line.overflow.get_or_insert(0) += count;
            }
            let is_empty = self.store.as_ref().is_some_and(|store| store.tally(link).events == 0);
            if let Some(given_up) = line.overflow.take_if(|_| is_empty) {
                tracing::info!(link, given_up, "no events wait on disk any more");
            }
        }
    }

    /// Returns whether a link has no room for all that waits for it.
    fn hand_all(&mut self) -> bool {
        let links: Vec<&'static str> = self.lines.keys().copied().collect();
        // All of them, not only until the first.
        links.into_iter().map(|link| self.hand(link)).fold(false, |hungry, more| hungry | more)
    }

    fn hand(&mut self, link: &'static str) -> bool {
        loop {
            let Some(handed) = self.lines.get(link).filter(|line| line.outlet.is_some()).map(|line| line.handed) else {
                return false;
            };
            let letters = self.next_letters(link, handed);
            if letters.is_empty() {
                return false;
            }
            if !self.lines.get_mut(link).is_some_and(|line| line.take(letters)) {
                return true;
            }
        }
    }

    /// From disk, and once nothing older is left there, what the disk did not take.
    fn next_letters(&mut self, link: &str, after: u64) -> Vec<Letter> {
        match self.store.as_ref().map_or(Ok(Vec::new()), |store| store.read(link, after)) {
            Ok(stored) if !stored.is_empty() => return stored,
            Ok(_) => {}
            Err(error) => self.unwritable(&error),
        }
        let ours = self.unsaved.iter().filter(|row| row.link == link && row.letter.ticket > after);
        ours.take(READ_AT_ONCE).map(|row| row.letter.clone()).collect()
    }

    fn tell_of_the_past(&self) {
        let Some(store) = &self.store else { return };
        for link in self.lines.keys() {
            let events = store.tally(link).events;
            if events > 0 {
                tracing::info!(link, events, "events of an earlier run wait for the MQTT broker");
            }
        }
    }

    fn publish_status(&self) {
        let tally = |link: &&'static str| self.store.as_ref().map_or(Tally::default(), |store| store.tally(link));
        for link in self.lines.keys() {
            let events = u32::try_from(tally(link).events).unwrap_or(u32::MAX);
            metrics::gauge!("tidegate_mqtt_spool_events", "link" => *link).set(f64::from(events));
        }
        let unsaved = u32::try_from(self.unsaved.len()).unwrap_or(u32::MAX);
        metrics::gauge!("tidegate_mqtt_spool_unsaved_events").set(f64::from(unsaved));
        self.letterbox.set_status(SpoolStatus {
            events: self.lines.keys().map(|link| (*link, tally(link).events)).collect(),
            bytes: self.lines.keys().map(|link| tally(link).bytes).sum(),
            saved: self.saved,
            unsaved: self.unsaved.len() as u64,
            dropped: self.dropped,
            problem: self.problem.clone(),
        });
    }
}

struct CloseOnDrop(Arc<Letterbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
