//! The adapter for every other cloud: a program of the user's own that is started for each call, reads one JSON object
//! on standard input, writes one on standard output, and ends.
//!
//! `docs/exec-adapter.md` is the page of the protocol, `examples/exec-adapter` a program to start from. A call may be
//! dropped at any moment, which kills the program with its process group, so each call of it can be repeated, as the
//! trait asks. A deadline is put around the adapter like around any other: see [`deadline`](crate::deadline).

mod answer;
#[doc(hidden)]
pub mod decoder;
mod hide;
mod program;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::{
    AdapterError, Capabilities, CloudAdapter, Finding, Instance, LaunchId, LaunchRequest, LifeBound, Owner, Retry,
    Secret, Subject,
};
use answer::{Checked, Described, Launched, Listed, Terminated, unfit};
use hide::Hidden;
use request::Message;

/// How many terminations, and how many other calls, run at once. Each is a process, on a small box an interpreter of
/// some 10 MB; a surge asks for a handful of instances. Terminations last as long as a drain, so they wait apart.
const CALLS_AT_ONCE: usize = 8;

/// Where an instance keeps its things unless configured otherwise: exists on every Linux, and only in memory.
const INSTANCE_DIR: &str = "/run/tidegate";

/// Where a wrapper listens unless configured otherwise.
const LISTEN: &str = "0.0.0.0:8443";

/// How an exec adapter is set up.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecOptions {
    /// The adapter's name, for messages.
    pub name: String,
    /// The program and its arguments. A name without a slash is looked for in `PATH`.
    pub command: Vec<String>,
    /// Variables of its environment, beside `PATH`, `HOME` and `LANG`.
    pub env: BTreeMap<String, String>,
    /// More of them that are secret: hidden in whatever the program says.
    pub secrets: BTreeMap<String, Secret>,
    /// The program's working directory, for it to keep things in. Made with the first call.
    pub state_dir: PathBuf,
    /// Where an instance keeps its token and the like, there; `{launch}` becomes the launch id.
    pub instance_dir: String,
    /// Where the wrapper listens in the instance; port 0 takes a free one.
    pub listen: String,
    /// Whether the wrapper listens with the launch's certificate. Only for a way that is private it need not.
    pub tls: bool,
    /// The most instances that the account holds, as [`Capabilities::capacity`] tells it; the program minds it.
    pub max_instances: Option<u32>,
    /// Whether the program brings files of the edge to the instance.
    pub takes_files: bool,
}

impl ExecOptions {
    /// A program that launches renewable instances by commands, without files of the edge; TLS on port 8443.
    pub fn new(name: impl Into<String>, command: Vec<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            command,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            state_dir: state_dir.into(),
            instance_dir: INSTANCE_DIR.to_owned(),
            listen: LISTEN.to_owned(),
            tls: true,
            max_instances: None,
            takes_files: false,
        }
    }
}

/// Values of the environment are not shown: people put keys there.
impl fmt::Debug for ExecOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExecOptions")
            .field("name", &self.name)
            .field("program", &self.command.first())
            .field("env", &self.env.keys())
            .field("secrets", &self.secrets.keys())
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

/// Instances by a program of the user's own. Cheap to clone; must be used inside a tokio runtime with IO and time.
#[derive(Debug, Clone)]
pub struct ExecAdapter {
    options: Arc<ExecOptions>,
    calls: Arc<Semaphore>,
    terminations: Arc<Semaphore>,
}

impl ExecAdapter {
    /// An adapter by a program; starts and touches nothing yet.
    pub fn new(options: ExecOptions) -> Self {
        let lane = || Arc::new(Semaphore::new(CALLS_AT_ONCE));
        Self { options: Arc::new(options), calls: lane(), terminations: lane() }
    }

    /// Asks the program, and has `check` look at its answer.
    async fn ask<T: DeserializeOwned, U>(
        &self,
        lane: &Arc<Semaphore>,
        message: &Message<'_>,
        hidden: &Hidden,
        check: impl FnOnce(T) -> Result<U, AdapterError>,
    ) -> Result<U, AdapterError> {
        let output = self.run(lane, message).await?;
        answer::read(&output, hidden).and_then(check)
    }

    async fn run(&self, lane: &Arc<Semaphore>, message: &Message<'_>) -> Result<program::Output, AdapterError> {
        let text = serde_json::to_vec(message)
            .map_err(|error| AdapterError::bad_configuration("the request cannot be told as JSON").because(error))?;
        let permit = Arc::clone(lane).acquire_owned().await;
        let permit = permit.map_err(|error| AdapterError::transient("the adapter was closed").because(error))?;
        let options = Arc::clone(&self.options);
        // Off the runtime's threads: the program lies on a card that may stall.
        let started = tokio::task::spawn_blocking(move || program::start(&options, permit)).await;
        let running =
            started.map_err(|error| AdapterError::transient("the program was not started").because(error))??;
        let output = running.finish(&text).await;
        output.map_err(|error| AdapterError::transient("cannot wait for the program").because(error))
    }

    /// The error with the words that tell it from that of another adapter and call.
    fn told<T>(&self, hidden: &Hidden, call: &str, answer: Result<T, AdapterError>) -> Result<T, AdapterError> {
        answer.map_err(|error| hidden.error(&format!("adapter `{}`, {call}: ", self.options.name), error))
    }

    /// What is known without asking the program: that it can be asked.
    fn asked(&self) -> Finding {
        let words = match program::find(&self.options) {
            Ok(path) => format!("{} was found, and answers protocol {}", path.display(), request::PROTOCOL),
            Err(error) => return Finding::bad(Subject::Credentials, error.with_causes()),
        };
        Finding::good(Subject::Credentials, words)
    }
}

#[async_trait]
impl CloudAdapter for ExecAdapter {
    fn capabilities(&self) -> Capabilities {
        Capabilities { life_bound: LifeBound::Renewable, capacity: self.options.max_instances }
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        let hidden = Hidden::of_launch(&self.options, request);
        let message = Message::launch(&self.options, request)?;
        let check = |ok: Launched| ours(request, ok.instance.of_launch(&request.launch)?);
        let answer = self.ask(&self.calls, &message, &hidden, check).await;
        self.told(&hidden, &format!("launch of {}", request.launch), answer)
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        let hidden = Hidden::of(&self.options);
        let check = |ok: Described| ok.instance.map(|instance| instance.of_launch(launch)).transpose();
        let answer = self.ask(&self.calls, &Message::describe(launch), &hidden, check).await;
        self.told(&hidden, &format!("describe of {launch}"), answer)
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let hidden = Hidden::of(&self.options);
        let check = |ok: Listed| ok.of_node(owner);
        let answer = self.ask(&self.calls, &Message::list(owner), &hidden, check).await;
        self.told(&hidden, &format!("list for node {}", owner.node), answer)
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        let hidden = Hidden::of(&self.options);
        let check = |_: Terminated| Ok(());
        let answer = self.ask(&self.terminations, &Message::terminate(launch), &hidden, check).await;
        self.told(&hidden, &format!("terminate of {launch}"), answer)
    }

    async fn check(&self) -> Vec<Finding> {
        let hidden = Hidden::of(&self.options);
        let check = |ok: Checked| Ok(ok.findings());
        let answer = self.ask(&self.calls, &Message::check(&self.options), &hidden, check).await;
        match self.told(&hidden, "check", answer) {
            Ok(found) => with_silence(found).into_iter().chain([self.asked()]).collect(),
            Err(error) => vec![Finding::bad(subject(&error), error.with_causes())],
        }
    }
}

/// An id that the program gave to another node's instance is not ours to use.
fn ours(request: &LaunchRequest, instance: Instance) -> Result<Instance, AdapterError> {
    let owner = &instance.owner;
    if owner.is_same_node(&request.owner) {
        return if instance.service == request.service { Ok(instance) } else { Err(other_service(&instance)) };
    }
    Err(AdapterError::bad_configuration(format!(
        "launch id {} belongs to node {} of fleet {}: give each node its own id or account",
        instance.launch, owner.node, owner.fleet
    )))
}

fn other_service(instance: &Instance) -> AdapterError {
    unfit(&format!("instance {} runs service `{}`, which was not asked for", instance.launch, instance.service))
}

fn subject(error: &AdapterError) -> Subject {
    if error.retry() == Retry::NextAdapter { Subject::Quota } else { Subject::Credentials }
}

/// What the program did not speak of is not known to be good.
fn with_silence(mut found: Vec<Finding>) -> Vec<Finding> {
    for subject in [Subject::Credentials, Subject::Quota, Subject::Image, Subject::Network] {
        if found.iter().all(|finding| finding.subject != subject) {
            found.push(Finding::doubtful(subject, format!("the program says nothing of the {subject}")));
        }
    }
    found
}
