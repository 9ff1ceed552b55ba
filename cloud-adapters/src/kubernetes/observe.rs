//! What a Job, its pod and its Service say about an instance, put together. Pure: the cluster's objects and its clock in,
//! an instance out.
//!
//! Some states may never pass and may pass in a minute: no machine with room, an image that cannot be pulled. Such an
//! instance is pending until the adapter's start timeout; then, or at once where waiting cannot help, it is told as
//! ended with the cluster's own words. Whoever is told so terminates it, so a late start is not seen.

use std::time::Duration;

use serde_json::Value;

use super::labels::{self, Identity};
use super::objects::{self, PORT};
use super::options::{Exposure, KubernetesOptions, ReachBy};
use super::{clock, waiting};
use crate::{Instance, InstanceState, Reach};

/// All that the cluster holds of one launch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// Its Job; `None` where somebody removed it and left its pod.
    pub job: Option<&'a Value>,
    /// Its pods: at most one, but for a moment.
    pub pods: &'a [Value],
    /// Its Service, where it has one.
    pub service: Option<&'a Value>,
    /// The cluster's clock.
    pub now: Option<i64>,
}

/// An instance, and what else the adapter needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The instance. Where it runs and is reached through the API server its reach is still missing.
    pub instance: Instance,
    /// The pod in which it runs.
    pub running_pod: Option<String>,
    /// Whether its Job still waits for its pod to start: only then can a launch that was cut off have left something out.
    pub may_lack_parts: bool,
}

/// Reads what is there; `None` where nothing of it is ours.
///
/// # Errors
/// What is wrong with an object that carries our labels and cannot be read.
pub fn observe(seen: Seen<'_>, options: &KubernetesOptions) -> Result<Option<Observed>, String> {
    let Some(object) = seen.job.or(seen.pods.first()) else { return Ok(None) };
    let Some(Identity { launch, owner, service }) = labels::identity(object)? else { return Ok(None) };
    let age = seen.age();
    let (state, reach) = seen.state(age, options, launch.as_str());
    let running_pod = (state == InstanceState::Running).then(|| seen.live_pod().and_then(name)).flatten();
    let is_ended = matches!(state, InstanceState::Ended { .. });
    let runs = seen.live_pod().is_some_and(|pod| pod["status"]["phase"] == "Running");
    let may_lack_parts = !is_ended && !runs && seen.job.is_some_and(|job| !is_deleted(job));
    let notice = if is_ended { None } else { seen.notice() };
    let instance = Instance { launch, owner, service, state, reach, age, notice };
    Ok(Some(Observed { instance, running_pod, may_lack_parts }))
}

impl<'a> Seen<'a> {
    fn age(&self) -> Option<Duration> {
        let object = self.job.or(self.pods.first())?;
        let created = clock::of_object(object["metadata"]["creationTimestamp"].as_str()?)?;
        Some(Duration::from_secs(u64::try_from(self.now? - created).unwrap_or_default()))
    }

    fn state(
        &self,
        age: Option<Duration>,
        options: &KubernetesOptions,
        launch: &str,
    ) -> (InstanceState, Option<Reach>) {
        let ended = |reason: String| (InstanceState::Ended { reason }, None);
        if let Some(pod) = self.pods.iter().find(|pod| is_finished(pod)) {
            return ended(end_reason(pod, self.job));
        }
        let Some(pod) = self.live_pod() else {
            return match self.job.and_then(job_end) {
                Some(reason) => ended(reason),
                None => self.unstarted("its Job has made no pod yet: see `kubectl describe job`".into(), age, options),
            };
        };
        if pod["status"]["phase"] != "Running" && pod["status"]["phase"] != "Unknown" {
            return match waiting::why(pod) {
                waiting::Why::Hopeless(reason) => ended(reason),
                waiting::Why::MayPass(reason) => self.unstarted(reason, age, options),
            };
        }
        if options.reach == ReachBy::PortForward {
            return (InstanceState::Running, None);
        }
        match self.reach(pod, options, launch) {
            Some(reach) => (InstanceState::Running, Some(reach)),
            None => (InstanceState::Pending, None),
        }
    }

    fn unstarted(
        &self,
        reason: String,
        age: Option<Duration>,
        options: &KubernetesOptions,
    ) -> (InstanceState, Option<Reach>) {
        if self.job.is_some_and(is_deleted) {
            return (InstanceState::Ended { reason: "it was deleted before it ran".into() }, None);
        }
        if age.is_some_and(|age| age >= options.start_timeout) {
            let reason = format!("it did not start within {:?}: {reason}", options.start_timeout);
            return (InstanceState::Ended { reason }, None);
        }
        (InstanceState::Pending, None)
    }

    /// The pod that has not finished. One that a deletion left behind comes after one that has none.
    fn live_pod(&self) -> Option<&'a Value> {
        let live = self.pods.iter().filter(|pod| !is_finished(pod));
        live.min_by_key(|pod| is_deleted(pod))
    }

    fn reach(&self, pod: &Value, options: &KubernetesOptions, launch: &str) -> Option<Reach> {
        let direct = |host: &str, port: u64| Reach::Direct { authority: authority(host, port) };
        match &options.reach {
            ReachBy::PodAddress => Some(direct(text(&pod["status"]["podIP"])?, PORT.into())),
            ReachBy::Service(Exposure::NodePort { address }) => {
                let port = self.service?["spec"]["ports"][0]["nodePort"].as_u64()?;
                Some(direct(address.as_deref().or(text(&pod["status"]["hostIP"]))?, port))
            }
            ReachBy::Service(Exposure::LoadBalancer) => {
                let given = &self.service?["status"]["loadBalancer"]["ingress"][0];
                Some(direct(text(&given["ip"]).or(text(&given["hostname"]))?, PORT.into()))
            }
            ReachBy::Ingress(rule) => Some(Reach::Ingress { authority: authority(&objects::host(rule, launch), 443) }),
            ReachBy::PortForward => None,
        }
    }

    /// What the cluster is about to do to an instance that still runs.
    fn notice(&self) -> Option<String> {
        if self.job.is_some_and(is_deleted) {
            return Some("its Job is being deleted".into());
        }
        if let Some(reason) = self.job.and_then(failed_condition) {
            return Some(format!("its Job has failed: {reason}"));
        }
        let pod = self.live_pod()?;
        if let Some(condition) = condition(pod, "DisruptionTarget") {
            return Some(words(condition, "the cluster takes its pod away"));
        }
        if is_deleted(pod) {
            return Some("its pod is being deleted: its machine is drained, or the pod was preempted".into());
        }
        (pod["status"]["phase"] == "Unknown").then(|| "the cluster has lost contact to its machine".into())
    }
}

/// Whether a deletion has begun.
pub fn is_deleted(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The name of an object.
pub fn name(object: &Value) -> Option<String> {
    text(&object["metadata"]["name"]).map(ToOwned::to_owned)
}

/// Pods finish when their container has, even before the kubelet has written the phase.
fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
        || pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object()
}

fn job_end(job: &Value) -> Option<String> {
    failed_condition(job)
        .or_else(|| condition(job, "Complete").map(|_| "it ended by itself".to_owned()))
        .or_else(|| is_deleted(job).then(|| "its Job is being deleted".to_owned()))
}

fn failed_condition(job: &Value) -> Option<String> {
    condition(job, "Failed").map(|condition| words(condition, "its Job has failed"))
}

/// Why a finished pod has finished: the cluster's reason where it ended the pod, else the container's exit.
fn end_reason(pod: &Value, job: Option<&Value>) -> String {
    let exit = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let job_failed = job.and_then(failed_condition).filter(|reason| reason.contains("Deadline"));
    let by_cluster = text(&pod["status"]["reason"]).map(|_| words(&pod["status"], "the cluster ended it"));
    let Some(code) = exit["exitCode"].as_i64() else {
        return by_cluster.or(job_failed).unwrap_or_else(|| "its pod ended, and left no reason".into());
    };
    let reason = text(&exit["reason"]).filter(|reason| *reason != "Error" && *reason != "Completed");
    let exit_words = match reason {
        Some(reason) => format!("exit status {code} ({reason})"),
        None => format!("exit status {code}"),
    };
    let cause = by_cluster.or(job_failed).map_or(exit_words.clone(), |cause| format!("{cause}; {exit_words}"));
    match text(&exit["message"]).and_then(|message| message.trim_end().lines().next_back()) {
        Some(last_words) => format!("{cause}: {last_words}"),
        None => cause,
    }
}

/// The condition of a type, where it holds.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// `Reason: message`, of what has either, both or none.
pub(super) fn words(object: &Value, otherwise: &str) -> String {
    match (text(&object["reason"]), text(&object["message"])) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(either), None) | (None, Some(either)) => either.to_owned(),
        (None, None) => otherwise.to_owned(),
    }
}

fn authority(host: &str, port: u64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A text that says something.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
