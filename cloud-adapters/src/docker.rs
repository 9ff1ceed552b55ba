//! The adapter whose instances are containers at a Docker daemon: this machine's, or another's over TCP with TLS or over
//! SSH. Each is a `tidegate wrap` of its own, with its own certificate, token, lease and self-termination.
//!
//! The provider's memory is the daemon's, so an adapter that starts after a crash knows all that the one before it knew.
//! A container is named for its launch (`tidegate-<launch>`): the daemon refuses a second of one name, which makes the
//! name the idempotency key. Its labels (`tidegate.fleet`, `.node`, `.session`, `.launch`, `.service`) say whose it is.
//!
//! ```text
//! created ── files uploaded ── started ── running ── exited ── removed
//!    └─ a crash here is mended by the next launch        └─ kept until it is terminated
//! ```
//!
//! Secrets and files are unpacked in the container at `/run/tidegate` before it is started; they lie on the daemon's
//! disk, readable for its root, until the container is removed.

mod clock;
mod daemon;
mod dial;
mod failure;
mod labels;
mod look;
mod observe;
pub mod own_image;
mod parcel;
mod spec;
mod start;
mod stop;
mod target;
mod user;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum as Status};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    AdapterError, Capabilities, CloudAdapter, Finding, Instance, LaunchId, LaunchRequest, LifeBound, Owner, turns,
};
use daemon::Daemon;
use labels::Labels;
use observe::Stage;
use target::Target;

/// The scope of our launch ids among the turns.
const TURNS: &str = "docker";

/// How many containers are inspected at once for a list: more would only wait at the daemon.
const MAX_INSPECTIONS: usize = 8;

/// Networks that publish no ports, so that no instance in them could be reached.
const NETWORKS_WITHOUT_PORTS: [&str; 2] = ["host", "none"];

/// How a Docker adapter is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptions {
    /// The adapter's name, for messages.
    pub name: String,
    /// Where the daemon is: `unix:///PATH`, `tcp://HOST[:PORT]` or `ssh://[USER@]HOST[:PORT]`. `None` for what
    /// `DOCKER_HOST` says, else `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// The files for TLS over TCP. `None` for what `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say, as docker reads them.
    pub tls: Option<DockerTls>,
    /// A configuration file for `ssh` instead of the user's own (`ssh -F`).
    pub ssh_config: Option<PathBuf>,
    /// The image for workloads that name none; `None` for one that is made from the node's own binary.
    pub image: Option<String>,
    /// When the daemon fetches an image.
    pub pull: Pull,
    /// The node's own `tidegate` program, from which its own image is made.
    pub program: PathBuf,
    /// The name of `tidegate` in images: on their PATH, or a path.
    pub wrapper: String,
    /// The most instances alive at once, of every owner that uses the daemon.
    pub max_instances: Option<u32>,
    /// The address of the daemon's machine that ports are published on; `None` for 127.0.0.1 where the daemon is on this
    /// machine, else for 0.0.0.0.
    pub publish: Option<IpAddr>,
    /// The host under which this machine reaches published ports; `None` for the published address, else the daemon's.
    pub address: Option<String>,
    /// The network that containers are in, which must publish ports; `None` for the daemon's default bridge.
    pub network: Option<String>,
}

impl DockerOptions {
    /// The daemon of the environment, with the defaults of everything.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            host: None,
            tls: None,
            ssh_config: None,
            image: None,
            pull: Pull::Never,
            program: program.into(),
            wrapper: "tidegate".to_owned(),
            max_instances: None,
            publish: None,
            address: None,
            network: None,
        }
    }
}

/// The files for TLS to a daemon, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerTls {
    /// The authority that signed the daemon's certificate.
    pub ca: PathBuf,
    /// This client's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// When the daemon fetches an image from its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// Never: what is not there is told.
    #[default]
    Never,
    /// When it is not there yet; without credentials.
    Missing,
}

/// Instances as containers at a Docker daemon. Cheap to clone; must be used inside a tokio runtime with IO and time.
#[derive(Debug, Clone)]
pub struct DockerAdapter {
    provider: Arc<Provider>,
}

/// What stands behind the adapter.
#[derive(Debug)]
struct Provider {
    options: DockerOptions,
    daemon: Daemon,
    /// Held while a container is being made, from counting them on.
    making: Mutex<()>,
    /// Held while an image is on its way to the daemon: it may take long, and no other launch waits for it that has its own.
    bringing: Mutex<()>,
    /// The name of the node's own image, which takes reading the whole binary.
    own_image: OnceCell<String>,
}

impl DockerAdapter {
    /// An adapter of one daemon; connects when it is first asked something, so a daemon may be away.
    ///
    /// # Errors
    /// [`AdapterError::BadConfiguration`] for an address that is none.
    pub fn new(options: DockerOptions) -> Result<Self, AdapterError> {
        let target = Target::read(&options, |name| std::env::var(name).ok())?;
        let (making, bringing, own_image) = (Mutex::new(()), Mutex::new(()), OnceCell::new());
        Ok(Self { provider: Arc::new(Provider { options, daemon: Daemon::new(target), making, bringing, own_image }) })
    }

    /// Makes the image of the node's own binary at the daemon where it is not there yet; its name.
    ///
    /// # Errors
    /// As every call to the daemon, and [`AdapterError::BadConfiguration`] for a binary that cannot run there.
    pub async fn own_image(&self) -> Result<String, AdapterError> {
        let image = self.provider.own_image_name().await?;
        self.provider.bring_image(&image).await?;
        Ok(image)
    }
}

#[async_trait]
impl CloudAdapter for DockerAdapter {
    fn capabilities(&self) -> Capabilities {
        Capabilities { life_bound: LifeBound::Renewable, capacity: self.provider.options.max_instances }
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        request.check()?;
        let turn = turns::wait_for(TURNS, &request.launch).await;
        let (provider, request) = (Arc::clone(&self.provider), request.clone());
        turn.run(async move { provider.launch(&request).await }).await
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        self.provider.describe(launch).await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        self.provider.list(owner).await
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        let _turn = turns::wait_for(TURNS, launch).await;
        self.provider.terminate(launch).await
    }

    async fn check(&self) -> Vec<Finding> {
        self.provider.look().await
    }
}

impl Provider {
    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let wanted = vec![
            format!("{}={}", labels::FLEET, owner.fleet),
            format!("{}={}", labels::NODE, owner.node),
            labels::LAUNCH.into(),
        ];
        let containers = self.daemon.list(wanted).await?;
        let looks = containers.iter().filter_map(launch_of).map(|launch| self.look_again(launch));
        let looked: Vec<_> = futures_util::stream::iter(looks).buffer_unordered(MAX_INSPECTIONS).try_collect().await?;
        // Asked after the containers, so that none of them is younger than now.
        let now = self.daemon.now().await?;
        let mut instances = Vec::new();
        for (labels, container) in looked.into_iter().flatten() {
            // The daemon's filter has said so already; a list that were wrong here would get a stranger's ended.
            if labels.owner.is_same_node(owner) {
                instances.push(self.instance(labels, &container, now).await);
            }
        }
        instances.sort_by(|one, other| one.launch.cmp(&other.launch));
        Ok(instances)
    }

    /// One of a list's containers whole; `None` when it went away since, or is not ours after all.
    async fn look_again(&self, launch: LaunchId) -> Result<Option<(Labels, ContainerInspectResponse)>, AdapterError> {
        let Some(container) = self.daemon.inspect(&container_name(&launch)).await? else { return Ok(None) };
        match start::read_labels(&container, &launch) {
            Ok(labels) => Ok(Some((labels, container))),
            Err(error) => {
                tracing::warn!(adapter = self.options.name, "left out of the list: {error}");
                Ok(None)
            }
        }
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        let Some(container) = self.daemon.inspect(&container_name(launch)).await? else { return Ok(None) };
        let labels = start::read_labels(&container, launch)?;
        let now = self.daemon.now().await?;
        Ok(Some(self.instance(labels, &container, now).await))
    }

    async fn instance(
        &self,
        labels: Labels,
        container: &ContainerInspectResponse,
        now: Option<SystemTime>,
    ) -> Instance {
        let last_line = match observe::stage(container) {
            Stage::Over => self.daemon.last_line(&container_name(&labels.launch)).await,
            Stage::Created | Stage::Alive => None,
        };
        observe::instance(container, labels, &self.host(), now, last_line.as_deref())
    }

    fn publish(&self) -> IpAddr {
        let everywhere =
            || if self.daemon.target.remote_host().is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        self.options.publish.unwrap_or_else(|| everywhere().into())
    }

    /// The host under which a published port is reached from here.
    fn host(&self) -> String {
        let published = || Some(self.publish()).filter(|address| !address.is_unspecified()).map(|it| it.to_string());
        let remote = || self.daemon.target.remote_host().map(str::to_owned);
        let told = self.options.address.clone().or_else(published).or_else(remote);
        told.unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string())
    }

    fn check_network(&self) -> Result<(), AdapterError> {
        match self.options.network.as_deref() {
            Some(network) if NETWORKS_WITHOUT_PORTS.contains(&network) || network.starts_with("container:") => {
                Err(AdapterError::bad_configuration(format!(
                    "instances in network `{network}` could not be reached: use a bridge network, which publishes ports"
                )))
            }
            _ => Ok(()),
        }
    }

    async fn image_of(&self, request: &LaunchRequest) -> Result<String, AdapterError> {
        match request.workload.image.as_ref().or(self.options.image.as_ref()) {
            Some(image) => Ok(image.clone()),
            None => self.own_image_name().await,
        }
    }

    async fn own_image_name(&self) -> Result<String, AdapterError> {
        let name = self.own_image.get_or_try_init(|| own_image::name_of(&self.options.program)).await?;
        Ok(name.clone())
    }

    /// Brings an image that the daemon does not have; leaves one away that is not for us to bring.
    async fn bring_image(&self, image: &str) -> Result<(), AdapterError> {
        let _one_at_a_time = self.bringing.lock().await;
        if self.daemon.image(image).await?.is_some() {
            return Ok(());
        }
        if self.own_image.get().is_some_and(|own| own == image) {
            return own_image::import(&self.daemon, &self.options.program, image).await;
        }
        match self.options.pull {
            Pull::Never => Ok(()),
            Pull::Missing => self.daemon.pull(image).await,
        }
    }
}

/// The name of a launch's container: the idempotency key.
fn container_name(launch: &LaunchId) -> String {
    format!("tidegate-{launch}")
}

/// The launch of a container in a list; `None` for one whose label is not ours to have written.
fn launch_of(container: &ContainerSummary) -> Option<LaunchId> {
    let launch: LaunchId = container.labels.as_ref()?.get(labels::LAUNCH)?.parse().ok()?;
    let name = format!("/{}", container_name(&launch));
    container.names.iter().flatten().any(|known| *known == name).then_some(launch)
}

/// Whether a container counts against the daemon's room: all but those that have ended.
fn takes_room(container: &ContainerSummary) -> bool {
    !matches!(container.state, Some(Status::EXITED | Status::DEAD | Status::REMOVING))
}
