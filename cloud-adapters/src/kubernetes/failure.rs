//! What an answer that is no success means: who can mend it, and how.

use serde_json::Value;

use super::call::{Answer, Call};
use super::options::KubernetesOptions;
use crate::AdapterError;

/// Of a message as long as a page, what an operator reads.
const MESSAGE_MAX_CHARS: usize = 500;

/// Sorts an answer by what its caller can do about it.
pub fn failure(call: &Call, answer: &Answer, options: &KubernetesOptions) -> AdapterError {
    let message = message(&answer.body);
    let what = format!("adapter `{}` could not {}", options.name, asked(call));
    match answer.status {
        401 => AdapterError::bad_configuration(format!(
            "{what}: the cluster does not take its credentials, which are wrong or have expired: renew the token or \
             client certificate ({message})"
        )),
        403 => forbidden(call, &what, &message),
        404 if message.starts_with("namespaces ") => AdapterError::bad_configuration(format!(
            "{what}: there is no namespace {}: create it (kubectl create namespace {0})",
            call.namespace
        )),
        408 | 409 | 410 | 429 | 500..=599 => {
            AdapterError::transient(format!("{what} (HTTP {}): {message}", answer.status))
        }
        400..=499 => AdapterError::bad_configuration(format!(
            "{what}: the cluster takes no such object (HTTP {}): {message}",
            answer.status
        )),
        status => AdapterError::transient(format!("{what}: an answer with HTTP {status} that means nothing here")),
    }
}

/// Whether the server gave this reason, such as `AlreadyExists`.
pub fn has_reason(answer: &Answer, reason: &str) -> bool {
    answer.body["reason"].as_str() == Some(reason)
}

fn asked(call: &Call) -> String {
    let resource = call.resource.full_name();
    match &call.name {
        Some(name) => format!("{} {resource} {name} in namespace {}", call.verb.word(), call.namespace),
        None => format!("{} {resource} in namespace {}", call.verb.word(), call.namespace),
    }
}

/// A quota, an admission rule, or a right that is missing: all three are the same status.
fn forbidden(call: &Call, what: &str, message: &str) -> AdapterError {
    if message.contains("exceeded quota") {
        return AdapterError::no_capacity(format!("{what}: {message}"));
    }
    if !message.contains(&format!("cannot {} resource", call.verb.word())) {
        return AdapterError::bad_configuration(format!("{what}: the cluster forbids it: {message}"));
    }
    let (verb, resource, namespace) = (call.verb.word(), call.resource.full_name(), &call.namespace);
    AdapterError::bad_configuration(format!(
        "{what}: it has no right to, or there is no such namespace: {message} (see `kubectl auth can-i {verb} {resource} \
         -n {namespace}`, and the Role in cloud-adapters/policies/kubernetes-rbac.yaml)"
    ))
}

fn message(body: &Value) -> String {
    let text = body["message"].as_str().unwrap_or("it gave no reason");
    text.chars().take(MESSAGE_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::call::{JOBS, PODS, Verb};
    use super::*;
    use crate::Retry;

    fn sorted(status: u16, message: &str) -> AdapterError {
        let call = Call::new(Verb::Create, JOBS, "burst");
        let answer = Answer { status, now: None, body: json!({ "message": message }) };
        failure(&call, &answer, &KubernetesOptions::new("cluster", "burst"))
    }

    #[test]
    fn answers_are_sorted_by_who_can_mend_them() {
        let quota =
            "pods \"gw-1\" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4";
        let right = "jobs.batch is forbidden: User \"edge\" cannot create resource \"jobs\" in API group \"batch\"";
        for (status, message, retry, word) in [
            (401, "Unauthorized", Retry::Never, "expired"),
            (403, quota, Retry::NextAdapter, "limited: pods=4"),
            (403, right, Retry::Never, "kubectl auth can-i create jobs.batch -n burst"),
            (403, "pods \"x\" is forbidden: violates PodSecurity", Retry::Never, "PodSecurity"),
            (403, "cannot set blockOwnerDeletion if", Retry::Never, "the cluster forbids it"),
            (404, "namespaces \"burst\" not found", Retry::Never, "kubectl create namespace burst"),
            (409, "the object has been modified", Retry::Backoff, "modified"),
            (410, "The provided continue parameter is too old", Retry::Backoff, "too old"),
            (422, "spec.template.spec.containers[0].env[0].name: Invalid value", Retry::Never, "env[0]"),
            (429, "too many requests", Retry::Backoff, "429"),
            (500, "etcdserver: request timed out", Retry::Backoff, "timed out"),
            (503, "apiserver is shutting down", Retry::Backoff, "503"),
            (302, "", Retry::Backoff, "302"),
        ] {
            let error = sorted(status, message);
            assert_eq!(error.retry(), retry, "{error}");
            assert!(error.to_string().contains(word) && error.to_string().contains("cluster"), "{error}");
        }
    }

    #[test]
    fn a_page_of_html_does_not_become_the_message() {
        let answer = Answer { status: 502, now: None, body: json!({ "message": "x".repeat(10_000) }) };
        let call = Call::new(Verb::Get, PODS, "burst").named("gw-1");
        let error = failure(&call, &answer, &KubernetesOptions::new("cluster", "burst")).to_string();
        assert!(error.len() < 700 && error.contains("get pods gw-1 in namespace burst"), "{error}");
    }
}
