//! The adapter whose instances are Jobs of a Kubernetes cluster (1.20 to 1.36): `restartPolicy: Never`, `backoffLimit: 0`,
//! so that what ended is never started again. The cluster is the adapter's only memory: whose an instance is, and how,
//! stands in its objects, and a new node reads it all from there.
//!
//! ```text
//! Job <launch>                 labels and annotations: fleet, node, session, launch, service
//!   ├─ Pod <launch>-xxxxx      made by the cluster: `tidegate wrap` and the server, with the Job's labels
//!   ├─ Service, Ingress t-<launch>      where the reach needs them
//!   └─ Secret tidegate-<launch>         token, certificate, key; the pod cannot start before it
//! ```
//!
//! The name is the idempotency token: a second Job of the same name is refused by the API server, and the first one is
//! read instead. The Job comes before all that it owns, so nothing is ever without an owner, and a launch that was cut
//! off is completed by the next or removed with the Job.
//!
//! | Module | Owns |
//! |---|---|
//! | [`options`] | how the adapter is set up |
//! | [`call`] | a call as a value, its answer, and the functions that carry them |
//! | [`objects`], [`labels`] | what is asked for |
//! | [`observe`], [`clock`] | what is read |
//! | [`failure`] | what an answer means that is no success |
//! | `connect` | the client, behind the cargo feature `kubernetes` |
//!
//! Clusters before 1.26 replace the pod of a Job that somebody deletes, as a drained machine does: the second pod has
//! the same lease, so it ends itself or is adopted, but it is a second start.

mod check;
#[cfg(feature = "kubernetes")]
mod connect;
mod pages;
mod stop;
mod tunnels;
mod waiting;

pub mod call;
pub mod clock;
pub mod failure;
pub mod labels;
pub mod objects;
pub mod observe;
pub mod options;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    AdapterError, Capabilities, CloudAdapter, Finding, Instance, LaunchId, LaunchRequest, LifeBound, Owner, Reach,
    Retry, turns,
};
use call::{Answer, Call, INGRESSES, JOBS, PODS, Resource, SECRETS, SERVICES, Transport, Verb};
use failure::{failure, has_reason};
use observe::{Observed, Seen};
use pages::Listed;
use tunnels::Tunnels;

#[cfg(feature = "kubernetes")]
pub use connect::connect;
pub use options::{Exposure, IngressRule, KubernetesOptions, ReachBy, Toleration};

/// Instances as Jobs of a cluster. Cheap to clone; must be used inside one tokio runtime with IO and time.
#[derive(Clone)]
pub struct KubernetesAdapter {
    provider: Arc<Provider>,
}

/// What stands behind the adapter.
struct Provider {
    options: KubernetesOptions,
    transport: Transport,
    tunnels: Tunnels,
}

impl KubernetesAdapter {
    /// An adapter for a cluster; reads no file and opens no connection before its first call.
    #[cfg(feature = "kubernetes")]
    pub fn new(options: KubernetesOptions) -> Self {
        let transport = connect(&options);
        Self::over(options, transport)
    }

    /// An adapter that asks by way of a transport: one that records, replays, or fails as a test wants.
    pub fn over(options: KubernetesOptions, transport: Transport) -> Self {
        let tunnels = Tunnels::new(Arc::clone(&transport.forward));
        Self { provider: Arc::new(Provider { options, transport, tunnels }) }
    }
}

#[async_trait]
impl CloudAdapter for KubernetesAdapter {
    fn capabilities(&self) -> Capabilities {
        Capabilities { life_bound: LifeBound::Renewable, capacity: self.provider.options.max_instances }
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        request.check()?;
        objects::check(request, &self.provider.options)?;
        let turn = turns::wait_for(&self.provider.options.namespace, &request.launch).await;
        let (provider, request) = (Arc::clone(&self.provider), request.clone());
        turn.run(async move { provider.launch(&request).await }).await
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        self.provider.describe(launch).await
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Instance>, AdapterError> {
        let found = self.provider.list(&labels::of_node(owner)).await?;
        // Two ids may have one hash, and so one label.
        let ours = found.into_iter().filter(|observed| observed.instance.owner.is_same_node(owner));
        ours.map(|observed| Ok(self.provider.with_tunnel(observed)?.instance)).collect()
    }

    async fn terminate(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        // Requests in flight end while it drains, and go through the tunnel.
        stop::terminate(&self.provider, launch).await?;
        self.provider.tunnels.close(launch);
        Ok(())
    }

    async fn check(&self) -> Vec<Finding> {
        check::look(&self.provider).await
    }
}

impl Provider {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, AdapterError> {
        match self.job(&request.launch).await? {
            None => self.make(request).await?,
            Some(job) if is_of(&job, &request.launch) => {}
            Some(_) => return Err(self.not_ours(JOBS, request.launch.as_str())),
        }
        let Some((job, observed)) = self.look_at(&request.launch).await? else {
            let launch = &request.launch;
            return Err(AdapterError::transient(format!(
                "the Job of {launch} went away while it was launched; ask again"
            )));
        };
        self.refuse_if_taken(request, &observed)?;
        if let Some(job) = job.filter(|_| observed.may_lack_parts) {
            self.complete(request, &job).await?;
        }
        Ok(observed.instance)
    }

    async fn make(&self, request: &LaunchRequest) -> Result<(), AdapterError> {
        self.check_room(&request.launch).await?;
        self.try_out(request).await?;
        // One that was made since then is as good: it is looked at next.
        self.create(JOBS, objects::job(request, &self.options)).await.map(drop)
    }

    /// Refuses an id whose Job is no instance of this node's.
    fn refuse_if_taken(&self, request: &LaunchRequest, observed: &Observed) -> Result<(), AdapterError> {
        let (LaunchRequest { launch, owner: ours, .. }, theirs) = (request, &observed.instance.owner);
        if theirs.is_same_node(ours) {
            return Ok(());
        }
        Err(AdapterError::bad_configuration(format!(
            "launch id {launch} belongs to node {} of fleet {}, not to node {} of fleet {}: give each node its own id or \
             namespace",
            theirs.node, theirs.fleet, ours.node, ours.fleet
        )))
    }

    /// Quotas, rights, service accounts and admission judge the pod, which the cluster makes only later and out of
    /// sight: asked for as a dry run they answer now.
    async fn try_out(&self, request: &LaunchRequest) -> Result<(), AdapterError> {
        let call = Call::new(Verb::Create, PODS, &self.options.namespace)
            .with("dryRun", "All")
            .sending(objects::trial_pod(request, &self.options));
        let answer = self.ask(call.clone()).await?;
        let text = answer.body["message"].as_str().unwrap_or_default();
        match answer.status {
            200..=299 => Ok(()),
            // An admission hook with side effects takes no dry runs; it will judge the pod itself.
            400 if text.contains("dry run") || text.contains("dryRun") => Ok(()),
            _ => Err(failure(&call, &answer, &self.options)),
        }
    }

    /// Makes all that the Job owns and that is not there yet; the Secret last, which lets the pod start.
    async fn complete(&self, request: &LaunchRequest, job: &Value) -> Result<(), AdapterError> {
        let made = self.make_parts(request, job).await;
        let Err(error) = made else { return Ok(()) };
        if error.retry() == Retry::Backoff {
            return Err(error);
        }
        // The error says that nothing was started, so nothing may stay behind.
        match stop::delete(self, JOBS, job).await {
            Ok(()) => Err(error),
            Err(_) => Err(AdapterError::transient(format!("the half-made {} could not be removed", request.launch))
                .because(error)),
        }
    }

    async fn make_parts(&self, request: &LaunchRequest, job: &Value) -> Result<(), AdapterError> {
        let parts = [
            (SERVICES, objects::service(request, &self.options, job)),
            (INGRESSES, objects::ingress(request, &self.options, job)),
            (SECRETS, Some(objects::secret(request, job))),
        ];
        for (resource, object) in parts {
            let Some(object) = object else { continue };
            if self.create(resource, object.clone()).await? == Created::Before {
                self.expect_owned(resource, &object, job).await?;
            }
        }
        Ok(())
    }

    /// A name that was taken must have been taken by an earlier call for the same Job.
    async fn expect_owned(&self, resource: Resource, object: &Value, job: &Value) -> Result<(), AdapterError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let call = Call::new(Verb::Get, resource, &self.options.namespace).named(name).for_metadata();
        let answer = self.ask(call.clone()).await?;
        if answer.status != 200 {
            return Err(failure(&call, &answer, &self.options));
        }
        if answer.body["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"] {
            return Ok(());
        }
        Err(self.not_ours(resource, name))
    }

    fn not_ours(&self, resource: Resource, name: &str) -> AdapterError {
        let (kind, namespace) = (resource.full_name(), &self.options.namespace);
        AdapterError::bad_configuration(format!(
            "{kind} {name} in namespace {namespace} is not of Tidegate's making: rename it, or use another namespace"
        ))
    }

    async fn create(&self, resource: Resource, object: Value) -> Result<Created, AdapterError> {
        let call = Call::new(Verb::Create, resource, &self.options.namespace).sending(object);
        let answer = self.ask(call.clone()).await?;
        match answer.status {
            200..=299 => Ok(Created::Now),
            409 if has_reason(&answer, "AlreadyExists") => Ok(Created::Before),
            _ => Err(failure(&call, &answer, &self.options)),
        }
    }

    async fn check_room(&self, launch: &LaunchId) -> Result<(), AdapterError> {
        let Some(max_instances) = self.options.max_instances else { return Ok(()) };
        let alive = self.alive().await?;
        if alive < usize::try_from(max_instances).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let namespace = &self.options.namespace;
        Err(AdapterError::no_capacity(format!(
            "no room for {launch}: {alive} of at most {max_instances} instances are alive in namespace {namespace}"
        )))
    }

    /// How many instances of all nodes are alive in the namespace.
    async fn alive(&self) -> Result<usize, AdapterError> {
        let all = self.list(labels::LAUNCH).await?;
        Ok(all.iter().filter(|observed| !observed.instance.is_ended()).count())
    }

    async fn describe(&self, launch: &LaunchId) -> Result<Option<Instance>, AdapterError> {
        Ok(self.look_at(launch).await?.map(|(_, observed)| observed.instance))
    }

    /// The Job of a launch, where it is still there, and the instance that it and its pods are.
    async fn look_at(&self, launch: &LaunchId) -> Result<Option<(Option<Value>, Observed)>, AdapterError> {
        let (job, Listed { items: pods, now }) = self.objects(launch).await?;
        let services = self.services(&labels::of_launch(launch)).await?;
        let seen = Seen { job: job.as_ref(), pods: &pods, service: services.first(), now };
        let observed = observe::observe(seen, &self.options).map_err(|problem| self.unreadable(launch, &problem))?;
        let Some(observed) = observed else {
            self.tunnels.close(launch);
            return Ok(None);
        };
        let observed = self.with_tunnel(observed)?;
        Ok(Some((job, observed)))
    }

    /// The Job and the pods of a launch.
    async fn objects(&self, launch: &LaunchId) -> Result<(Option<Value>, Listed), AdapterError> {
        let job = self.job(launch).await?;
        let job = job.filter(|job| is_of(job, launch));
        Ok((job, pages::all(self, PODS, &labels::of_launch(launch)).await?))
    }

    /// The Job of a name, whoever's.
    async fn job(&self, launch: &LaunchId) -> Result<Option<Value>, AdapterError> {
        let call = Call::new(Verb::Get, JOBS, &self.options.namespace).named(launch.as_str());
        let answer = self.ask(call.clone()).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            // Any other 404 is no API server's: a proxy's, or a wrong path.
            404 if has_reason(&answer, "NotFound") => Ok(None),
            _ => Err(failure(&call, &answer, &self.options)),
        }
    }

    async fn services(&self, selector: &str) -> Result<Vec<Value>, AdapterError> {
        match self.options.reach {
            ReachBy::Service(_) => Ok(pages::all(self, SERVICES, selector).await?.items),
            _ => Ok(Vec::new()),
        }
    }

    /// Every instance that a selector finds, sorted by launch id, without the way to it.
    async fn list(&self, selector: &str) -> Result<Vec<Observed>, AdapterError> {
        let jobs = pages::all(self, JOBS, selector).await?.items;
        let Listed { items: pods, now } = pages::all(self, PODS, selector).await?;
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let launch =
            |object: &Value| object["metadata"]["labels"][labels::LAUNCH].as_str().unwrap_or_default().to_owned();
        for job in jobs {
            let group = groups.entry(launch(&job)).or_default();
            group.job = Some(job);
        }
        for pod in pods {
            let group = groups.entry(launch(&pod)).or_default();
            group.pods.push(pod);
        }
        for service in self.services(selector).await? {
            groups.entry(launch(&service)).and_modify(|group| group.service = Some(service));
        }
        Ok(groups.values().filter_map(|group| self.read(group, now)).collect())
    }

    /// An object that cannot be read is somebody's damage to report, and no reason to see nothing of the others.
    fn read(&self, group: &Group, now: Option<i64>) -> Option<Observed> {
        let seen = Seen { job: group.job.as_ref(), pods: &group.pods, service: group.service.as_ref(), now };
        match observe::observe(seen, &self.options) {
            Ok(observed) => observed,
            Err(problem) => {
                let name = seen.job.or(group.pods.first()).and_then(observe::name);
                tracing::warn!(adapter = %self.options.name, object = name, %problem, "cannot read an instance; skipped");
                None
            }
        }
    }

    /// Opens the way to an instance that is reached through the API server, and closes it where none runs.
    fn with_tunnel(&self, mut observed: Observed) -> Result<Observed, AdapterError> {
        if self.options.reach != ReachBy::PortForward {
            return Ok(observed);
        }
        match &observed.running_pod {
            Some(pod) => {
                let authority = self.tunnels.to(&observed.instance.launch, pod)?;
                observed.instance.reach = Some(Reach::Tunnel { authority });
            }
            None => self.tunnels.close(&observed.instance.launch),
        }
        Ok(observed)
    }

    async fn ask(&self, call: Call) -> Result<Answer, AdapterError> {
        (self.transport.ask)(call).await
    }

    fn unreadable(&self, launch: &LaunchId, problem: &str) -> AdapterError {
        let namespace = &self.options.namespace;
        AdapterError::bad_configuration(format!(
            "cannot tell whose Job {launch} in namespace {namespace} is: {problem}: mend it, or delete it by hand"
        ))
    }
}

/// Whether a Job is the launch's, or only has its name.
fn is_of(job: &Value, launch: &LaunchId) -> bool {
    job["metadata"]["labels"][labels::LAUNCH] == launch.as_str()
}

/// What carries one launch's label.
#[derive(Debug, Default)]
struct Group {
    job: Option<Value>,
    pods: Vec<Value>,
    service: Option<Value>,
}

/// Whether an object was made by this call or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Created {
    Now,
    Before,
}

#[cfg(test)]
mod tests;
