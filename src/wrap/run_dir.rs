//! What an instance leaves on disk for whoever started it: `lock` (held for life, with its process id), `address` (once
//! it listens) and `ended` (why it is over).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::life::EndReason;

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Another instance lives in it.
    #[error("another instance runs in {}; wait for its end or use another --run-dir", .0.display())]
    Taken(PathBuf),
    /// It cannot be written.
    #[error("cannot use run directory {}: {source}; make it writable or choose another --run-dir", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A locked run directory. The lock ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct RunDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl RunDir {
    /// Takes the directory, makes it where missing, and removes what an earlier instance left.
    pub(super) fn take(path: &Path) -> Result<Self, RunDirError> {
        let unusable = |source| RunDirError::Unusable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let mut lock = match Flock::lock(file.map_err(unusable)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(RunDirError::Taken(path.to_owned())),
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(unusable)?;
        let run_dir = Self { path: path.to_owned(), _lock: lock };
        run_dir.remove("address").and_then(|()| run_dir.remove("ended")).map_err(unusable)?;
        Ok(run_dir)
    }

    /// Says where the instance listens.
    pub(super) fn write_address(&self, address: SocketAddr) -> Result<(), RunDirError> {
        self.write("address", &address.to_string())
    }

    /// Says why it is over, and that it listens no more.
    pub(super) fn write_ended(&self, reason: &EndReason) -> Result<(), RunDirError> {
        self.write("ended", &reason.to_string())?;
        self.remove("address").map_err(|source| self.unusable(source))
    }

    /// Under another name first: a reader sees nothing or all of it.
    fn write(&self, name: &str, content: &str) -> Result<(), RunDirError> {
        let (unfinished, finished) = (self.path.join(format!("{name}.tmp")), self.path.join(name));
        fs::write(&unfinished, format!("{content}\n"))
            .and_then(|()| fs::rename(&unfinished, &finished))
            .map_err(|source| self.unusable(source))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn unusable(&self, source: io::Error) -> RunDirError {
        RunDirError::Unusable { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_turned_away_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = RunDir::take(directory.path()).unwrap();
        assert!(matches!(RunDir::take(directory.path()), Err(RunDirError::Taken(_))));
        let holder = fs::read_to_string(directory.path().join("lock")).unwrap();
        assert_eq!(holder.trim(), std::process::id().to_string());
        drop(first);
        assert!(RunDir::take(directory.path()).is_ok());
    }

    #[test]
    fn the_traces_of_an_earlier_instance_are_gone_before_a_new_one_listens() {
        let directory = tempfile::tempdir().unwrap();
        let first = RunDir::take(directory.path()).unwrap();
        first.write_address("127.0.0.1:4711".parse().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("address")).unwrap(), "127.0.0.1:4711\n");
        first.write_ended(&EndReason::LeaseExpired).unwrap();
        assert!(!directory.path().join("address").exists());
        drop(first);
        let _second = RunDir::take(directory.path()).unwrap();
        assert!(!directory.path().join("ended").exists());
    }
}
