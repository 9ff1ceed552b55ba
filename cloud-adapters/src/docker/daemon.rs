//! The daemon's API as far as instances need it: each call with a limit, its errors sorted, and "there is none" told
//! apart from "it was not told".

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ImageInspect, SystemInfo, SystemVersion,
};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    DownloadFromContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::failure::{failed, is_status};
use super::target::Target;
use super::{clock, dial};
use crate::AdapterError;

/// How long a look or a small change may take: a busy daemon on a small disk, not one that hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an upload, an import or a pull may take: gigabytes over a slow link.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(1800);

/// The most that is read of a file in a container: `/etc/passwd` with thousands of users.
const FILE_MAX_BYTES: usize = 1024 * 1024;

/// The most that is kept of an instance's last line.
const LAST_LINE_MAX_CHARS: usize = 300;

/// A daemon that is first reached when it is asked something, so that one which is away keeps no node from starting.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) target: Target,
    docker: OnceCell<Docker>,
}

/// What became of a wish for a container.
pub(super) enum Created {
    Made,
    /// Another container has the name: the same launch's, or a stranger's.
    NameTaken,
    /// The daemon does not have the image, with the error to give where none can be brought.
    NoImage(AdapterError),
}

impl Daemon {
    pub(super) fn new(target: Target) -> Self {
        Self { target, docker: OnceCell::new() }
    }

    /// A client that speaks the daemon's version of the API, which older and newer daemons refuse to guess.
    async fn docker(&self) -> Result<Docker, Error> {
        let connect = || async { dial::client(&self.target)?.negotiate_version().await };
        self.docker.get_or_try_init(connect).await.cloned()
    }

    async fn call<T, F>(&self, limit: Duration, ask: impl FnOnce(Docker) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let answer = async { ask(self.docker().await?).await };
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(Error::RequestTimeoutError))
    }

    pub(super) async fn version(&self) -> Result<SystemVersion, AdapterError> {
        let asked = self.call(CALL_TIMEOUT, |docker| async move { docker.version().await }).await;
        asked.map_err(|error| failed(&format!("cannot ask {} for its version", self.target.shown), error))
    }

    pub(super) async fn info(&self) -> Result<SystemInfo, AdapterError> {
        let asked = self.call(CALL_TIMEOUT, |docker| async move { docker.info().await }).await;
        asked.map_err(|error| failed(&format!("cannot ask {} what it has", self.target.shown), error))
    }

    /// The daemon's own time; `None` where it does not tell.
    pub(super) async fn now(&self) -> Result<Option<SystemTime>, AdapterError> {
        Ok(self.info().await?.system_time.as_deref().and_then(clock::moment))
    }

    pub(super) async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, AdapterError> {
        let ask = |docker: Docker| async move { docker.inspect_container(name, None).await };
        found(&format!("cannot inspect {name}"), self.call(CALL_TIMEOUT, ask).await)
    }

    /// The containers that carry all of the labels, running or not.
    pub(super) async fn list(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, AdapterError> {
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let ask = |docker: Docker| async move { docker.list_containers(Some(options)).await };
        self.call(CALL_TIMEOUT, ask).await.map_err(|error| failed("cannot list the containers", error))
    }

    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<Created, AdapterError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let ask = |docker: Docker| async move { docker.create_container(Some(options), body).await };
        match self.call(CALL_TIMEOUT, ask).await {
            Ok(_) => Ok(Created::Made),
            Err(error) if is_status(&error, 409) => Ok(Created::NameTaken),
            Err(error) if is_status(&error, 404) && error.to_string().to_lowercase().contains("no such image") => {
                Ok(Created::NoImage(failed(&format!("cannot create {name}"), error)))
            }
            Err(error) => Err(failed(&format!("cannot create {name}"), error)),
        }
    }

    /// Unpacks a tar stream in the root of a container that exists.
    pub(super) async fn upload(
        &self,
        name: &str,
        tar: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), AdapterError> {
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        // A stream, because the client writes a body that it holds whole into its trace log, and here are secrets.
        let body = bollard::body_try_stream(tar);
        let ask = |docker: Docker| async move { docker.upload_to_container(name, Some(options), body).await };
        let done = self.call(TRANSFER_TIMEOUT, ask).await;
        done.map_err(|error| failed(&format!("cannot bring its files to {name}"), error))
    }

    /// Starts a container; one that runs already is as good.
    pub(super) async fn start(&self, name: &str) -> Result<(), AdapterError> {
        let ask = |docker: Docker| async move { docker.start_container(name, None).await };
        self.call(CALL_TIMEOUT, ask).await.map_err(|error| failed(&format!("cannot start {name}"), error))
    }

    /// Sends a signal; to one that is gone or has ended, none.
    pub(super) async fn signal(&self, name: &str, signal: &str) -> Result<(), AdapterError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let ask = |docker: Docker| async move { docker.kill_container(name, Some(options)).await };
        match self.call(CALL_TIMEOUT, ask).await {
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
            done => done.map_err(|error| failed(&format!("cannot send {signal} to {name}"), error)),
        }
    }

    /// Removes a container and its volumes, killing it where it runs. One that is gone, or just being removed by
    /// another call, is no error: look again.
    pub(super) async fn remove(&self, name: &str) -> Result<(), AdapterError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let ask = |docker: Docker| async move { docker.remove_container(name, Some(options)).await };
        match self.call(CALL_TIMEOUT, ask).await {
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
            done => done.map_err(|error| failed(&format!("cannot remove {name}"), error)),
        }
    }

    /// The last line that a container wrote, cut to a length; none where it wrote nothing or its log cannot be read.
    pub(super) async fn last_line(&self, name: &str) -> Option<String> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("1").build();
        let ask = |docker: Docker| async move { docker.logs(name, Some(options)).next().await.transpose() };
        let line = self.call(CALL_TIMEOUT, ask).await.ok().flatten()?.to_string();
        let line: String = line.trim().chars().take(LAST_LINE_MAX_CHARS).collect();
        (!line.is_empty()).then_some(line)
    }

    /// When a file in a container was written, `None` without the file. The inner `None` is a time that cannot be read.
    pub(super) async fn written_at(&self, name: &str, path: &str) -> Result<Option<Option<SystemTime>>, AdapterError> {
        let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
        let ask = |docker: Docker| async move { docker.get_container_archive_info(name, Some(options)).await };
        let stat = found(&format!("cannot look for {path} in {name}"), self.call(CALL_TIMEOUT, ask).await)?;
        Ok(stat.map(|stat| stat.modification_time.as_deref().and_then(clock::moment)))
    }

    /// A small file of a container, as the tar archive that holds it.
    pub(super) async fn read_archive(&self, name: &str, path: &str) -> Result<Option<Vec<u8>>, AdapterError> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let ask = |docker: Docker| async move {
            let parts = docker.download_from_container(name, Some(options));
            parts.try_fold(Vec::new(), append).await
        };
        found(&format!("cannot read {path} in {name}"), self.call(CALL_TIMEOUT, ask).await)
    }

    pub(super) async fn image(&self, image: &str) -> Result<Option<ImageInspect>, AdapterError> {
        let ask = |docker: Docker| async move { docker.inspect_image(image).await };
        found(&format!("cannot inspect the image {image}"), self.call(CALL_TIMEOUT, ask).await)
    }

    pub(super) async fn pull(&self, image: &str) -> Result<(), AdapterError> {
        // Without a tag the daemon would fetch every one that there is.
        let tag = if image.rsplit('/').next().is_some_and(|name| name.contains([':', '@'])) { "" } else { "latest" };
        let options = CreateImageOptionsBuilder::new().from_image(image).tag(tag).build();
        let ask =
            |docker: Docker| async move { docker.create_image(Some(options), None, None).try_for_each(skip).await };
        let done = self.call(TRANSFER_TIMEOUT, ask).await;
        done.map_err(|error| failed(&format!("the daemon cannot pull the image {image}"), error))
    }

    /// Makes an image of one layer from a tar stream.
    pub(super) async fn import(
        &self,
        (repository, tag): (&str, &str),
        changes: Vec<String>,
        tar: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), AdapterError> {
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag(tag).changes(changes).build();
        let body = bollard::body_try_stream(tar);
        let ask = |docker: Docker| async move {
            docker.create_image(Some(options), Some(body), None).try_for_each(skip).await
        };
        let done = self.call(TRANSFER_TIMEOUT, ask).await;
        done.map_err(|error| failed(&format!("cannot import the image {repository}:{tag}"), error))
    }
}

/// An answer of 404 is the answer that there is none.
fn found<T>(what: &str, answer: Result<T, Error>) -> Result<Option<T>, AdapterError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_status(&error, 404) => Ok(None),
        Err(error) => Err(failed(what, error)),
    }
}

async fn append(mut whole: Vec<u8>, part: Bytes) -> Result<Vec<u8>, Error> {
    if whole.len() + part.len() > FILE_MAX_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes")).into());
    }
    whole.extend_from_slice(&part);
    Ok(whole)
}

/// Progress is not of interest, errors are.
async fn skip(_: bollard::models::CreateImageInfo) -> Result<(), Error> {
    Ok(())
}
