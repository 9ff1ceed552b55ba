//! Rows that outlive a wrong calendar.
//!
//! A gateway may boot in 1970 and learn the date later, or wake up with a clock that is a year ahead. Within one boot the
//! kernel counts on whatever the calendar says, so each session is noted with where it began on that count, and how far its
//! rows are behind the calendar as it stood when somebody last looked. Rows are written as of their own session and read with
//! that correction: a calendar that steps moves all that this boot wrote, and never what an instance has cost.
//!
//! Of another boot nobody knows how long ago it was, and its dates are believed. Only a session that never learned the date is
//! taken to have ended just now, so that no cap forgets its money.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use rusqlite::{Connection, OptionalExtension, params};

/// No box ran this before 2026-01-01: an earlier calendar has not been set.
pub(super) const NOT_SET_BEFORE_MS: i64 = 1_767_225_600_000;

/// A calendar that moves less is disciplined as it should be, or was read twice.
const STEP_MS: i64 = 1_000;

/// A step that somebody should hear of: no time service makes one so large once it runs.
const WORTH_A_WORD_MS: i64 = 60_000;

/// The tables of it, since schema 3.
pub(super) const CREATE: &str = "
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    since_boot_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    behind_ms INTEGER NOT NULL
) STRICT;
";

/// For a query that corrects rows: the sessions in which they were begun and in which they were ended.
pub(super) const WITH_SESSIONS: &str = "launches AS l LEFT JOIN sessions AS b ON b.session = l.session \
                                        LEFT JOIN sessions AS e ON e.session = l.ended_session";

/// All clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Another for each boot of the box.
    pub(super) boot: String,
    /// The kernel's count, suspended time included.
    pub(super) since_boot_ms: i64,
    /// The calendar, in Unix milliseconds.
    pub(super) at_ms: i64,
}

impl Moment {
    /// This box, now.
    pub(super) fn now() -> Self {
        static BOOT: OnceLock<String> = OnceLock::new();
        // Without the id of the boot all that ran on this box counts as this boot's.
        let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = BOOT.get_or_init(|| read().trim().to_owned()).clone();
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self { boot, since_boot_ms: millis(since_boot), at_ms: millis(at) }
    }

    /// The calendar when the box was booted.
    fn booted_at_ms(&self) -> i64 {
        self.at_ms.saturating_sub(self.since_boot_ms)
    }
}

/// The calendar as the rows of this boot were last held against.
#[derive(Debug)]
pub(super) struct Calendar {
    session: i64,
    /// `None` until the session is noted.
    booted_at_ms: Option<i64>,
}

impl Calendar {
    /// Notes a session that begins. A disk that does not take it is asked again later.
    pub(super) fn begin(connection: &mut Connection, session: i64, now: &Moment) -> Self {
        let mut calendar = Self { session, booted_at_ms: None };
        if let Err(error) = calendar.keep_up(connection, now) {
            tracing::warn!(%error, "the journal has not noted this session's calendar yet");
        }
        calendar
    }

    /// Looks whether the calendar has stepped, and moves what this boot wrote along with it.
    pub(super) fn keep_up(&mut self, connection: &mut Connection, now: &Moment) -> rusqlite::Result<()> {
        let Some(known) = self.booted_at_ms else {
            note(connection, self.session, now)?;
            self.booted_at_ms = Some(now.booted_at_ms());
            return Ok(());
        };
        let step = now.booted_at_ms().saturating_sub(known);
        if step.abs() < STEP_MS {
            return Ok(());
        }
        let transaction = connection.transaction()?;
        if known.saturating_add(now.since_boot_ms) < NOT_SET_BEFORE_MS && now.at_ms >= NOT_SET_BEFORE_MS {
            // The date is known from now on.
            place_undated(&transaction, now)?;
        }
        correct(&transaction, now)?;
        transaction.commit()?;
        self.booted_at_ms = Some(now.booted_at_ms());
        if step.abs() >= WORTH_A_WORD_MS {
            let seconds = step / 1_000;
            tracing::warn!(
                seconds,
                "the calendar of this box has stepped; leases and budgets count on by another clock, and the times of this \
                 boot's launches are corrected. If it should not have: see that the box keeps time (timedatectl status)"
            );
        }
        Ok(())
    }
}

/// Notes a session, forgets those of which no row is left, and places those that never had a date.
fn note(connection: &mut Connection, session: i64, now: &Moment) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let used = "SELECT session FROM launches UNION SELECT ended_session FROM launches WHERE ended_session IS NOT NULL";
    transaction.execute(&format!("DELETE FROM sessions WHERE session NOT IN ({used})"), [])?;
    let sql = "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4, 0)";
    transaction.execute(sql, params![session, now.boot, now.since_boot_ms, now.at_ms])?;
    if now.at_ms >= NOT_SET_BEFORE_MS {
        place_undated(&transaction, now)?;
    }
    correct(&transaction, now)?;
    transaction.commit()
}

/// Brings every session of this boot to the calendar of now.
fn correct(connection: &Connection, now: &Moment) -> rusqlite::Result<()> {
    let sql = "UPDATE sessions SET behind_ms = ?1 - (at_ms - since_boot_ms) \
               WHERE boot = ?2 AND ABS(?1 - (at_ms - since_boot_ms) - behind_ms) >= ?3";
    connection.execute(sql, params![now.booted_at_ms(), now.boot, STEP_MS]).map(drop)
}

/// Each session of another boot with its start, its correction, and the last that it wrote.
const OTHERS: &str = "
SELECT session, at_ms, behind_ms, MAX(
    COALESCE((SELECT MAX(MAX(intended_at_ms, COALESCE(ready_at_ms, 0))) FROM launches AS l WHERE l.session = s.session), 0),
    COALESCE((SELECT MAX(ended_at_ms) FROM launches AS l WHERE l.ended_session = s.session), 0))
FROM sessions AS s WHERE boot <> ?1";

/// Puts sessions of other boots that never learned the date onto the count of this boot, ending now. To be called once the
/// date is known.
fn place_undated(connection: &Connection, now: &Moment) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(OTHERS)?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    };
    let others = statement.query_map([&now.boot], read)?.collect::<Result<Vec<_>, _>>()?;
    for (session, at_ms, behind_ms, last_ms) in others {
        if last_ms == 0 || last_ms.saturating_add(behind_ms) >= NOT_SET_BEFORE_MS {
            continue;
        }
        let began = now.since_boot_ms.saturating_sub(last_ms.saturating_sub(at_ms));
        let sql = "UPDATE sessions SET boot = ?2, since_boot_ms = ?3 WHERE session = ?1";
        connection.execute(sql, params![session, now.boot, began])?;
    }
    Ok(())
}

/// The calendar time `at_ms` as of a session.
pub(super) fn as_of_session(connection: &Connection, session: i64, at_ms: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT behind_ms FROM sessions WHERE session = ?1";
    let behind: Option<i64> = connection.query_row(sql, [session], |row| row.get(0)).optional()?;
    Ok(at_ms.saturating_sub(behind.unwrap_or(0)))
}

#[cfg(test)]
mod tests;
