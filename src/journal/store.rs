//! The journal's tables: SQLite, touched by the journal's thread alone.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::calendar::{self, Calendar, Moment, WITH_SESSIONS};
use super::{Closing, JournalError, LaunchRow, Stage};
use crate::logic::burst::MOST_LAUNCHES;

/// Raised with each change of the tables; a file with a higher number is from a newer Tidegate.
const SCHEMA: i64 = 4;

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS launches (
    launch TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    adapter TEXT NOT NULL,
    session INTEGER NOT NULL,
    reason TEXT NOT NULL,
    stage TEXT NOT NULL,
    intended_at_ms INTEGER NOT NULL,
    ready_at_ms INTEGER,
    ended_at_ms INTEGER,
    end_reason TEXT,
    price_per_hour_micro INTEGER NOT NULL,
    minimum_billing_ms INTEGER NOT NULL,
    billing_step_ms INTEGER NOT NULL,
    cost_micro INTEGER,
    currency TEXT,
    ended_session INTEGER,
    ending_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// From schema 1: whose rows are all there is of the sessions since its first one.
const FROM_1: &str = "
ALTER TABLE launches ADD COLUMN currency TEXT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO facts SELECT 'first_session', MIN(session) FROM launches HAVING MIN(session) IS NOT NULL;
";

/// From schema 2: nothing is known of the calendar of former sessions.
const FROM_2: &str = "DROP INDEX launches_by_end; ALTER TABLE launches ADD COLUMN ended_session INTEGER;";

/// From schema 3: when the end of what is open was decided is not known.
const FROM_3: &str = "ALTER TABLE launches ADD COLUMN ending_at_ms INTEGER;";

/// The columns of a row, in the order in which [`read_row`] takes them, its times corrected.
const COLUMNS: &str = "launch, service, adapter, l.session, reason, stage, intended_at_ms + COALESCE(b.behind_ms, 0), \
                       ready_at_ms + COALESCE(b.behind_ms, 0), ended_at_ms + COALESCE(e.behind_ms, 0), end_reason, \
                       price_per_hour_micro, minimum_billing_ms, billing_step_ms, cost_micro, currency, \
                       ending_at_ms + COALESCE(b.behind_ms, 0)";

/// The newest closed launch that is one too many. By session and, within it, by that run's own clock: a calendar that
/// jumped forgets nothing. What ended within a day of the latest end stays, as the budget counts it.
const OLDEST_TOO_MANY: &str = "
SELECT session, intended_at_ms FROM launches WHERE stage = 'closed'
ORDER BY session DESC, intended_at_ms DESC LIMIT 1 OFFSET ?1";
const FORGET: &str = "
DELETE FROM launches WHERE stage = 'closed' AND (session, intended_at_ms) <= (?1, ?2)
AND ended_at_ms + COALESCE((SELECT behind_ms FROM sessions AS s WHERE s.session = ended_session), 0) <
    (SELECT MAX(ended_at_ms + COALESCE(behind_ms, 0)) FROM launches LEFT JOIN sessions AS s ON s.session = ended_session)
    - 86400000";

/// Ends between two looks for what can be forgotten: each reads the whole table.
const FORGET_EVERY: u32 = 500;

/// The name of a journal that was set aside, before the Unix seconds.
const SET_ASIDE: &str = "journal.corrupt-";

/// The open database.
pub(super) struct Store {
    connection: Connection,
    /// Launches that were closed since the last look for what can be forgotten.
    closed: u32,
    session: i64,
    calendar: Calendar,
}

impl Store {
    /// Opens the database; one that is corrupt is renamed beside itself and a new one made. One that cannot be opened for
    /// another reason (busy, read-only, full) is left alone.
    pub(super) fn open_or_set_aside(path: &Path, session: u64, now: &Moment) -> Result<Self, JournalError> {
        let mut store = match Self::open(path, session, now) {
            Err(OpenFailure::Corrupt(error)) => {
                set_aside(path, &error)?;
                Self::open(path, session, now)
            }
            opened => opened,
        }
        .map_err(OpenFailure::into_error)?;
        store.forget_oldest(MOST_LAUNCHES);
        Ok(store)
    }

    fn open(path: &Path, session: u64, now: &Moment) -> Result<Self, OpenFailure> {
        let mut connection = Connection::open(path)?;
        // A gateway's journal has a few thousand rows; the page cache stays small (negative: KiB).
        connection.execute_batch("PRAGMA cache_size = -256; PRAGMA locking_mode = EXCLUSIVE;")?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL;")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > SCHEMA {
            return Err(OpenFailure::Other(JournalError::Newer { found, known: SCHEMA }));
        }
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(OpenFailure::Corrupt(sound));
        }
        if found != SCHEMA {
            migrate(&connection, path, found, session)?;
        }
        let session = i64::try_from(session).unwrap_or(i64::MAX);
        let calendar = Calendar::begin(&mut connection, session, now);
        Ok(Self { connection, closed: 0, session, calendar })
    }

    /// `now` is the moment in which the row was made; so below.
    pub(super) fn insert(&mut self, row: &LaunchRow, now: &Moment) -> Result<(), JournalError> {
        let sql = "INSERT OR IGNORE INTO launches (launch, service, adapter, session, reason, stage, intended_at_ms, \
                   price_per_hour_micro, minimum_billing_ms, billing_step_ms, currency) \
                   VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)";
        let session = i64::try_from(row.session).unwrap_or(i64::MAX);
        let intended_at_ms = self.as_of(session, row.intended_at_ms, now)?;
        let values = params![
            row.launch,
            row.service,
            row.adapter,
            session,
            row.reason,
            word(row.stage),
            intended_at_ms,
            row.price_per_hour_micro,
            row.minimum_billing_ms,
            row.billing_step_ms,
            row.currency
        ];
        self.write(sql, values)
    }

    pub(super) fn advance(&mut self, launch: &str, stage: Stage, at_ms: i64, now: &Moment) -> Result<(), JournalError> {
        let Some((current, session)) = self.stage_of(launch)? else { return Ok(()) };
        if stage <= current {
            return Ok(());
        }
        let at = self.as_of(session, at_ms, now)?;
        let (ready_at, ending_at) = ((stage == Stage::Ready).then_some(at), (stage == Stage::Ending).then_some(at));
        let sql = "UPDATE launches SET stage = ?2, ready_at_ms = COALESCE(ready_at_ms, ?3), ending_at_ms = ?4 \
                   WHERE launch = ?1";
        self.write(sql, params![launch, word(stage), ready_at, ending_at])
    }

    pub(super) fn close(&mut self, launch: &str, closing: &Closing, now: &Moment) -> Result<(), JournalError> {
        // A launch that was found alive after its close is closed again, later and dearer.
        let sql = "UPDATE launches SET stage = 'closed', ended_at_ms = ?2, end_reason = ?3, cost_micro = ?4, \
                   ended_session = ?5 WHERE launch = ?1 AND (stage <> 'closed' OR cost_micro < ?4)";
        let session = self.session;
        let ended_at_ms = self.as_of(session, closing.ended_at_ms, now)?;
        self.write(sql, params![launch, ended_at_ms, closing.reason, closing.cost_micro, session])?;
        self.closed += 1;
        if self.closed >= FORGET_EVERY {
            self.forget_oldest(MOST_LAUNCHES);
        }
        Ok(())
    }

    /// Keeps the latest launches, and with the first that it forgets what it knows of that session. A disk that does not
    /// take it takes it later.
    pub(super) fn forget_oldest(&mut self, most: usize) {
        self.closed = 0;
        if let Err(error) = self.try_to_forget(most) {
            tracing::warn!(%error, "the oldest launches stay in the journal");
        }
    }

    fn try_to_forget(&mut self, most: usize) -> rusqlite::Result<()> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = self.connection.query_row(OLDEST_TOO_MANY, [most], read).optional()?;
        let Some((session, at_ms)) = found else { return Ok(()) };
        let transaction = self.connection.transaction()?;
        if transaction.execute(FORGET, [session, at_ms])? > 0 {
            let sql = "UPDATE facts SET value = MAX(value, ?1) WHERE name = 'first_session'";
            transaction.execute(sql, [session.saturating_add(1)])?;
        }
        transaction.commit()
    }

    pub(super) fn rows_since(&mut self, since_ms: i64, now: &Moment) -> Result<Vec<LaunchRow>, JournalError> {
        self.keep_up(now);
        let sql = format!(
            "SELECT {COLUMNS} FROM {WITH_SESSIONS} WHERE stage <> 'closed' OR ended_at_ms + COALESCE(e.behind_ms, 0) >= ?1 \
             ORDER BY intended_at_ms + COALESCE(b.behind_ms, 0), launch"
        );
        let mut statement = self.connection.prepare(&sql).map_err(read_failed)?;
        let rows = statement.query_map([since_ms], read_row).map_err(read_failed)?;
        rows.collect::<Result<_, _>>().map_err(read_failed)
    }

    pub(super) fn launches(&mut self) -> Result<Vec<(String, u64)>, JournalError> {
        let sql = "SELECT launch, session FROM launches ORDER BY session, intended_at_ms";
        let mut statement = self.connection.prepare(sql).map_err(read_failed)?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.try_into().unwrap_or(0)));
        let launches = statement.query_map([], read).map_err(read_failed)?;
        launches.collect::<Result<_, _>>().map_err(read_failed)
    }

    pub(super) fn first_session(&self) -> Result<u64, JournalError> {
        let sql = "SELECT value FROM facts WHERE name = 'first_session'";
        let session: i64 = self.connection.query_row(sql, [], |row| row.get(0)).map_err(read_failed)?;
        Ok(u64::try_from(session).unwrap_or(0))
    }

    /// Follows the calendar. A disk that does not take that is asked again with the next call.
    pub(super) fn keep_up(&mut self, now: &Moment) {
        if let Err(error) = self.calendar.keep_up(&mut self.connection, now) {
            tracing::debug!(%error, "the calendar's step is not noted yet");
        }
    }

    /// A calendar time as rows of a session have it.
    fn as_of(&mut self, session: i64, at_ms: i64, now: &Moment) -> Result<i64, JournalError> {
        self.keep_up(now);
        calendar::as_of_session(&self.connection, session, at_ms).map_err(write_failed)
    }

    /// And the session of the launch.
    fn stage_of(&self, launch: &str) -> Result<Option<(Stage, i64)>, JournalError> {
        let sql = "SELECT stage, session FROM launches WHERE launch = ?1";
        let found: Result<(String, i64), _> =
            self.connection.query_row(sql, [launch], |row| Ok((row.get(0)?, row.get(1)?)));
        match found {
            Ok((word, session)) => Ok(parse(&word).map(|stage| (stage, session))),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(read_failed(error)),
        }
    }

    fn write(&mut self, sql: &str, values: impl rusqlite::Params) -> Result<(), JournalError> {
        let written = self.connection.prepare(sql).and_then(|mut statement| statement.execute(values));
        written.map(drop).map_err(write_failed)
    }
}

/// Brings the tables up to date, in one transaction. What has rows is copied beside itself before.
fn migrate(connection: &Connection, path: &Path, found: i64, session: u64) -> Result<(), OpenFailure> {
    if found > 0 {
        let backup = path.with_file_name(format!("journal.schema-{found}.sqlite"));
        // One from an attempt that was cut off may be half written.
        let _absent = std::fs::remove_file(&backup);
        connection.execute("VACUUM INTO ?1", [backup.display().to_string()])?;
        tracing::info!(backup = %backup.display(), "the journal is brought up to date; its former state is kept");
    }
    // The sessions came with schema 3.
    let changes = match found {
        0 => [CREATE, calendar::CREATE, "", ""],
        1 => [FROM_1, FROM_2, calendar::CREATE, FROM_3],
        2 => ["", FROM_2, calendar::CREATE, FROM_3],
        _ => ["", "", "", FROM_3],
    };
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {}", changes.concat()))?;
    let session = i64::try_from(session).unwrap_or(i64::MAX);
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('first_session', ?1)", [session])?;
    connection.execute_batch(&format!("PRAGMA user_version = {SCHEMA}; COMMIT;"))?;
    Ok(())
}

/// The word of a stage in the database.
fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Intended => "intended",
        Stage::Launched => "launched",
        Stage::Ready => "ready",
        Stage::Ending => "ending",
        Stage::Closed => "closed",
    }
}

fn parse(text: &str) -> Option<Stage> {
    let all = [Stage::Intended, Stage::Launched, Stage::Ready, Stage::Ending, Stage::Closed];
    all.into_iter().find(|stage| word(*stage) == text)
}

/// Why a database was not opened.
enum OpenFailure {
    /// Its content is damaged, or is no database.
    Corrupt(String),
    /// Anything else; the file may be sound.
    Other(JournalError),
}

impl OpenFailure {
    fn into_error(self) -> JournalError {
        match self {
            Self::Corrupt(reason) => JournalError::Open(reason),
            Self::Other(error) => error,
        }
    }
}

impl From<rusqlite::Error> for OpenFailure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Other(read_failed(error)),
        }
    }
}

/// Renames the database and its companions; the time in the new name tells later starts when the past was lost.
fn set_aside(path: &Path, error: &str) -> Result<(), JournalError> {
    let failed = |error: std::io::Error| JournalError::Open(error.to_string());
    let marker = format!("{SET_ASIDE}{}", unix_seconds());
    tracing::error!(error, aside = marker, "the journal is corrupt; set aside, rebuilding from the providers' lists");
    for suffix in ["", "-wal", "-shm"] {
        let from = path.with_file_name(format!("journal.sqlite{suffix}"));
        if from.exists() {
            std::fs::rename(&from, path.with_file_name(format!("{marker}{suffix}"))).map_err(failed)?;
        }
    }
    Ok(())
}

/// When a journal in this directory was last set aside, in Unix seconds.
pub(super) fn last_set_aside(directory: &Path) -> Option<i64> {
    let names = std::fs::read_dir(directory).ok()?.flatten();
    let times = names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(SET_ASIDE)?.parse().ok());
    times.max()
}

// By value, as `map_err` hands it over.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn write_failed(error: rusqlite::Error) -> JournalError {
    JournalError::Write(error.to_string())
}

fn read_failed(error: rusqlite::Error) -> JournalError {
    JournalError::Open(error.to_string())
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<LaunchRow> {
    let stage: String = row.get(5)?;
    Ok(LaunchRow {
        launch: row.get(0)?,
        service: row.get(1)?,
        adapter: row.get(2)?,
        session: row.get::<_, i64>(3)?.try_into().unwrap_or(0),
        reason: row.get(4)?,
        // A stage that this build does not know is one on the way; treating it as ending keeps it from leaking.
        stage: parse(&stage).unwrap_or(Stage::Ending),
        intended_at_ms: row.get(6)?,
        ready_at_ms: row.get(7)?,
        ended_at_ms: row.get(8)?,
        end_reason: row.get(9)?,
        price_per_hour_micro: row.get(10)?,
        minimum_billing_ms: row.get(11)?,
        billing_step_ms: row.get(12)?,
        cost_micro: row.get(13)?,
        currency: row.get(14)?,
        ending_at_ms: row.get(15)?,
    })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
