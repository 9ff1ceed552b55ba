//! What instances need of this machine's disk, by digest: our own program and the workload's files. Copied to the far
//! side once, one at a time, in a task of its own: a copy goes on when the call that began it is cut off, so that a slow
//! line needs no patience of its callers.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::far::{FarSide, Verb};
use super::trouble::Trouble;
use super::{Input, blocking_io};
use crate::{AdapterError, LaunchRequest};

/// How much of a file is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The digests of what a launch needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goods {
    pub(super) program: String,
    /// By the name that the workload's arguments use.
    pub(super) files: BTreeMap<String, String>,
    paths: BTreeMap<String, PathBuf>,
}

/// Digests of files as they were when they were last read.
#[derive(Debug, Default)]
pub(super) struct Digests {
    by_path: Mutex<BTreeMap<PathBuf, (Stamp, String)>>,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Goods {
    /// Reads what is new or changed, so that each launch after the first is quick.
    pub(super) async fn of(far: &Arc<FarSide>, request: &LaunchRequest) -> Result<Self, AdapterError> {
        let (far, request) = (Arc::clone(far), request.clone());
        Ok(blocking_io(move || Self::read(&far, &request)).await?)
    }

    fn read(far: &FarSide, request: &LaunchRequest) -> Result<Self, Trouble> {
        let program = program_digest(far)?;
        let mut paths = BTreeMap::from([(program.clone(), far.options.program.clone())]);
        let mut files = BTreeMap::new();
        for (name, path) in &request.workload.files {
            let digest = far.digests.of(path).map_err(|error| {
                let message =
                    format!("cannot read the file `{name}` of service `{}`: {}", request.service, path.display());
                Trouble::bad_configuration(message).saying(&error.to_string())
            })?;
            paths.insert(digest.clone(), path.clone());
            files.insert(name.clone(), digest);
        }
        Ok(Self { program, files, paths })
    }

    /// Copies what the far side says it lacks.
    pub(super) async fn bring(&self, far: &Arc<FarSide>, digest: &str) -> Result<(), AdapterError> {
        let Some(path) = self.paths.get(digest).cloned() else {
            return Err(AdapterError::transient(format!(
                "the far side asked for {digest}, which the launch does not need"
            )));
        };
        bring(far, digest.to_owned(), path, digest == self.program).await
    }
}

fn program_digest(far: &FarSide) -> Result<String, Trouble> {
    let program = &far.options.program;
    far.digests.of(program).map_err(|error| {
        let message = format!("cannot find the program {}: name the tidegate program", program.display());
        Trouble::bad_configuration(message).saying(&error.to_string())
    })
}

/// Brings our own program where it is missing; its digest.
pub(super) async fn bring_program(far: &Arc<FarSide>) -> Result<String, AdapterError> {
    let reader = Arc::clone(far);
    let digest = blocking_io(move || program_digest(&reader)).await?;
    bring(far, digest.clone(), far.options.program.clone(), true).await?;
    Ok(digest)
}

async fn bring(far: &Arc<FarSide>, digest: String, path: PathBuf, is_program: bool) -> Result<(), AdapterError> {
    let far = Arc::clone(far);
    let copying = tokio::spawn(async move {
        let _one_at_a_time = far.copying.lock().await;
        if far.ask(&Verb::Has(&digest), Input::Nothing).await?.value("stored") == "yes" {
            return Ok(());
        }
        tracing::info!(file = %path.display(), digest, far = far.name(), "copying to the far side");
        far.ask(&Verb::Put { digest: &digest, is_program }, Input::File(path)).await.map(drop)
    });
    copying.await.unwrap_or_else(|error| Err(AdapterError::transient("a copy did not finish").because(error)))
}

impl Digests {
    fn of(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let stamp = Stamp::of(&metadata);
        if let Some(digest) = self.remembered(path, &stamp) {
            return Ok(digest);
        }
        let digest = digest(&mut file)?;
        self.lock().insert(path.to_owned(), (stamp, digest.clone()));
        Ok(digest)
    }

    fn remembered(&self, path: &Path, stamp: &Stamp) -> Option<String> {
        self.lock().get(path).filter(|(then, _)| then == stamp).map(|(_, digest)| digest.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, (Stamp, String)>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
    }
}

fn digest(file: &mut File) -> io::Result<String> {
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// The digest of a text, as the far side's `sha256sum` has it.
pub(super) fn digest_of(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
