//! An image made from the node's own binary, for a daemon that nobody has prepared: one layer that holds `tidegate`, the
//! libraries that it is linked to where it is not static, and a `/tmp`.
//!
//! It is named for the binary, `tidegate-own:<first digits of its SHA-256>`, so a newer binary makes a newer image and the
//! older ones stay. They carry the label `tidegate.own-image`; to delete those that no instance uses:
//!
//! ```text
//! docker image prune --all --filter label=tidegate.own-image
//! ```

mod libraries;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::daemon::Daemon;
use super::parcel::{Tar, User, append, append_directory, streamed};
use crate::AdapterError;

pub use libraries::libraries_of;

/// The image's repository, and the label by which all of its images are found.
pub const REPOSITORY: &str = "tidegate-own";
/// The label of every image that is made here; its value is the tag.
pub const LABEL: &str = "tidegate.own-image";

/// Where the binary lies in the image: on the PATH that daemons give to an image without one.
const PROGRAM: &str = "usr/local/bin/tidegate";

/// Digits of the SHA-256 in the tag: 48 bits, among the few binaries that one daemon ever sees.
const TAG_DIGITS: usize = 12;

/// Bytes of the binary that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The name of a binary's image, `tidegate-own:<digits>`.
///
/// # Errors
/// [`AdapterError::BadConfiguration`] for a program that cannot be read.
pub async fn name_of(program: &Path) -> Result<String, AdapterError> {
    let path = program.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest(&path)).await.unwrap_or_else(|error| Err(error.into()));
    let digest = digest.map_err(|error| unreadable(program, error))?;
    Ok(format!("{REPOSITORY}:{}", &digest[..TAG_DIGITS]))
}

fn digest(program: &Path) -> io::Result<String> {
    let mut file = File::open(program)?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK_BYTES]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&block[..read]),
        }
    }
}

/// Makes the image of `program` under a name from [`name_of`].
pub(super) async fn import(daemon: &Daemon, program: &Path, name: &str) -> Result<(), AdapterError> {
    check_machine(program, daemon.info().await?.architecture.as_deref())?;
    let libraries = libraries_of(program).await?;
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    let program = program.to_owned();
    let changes = vec![format!("LABEL {LABEL}={tag}"), "ENTRYPOINT [\"tidegate\"]".to_owned()];
    daemon.import((repository, tag), changes, streamed(move |tar| write(tar, &program, &libraries))).await
}

fn write(tar: &mut Tar, program: &Path, libraries: &[PathBuf]) -> io::Result<()> {
    append_file(tar, program, PROGRAM)?;
    for library in libraries {
        // At the same place as here, where the loader looks for it.
        let path = library.to_string_lossy();
        append_file(tar, library, path.trim_start_matches('/'))?;
    }
    append_directory(tar, "run/", 0o755, User::default())?;
    append_directory(tar, "tmp/", 0o1777, User::default())
}

fn append_file(tar: &mut Tar, from: &Path, to: &str) -> io::Result<()> {
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    append(tar, to, size, 0o755, User::default(), file)
}

/// Refuses a daemon on another kind of machine. Both sides name theirs as `uname -m` does.
fn check_machine(program: &Path, theirs: Option<&str>) -> Result<(), AdapterError> {
    let ours = std::env::consts::ARCH;
    match theirs {
        Some(theirs) if theirs != ours => Err(AdapterError::bad_configuration(format!(
            "the daemon's machine is {theirs} and {} is for {ours}: name an image that holds a tidegate for {theirs}",
            program.display()
        ))),
        _ => Ok(()),
    }
}

fn unreadable(program: &Path, error: io::Error) -> AdapterError {
    let message =
        format!("cannot read {}, of which an image is to be made", program.as_os_str().as_bytes().escape_ascii());
    AdapterError::bad_configuration(message).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_image_is_named_for_the_bytes_of_its_binary() {
        let home = tempfile::tempdir().expect("a directory");
        let program = home.path().join("tidegate");
        std::fs::write(&program, "abc").expect("write");
        assert_eq!(name_of(&program).await.expect("a name"), "tidegate-own:ba7816bf8f01");
        std::fs::write(&program, "abd").expect("write");
        assert_ne!(name_of(&program).await.expect("a name"), "tidegate-own:ba7816bf8f01");
        let missing = name_of(&home.path().join("missing")).await.expect_err("it is not there");
        assert_eq!(missing.retry(), crate::Retry::Never);
    }

    #[test]
    fn a_daemon_on_another_kind_of_machine_needs_an_image_of_its_own() {
        let program = Path::new("/usr/bin/tidegate");
        check_machine(program, Some(std::env::consts::ARCH)).expect("the same machine");
        check_machine(program, None).expect("a daemon that does not tell");
        let error = check_machine(program, Some("m68k")).expect_err("another machine");
        assert!(error.to_string().contains("m68k") && error.retry() == crate::Retry::Never, "{error}");
    }
}
