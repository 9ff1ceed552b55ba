//! The spool's table: SQLite, touched by the spool's thread alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, Transaction, params};

use super::{Bound, Letter, Tally};

/// Raised with each change of the table; a file with a higher number is from a newer Tidegate and is set aside.
const SCHEMA: i64 = 1;

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS waiting (
    link TEXT NOT NULL,
    ticket INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (link, ticket)
) STRICT, WITHOUT ROWID;
";

/// Small cache (negative: KiB), one user, a log that shrinks again, pages that can be given back, and a last bound of 64 MiB
/// on the file, far above what both trees may have.
const SETTINGS: &str = "
PRAGMA cache_size = -256; PRAGMA locking_mode = EXCLUSIVE; PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_size_limit = 1048576; PRAGMA max_page_count = 16384;
";

/// Letters read at once.
pub(super) const READ_AT_ONCE: usize = 32;

/// Why the disk did not do it.
#[derive(Debug)]
pub(super) enum StoreError {
    /// What is there is damaged, no database, or not ours to read.
    Corrupt(String),
    /// Full, read-only, broken; what is there may be sound.
    Failed(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A letter with the link that it is for.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) link: &'static str,
    pub(super) letter: Letter,
}

impl Row {
    pub(super) fn bytes(&self) -> u64 {
        (self.letter.topic.len() + self.letter.payload.len()) as u64
    }
}

/// The open table.
pub(super) struct Store {
    connection: Connection,
    tallies: Tallies,
}

impl Store {
    pub(super) fn open(path: &Path, links: &[&'static str]) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SETTINGS)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > SCHEMA {
            return Err(StoreError::Corrupt(format!("it has schema {found}, this version knows up to {SCHEMA}")));
        }
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(StoreError::Corrupt(sound));
        }
        connection.execute_batch(CREATE)?;
        connection.execute_batch(&format!("PRAGMA user_version = {SCHEMA};"))?;
        forget_others(&connection, links)?;
        let tallies =
            links.iter().map(|link| Ok((*link, count(&connection, link)?))).collect::<Result<_, StoreError>>()?;
        Ok(Self { connection, tallies })
    }

    pub(super) fn tally(&self, link: &str) -> Tally {
        self.tallies.get(link).copied().unwrap_or_default()
    }

    /// Writes and takes off in one transaction, with one sync if anything was written: losing that something was taken off
    /// says it twice, no more. Past `bound` the oldest go, those that are not with their link (after `handed`) first; returns
    /// how many went, by link.
    pub(super) fn apply(
        &mut self,
        rows: &[Row],
        released: &[(&'static str, u64)],
        handed: &BTreeMap<&'static str, u64>,
        bound: Bound,
    ) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        let sync = if rows.is_empty() { "NORMAL" } else { "FULL" };
        self.connection.execute_batch(&format!("PRAGMA synchronous = {sync};"))?;
        let transaction = self.connection.transaction()?;
        let mut tallies = self.tallies.clone();
        take_off_all(&transaction, released, &mut tallies)?;
        insert_all(&transaction, rows, &mut tallies)?;
        let mut dropped = BTreeMap::new();
        for (link, tally) in &mut tallies {
            let after = handed.get(link).copied().unwrap_or(0);
            let count = drop_oldest(&transaction, link, after, tally, bound)?;
            if count > 0 {
                dropped.insert(*link, count);
            }
        }
        transaction.commit()?;
        self.tallies = tallies;
        self.give_pages_back();
        Ok(dropped)
    }

    /// After a long absence of the broker the file is large and empty.
    fn give_pages_back(&mut self) {
        if self.tallies.values().any(|tally| tally.events > 0) {
            return;
        }
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap_or(0);
        // A megabyte: a smaller file is filled again soon.
        if free > 256 && self.connection.execute_batch("PRAGMA incremental_vacuum;").is_err() {
            tracing::debug!("the spool's file stays as large as it is");
        }
    }

    /// The next letters for a link, oldest first.
    pub(super) fn read(&self, link: &str, after: u64) -> Result<Vec<Letter>, StoreError> {
        let sql = "SELECT ticket, topic, payload FROM waiting WHERE link = ?1 AND ticket > ?2 ORDER BY ticket LIMIT ?3";
        let mut statement = self.connection.prepare(sql)?;
        let letters = statement.query_map(params![link, signed(after), READ_AT_ONCE as i64], |row| {
            Ok(Letter { ticket: unsigned(row.get(0)?), topic: row.get(1)?, payload: row.get(2)? })
        })?;
        Ok(letters.collect::<Result<_, _>>()?)
    }
}

/// Tickets are below 2^63 by their making.
fn signed(ticket: u64) -> i64 {
    i64::try_from(ticket).unwrap_or(i64::MAX)
}

fn unsigned(ticket: i64) -> u64 {
    u64::try_from(ticket).unwrap_or(0)
}

type Tallies = BTreeMap<&'static str, Tally>;

fn insert_all(transaction: &Transaction<'_>, rows: &[Row], tallies: &mut Tallies) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO waiting (link, ticket, topic, payload) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = transaction.prepare(sql)?;
    for row in rows {
        let Letter { ticket, topic, payload } = &row.letter;
        statement.execute(params![row.link, signed(*ticket), topic, payload])?;
        tallies.entry(row.link).or_default().add(row.bytes());
    }
    Ok(())
}

const TAKE_OFF: &str =
    "DELETE FROM waiting WHERE link = ?1 AND ticket = ?2 RETURNING octet_length(topic) + octet_length(payload)";

fn take_off_all(
    transaction: &Transaction<'_>,
    released: &[(&'static str, u64)],
    tallies: &mut Tallies,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(TAKE_OFF)?;
    for (link, ticket) in released {
        take_off(&mut statement, link, *ticket, tallies.entry(link).or_default())?;
    }
    Ok(())
}

fn take_off(statement: &mut Statement<'_>, link: &str, ticket: u64, tally: &mut Tally) -> rusqlite::Result<()> {
    let bytes: Option<i64> = statement.query_row(params![link, signed(ticket)], |row| row.get(0)).optional()?;
    if let Some(bytes) = bytes {
        tally.remove(unsigned(bytes));
    }
    Ok(())
}

fn drop_oldest(
    transaction: &Transaction<'_>,
    link: &str,
    after: u64,
    tally: &mut Tally,
    bound: Bound,
) -> rusqlite::Result<u64> {
    let mut dropped = 0;
    let sql = "SELECT ticket FROM waiting WHERE link = ?1 AND ticket > ?2 ORDER BY ticket LIMIT 1";
    let (mut oldest, mut statement) = (transaction.prepare(sql)?, transaction.prepare(TAKE_OFF)?);
    while tally.exceeds(bound) {
        let oldest: Option<i64> = oldest.query_row(params![link, signed(after)], |row| row.get(0)).optional()?;
        let Some(oldest) = oldest else { break };
        take_off(&mut statement, link, unsigned(oldest), tally)?;
        dropped += 1;
    }
    Ok(dropped)
}

fn count(connection: &Connection, link: &str) -> Result<Tally, StoreError> {
    let sql =
        "SELECT COUNT(*), COALESCE(SUM(octet_length(topic) + octet_length(payload)), 0) FROM waiting WHERE link = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok(Tally { events: unsigned(row.get(0)?), bytes: unsigned(row.get(1)?) });
    Ok(connection.query_row(sql, [link], read)?)
}

/// A tree that is not said any more has no link that would ever take what waits for it.
fn forget_others(connection: &Connection, links: &[&'static str]) -> Result<(), StoreError> {
    let known: Vec<String> = {
        let mut statement = connection.prepare("SELECT DISTINCT link FROM waiting")?;
        let links = statement.query_map([], |row| row.get(0))?;
        links.collect::<Result<_, _>>()?
    };
    for link in known.iter().filter(|known| !links.contains(&known.as_str())) {
        let events = connection.execute("DELETE FROM waiting WHERE link = ?1", [link])?;
        tracing::warn!(link, events, "events waited for a tree that is not published any more; they are given up");
    }
    Ok(())
}

/// Renames the file and its log, over those of an earlier time: one damaged spool is enough to look at.
pub(super) fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = path.with_file_name("spool.corrupt");
    std::fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        // Not there after a clean stop.
        let _absent = std::fs::rename(with(path), with(&aside));
    }
    Ok(aside)
}
