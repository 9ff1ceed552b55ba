//! The adapter whose instances are processes on a machine that is reached by SSH: for many the first cloud is a bigger
//! box in the same house. It uses the system's `ssh` program with one connection that all calls share, and a small
//! shell program over there (`ssh/remote.sh`), which keeps instances as the process adapter does: a directory each, the
//! wrapper alive while it holds a lock. The far machine needs sshd, a POSIX shell and the usual small programs; our own
//! program and the workload's files are brought there by digest.
//!
//! Instances listen on the loopback address over there and are reached through a forward of the connection. Everything
//! that an instance must not lose is on the far side: a node that starts after a crash knows all that the one before it
//! knew.
//!
//! The key needs no shell: with the forced command in `policies/ssh-authorized-keys.txt` it can do what this adapter
//! does and nothing else.

mod answer;
mod check;
mod client;
mod connection;
#[doc(hidden)]
pub mod decoder;
mod escape;
mod far;
mod request;
mod socket;
mod stop;
mod store;
mod trouble;
mod tunnels;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    AdapterError, Capabilities, CloudAdapter, Finding, Instance, InstanceState, LaunchId, LaunchRequest, LifeBound,
    Owner, Reach,
};
use answer::{Answer, Told};
use connection::Input;
use far::{FarSide, Verb};
use store::Goods;
use trouble::Trouble;

/// How often a launch is asked for again within one call: to bring what is missing over there, and once more should it
/// be pruned in that moment, or should the far side's directory have moved.
const LAUNCH_ROUNDS: usize = 4;

/// How an SSH adapter is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshOptions {
    /// The far machine's name or address; with a configuration file, what stands behind `Host` there.
    pub host: String,
    /// The port of its ssh server; `None` for 22, or what the configuration file says.
    pub port: Option<u16>,
    /// The user over there; `None` for the one that runs the node, or what the configuration file says.
    pub user: Option<String>,
    /// The private key, the only one that is offered; `None` for those that `ssh` finds itself, as in an agent.
    pub key: Option<PathBuf>,
    /// The file that holds the far machine's host key; `None` for `~/.ssh/known_hosts`.
    pub known_hosts: Option<PathBuf>,
    /// A configuration file of `ssh`, as for a jump host; `None` for none, not even the user's own.
    pub config_file: Option<PathBuf>,
    /// The `tidegate` program of this node, which is copied to the far machine, and whose `wrap` each instance is.
    pub program: PathBuf,
    /// The adapter's own directory on the far machine, absolute or below the user's home: its "provider account".
    pub directory: String,
    /// The most instances alive at once, of every owner that uses the directory.
    pub max_instances: Option<u32>,
    /// What each instance may use.
    pub limits: SshLimits,
    /// A directory of this node's for the connection's control socket.
    pub state_dir: PathBuf,
}

/// What each instance may use of the far machine, as far as a user who is not root can bound it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshLimits {
    /// Bytes of data that one process of an instance may have (`ulimit -d`); a workload that asks for less gets less.
    pub memory_bytes: Option<u64>,
    /// The CPUs that instances are held to, by number; `None` for all of them.
    pub cpus: Option<Vec<usize>>,
    /// How far instances step back behind other work over there: 0 not at all, 19 all the way (`nice`).
    pub niceness: u8,
}

/// The directory on the far machine where none is configured, below the user's home.
pub const DEFAULT_DIRECTORY: &str = ".tidegate";

/// Instances as processes on another machine. Cheap to clone; must be used inside a tokio runtime with IO and time.
#[derive(Debug, Clone)]
pub struct SshAdapter {
    far: Arc<FarSide>,
}

/// What the far side made of a launch.
enum Launched {
    Instance(Box<Told>),
    Ended(Box<Instance>),
    Needs(Vec<String>),
    Moved,
}

impl SshAdapter {
    /// An adapter for a far machine; touches nothing yet, neither here nor there.
    pub fn new(options: SshOptions) -> Self {
        Self { far: Arc::new(FarSide::new(options)) }
    }

    /// The instance that an earlier call for the same launch made.
    async fn launched_before(&self, request: &LaunchRequest) -> Result<Option<Instance>, AdapterError> {
        let known = self.describe(&request.launch).await?;
        Ok(known.filter(|instance| instance.owner.is_same_node(&request.owner)))
    }

    async fn launch_once(&self, request: &LaunchRequest, goods: &Goods) -> Result<Launched, AdapterError> {
        let root = self.far.root().await?;
        let lines = request::lines(request, &self.far.options, &root, goods);
        let answer = self.far.answer(&Verb::Launch, Input::Bytes(lines)).await?;
        let Some((code, words)) = answer.refusal() else {
            return only_one(&answer)?.map(Box::new).map(Launched::Instance).ok_or_else(|| untold(&request.launch));
        };
        match code {
            "need" => Ok(Launched::Needs(words.split_whitespace().map(str::to_owned).collect())),
            "moved" => Ok(Launched::Moved),
            "gone" => Ok(Launched::Ended(Box::new(terminated(request)))),
            "taken" => Err(taken(request, words)),
            "no_room" => Err(self.no_room(request, words)),
            _ => Err(self.far.refused(code, words).into()),
        }
    }

    fn no_room(&self, request: &LaunchRequest, alive: &str) -> AdapterError {
        let most = self.far.options.max_instances.unwrap_or_default();
        let far = self.far.name();
        AdapterError::no_capacity(format!(
            "no room for {}: {alive} of at most {most} instances are alive on {far}",
            request.launch
        ))
    }

    /// The instance with the way to it: through a tunnel while it runs.
    async fn reached(&self, told: Told) -> Result<Instance, AdapterError> {
        let Told { mut instance, address } = told;
        let Some(address) = address else {
            if instance.is_ended() {
                self.close_tunnel(&instance.launch).await;
            }
            return Ok(instance);
        };
        let connection = self.far.line.connection().await?;
        let authority = self.far.tunnels.authority(&connection, &instance.launch, address).await?;
        instance.reach = Some(Reach::Tunnel { authority });
        Ok(instance)
    }

    async fn close_tunnel(&self, launch: &LaunchId) {
        if let Ok(connection) = self.far.line.connection().await {
            self.far.tunnels.close(&connection, launch).await;
        }
    }
}

#[async_trait]
impl CloudAdapter for SshAdapter {
    fn capabilities(&self) -> Capabilities {
        Capabilities { life_bound: LifeBound::Renewable, capacity: self.far.options.max_instances }
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        request.check()?;
        request::check(request)?;
        check_limits(&self.far.options.limits)?;
        let goods = match Goods::of(&self.far, request).await {
            Ok(goods) => goods,
            // What was launched before has its files already.
            Err(error) => return self.launched_before(request).await?.ok_or(error),
        };
        for _ in 0..LAUNCH_ROUNDS {
            match self.launch_once(request, &goods).await? {
                Launched::Instance(told) => return self.reached(*told).await,
                Launched::Ended(instance) => return Ok(*instance),
                Launched::Moved => self.far.set_root(None),
                Launched::Needs(digests) => {
                    for digest in digests {
                        goods.bring(&self.far, &digest).await?;
                    }
                }
            }
        }
        Err(AdapterError::transient(format!("{} loses what is brought to it; ask again", self.far.name())))
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        let answer = self.far.ask(&Verb::Describe(launch.as_str()), Input::Nothing).await?;
        match only_one(&answer)? {
            Some(told) if told.instance.launch == *launch => self.reached(told).await.map(Some),
            Some(_) => Err(untold(launch)),
            None => {
                self.close_tunnel(launch).await;
                Ok(None)
            }
        }
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let answer = self.far.ask(&Verb::List, Input::Nothing).await?;
        for directory in answer.values("corrupt") {
            tracing::warn!(directory, far = self.far.name(), "left alone: no readable instance");
        }
        let mut instances = Vec::new();
        for told in answer.instances()? {
            if told.instance.owner.is_same_node(owner) {
                instances.push(self.reached(told).await?);
            }
        }
        Ok(instances)
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        stop::terminate(&self.far, launch).await?;
        self.close_tunnel(launch).await;
        Ok(())
    }

    async fn check(&self) -> Vec<Finding> {
        check::findings(&self.far).await
    }
}

/// Refuses limits that no instance could start with.
fn check_limits(limits: &SshLimits) -> Result<(), AdapterError> {
    /// The least priority that the kernel knows.
    const NICENESS_MAX: u8 = 19;
    if limits.cpus.as_ref().is_some_and(Vec::is_empty) {
        return Err(AdapterError::bad_configuration("cpus is an empty list: name at least one CPU, or leave it out"));
    }
    if limits.niceness > NICENESS_MAX {
        let message = format!("niceness {} is too high: use 0 to {NICENESS_MAX}", limits.niceness);
        return Err(AdapterError::bad_configuration(message));
    }
    Ok(())
}

fn only_one(answer: &Answer) -> Result<Option<Told>, AdapterError> {
    Ok(answer.instances()?.into_iter().next())
}

fn untold(launch: &LaunchId) -> AdapterError {
    AdapterError::transient(format!("the far side was asked about {launch} and told of something else"))
}

/// A launch that arrives after the termination of its id: the id is used up, and nothing was started.
fn terminated(request: &LaunchRequest) -> Instance {
    Instance {
        launch: request.launch.clone(),
        owner: request.owner.clone(),
        service: request.service.clone(),
        state: InstanceState::Ended { reason: "it was terminated".to_owned() },
        reach: None,
        age: None,
        notice: None,
    }
}

fn taken(request: &LaunchRequest, owner: &str) -> AdapterError {
    AdapterError::bad_configuration(format!(
        "launch id {} belongs to another node ({owner}): give each node its own id or directory",
        request.launch
    ))
}

/// File work off the runtime's threads: a card that stalls must not stall a lease.
async fn blocking_io<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Trouble::transient("file work did not finish").saying(&error.to_string())))
}
