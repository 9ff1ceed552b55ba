//! What an instance is given before it starts: its secrets and the workload's files, as a tar stream that is unpacked in
//! the container. Nothing of it stands in the container's settings, which anyone at the daemon can read.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::Bytes;
use futures_util::Stream;
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use crate::{AdapterError, LaunchRequest};

/// Where it lies in the container, and the names in it.
pub(super) const DIRECTORY: &str = "/run/tidegate";
pub(super) const TOKEN: &str = "token";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const FILES: &str = "files";

/// Bytes that go on at once, and how many such parts may wait for the network.
const PART_BYTES: usize = 64 * 1024;
const MAX_PARTS: usize = 4;

/// The user of the container that everything belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u64,
    pub(super) gid: u64,
}

/// Opened before anything is made at the daemon: a file that is missing costs nothing there.
#[derive(Debug)]
pub(super) struct Parcel {
    secrets: Vec<(&'static str, Vec<u8>)>,
    files: Vec<(String, File)>,
}

impl Parcel {
    /// Blocks for as long as opening files takes.
    pub(super) fn of(request: &LaunchRequest) -> Result<Self, AdapterError> {
        let secrets = vec![
            (TOKEN, request.token.expose().as_bytes().to_vec()),
            (CERTIFICATE, request.identity.certificate.as_bytes().to_vec()),
            (KEY, request.identity.key.expose().as_bytes().to_vec()),
        ];
        let mut files = Vec::new();
        for (name, path) in &request.workload.files {
            if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                let message = format!("`{name}` is no name for a file of service `{}`: use no slash", request.service);
                return Err(AdapterError::bad_configuration(message));
            }
            let unreadable = |error: io::Error| {
                let message =
                    format!("cannot read the file `{name}` of service `{}`: {}", request.service, path.display());
                AdapterError::bad_configuration(message).because(error)
            };
            let file = File::open(path).map_err(unreadable)?;
            if !file.metadata().map_err(unreadable)?.is_file() {
                return Err(AdapterError::bad_configuration(format!("{} is not a plain file", path.display())));
            }
            files.push((name.clone(), file));
        }
        Ok(Self { secrets, files })
    }

    /// As a tar stream, made while it is sent: a model of gigabytes is never in memory.
    pub(super) fn for_user(self, user: User) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        streamed(move |tar| self.write(tar, user))
    }

    fn write(self, tar: &mut Tar, user: User) -> io::Result<()> {
        let at = |name: &str| format!("{}/{name}", DIRECTORY.trim_start_matches('/'));
        append_directory(tar, &at(""), 0o700, user)?;
        for (name, text) in &self.secrets {
            append(tar, &at(name), text.len() as u64, 0o600, user, text.as_slice())?;
        }
        append_directory(tar, &at(&format!("{FILES}/")), 0o700, user)?;
        for (name, file) in &self.files {
            let size = file.metadata()?.len();
            append(tar, &at(&format!("{FILES}/{name}")), size, 0o600, user, file)?;
        }
        Ok(())
    }
}

/// One empty file in the container, whose time says when something was done.
pub(super) fn note(name: &'static str, at_seconds: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    streamed(move |tar| {
        let mut header = header(0, 0o600, User::default());
        header.set_mtime(at_seconds);
        tar.append_data(&mut header, format!("{}/{name}", DIRECTORY.trim_start_matches('/')), io::empty())
    })
}

/// An archive that is on its way.
pub(super) type Tar = tar::Builder<io::BufWriter<Parts>>;

pub(super) fn append(
    tar: &mut Tar,
    path: &str,
    size: u64,
    mode: u32,
    user: User,
    content: impl Read,
) -> io::Result<()> {
    let mut content = content.take(size);
    tar.append_data(&mut header(size, mode, user), path, &mut content)?;
    if content.limit() > 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} became shorter while it was read")));
    }
    Ok(())
}

pub(super) fn append_directory(tar: &mut Tar, path: &str, mode: u32, user: User) -> io::Result<()> {
    let mut header = header(0, mode, user);
    header.set_entry_type(EntryType::Directory);
    tar.append_data(&mut header, path, io::empty())
}

fn header(size: u64, mode: u32, user: User) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(user.uid);
    header.set_gid(user.gid);
    header.set_mtime(0);
    header
}

/// The archive that `write` makes, part by part, on a thread that may block.
pub(super) fn streamed(
    write: impl FnOnce(&mut Tar) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, mut receiver) = mpsc::channel(MAX_PARTS);
    let errors = sender.clone();
    tokio::task::spawn_blocking(move || {
        let mut tar = tar::Builder::new(io::BufWriter::with_capacity(PART_BYTES, Parts { sender }));
        let written = write(&mut tar).and_then(|()| tar.into_inner()?.flush());
        if let Err(error) = written {
            // Nobody listens any more where the receiver is gone.
            let _ = errors.blocking_send(Err(error));
        }
    });
    futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

/// Sends what is written to it.
pub(super) struct Parts {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;

    async fn unpacked(stream: impl Stream<Item = io::Result<Bytes>>) -> Vec<(String, u32, u64, String)> {
        let whole: Vec<u8> = stream.map_ok(|part| part.to_vec()).try_concat().await.expect("an archive");
        let mut archive = tar::Archive::new(whole.as_slice());
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.expect("an entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            let header = entry.header();
            let path = entry.path().expect("a path").display().to_string();
            (path, header.mode().expect("a mode"), header.uid().expect("a uid"), text)
        };
        archive.entries().expect("entries").map(read).collect()
    }

    fn request(files: &[(&str, &std::path::Path)]) -> LaunchRequest {
        let files = files.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf())).collect();
        LaunchRequest {
            launch: "gw-1".parse().expect("a launch id"),
            owner: crate::Owner { fleet: "f".into(), node: "n".into(), session: 1 },
            service: "digits".into(),
            workload: crate::Workload { argv: vec!["serve".into()], files, ..crate::Workload::default() },
            ready: crate::ReadyCheck::Tcp,
            lease_ttl: std::time::Duration::from_secs(20),
            drain_timeout: std::time::Duration::from_secs(1),
            token: crate::Secret::new("t0ken"),
            identity: crate::TlsIdentity { certificate: "CERT".into(), key: crate::Secret::new("KEY") },
            concurrency: 1,
        }
    }

    #[tokio::test]
    async fn secrets_and_files_are_the_users_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let model = home.path().join("m.onnx");
        std::fs::write(&model, "weights").expect("write");
        let parcel = Parcel::of(&request(&[("model", &model)])).expect("a parcel");
        let entries = unpacked(parcel.for_user(User { uid: 1000, gid: 7 })).await;
        let expected = [
            ("run/tidegate/", 0o700, ""),
            ("run/tidegate/token", 0o600, "t0ken"),
            ("run/tidegate/tls.crt", 0o600, "CERT"),
            ("run/tidegate/tls.key", 0o600, "KEY"),
            ("run/tidegate/files/", 0o700, ""),
            ("run/tidegate/files/model", 0o600, "weights"),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(path, mode, text)| (path.to_owned(), mode, 1000, text.to_owned())).collect();
        assert_eq!(entries, expected);
    }

    #[tokio::test]
    async fn a_file_that_is_no_longer_whole_breaks_the_archive_off() {
        let short = streamed(|tar| append(tar, "a", 5, 0o600, User::default(), b"abc".as_slice()));
        let error = short.try_for_each(|_| async { Ok(()) }).await.expect_err("two bytes are missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn files_that_cannot_be_brought_are_told_before_anything_is_made() {
        let home = tempfile::tempdir().expect("a directory");
        let missing = home.path().join("missing");
        for (name, path) in [("model", missing.as_path()), ("model", home.path()), ("../x", &missing), ("", &missing)] {
            let error = Parcel::of(&request(&[(name, path)])).expect_err("it cannot be brought");
            assert_eq!(error.retry(), crate::Retry::Never, "{error}");
        }
    }
}
