//! Where the control socket of a connection lies: a directory that only this user may enter, and a path that is short
//! enough for one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A socket's path ends at 104 bytes on the strictest systems, and `ssh` appends 17 of its own while it makes one.
const DIRECTORY_MAX_BYTES: usize = 104 - 17 - 1 - SOCKET_NAME_MAX_BYTES;

/// `c` and a count of connections.
const SOCKET_NAME_MAX_BYTES: usize = 8;

/// What the names of directories begin with.
const PREFIX: &str = "tg-";

/// Adapters of one process that get a number of their own; far more than one has.
const NUMBERS: u64 = 100_000;

/// Directories that are tried before it is given up: each taken one belongs to another adapter or a dead process.
const ATTEMPTS: u64 = 100;

/// Tells apart the adapters of one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory for sockets, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketDir(PathBuf);

impl SocketDir {
    /// Makes one below `state_dir`, or, where that path is too long, below the system's folder for such things.
    pub(super) fn make(state_dir: &Path) -> io::Result<Self> {
        let home = std::path::absolute(state_dir)?.join("ssh");
        if fits(&home.join(name(NUMBERS))) {
            DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
            remove_dead(&home);
            return Self::make_in(&home);
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let short = runtime.filter(|home| home.is_dir() && fits(&home.join(name(NUMBERS))));
        Self::make_in(&short.unwrap_or_else(|| PathBuf::from("/tmp")))
    }

    /// Nobody's directory is taken over: one that exists may have been put there by somebody else.
    fn make_in(home: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let path = home.join(name(NEXT.fetch_add(1, Ordering::Relaxed) % NUMBERS));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
        Err(io::Error::other(format!("every name tried in {} is taken: remove what is left there", home.display())))
    }

    /// The path of a connection's socket.
    pub(super) fn socket(&self, connection: u64) -> PathBuf {
        self.0.join(format!("c{}", connection % 1_000_000))
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says whose a directory is, so that those of the dead can be told.
fn name(number: u64) -> String {
    format!("{PREFIX}{}-{number}", std::process::id())
}

/// Removes what nodes left that were killed. Only in a directory that is ours.
fn remove_dead(home: &Path) {
    let is_dead = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_dead) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn fits(directory: &Path) -> bool {
    directory.as_os_str().len() <= DIRECTORY_MAX_BYTES
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_socket_lies_in_a_private_directory_at_a_short_path_however_long_the_state_directory_is() {
        let home = tempfile::tempdir().expect("a directory");
        // Beyond the highest process id that a kernel gives.
        let left = home.path().join("state/ssh/tg-4194999-1");
        fs::create_dir_all(&left).expect("mkdir");
        for state_dir in [home.path().join("state"), home.path().join("long".repeat(30))] {
            let (one, other) = (SocketDir::make(&state_dir).expect("one"), SocketDir::make(&state_dir).expect("other"));
            assert_ne!(one.0, other.0);
            let mode = fs::metadata(&one.0).expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            assert!(one.socket(999_999).as_os_str().len() + 17 < 104, "{:?}", one.socket(999_999));
            let path = one.0.clone();
            drop(one);
            assert!(!path.exists());
        }
        assert!(!left.exists(), "what a killed node left is removed");
    }
}
