//! Where overflow goes: the one trait that every provider implements, the words it speaks, one file per provider, and
//! the contract suite that all of them pass.
//!
//! | Module | Owns |
//! |---|---|
//! | [`launch`] | what is asked of a provider: launch id, request, workload, readiness |
//! | [`instance`] | what a provider answers: an instance, its state, how to reach it |
//! | [`capabilities`] | what a provider can do, and how it bounds an instance's life without us |
//! | [`error`] | why a call failed and whether a retry can help |
//! | [`finding`] | what a look at a provider found, for an operator |
//! | [`wrapper`] | the command line of the wrapper that every instance is |
//! | [`deadline`] | a deadline around every call |
//! | [`process`] | the adapter whose instances are other processes on this machine |
//! | [`exec`] | the adapter for any other cloud: a program of the user's own, asked in JSON |
//! | `docker` | the adapter whose instances are containers at a Docker daemon, here or elsewhere (feature `docker`) |
//! | [`ssh`] | the adapter whose instances are processes on a machine that is reached by SSH |
//! | [`kubernetes`] | the adapter whose instances are Jobs of a Kubernetes cluster; its client is behind the feature of that name |
//! | [`contract`] | the suite: what a caller may rely on, as tests against any adapter |

#![warn(missing_docs)]

pub mod capabilities;
pub mod contract;
pub mod deadline;
#[cfg(feature = "docker")]
pub mod docker;
pub mod error;
pub mod exec;
pub mod finding;
pub mod instance;
pub mod kubernetes;
pub mod launch;
pub mod owner;
pub mod process;
pub mod secret;
pub mod ssh;
mod turns;
pub mod wrapper;

use std::sync::Arc;

use async_trait::async_trait;

pub use capabilities::{Capabilities, LifeBound};
pub use deadline::Deadlined;
#[cfg(feature = "docker")]
pub use docker::{DockerAdapter, DockerOptions, DockerTls, Pull};
pub use error::{AdapterError, Retry};
pub use exec::{ExecAdapter, ExecOptions};
pub use finding::{Finding, Subject, Verdict};
pub use instance::{Instance, InstanceState, Reach};
#[cfg(feature = "kubernetes")]
pub use kubernetes::{KubernetesAdapter, KubernetesOptions};
pub use launch::{InvalidLaunchId, LaunchId, LaunchRequest, ReadyCheck, Resources, TlsIdentity, Workload};
pub use owner::Owner;
pub use process::{ProcessAdapter, ProcessOptions};
pub use secret::Secret;
pub use ssh::{SshAdapter, SshLimits, SshOptions};

/// Launches, describes, lists and terminates instances at one kind of provider.
///
/// The order of a launch is the caller's: it writes the intent to its journal, then calls [`launch`](Self::launch), and
/// after a crash it repeats the call or looks with [`list`](Self::list). So every method may be repeated, and may be
/// dropped half-way: what the provider then did is found by the next call, never done twice.
#[async_trait]
pub trait CloudAdapter: Send + Sync {
    /// What this provider can do. Called at start and by the planner; answers from memory, without asking the provider.
    fn capabilities(&self) -> Capabilities;

    /// Asks for one instance. Called once the intent is on disk, and again with the same request when no answer came.
    ///
    /// The launch id is the idempotency token: a second call starts nothing and returns the instance of the first,
    /// ended or not; an id is never used for a second instance. Returns as soon as the provider has accepted, so the
    /// instance is usually [`Pending`](InstanceState::Pending).
    ///
    /// # Errors
    /// [`NoCapacity`](AdapterError::NoCapacity) and [`BadConfiguration`](AdapterError::BadConfiguration) say that
    /// nothing was started. After [`Transient`](AdapterError::Transient) something may have been: ask again.
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError>;

    /// How one instance is. Called while waiting for it to run and on every reconciliation tick.
    ///
    /// `None` means that the provider does not know the id: it was never launched, or was terminated.
    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError>;

    /// Every instance of the owner's fleet and node, of any of its sessions, sorted by launch id. Called at start, on
    /// every reconciliation tick, and to confirm that a terminated instance is gone.
    ///
    /// Ended instances stay in the list until they are terminated. Nothing of another fleet or node is in it.
    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError>;

    /// Ends an instance and forgets it. Called when it was drained, when its launch failed, and again until it is Ok.
    ///
    /// Ok means that it no longer runs and is no longer listed; an id that the provider does not know is Ok. It may
    /// take as long as the instance's drain timeout; a repeated call goes on where the first was interrupted.
    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError>;

    /// Looks at all that a launch needs: credentials, quota, image or program, network. Called when an operator asks
    /// (`tidegate adapter check`); starts nothing, and tells everything that it finds, good or bad, in words.
    async fn check(&self) -> Vec<Finding>;
}

#[async_trait]
impl<A: CloudAdapter + ?Sized> CloudAdapter for Arc<A> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        (**self).launch(request).await
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        (**self).describe(launch).await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        (**self).list(owner).await
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        (**self).terminate(launch).await
    }

    async fn check(&self) -> Vec<Finding> {
        (**self).check().await
    }
}
