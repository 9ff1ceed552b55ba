//! Why a pod that was made does not run yet, and whether waiting can help.

use serde_json::Value;

use super::observe::{condition, text, words};

/// Why a pod waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It will not run, however long it waits.
    Hopeless(String),
    /// It may run later: machines come, registries answer again.
    MayPass(String),
}

/// Reasons of the kubelet that only a new instance mends.
const HOPELESS: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];

/// The kubelet's reasons for an image that it could not pull yet.
const PULLING: [&str; 3] = ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"];

/// What a registry says of an image that it does not have or does not give. Whoever brought it there would have to
/// launch again.
const REFUSED: [&str; 7] = [
    "not found",
    "manifest unknown",
    "denied",
    "unauthorized",
    "authentication required",
    "does not exist",
    "403 Forbidden",
];

/// Reads a pod that does not run.
pub(super) fn why(pod: &Value) -> Why {
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    if let Some(reason) = text(&waiting["reason"]) {
        return of_container(reason, words(waiting, reason));
    }
    match unscheduled(pod) {
        Some(words) => Why::MayPass(format!("the cluster has no machine for it ({words})")),
        None => Why::MayPass("its pod has not started yet: see `kubectl describe pod`".into()),
    }
}

fn of_container(reason: &str, words: String) -> Why {
    let is_refused = REFUSED.iter().any(|word| words.contains(word));
    if HOPELESS.contains(&reason) || (PULLING.contains(&reason) && is_refused) {
        Why::Hopeless(format!("it cannot start ({words})"))
    } else {
        Why::MayPass(format!("it cannot start yet ({words})"))
    }
}

/// What the scheduler says: `0/3 nodes are available: 3 Insufficient nvidia.com/gpu.`
fn unscheduled(pod: &Value) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let waits = |condition: &&Value| condition["type"] == "PodScheduled" && condition["status"] == "False";
    let waiting = conditions.iter().find(waits)?;
    debug_assert!(condition(pod, "PodScheduled").is_none(), "a condition has one status");
    Some(words(waiting, "no reason given"))
}
