//! One instance's directory: what its maker and its wrapper tell through files.
//!
//! | File | Written by | Says |
//! |---|---|---|
//! | `labels.json` | the adapter, before the directory gets its name | whose it is |
//! | `token` | the adapter, 0600 | what its callers must know |
//! | `log` | the wrapper and its server | their output |
//! | `spawned` | the adapter, after the spawn | when that was |
//! | `lock` | the wrapper, locked for its life | its process id |
//! | `address` | the wrapper, when it listens | host and port |
//! | `ended` | the wrapper, when it ends | why |
//! | `stopping` | the adapter, after SIGTERM | when that was |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::clock::Stamp;
use super::file_error;
use super::labels::Labels;
use crate::{AdapterError, LaunchRequest};

/// The most of a file that a wrapper wrote which is read: a reason is a sentence, an address a word.
const READ_MAX_BYTES: u64 = 4096;

/// The wrapper's lock in the adapter's hand: while this lives no wrapper can start in the directory.
#[derive(Debug)]
pub(super) struct InstanceLock(File);

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // Not left to the close: a child that another thread is just spawning may hold a copy of the descriptor.
        let _ = self.0.unlock();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InstanceDirectory(PathBuf);

impl InstanceDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn token_path(&self) -> PathBuf {
        self.0.join("token")
    }

    /// Fills a directory that has no name yet. No fsync: after a power cut no instance is left to describe.
    pub(super) fn write_request(&self, request: &LaunchRequest) -> io::Result<()> {
        let labels = serde_json::to_vec_pretty(&Labels::of(request))?;
        private_file().create_new(true).open(self.0.join("labels.json"))?.write_all(&labels)?;
        private_file().create_new(true).open(self.token_path())?.write_all(request.token.expose().as_bytes())
    }

    /// The labels; `None` if there is no such directory.
    pub(super) fn labels(&self) -> Result<Option<Labels>, AdapterError> {
        let labels = match fs::read(self.0.join("labels.json")) {
            Ok(bytes) => serde_json::from_slice::<Labels>(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.0.exists() => return Ok(None),
            Err(error) => Err(error),
        };
        let name = self.0.file_name().unwrap_or_default();
        match labels {
            Ok(labels) if name == labels.launch.as_str() => Ok(Some(labels)),
            Ok(labels) => Err(self.corrupt(io::Error::other(format!("they name launch {}", labels.launch)))),
            Err(error) => Err(self.corrupt(error)),
        }
    }

    fn corrupt(&self, error: io::Error) -> AdapterError {
        let path = self.0.display();
        AdapterError::bad_configuration(format!(
            "cannot tell whose instance {path} is: look at its labels.json, end its process if it has one, and remove \
             the directory"
        ))
        .because(error)
    }

    pub(super) fn open_log(&self) -> Result<File, AdapterError> {
        let path = self.0.join("log");
        private_file()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| file_error(format!("cannot open the instance's log {}", path.display()), error))
    }

    /// The last line that its wrapper printed.
    pub(super) fn last_log_line(&self) -> Option<String> {
        let mut log = File::open(self.0.join("log")).ok()?;
        let length = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(READ_MAX_BYTES))).ok()?;
        let text = read_bounded(log)?;
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Whether no process was ever started in it: only then may a repeated launch start one.
    pub(super) fn was_never_spawned(&self) -> bool {
        self.spawned().is_none() && self.pid().is_none() && self.ended_reason().is_none()
    }

    pub(super) fn note_spawned(&self) {
        self.write_stamp("spawned");
    }

    pub(super) fn spawned(&self) -> Option<Stamp> {
        self.read_stamp("spawned")
    }

    pub(super) fn note_stopping(&self) {
        self.write_stamp("stopping");
    }

    pub(super) fn stopping(&self) -> Option<Stamp> {
        self.read_stamp("stopping")
    }

    /// The wrapper's process id. Once it stands here, the wrapper has had the lock.
    pub(super) fn pid(&self) -> Option<i32> {
        self.read("lock")?.parse().ok().filter(|pid| *pid > 1)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.read("address")?.parse().ok()
    }

    pub(super) fn ended_reason(&self) -> Option<String> {
        self.read("ended")
    }

    /// Whether a wrapper holds the lock.
    ///
    /// Looking takes the lock for an instant, shared, so that two who look do not see each other. A wrapper that starts
    /// in that instant gives up: ask only once a process id stands in the lock or the time to start is over.
    pub(super) fn is_held(&self) -> bool {
        let Ok(lock) = File::open(self.0.join("lock")) else { return false };
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => false,
            Ok(()) => {
                let _ = lock.unlock();
                false
            }
        }
    }

    /// Takes the lock, for good or until dropped; `None` if a wrapper holds it.
    pub(super) fn take(&self) -> Result<Option<InstanceLock>, AdapterError> {
        let path = self.0.join("lock");
        let failed = |error| file_error(format!("cannot lock {}", path.display()), error);
        let lock = open_lock(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(InstanceLock(lock))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = read_bounded(File::open(self.0.join(name)).ok()?)?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn read_stamp(&self, name: &str) -> Option<Stamp> {
        serde_json::from_str(&self.read(name)?).ok()
    }

    /// A note that cannot be written (a full disk) costs precision, never an instance: it is logged and left.
    fn write_stamp(&self, name: &str) {
        let path = self.0.join(name);
        let written =
            serde_json::to_vec(&Stamp::now()).map_err(io::Error::from).and_then(|stamp| fs::write(&path, stamp));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot note when this happened to an instance");
        }
    }
}

/// Opens a lock file for locking alone. Reading is enough for that, and works on a full disk.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private_file().read(true).create(true).truncate(false).open(path)
        }
        opened => opened,
    }
}

/// What stands in an instance's directory is for its owner's eyes.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn read_bounded(file: File) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(READ_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
