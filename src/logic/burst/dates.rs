//! How long ago a journal's row was written, on a box whose calendar may be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a journal says of its own time, against the calendar of now. Times are in Unix milliseconds.
#[derive(Clone, Debug)]
pub struct Dates {
    now_ms: i64,
    /// The latest that each session wrote.
    latest: BTreeMap<u64, i64>,
}

impl Dates {
    /// From the sessions of the rows and the times that they hold.
    pub fn new(now_ms: i64, written: impl IntoIterator<Item = (u64, i64)>) -> Self {
        let mut latest: BTreeMap<u64, i64> = BTreeMap::new();
        for (session, at_ms) in written {
            let known = latest.entry(session).or_insert(at_ms);
            *known = (*known).max(at_ms);
        }
        Self { now_ms, latest }
    }

    /// How long ago a time of a session's row was. What lies after now was written by a right calendar before this one went
    /// wrong, or by a wrong one: it is counted from the latest of its own and later sessions, which cannot have been after
    /// now in truth.
    pub fn ago(&self, session: u64, at_ms: i64) -> Duration {
        let latest_ms = || self.latest.range(session..).map(|(_, at)| *at).max().unwrap_or(self.now_ms);
        let from_ms = if at_ms > self.now_ms { latest_ms() } else { self.now_ms };
        Duration::from_millis(u64::try_from(from_ms.saturating_sub(at_ms)).unwrap_or(0))
    }
}
