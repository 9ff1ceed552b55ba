//! What was learnt of each service's load, a file each: written beside launches, by the same thread.

use std::path::{Path, PathBuf};

use crate::host::clock::unix_ms_now;
use crate::host::file;

/// Folder in the state directory.
const FOLDER: &str = "forecast";

/// Memories of a state directory.
#[derive(Clone, Debug)]
pub(super) struct Memories {
    folder: PathBuf,
}

/// What was learnt, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// When, in Unix milliseconds by the calendar of then.
    pub at_ms: i64,
    /// What the policy made of itself.
    pub bytes: Vec<u8>,
}

impl Memories {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER) }
    }

    pub(super) fn write(&self, service: &str, bytes: &[u8]) -> std::io::Result<()> {
        file::make_folder(&self.folder)?;
        let content = [&unix_ms_now().to_le_bytes(), bytes].concat();
        file::replace(&self.folder.join(service), &content)
    }

    /// `None` where nothing was kept, or nothing that can be read.
    pub(super) fn read(&self, service: &str) -> Option<Memory> {
        let content = std::fs::read(self.folder.join(service)).ok()?;
        let (at_ms, bytes) = content.split_first_chunk()?;
        Some(Memory { at_ms: i64::from_le_bytes(*at_ms), bytes: bytes.to_vec() })
    }
}
