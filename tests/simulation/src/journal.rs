//! The journal's disk: what a full sync has put there survives any crash, what was on its way is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::logic::budget::{Money, Terms};
use crate::logic::burst::{Record, Recorded};
use crate::weather::Weather;

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Intend(Box<Row>),
    Reached(String, Recorded, Duration),
    Close(String, Duration, Money),
}

/// A row as it is on the disk; times as the calendar has them, in whole milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) launch: String,
    pub(crate) adapter: String,
    pub(crate) service: String,
    pub(crate) session: u64,
    pub(crate) reason: String,
    pub(crate) stage: Recorded,
    pub(crate) intended_at: Duration,
    pub(crate) ready_at: Option<Duration>,
    pub(crate) ending_at: Option<Duration>,
    pub(crate) ended_at: Option<Duration>,
    pub(crate) terms: Terms,
    pub(crate) cost: Option<Money>,
}

/// The disk under the journal.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    rows: BTreeMap<String, Row>,
    /// Torn or flipped: found out at the next start.
    pub(crate) is_corrupt: bool,
    /// When a corrupt journal was last set aside, on the calendar.
    pub(crate) lost_at: Option<Duration>,
    pub(crate) first_session: u64,
    /// One write after the other.
    pub(crate) free_at: Duration,
    pub(crate) weather: Weather,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            is_corrupt: false,
            lost_at: None,
            first_session: 1,
            free_at: Duration::ZERO,
            weather: Weather::default(),
        }
    }

    /// Puts a write on the disk, as the journal's statements do: an intent once, a stage never back, a close once or
    /// dearer.
    pub(crate) fn apply(&mut self, write: Write) {
        match write {
            Write::Intend(row) => {
                self.rows.entry(row.launch.clone()).or_insert(*row);
            }
            Write::Reached(launch, stage, at) => {
                if let Some(row) = self.rows.get_mut(&launch).filter(|row| stage > row.stage) {
                    row.stage = stage;
                    row.ready_at = row.ready_at.or((stage == Recorded::Ready).then_some(at));
                    row.ending_at = (stage == Recorded::Ending).then_some(at);
                }
            }
            Write::Close(launch, at, cost) => {
                let is_news = |row: &&mut Row| row.stage != Recorded::Closed || row.cost.is_none_or(|was| was < cost);
                if let Some(row) = self.rows.get_mut(&launch).filter(is_news) {
                    (row.stage, row.ended_at, row.cost) = (Recorded::Closed, Some(at), Some(cost));
                }
            }
        }
    }

    /// Whether a launch is on the disk.
    pub(crate) fn has(&self, launch: &str) -> bool {
        self.rows.contains_key(launch)
    }

    /// Rows that are not closed.
    pub(crate) fn open_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().filter(|row| row.stage != Recorded::Closed)
    }

    /// Opens the journal at a start: a corrupt one is set aside, and its past is unknown.
    pub(crate) fn open(&mut self, session: u64, now: Duration) {
        self.free_at = Duration::ZERO;
        if self.is_corrupt {
            self.is_corrupt = false;
            self.rows.clear();
            self.first_session = session;
            // The file's name has whole seconds.
            self.lost_at = Some(Duration::from_secs(now.as_secs()));
        }
    }

    /// What a start reads.
    pub(crate) fn read(&self) -> (Vec<Record>, Vec<(String, u64)>) {
        let records: Vec<Record> = self.rows.values().map(record).collect();
        let known = records.iter().map(|record| (record.launch.clone(), record.session)).collect();
        (records, known)
    }
}

/// A calendar time: whole milliseconds.
pub(crate) fn calendar(at: Duration) -> Duration {
    Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
}

fn record(row: &Row) -> Record {
    Record {
        launch: row.launch.clone(),
        service: row.service.clone(),
        adapter: row.adapter.clone(),
        session: row.session,
        reason: row.reason.clone(),
        stage: row.stage,
        started_at: row.intended_at,
        start_took: row.ready_at.map(|ready| ready.saturating_sub(row.intended_at)),
        ending_at: row.ending_at,
        ended_at: row.ended_at,
        terms: row.terms,
        cost: row.cost,
    }
}
