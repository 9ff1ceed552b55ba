//! What an operator asks: may we do there what we need, is there room, what will run, and how is it reached?

use std::time::Instant;

use serde_json::{Value, json};

use super::call::{Call, INGRESSES, JOBS, PODS, QUOTAS, REVIEWS, Resource, SECRETS, SERVICES, Verb};
use super::failure::failure;
use super::{Provider, ReachBy, objects};
use crate::{
    AdapterError, Finding, LaunchId, LaunchRequest, Owner, ReadyCheck, Retry, Secret, Subject, TlsIdentity, Workload,
};

/// A right: the verb, the resource, and its part.
type Right = (Verb, Resource, Option<&'static str>);

/// What every launch and its end need.
const RIGHTS: [Right; 10] = [
    (Verb::Create, JOBS, None),
    (Verb::Get, JOBS, None),
    (Verb::List, JOBS, None),
    (Verb::Delete, JOBS, None),
    (Verb::Create, PODS, None),
    (Verb::List, PODS, None),
    (Verb::Delete, PODS, None),
    (Verb::Create, SECRETS, None),
    (Verb::Get, SECRETS, None),
    (Verb::List, QUOTAS, None),
];

/// What a Service takes beside them.
const SERVICE_RIGHTS: [Right; 3] =
    [(Verb::Create, SERVICES, None), (Verb::Get, SERVICES, None), (Verb::List, SERVICES, None)];

/// What an Ingress takes beside them; it has a Service too, which is not listed.
const INGRESS_RIGHTS: [Right; 4] = [
    (Verb::Create, SERVICES, None),
    (Verb::Get, SERVICES, None),
    (Verb::Create, INGRESSES, None),
    (Verb::Get, INGRESSES, None),
];

/// What a port-forward takes: a GET that upgrades counts as either verb, by the server's release.
const FORWARD_RIGHTS: [Right; 2] = [(Verb::Create, PODS, Some("portforward")), (Verb::Get, PODS, Some("portforward"))];

pub(super) async fn look(provider: &Provider) -> Vec<Finding> {
    let begun = Instant::now();
    let missing = match missing_rights(provider).await {
        Ok(missing) => missing,
        Err(error) => return unreachable(&error),
    };
    let latency = begun.elapsed() / u32::try_from(rights(&provider.options.reach).len()).unwrap_or(1);
    let mut found = vec![credentials(provider, &missing)];
    found.extend(quota(provider).await);
    found.extend(image(provider).await);
    found.push(Finding::good(
        Subject::Network,
        format!("the API server answers in {latency:?}; {}", reach_words(&provider.options.reach)),
    ));
    found
}

/// No answer to the first question: either nobody knows us there, or nobody is there.
fn unreachable(error: &AdapterError) -> Vec<Finding> {
    let subject = if error.retry() == Retry::Never { Subject::Credentials } else { Subject::Network };
    vec![Finding::bad(subject, error.with_causes())]
}

fn rights(reach: &ReachBy) -> Vec<Right> {
    let more: &[Right] = match reach {
        ReachBy::PodAddress => &[],
        ReachBy::Service(_) => &SERVICE_RIGHTS,
        ReachBy::Ingress(_) => &INGRESS_RIGHTS,
        ReachBy::PortForward => &FORWARD_RIGHTS,
    };
    RIGHTS.iter().chain(more).copied().collect()
}

async fn missing_rights(provider: &Provider) -> Result<Vec<String>, AdapterError> {
    let mut missing = Vec::new();
    for right in rights(&provider.options.reach) {
        if !is_allowed(provider, right).await? {
            let (verb, resource, part) = right;
            let part = part.map(|part| format!("/{part}")).unwrap_or_default();
            missing.push(format!("{} {}{part}", verb.word(), resource.full_name()));
        }
    }
    Ok(missing)
}

async fn is_allowed(provider: &Provider, (verb, resource, part): Right) -> Result<bool, AdapterError> {
    let namespace = &provider.options.namespace;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": namespace,
            "verb": verb.word(),
            "group": resource.group,
            "resource": resource.plural,
            "subresource": part.unwrap_or_default(),
        } },
    });
    let call = Call::new(Verb::Create, REVIEWS, namespace).sending(review);
    let answer = provider.ask(call.clone()).await?;
    match answer.status {
        200..=299 => Ok(answer.body["status"]["allowed"] == true),
        _ => Err(failure(&call, &answer, &provider.options)),
    }
}

fn credentials(provider: &Provider, missing: &[String]) -> Finding {
    let namespace = &provider.options.namespace;
    if missing.is_empty() {
        return Finding::good(Subject::Credentials, format!("may do all that is needed in namespace {namespace}"));
    }
    let words = format!(
        "has no right in namespace {namespace}, or there is no such namespace: cannot {} (see `kubectl auth can-i --list \
         -n {namespace}`, and the Role in cloud-adapters/policies/kubernetes-rbac.yaml)",
        missing.join(", ")
    );
    Finding::bad(Subject::Credentials, words)
}

/// The namespace's quotas in numbers, and our own limit.
async fn quota(provider: &Provider) -> Vec<Finding> {
    let mut found = vec![own_limit(provider).await];
    let call = Call::new(Verb::List, QUOTAS, &provider.options.namespace);
    match provider.ask(call.clone()).await {
        Ok(answer) if answer.status == 200 => {
            let quotas = answer.body["items"].as_array().into_iter().flatten();
            found.extend(quotas.map(|quota| Finding::good(Subject::Quota, quota_words(quota))));
        }
        Ok(answer) => {
            found.push(Finding::doubtful(Subject::Quota, failure(&call, &answer, &provider.options).to_string()))
        }
        Err(error) => found.push(Finding::doubtful(Subject::Quota, error.with_causes())),
    }
    found
}

async fn own_limit(provider: &Provider) -> Finding {
    match (provider.alive().await, provider.options.max_instances) {
        (Err(error), _) => Finding::bad(Subject::Quota, error.with_causes()),
        (Ok(alive), None) => {
            Finding::good(Subject::Quota, format!("{alive} instances are alive, without a limit of ours"))
        }
        (Ok(alive), Some(most)) => {
            Finding::good(Subject::Quota, format!("{alive} of at most {most} instances are alive"))
        }
    }
}

fn quota_words(quota: &Value) -> String {
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let hard = quota["status"]["hard"].as_object().into_iter().flatten();
    let parts: Vec<String> = hard
        .map(|(resource, most)| {
            let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
            format!("{used} of {} {resource}", most.as_str().unwrap_or("?"))
        })
        .collect();
    format!("quota {name}: {} used", parts.join(", "))
}

/// What would run: the image is named, its pull secrets are there, and the cluster would take the pod.
async fn image(provider: &Provider) -> Vec<Finding> {
    let options = &provider.options;
    let mut found = Vec::new();
    match &options.image {
        Some(image) => found.push(Finding::good(
            Subject::Image,
            format!("{image}, unless a service names another; it has to hold {} beside the server", options.wrapper),
        )),
        None => found.push(Finding::doubtful(Subject::Image, "no image is set, so each service has to name one")),
    }
    for secret in &options.image_pull_secrets {
        found.extend(pull_secret(provider, secret).await);
    }
    found.push(trial(provider).await);
    found
}

async fn pull_secret(provider: &Provider, name: &str) -> Option<Finding> {
    let call = Call::new(Verb::Get, SECRETS, &provider.options.namespace).named(name).for_metadata();
    match provider.ask(call.clone()).await {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) if answer.status == 404 => {
            let namespace = &provider.options.namespace;
            let words = format!(
                "there is no pull secret {name} in namespace {namespace}: see kubectl create secret docker-registry"
            );
            Some(Finding::bad(Subject::Image, words))
        }
        Ok(answer) => Some(Finding::doubtful(Subject::Image, failure(&call, &answer, &provider.options).to_string())),
        Err(error) => Some(Finding::doubtful(Subject::Image, error.with_causes())),
    }
}

/// A dry run of a pod as small as they come.
async fn trial(provider: &Provider) -> Finding {
    let request = match sample(provider) {
        Ok(request) => request,
        Err(error) => return Finding::bad(Subject::Image, error.with_causes()),
    };
    let tried = match objects::check(&request, &provider.options) {
        Ok(()) => provider.try_out(&request).await,
        Err(error) => Err(error),
    };
    match tried {
        Ok(()) => Finding::good(Subject::Image, "the cluster would take a pod of these options"),
        Err(error) if error.retry() == Retry::NextAdapter => Finding::bad(Subject::Quota, error.with_causes()),
        Err(error) => Finding::bad(Subject::Image, error.with_causes()),
    }
}

fn sample(provider: &Provider) -> Result<LaunchRequest, AdapterError> {
    let launch: LaunchId =
        "adapter-check".parse().map_err(|error| AdapterError::bad_configuration("no launch id").because(error))?;
    let image = provider.options.image.clone().unwrap_or_else(|| "tidegate".into());
    Ok(LaunchRequest {
        launch,
        owner: Owner { fleet: "adapter-check".into(), node: "adapter-check".into(), session: 0 },
        service: "adapter-check".into(),
        workload: Workload { image: Some(image), argv: vec!["true".into()], ..Workload::default() },
        ready: ReadyCheck::Tcp,
        lease_ttl: std::time::Duration::from_secs(180),
        drain_timeout: std::time::Duration::from_secs(30),
        token: Secret::new("none"),
        identity: TlsIdentity::default(),
        concurrency: 1,
    })
}

fn reach_words(reach: &ReachBy) -> String {
    match reach {
        ReachBy::PodAddress => {
            "instances are reached at their pod's address: this box has to be in the cluster's network".into()
        }
        ReachBy::Service(_) => {
            "instances are reached through a Service each: this box has to get to its address".into()
        }
        ReachBy::Ingress(rule) => {
            format!("instances are reached at {}: that name has to lead to the ingress", rule.host)
        }
        ReachBy::PortForward => "instances are reached through the API server, a WebSocket for each connection".into(),
    }
}
