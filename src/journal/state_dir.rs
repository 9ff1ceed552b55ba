//! The node's state directory: one live node a directory, the session counter, and the node secret.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};

use crate::host::file;

/// Length of the node secret in bytes: as strong as the SHA-256 that derives from it.
const SECRET_BYTES: usize = 32;

/// The file that the live node of a directory holds locked, with its process id in it.
const LOCK: &str = "lock";

/// The session counter's file.
const SESSION: &str = "session";

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Missing and not to be made, read-only, or somebody else's.
    #[error(
        "the state directory {path} cannot be used: {reason}; make it writable for this user, or set node.state_dir (or TIDEGATE__NODE__STATE_DIR) to another one"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another node lives in it.
    #[error(
        "another node{holder} runs on the state directory {path}; stop it first, or give this node a state directory of its own (node.state_dir)"
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// " (process 123)" where known.
        holder: String,
    },
}

/// A locked state directory; the lock lives as long as this value, and ends with the process however that dies.
pub struct StateDir {
    path: PathBuf,
    session: u64,
    secret: [u8; SECRET_BYTES],
    _lock: Flock<File>,
}

impl StateDir {
    /// Makes the directory if need be, locks it, counts the session up (synced to disk) and reads or makes the secret.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable =
            |error: std::io::Error| StateDirError::Unusable { path: path.to_owned(), reason: error.to_string() };
        file::make_folder(path).map_err(unusable)?;
        let lock = lock(path)?;
        let session = next_session(&path.join(SESSION)).map_err(unusable)?;
        let secret = read_or_make_secret(&path.join("secret")).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), session, secret, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This run's number: higher than that of every run before it on this directory.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// The node secret, from which launch secrets derive. Never logged, never printed.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

fn lock(path: &Path) -> Result<Flock<File>, StateDirError> {
    let unusable = |reason: String| StateDirError::Unusable { path: path.to_owned(), reason };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
    let file = file.map_err(|error| unusable(error.to_string()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
            written.map_err(|error| unusable(error.to_string()))?;
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.is_empty();
            let holder = if known { format!(" (process {pid})") } else { String::new() };
            Err(StateDirError::Held { path: path.to_owned(), holder })
        }
        Err((_, errno)) => Err(unusable(errno.to_string())),
    }
}

/// Whether a process holds the lock of a state directory, by the kernel's own list of locks.
pub fn holds_lock(path: &Path, pid: i32) -> bool {
    let Ok(lock) = fs::symlink_metadata(path.join(LOCK)) else { return false };
    let (pid, inode) = (pid.to_string(), format!(":{}", lock.ino()));
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // As in `1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF`.
    let is_its = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, "FLOCK", .., holder, file, _, _] if *holder == pid && file.ends_with(&inode))
    };
    lock.is_file() && locks.lines().any(is_its)
}

/// The process of the node that holds the lock, if one does.
pub fn holder(path: &Path) -> Option<String> {
    let file = File::open(path.join(LOCK)).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err((mut file, _)) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).ok()?;
            Some(pid.trim().to_owned())
        }
    }
}

/// A counter, not a date: gateways boot in 1970. An unreadable one goes on from the clock, which is higher than any count.
fn next_session(path: &Path) -> std::io::Result<u64> {
    let last = match fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .unwrap_or_else(|_| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    // The last of all sessions is said again rather than none.
    let session = last.saturating_add(1);
    file::replace(path, format!("{session}\n").as_bytes())?;
    Ok(session)
}

/// Raises the counter of a directory that is in use: the next start is later than this session. It is never lowered.
pub fn raise_session(state_dir: &Path, session: u64) -> std::io::Result<()> {
    let path = state_dir.join(SESSION);
    let stands = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if stands.is_some_and(|stands: u64| stands >= session) {
        return Ok(());
    }
    file::replace(&path, format!("{session}\n").as_bytes())
}

fn read_or_make_secret(path: &Path) -> std::io::Result<[u8; SECRET_BYTES]> {
    if let Ok(bytes) = fs::read(path)
        && let Ok(secret) = <[u8; SECRET_BYTES]>::try_from(bytes)
    {
        return Ok(secret);
    }
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|error| std::io::Error::other(error.to_string()))?;
    file::replace(path, &secret)?;
    Ok(secret)
}
