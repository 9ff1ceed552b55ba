//! Makes a launch's container and starts it. Each step finds what an earlier call of the same launch left, so a launch
//! that was cut off is mended by the next one: a container that was made and never started gets its files and is started.

use bollard::models::ContainerInspectResponse;

use super::daemon::Created;
use super::labels::{self, Labels};
use super::observe::{self, Stage};
use super::parcel::Parcel;
use super::{Provider, container_name, spec, user};
use crate::{AdapterError, Instance, LaunchId, LaunchRequest, Retry};

/// How often a container may vanish between two looks of one launch before that is an error of its own.
const MAX_LOOKS: u32 = 3;

impl Provider {
    pub(super) async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        self.check_network()?;
        let name = container_name(&request.launch);
        for _ in 0..MAX_LOOKS {
            let Some(container) = self.daemon.inspect(&name).await? else {
                self.make(request, &name).await?;
                continue;
            };
            let labels = check_owner(&container, request)?;
            if observe::stage(&container) != Stage::Created {
                let now = self.daemon.now().await?;
                return Ok(self.instance(labels, &container, now).await);
            }
            // A crash fell between the container and its start: this is the launch that mends it.
            self.complete(request, &name, packed(request).await?).await?;
        }
        Err(AdapterError::transient(format!("the container {name} goes away while it is launched: who removes it?")))
    }

    /// Makes the container and starts it, or finds that another call has made it.
    async fn make(&self, request: &LaunchRequest, name: &str) -> Result<(), AdapterError> {
        let parcel = packed(request).await?;
        let image = self.image_of(request).await?;
        let mut made = self.create(request, name, &image).await?;
        if let Created::NoImage(_) = made {
            self.bring_image(&image).await?;
            made = self.create(request, name, &image).await?;
        }
        match made {
            Created::Made => self.complete(request, name, parcel).await,
            Created::NameTaken => Ok(()),
            Created::NoImage(error) => Err(error),
        }
    }

    async fn create(&self, request: &LaunchRequest, name: &str, image: &str) -> Result<Created, AdapterError> {
        // Held until the container counts, so that two launches do not take the same last place.
        let _room = self.making.lock().await;
        if self.is_known_or_has_room(&request.launch).await? {
            return Ok(Created::NameTaken);
        }
        self.daemon.create(name, spec::container(request, &self.options, image, self.publish())).await
    }

    /// Whether the launch has its container already; where it has none, there must be room for one more.
    async fn is_known_or_has_room(&self, launch: &LaunchId) -> Result<bool, AdapterError> {
        let Some(max_instances) = self.options.max_instances else { return Ok(false) };
        let containers = self.daemon.list(vec![labels::LAUNCH.to_owned()]).await?;
        let name = format!("/{}", container_name(launch));
        if containers.iter().any(|container| container.names.iter().flatten().any(|known| *known == name)) {
            return Ok(true);
        }
        let alive = containers.iter().filter(|container| super::takes_room(container)).count();
        if alive < usize::try_from(max_instances).unwrap_or(usize::MAX) {
            return Ok(false);
        }
        let shown = &self.daemon.target.shown;
        Err(AdapterError::no_capacity(format!(
            "no room for {launch}: {alive} of at most {max_instances} instances are alive at {shown}"
        )))
    }

    /// Brings its files into a container that was made, and starts it. Where that can never work, nothing is left.
    async fn complete(&self, request: &LaunchRequest, name: &str, parcel: Parcel) -> Result<(), AdapterError> {
        let done = self.fill_and_start(name, request, parcel).await;
        if let Err(error) = &done
            && error.retry() != Retry::Backoff
        {
            self.daemon.remove(name).await?;
        }
        done
    }

    async fn fill_and_start(&self, name: &str, request: &LaunchRequest, parcel: Parcel) -> Result<(), AdapterError> {
        let Some(container) = self.daemon.inspect(name).await? else { return Ok(()) };
        check_owner(&container, request)?;
        if observe::stage(&container) != Stage::Created {
            return Ok(());
        }
        let setting = container.config.and_then(|config| config.user).unwrap_or_default();
        let user = user::of_container(&self.daemon, name, &setting).await?;
        self.daemon.upload(name, parcel.for_user(user)).await?;
        self.daemon.start(name).await
    }
}

async fn packed(request: &LaunchRequest) -> Result<Parcel, AdapterError> {
    let request = request.clone();
    let opened = tokio::task::spawn_blocking(move || Parcel::of(&request)).await;
    opened.unwrap_or_else(|error| Err(AdapterError::transient("opening the workload's files failed").because(error)))
}

fn check_owner(container: &ContainerInspectResponse, request: &LaunchRequest) -> Result<Labels, AdapterError> {
    let LaunchRequest { launch, owner: ours, .. } = request;
    let labels = read_labels(container, launch)?;
    let owner = &labels.owner;
    if owner.is_same_node(ours) {
        return Ok(labels);
    }
    Err(AdapterError::bad_configuration(format!(
        "launch id {launch} belongs to node {} of fleet {}, not to node {} of fleet {}: give each node its own id",
        owner.node, owner.fleet, ours.node, ours.fleet
    )))
}

pub(super) fn read_labels(container: &ContainerInspectResponse, launch: &LaunchId) -> Result<Labels, AdapterError> {
    let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
    Labels::read(labels.unwrap_or(&std::collections::HashMap::new()), launch)
}
