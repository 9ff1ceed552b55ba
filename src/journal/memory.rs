//! What was learnt of each service's load, a file each: written beside launches, by the same thread.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::calendar::{Moment, NOT_SET_BEFORE_MS};
use crate::host::file;
use crate::logic::archive::{self, archived};

/// Folder in the state directory.
const FOLDER: &str = "forecast";

/// What was kept of a service that is configured no more goes after so long.
const OLD: Duration = Duration::from_hours(30 * 24);

/// Memories of a state directory.
#[derive(Clone, Debug)]
pub(super) struct Memories {
    folder: PathBuf,
}

/// As it stands in its file.
#[derive(Debug)]
struct Written {
    boot: String,
    since_boot_ms: u64,
    at_ms: u64,
    bytes: Vec<u8>,
}

archived!(Written { boot, since_boot_ms, at_ms, bytes });

/// What was learnt, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the policy made of itself.
    pub bytes: Vec<u8>,
    /// How long ago: by the kernel's count where it was in this boot, else by the calendar; `None` where that was not set, or set back.
    pub ago: Option<Duration>,
}

impl Written {
    fn ago(&self, now: &Moment) -> Option<Duration> {
        let between = |from: u64, to: i64| u64::try_from(to).ok()?.checked_sub(from);
        let is_set = |at_ms: u64| i64::try_from(at_ms).is_ok_and(|at_ms| at_ms >= NOT_SET_BEFORE_MS);
        let ago = if self.boot == now.boot {
            between(self.since_boot_ms, now.since_boot_ms)
        } else {
            between(self.at_ms, now.at_ms).filter(|_| is_set(self.at_ms))
        };
        ago.map(Duration::from_millis)
    }
}

impl Memories {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER) }
    }

    pub(super) fn write(&self, service: &str, bytes: Vec<u8>, now: Moment) -> std::io::Result<()> {
        file::make_folder(&self.folder)?;
        let count = |ms: i64| u64::try_from(ms).unwrap_or(0);
        let (since_boot_ms, at_ms) = (count(now.since_boot_ms), count(now.at_ms));
        let content = archive::to_bytes(&Written { boot: now.boot, since_boot_ms, at_ms, bytes });
        // A flash card may lose a bit: what is damaged must not decide.
        let content = [&crc32fast::hash(&content).to_le_bytes()[..], &content].concat();
        file::replace(&self.folder.join(service), &content)
    }

    /// `None` where nothing was kept, or nothing that can be read.
    pub(super) fn read(&self, service: &str, now: &Moment) -> Option<Memory> {
        let content = std::fs::read(self.folder.join(service)).ok()?;
        let whole = content.split_first_chunk().filter(|(sum, rest)| crc32fast::hash(rest).to_le_bytes() == **sum);
        let Some(written) = whole.and_then(|(_, rest)| archive::from_bytes::<Written>(rest)) else {
            tracing::warn!(service, "what was learnt of its load is of another version or damaged, and is learnt anew");
            return None;
        };
        Some(Memory { ago: written.ago(now), bytes: written.bytes })
    }

    /// Lets go of what is old and of no service that is named.
    pub(super) fn forget_others(&self, services: &BTreeSet<String>) -> std::io::Result<()> {
        forget_others_in(&self.folder, services, SystemTime::now())
    }
}

/// Marks what is named after one of these services as of now, and removes what is named after none of them and was not marked or written to for
/// long. Nothing goes by a calendar that is not set, or was not when it was marked. Goes on after what cannot be removed, and tells it.
pub(super) fn forget_others_in(folder: &Path, services: &BTreeSet<String>, now: SystemTime) -> std::io::Result<()> {
    let set = UNIX_EPOCH + Duration::from_millis(NOT_SET_BEFORE_MS.unsigned_abs());
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    if now < set {
        return Ok(());
    }
    let look_at = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        let marked = entry.metadata()?.modified()?;
        let is_named = entry.file_name().to_str().is_some_and(|name| services.contains(name));
        let is_old = now.duration_since(marked).is_ok_and(|age| age >= OLD);
        match is_named || marked < set {
            true => std::fs::File::open(entry.path())?.set_modified(now),
            false if is_old => remove(&entry),
            false => Ok(()),
        }
    };
    entries.map(look_at).fold(Ok(()), Result::and)
}

fn remove(entry: &std::fs::DirEntry) -> std::io::Result<()> {
    let path = entry.path();
    tracing::info!(path = %path.display(), "of a service that is gone, and old: removed");
    if entry.file_type()?.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: &str, since_boot_ms: i64, at_ms: i64) -> Moment {
        Moment { boot: boot.to_owned(), since_boot_ms, at_ms }
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let memories = Memories::of(folder.path());
        let now = moment("a", 5_000, NOT_SET_BEFORE_MS);
        memories.write("digits", b"learnt".to_vec(), now.clone()).unwrap();
        let path = folder.path().join(FOLDER).join("digits");
        let whole = std::fs::read(&path).unwrap();
        assert!(memories.read("digits", &now).is_some());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(memories.read("digits", &now), None, "byte {at}");
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(memories.read("digits", &now), None, "{length} bytes");
        }
    }

    #[test]
    fn how_long_ago_is_counted_by_the_kernel_in_one_boot_and_else_by_a_calendar_that_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let memories = Memories::of(folder.path());
        let set = NOT_SET_BEFORE_MS;
        memories.write("digits", b"learnt".to_vec(), moment("a", 5_000, set)).unwrap();
        let ago = |now: Moment| {
            let memory = memories.read("digits", &now).unwrap();
            assert_eq!(memory.bytes, b"learnt");
            memory.ago.map(|ago| ago.as_millis())
        };
        assert_eq!(ago(moment("a", 8_000, set + 999_000)), Some(3_000), "whatever the calendar says");
        assert_eq!(ago(moment("b", 100, set + 999_000)), Some(999_000));
        assert_eq!(ago(moment("b", 100, set - 1)), None, "set back");
        memories.write("digits", b"learnt".to_vec(), moment("a", 5_000, 70_000)).unwrap();
        assert_eq!(ago(moment("b", 100, set)), None, "not set then");
        assert_eq!(memories.read("other", &moment("a", 0, 0)), None);
    }

    #[test]
    fn other_bytes_are_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let memories = Memories::of(folder.path());
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("digits"), b"something else").unwrap();
        assert_eq!(memories.read("digits", &moment("a", 0, 0)), None);
    }

    #[test]
    fn what_is_of_no_service_for_long_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        let mark = |name: &str, at: SystemTime| std::fs::File::open(of(name)).unwrap().set_modified(at).unwrap();
        let left = |name: &str| of(name).exists();
        let now = SystemTime::now();
        for name in ["kept", "gone", "fresh", "of-1970"] {
            std::fs::write(of(name), b"x").unwrap();
        }
        std::fs::create_dir(of("gone-folder")).unwrap();
        std::fs::write(of("gone-folder").join("1.rec"), b"x").unwrap();
        for name in ["kept", "gone", "gone-folder"] {
            mark(name, now - OLD * 2);
        }
        mark("of-1970", UNIX_EPOCH + Duration::from_secs(60));
        let services = BTreeSet::from(["kept".to_owned()]);

        forget_others_in(folder.path(), &services, UNIX_EPOCH + OLD * 9).unwrap();
        assert!(left("gone") && left("gone-folder"), "a calendar that is not set tells nothing");
        forget_others_in(folder.path(), &services, now).unwrap();
        assert!(left("kept") && left("fresh") && left("of-1970") && !left("gone") && !left("gone-folder"));
        // It was there until now, however long ago it was written.
        forget_others_in(folder.path(), &BTreeSet::new(), now + OLD / 2).unwrap();
        assert!(left("kept") && left("of-1970"));
        forget_others_in(folder.path(), &BTreeSet::new(), now + OLD).unwrap();
        assert!(!left("kept") && !left("of-1970"));
        forget_others_in(&of("nowhere"), &services, now).unwrap();
    }
}
