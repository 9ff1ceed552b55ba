//! The adapter's own directory: makes, finds and removes the directories of instances, one launch at a time.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::directory::{InstanceDirectory, open_lock};
use super::{blocking, file_error};
use crate::{AdapterError, LaunchId, LaunchRequest};

/// How often a lock is tried again: a launch takes some milliseconds.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// How long one launch waits for others. Longer means that something is stuck.
const LOCK_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Account {
    root: PathBuf,
    /// Directories that were reported as corrupt, so that a list every few seconds says it once.
    reported: Mutex<BTreeSet<PathBuf>>,
}

/// The right to make an instance in an account, across every process that uses it.
#[derive(Debug)]
pub(super) struct AccountLock(File);

impl Drop for AccountLock {
    fn drop(&mut self) {
        // Not left to the close: a child that another thread is just spawning may hold a copy of the descriptor.
        let _ = self.0.unlock();
    }
}

/// Waits for the account's lock without holding up the runtime.
pub(super) async fn lock(account: &Account) -> Result<AccountLock, AdapterError> {
    let path = account.lock_path();
    let waited = tokio::time::timeout(LOCK_WAIT, async {
        loop {
            let tried = path.clone();
            if let Some(lock) = blocking(move || try_lock(&tried)).await? {
                return Ok(lock);
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    });
    waited.await.unwrap_or_else(|_| {
        Err(AdapterError::transient(format!("{} is held by another launch for {LOCK_WAIT:?}", path.display())))
    })
}

fn try_lock(path: &Path) -> Result<Option<AccountLock>, AdapterError> {
    let failed = |error| file_error(format!("cannot lock {}", path.display()), error);
    let lock = open_lock(path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(AccountLock(lock))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl Account {
    /// The root is made absolute: instances outlive the working directory, and their mark holds the path.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root: std::path::absolute(&root).unwrap_or(root), reported: Mutex::default() }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("launch.lock")
    }

    pub(super) fn exists(&self) -> bool {
        self.root.join("instances").exists()
    }

    pub(super) fn instance(&self, launch: &LaunchId) -> InstanceDirectory {
        InstanceDirectory::new(self.root.join("instances").join(launch.as_str()))
    }

    fn staging(&self, launch: &LaunchId) -> PathBuf {
        self.root.join("staging").join(launch.as_str())
    }

    fn trash(&self, launch: &LaunchId) -> PathBuf {
        self.root.join("trash").join(launch.as_str())
    }

    /// Makes the account's directories where they are missing.
    pub(super) fn prepare(&self) -> Result<(), AdapterError> {
        for part in ["instances", "staging", "trash"] {
            private_directory(&self.root.join(part)).map_err(|error| self.unwritable(error))?;
        }
        Ok(())
    }

    /// Makes an instance's directory, complete in one step: a crash leaves it whole or not at all.
    pub(super) fn create(&self, request: &LaunchRequest) -> Result<(), AdapterError> {
        let staging = self.staging(&request.launch);
        remove_if_there(&staging)
            .and_then(|()| private_directory(&staging))
            .and_then(|()| InstanceDirectory::new(staging.clone()).write_request(request))
            .and_then(|()| fs::rename(&staging, self.instance(&request.launch).path()))
            .map_err(|error| self.unwritable(error))
    }

    /// Removes an instance's directory in one step, and what a crash left of making or removing it.
    pub(super) fn remove(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        let directory = self.instance(launch);
        let trash = self.trash(launch);
        remove_if_there(&self.staging(launch))
            .and_then(|()| remove_if_there(&trash))
            .and_then(|()| if directory.path().exists() { move_to(directory.path(), &trash) } else { Ok(()) })
            .and_then(|()| remove_if_there(&trash))
            .map_err(|error| self.unwritable(error))
    }

    /// Every instance's directory, sorted by launch id. Anything else in their place is reported and left alone.
    pub(super) fn directories(&self) -> Result<Vec<(LaunchId, InstanceDirectory)>, AdapterError> {
        let path = self.root.join("instances");
        let failed = |error| file_error(format!("cannot list the instances in {}", path.display()), error);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut directories = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            match name.to_string_lossy().parse::<LaunchId>() {
                Ok(launch) => directories.push((launch.clone(), self.instance(&launch))),
                Err(error) => self.report_once(&path.join(name), &AdapterError::bad_configuration(error.to_string())),
            }
        }
        directories.sort();
        Ok(directories)
    }

    /// Says once about a directory that it is not counted, listed or touched.
    pub(super) fn report_once(&self, path: &Path, error: &AdapterError) {
        let is_new = self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        if is_new {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(path = %path.display(), %error, cause, "left alone: no readable instance");
        }
    }

    fn unwritable(&self, error: io::Error) -> AdapterError {
        let root = self.root.display();
        let message = format!(
            "cannot write in the process adapter's directory {root}: let this user write there or name another"
        );
        file_error(message, error)
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    to.parent().map_or(Ok(()), private_directory)?;
    fs::rename(from, to)
}
