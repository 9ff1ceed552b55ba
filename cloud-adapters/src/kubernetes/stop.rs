//! How an instance is ended: every round looks at what is there, deletes what is not being deleted yet, and is done when
//! neither the Job nor a pod of the launch is left.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::call::{Call, JOBS, PODS, Resource, Verb};
use super::failure::failure;
use super::observe::{is_deleted, name};
use super::{Provider, labels};
use crate::{AdapterError, LaunchId, turns};

/// The pauses between two looks: short at first, since an instance that has nothing in flight is gone in an instant.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What a cluster may take beyond a pod's own grace period, to kill it and to take note: the kubelet's sync and the
/// garbage collector's take seconds each.
const MARGIN: Duration = Duration::from_secs(60);

/// A pod's grace period where it does not tell: Kubernetes' own default.
const DEFAULT_GRACE_SECONDS: u64 = 30;

pub(super) async fn terminate(provider: &Provider, launch: &LaunchId) -> Result<(), AdapterError> {
    // A launch that nobody waits for any more may still be making what is to be ended.
    drop(turns::wait_for(&provider.options.namespace, launch).await);
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let (job, pods) = provider.objects(launch).await?;
        let left: Vec<&Value> = job.iter().chain(&pods.items).collect();
        if left.is_empty() {
            return Ok(());
        }
        labels::identity(left[0]).map_err(|problem| provider.unreadable(launch, &problem))?;
        if begun.elapsed() > grace(&left) + MARGIN {
            return Err(stuck(launch, &pods.items));
        }
        delete_what_is_not(provider, job.as_ref(), &pods.items).await?;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Deletes the Job, which takes its pods and Secret along; pods themselves only where no Job is left to do so.
async fn delete_what_is_not(provider: &Provider, job: Option<&Value>, pods: &[Value]) -> Result<(), AdapterError> {
    if let Some(job) = job {
        return if is_deleted(job) { Ok(()) } else { delete(provider, JOBS, job).await };
    }
    for pod in pods.iter().filter(|pod| !is_deleted(pod)) {
        delete(provider, PODS, pod).await?;
    }
    Ok(())
}

/// Deletes this very object, and not one that has taken its name since. In the foreground: it is there until all that
/// it owns is gone.
pub(super) async fn delete(provider: &Provider, resource: Resource, object: &Value) -> Result<(), AdapterError> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "preconditions": { "uid": object["metadata"]["uid"] },
    });
    let name = name(object).unwrap_or_default();
    let call = Call::new(Verb::Delete, resource, &provider.options.namespace).named(name).sending(body);
    let answer = provider.ask(call.clone()).await?;
    match answer.status {
        // Gone, or another's by now: the next look tells.
        200..=299 | 404 | 409 => Ok(()),
        _ => Err(failure(&call, &answer, &provider.options)),
    }
}

fn grace(left: &[&Value]) -> Duration {
    let of = |object: &&Value| {
        let pod_spec =
            if object["spec"]["template"].is_object() { &object["spec"]["template"]["spec"] } else { &object["spec"] };
        pod_spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(DEFAULT_GRACE_SECONDS)
    };
    Duration::from_secs(left.iter().map(of).max().unwrap_or(DEFAULT_GRACE_SECONDS))
}

fn stuck(launch: &LaunchId, pods: &[Value]) -> AdapterError {
    let pods: Vec<String> = pods
        .iter()
        .map(|pod| {
            format!("{} on {}", name(pod).unwrap_or_default(), pod["spec"]["nodeName"].as_str().unwrap_or("none"))
        })
        .collect();
    AdapterError::transient(format!(
        "instance {launch} does not end, though deleted: pod {}. Is that machine gone? Then: kubectl delete pod --force",
        pods.join(", ")
    ))
}
