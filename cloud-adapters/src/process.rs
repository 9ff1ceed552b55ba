//! The adapter whose instances are other processes on this machine: each a `tidegate wrap` of its own, with its own
//! identity, lease and self-termination, that outlives the node which launched it. For the demo, for tests, and for a
//! gateway with room beside its local replicas.
//!
//! The "provider's account" is a directory, and the provider's memory is what stands in it, so an adapter that starts
//! after a crash knows all that the one before it knew:
//!
//! ```text
//! root/launch.lock              held while an instance is being made
//! root/instances/<launch>/      one instance: see `directory.rs`
//! root/staging/<launch>/        an instance being made; becomes instances/<launch> in one rename
//! root/trash/<launch>/          an instance being removed
//! ```
//!
//! An instance is alive while its wrapper holds the lock on `instances/<launch>/lock`. The kernel drops that lock with
//! the process, whatever ended it, and no reused process id can hold it.

mod account;
mod children;
mod clock;
mod command;
mod directory;
mod labels;
mod observe;
mod stop;
mod table;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    AdapterError, Capabilities, CloudAdapter, Finding, Instance, LaunchId, LaunchRequest, LifeBound, Owner, Subject,
};
use account::{Account, AccountLock};
use children::Children;
use directory::InstanceDirectory;

pub use table::processes_of;

/// How a process adapter is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessOptions {
    /// The adapter's own directory, its "provider account". Made when the first instance is launched.
    pub root: PathBuf,
    /// The `tidegate` program, whose `wrap` each instance is.
    pub program: PathBuf,
    /// The most instances alive at once, of every owner that uses this root.
    pub max_instances: Option<u32>,
    /// The CPUs that instances are held to, by number; `None` for all of them.
    pub cpus: Option<Vec<usize>>,
}

/// Instances as processes on this machine. Cheap to clone; must be used inside a tokio runtime with IO and time.
#[derive(Debug, Clone)]
pub struct ProcessAdapter {
    provider: Arc<Provider>,
}

/// What stands behind the adapter: everything here is short file work, and blocks.
#[derive(Debug)]
struct Provider {
    options: ProcessOptions,
    account: Account,
    children: Arc<Children>,
}

impl ProcessAdapter {
    /// An adapter over a directory; touches nothing yet.
    pub fn new(options: ProcessOptions) -> Self {
        let account = Account::new(options.root.clone());
        Self { provider: Arc::new(Provider { options, account, children: Arc::default() }) }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Provider) -> Result<T, AdapterError> + Send + 'static,
    ) -> Result<T, AdapterError> {
        let provider = Arc::clone(&self.provider);
        blocking(move || question(&provider)).await
    }
}

#[async_trait]
impl CloudAdapter for ProcessAdapter {
    fn capabilities(&self) -> Capabilities {
        Capabilities { life_bound: LifeBound::Renewable, capacity: self.provider.options.max_instances }
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        request.check()?;
        self.ask(|provider| provider.account.prepare()).await?;
        let lock = account::lock(&self.provider.account).await?;
        let request = request.clone();
        // From here on the launch runs to its end even when the caller stops waiting, and holds the lock until then.
        self.ask(move |provider| provider.launch(&request, lock)).await
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        let launch = launch.clone();
        self.ask(move |provider| provider.describe(&launch)).await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let owner = owner.clone();
        self.ask(move |provider| provider.list(&owner)).await
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        stop::terminate(&self.provider, launch).await
    }

    async fn check(&self) -> Vec<Finding> {
        let program = match command::try_out(&self.provider.options).await {
            Ok(()) => Finding::good(Subject::Image, format!("{} runs here", self.provider.options.program.display())),
            Err(error) => Finding::bad(Subject::Image, error.with_causes()),
        };
        let looked = self.ask(|provider| Ok(provider.findings())).await;
        let mut found = looked.unwrap_or_else(|error| vec![Finding::bad(Subject::Credentials, error.with_causes())]);
        found.push(program);
        found
    }
}

impl Provider {
    fn launch(&self, request: &LaunchRequest, _lock: AccountLock) -> Result<Instance, AdapterError> {
        let directory = self.account.instance(&request.launch);
        match directory.labels()? {
            None => self.start_new(request, &directory)?,
            Some(labels) if !labels.owner().is_same_node(&request.owner) => {
                return Err(taken(request, &labels.owner()));
            }
            // A crash fell between the directory and its process: this is the launch that mends it.
            Some(_) if directory.was_never_spawned() => self.spawn(request, &directory)?,
            Some(_) => {}
        }
        self.observed(&directory, &request.launch)
    }

    fn start_new(&self, request: &LaunchRequest, directory: &InstanceDirectory) -> Result<(), AdapterError> {
        command::check(&self.options)?;
        self.check_room(&request.launch)?;
        self.account.create(request)?;
        self.spawn(request, directory)
    }

    fn spawn(&self, request: &LaunchRequest, directory: &InstanceDirectory) -> Result<(), AdapterError> {
        let spawned = command::spawn(&self.options, request, directory);
        if spawned.is_err() {
            // Nothing runs in it, so an error that says so leaves nothing to clean up.
            self.account.remove(&request.launch)?;
        }
        self.children.adopt(&request.launch, spawned?);
        directory.note_spawned();
        Ok(())
    }

    fn check_room(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        let Some(max_instances) = self.options.max_instances else { return Ok(()) };
        let alive = self.account.directories()?.iter().filter(|(id, directory)| self.is_alive(id, directory)).count();
        if alive < usize::try_from(max_instances).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let root = self.options.root.display();
        Err(AdapterError::no_capacity(format!(
            "no room for {launch}: {alive} of at most {max_instances} instances are alive in {root}"
        )))
    }

    /// Whether a directory counts against the account. One whose labels cannot be read does while its lock is held.
    fn is_alive(&self, launch: &LaunchId, directory: &InstanceDirectory) -> bool {
        match directory.labels() {
            Ok(Some(labels)) => !observe::instance(directory, &labels, launch, self.children.exit(launch)).is_ended(),
            Ok(None) => false,
            Err(_) => directory.is_held(),
        }
    }

    fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        let directory = self.account.instance(launch);
        let labels = directory.labels()?;
        Ok(labels.map(|labels| observe::instance(&directory, &labels, launch, self.children.exit(launch))))
    }

    fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let mut instances = Vec::new();
        for (launch, directory) in self.account.directories()? {
            match directory.labels() {
                Ok(Some(labels)) if labels.owner().is_same_node(owner) => {
                    instances.push(observe::instance(&directory, &labels, &launch, self.children.exit(&launch)));
                }
                Ok(_) => {}
                Err(error) => self.account.report_once(directory.path(), &error),
            }
        }
        Ok(instances)
    }

    fn findings(&self) -> Vec<Finding> {
        let root = self.options.root.display();
        let writable = match self.account.prepare() {
            Ok(()) => Finding::good(Subject::Credentials, format!("this user may write {root}")),
            Err(error) => Finding::bad(Subject::Credentials, error.with_causes()),
        };
        let alive = self.account.directories().map(|all| all.iter().filter(|(id, it)| self.is_alive(id, it)).count());
        let quota = match (alive, self.options.max_instances) {
            (Err(error), _) => Finding::bad(Subject::Quota, error.with_causes()),
            (Ok(alive), None) => Finding::good(Subject::Quota, format!("{alive} instances are alive, without a limit")),
            (Ok(alive), Some(most)) => Finding::good(Subject::Quota, format!("{alive} of at most {most} are alive")),
        };
        vec![writable, quota, Finding::good(Subject::Network, "instances listen on the loopback address")]
    }

    fn observed(&self, directory: &InstanceDirectory, launch: &LaunchId) -> Result<Instance, AdapterError> {
        match directory.labels()? {
            Some(labels) => Ok(observe::instance(directory, &labels, launch, self.children.exit(launch))),
            None => Err(AdapterError::transient(format!("the directory of {launch} went away while it was launched"))),
        }
    }
}

fn taken(request: &LaunchRequest, owner: &Owner) -> AdapterError {
    let LaunchRequest { launch, owner: ours, .. } = request;
    AdapterError::bad_configuration(format!(
        "launch id {launch} belongs to node {} of fleet {}, not to node {} of fleet {}: give each node its own id or root",
        owner.node, owner.fleet, ours.node, ours.fleet
    ))
}

/// File work off the runtime's threads: a card that stalls must not stall a lease.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(AdapterError::transient("the process adapter's file work did not finish").because(error)),
    }
}

/// Sorts a file error: what a person must mend, what only fits elsewhere, and what may work later.
fn file_error(message: String, error: io::Error) -> AdapterError {
    use io::ErrorKind::{
        AlreadyExists, IsADirectory, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let sorted = match error.kind() {
        PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory | AlreadyExists => {
            AdapterError::bad_configuration(message)
        }
        StorageFull | QuotaExceeded => AdapterError::no_capacity(message),
        _ => AdapterError::transient(message),
    };
    sorted.because(error)
}

#[cfg(test)]
mod tests;
