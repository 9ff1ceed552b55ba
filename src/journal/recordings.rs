//! Decisions that can be asked for again, a file for each recording: the newest of each service are kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::memory::forget_others_in;
use crate::host::file;
use crate::logic::archive::{self, archived};
use crate::logic::record::Recording;

/// Folder in the state directory.
const FOLDER: &str = "recordings";
/// How the files end.
const SUFFIX: &str = "rec";
/// So many of each service: of one that changes all the time, the last hour and a half.
const KEPT: usize = 20;

/// Recordings of a state directory.
#[derive(Clone, Debug)]
pub(super) struct Recordings {
    folder: PathBuf,
}

/// A recording as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When it was written, in Unix milliseconds, and what the clock of its times was then.
    written_at_ms: u64,
    now: Duration,
    /// What `logic::record` made.
    pub bytes: Vec<u8>,
}

archived!(Kept { written_at_ms, now, bytes });

impl Kept {
    /// Reads a file; `None` in the error's place means that it is none, or of another version.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> std::io::Result<Option<Self>> {
        std::fs::read(path).map(|bytes| archive::from_bytes(&bytes))
    }

    /// The calendar's time, in Unix milliseconds, of a moment in it.
    pub fn unix_ms(&self, at: Duration) -> i64 {
        let ago = u64::try_from(self.now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
        i64::try_from(self.written_at_ms.saturating_sub(ago)).unwrap_or(i64::MAX)
    }
}

impl Recordings {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER) }
    }

    /// Writes one, whose times are by a clock that was at `now` at this calendar's time, and lets go of the oldest.
    pub(super) fn write(&self, service: &str, bytes: Vec<u8>, now: Duration, at_ms: i64) -> std::io::Result<()> {
        let folder = self.folder.join(service);
        file::make_folder(&folder)?;
        let written_at_ms = u64::try_from(at_ms).unwrap_or(0);
        // After the newest, also where the calendar was set back.
        let newest = Self::in_folder(&folder)?.last().and_then(|path| path.file_stem()?.to_str()?.parse::<u64>().ok());
        let number = written_at_ms.max(newest.map_or(0, |newest| newest.saturating_add(1)));
        let content = archive::to_bytes(&Kept { written_at_ms, now, bytes });
        file::replace(&folder.join(format!("{number:016}.{SUFFIX}")), &content)?;
        let mut all = Self::in_folder(&folder)?;
        all.truncate(all.len().saturating_sub(KEPT));
        all.iter().try_for_each(std::fs::remove_file)
    }

    /// Lets go of what is old and of no service that is named.
    pub(super) fn forget_others(&self, services: &BTreeSet<String>) -> std::io::Result<()> {
        forget_others_in(&self.folder, services, SystemTime::now())
    }

    /// All of a folder, the oldest first.
    fn in_folder(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<_> = entries.collect::<Result<_, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX));
        paths.sort_unstable();
        Ok(paths)
    }
}

/// A change of what is wanted, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When, in Unix milliseconds by the calendar of when it was written.
    pub at_ms: i64,
    /// Replicas wanted from then on.
    pub wanted: u32,
    /// Why, in words.
    pub why: String,
}

/// The changes that are recorded of a service, the oldest first; recordings of another version tell none. Reads the disk.
///
/// # Errors
/// What is there cannot be read.
pub fn decided(state_dir: &Path, service: &str) -> std::io::Result<Vec<Decided>> {
    let folder = state_dir.join(FOLDER).join(service);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for path in Recordings::in_folder(&folder)? {
        // One of them may just have been let go of.
        let Ok(Some(kept)) = Kept::read(&path) else { continue };
        let Some(recording) = Recording::from_bytes(&kept.bytes) else { continue };
        let changes = recording.changes();
        all.extend(changes.map(|entry| Decided {
            at_ms: kept.unix_ms(entry.now),
            wanted: entry.wanted,
            why: entry.why.clone(),
        }));
    }
    Ok(all)
}

/// The recordings that a path means: itself, or all that are in the folder, the oldest first.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn recordings_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.metadata()?.is_dir() { Recordings::in_folder(path) } else { Ok(vec![path.to_owned()]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::unix_ms_now;

    #[test]
    fn the_newest_are_kept_and_tell_when_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let recordings = Recordings::of(folder.path());
        let before = unix_ms_now();
        for number in 0..25_u8 {
            recordings.write("digits", vec![number], Duration::from_secs(1000), unix_ms_now()).unwrap();
        }
        let kept = recordings_at(&folder.path().join("recordings/digits")).unwrap();
        let numbers: Vec<u8> = kept.iter().map(|path| Kept::read(path).unwrap().unwrap().bytes[0]).collect();
        assert_eq!(numbers, (5..25).collect::<Vec<u8>>());
        let last = Kept::read(kept.last().unwrap()).unwrap().unwrap();
        let ago = last.unix_ms(Duration::from_secs(1000)) - last.unix_ms(Duration::from_secs(940));
        assert_eq!(ago, 60_000);
        assert!(last.unix_ms(Duration::from_secs(1000)) >= before);
    }

    #[test]
    fn one_of_a_calendar_that_was_set_back_is_the_newest_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let recordings = Recordings::of(folder.path());
        let inside = folder.path().join("recordings/digits");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(inside.join("0009999999999999.rec"), b"of the year 2286").unwrap();
        (0..KEPT).for_each(|_| recordings.write("digits", vec![7], Duration::from_secs(9), unix_ms_now()).unwrap());
        let kept = recordings_at(&inside).unwrap();
        assert!(kept.iter().all(|path| Kept::read(path).unwrap().is_some()), "the oldest went: {kept:?}");
    }

    #[test]
    fn another_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rec");
        std::fs::write(&path, b"something else").unwrap();
        assert_eq!(Kept::read(&path).unwrap(), None);
        assert_eq!(recordings_at(folder.path()).unwrap(), [path]);
        assert!(recordings_at(&folder.path().join("none")).is_err());
    }
}
