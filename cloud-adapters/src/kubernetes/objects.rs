//! The objects of one instance, as JSON: a Job that runs it, a Secret with what it must keep to itself, and where asked
//! for a Service and an Ingress. Values of fields that every API server from 1.20 to 1.36 knows.
//!
//! The Job comes first and owns the rest, so that nothing outlives it. Its pod cannot start before the Secret is there,
//! which is made last: that is the moment of the launch.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::labels::{self, LABEL_MAX_CHARS};
use super::options::{Exposure, IngressRule, KubernetesOptions, ReachBy, Toleration};
use crate::wrapper::{self, Place};
use crate::{AdapterError, LaunchRequest, Resources};

/// Where the wrapper listens in the pod: the port that needs no privilege and that people know for TLS.
pub const PORT: u16 = 8443;

/// What the wrapper gets beyond its drain timeout before it is killed: to end its server and say why.
const GRACE: Duration = Duration::from_secs(5);

/// Where the Secret's files lie in the container.
pub const SECRETS_DIR: &str = "/run/tidegate/secrets";

/// Refuses what cannot become objects.
///
/// # Errors
/// [`AdapterError::BadConfiguration`] with what to change.
pub fn check(request: &LaunchRequest, options: &KubernetesOptions) -> Result<(), AdapterError> {
    match problem(request, options) {
        None => Ok(()),
        Some(problem) => {
            let (launch, name) = (&request.launch, &options.name);
            Err(AdapterError::bad_configuration(format!("cannot launch {launch} on adapter `{name}`: {problem}")))
        }
    }
}

fn problem(request: &LaunchRequest, options: &KubernetesOptions) -> Option<String> {
    let image = image(request, options);
    if image.is_none_or(|image| image.is_empty() || image.contains(char::is_whitespace)) {
        return Some(format!("`{}` is no image: name one in the service or the adapter", image.unwrap_or_default()));
    }
    if let Some(name) = request.workload.files.keys().next() {
        return Some(format!("no files of the edge are brought there: put `{name}` into the image, or name it by URL"));
    }
    let has_service = matches!(options.reach, ReachBy::Service(_) | ReachBy::Ingress(_));
    (has_service && labels::service_name(&request.launch).len() > LABEL_MAX_CHARS)
        .then(|| "the launch id is too long for the name of a Service: shorten the node's id".to_owned())
}

fn image<'a>(request: &'a LaunchRequest, options: &'a KubernetesOptions) -> Option<&'a str> {
    request.workload.image.as_deref().or(options.image.as_deref())
}

/// The Job: one pod, once.
pub fn job(request: &LaunchRequest, options: &KubernetesOptions) -> Value {
    let mut spec = json!({
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 0,
        "template": { "metadata": pod_metadata(request), "spec": pod_spec(request, options) },
    });
    if let Some(max_life) = options.max_life {
        spec["activeDeadlineSeconds"] = json!(whole_seconds(max_life));
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": named(request.launch.as_str(), request),
        "spec": spec,
    })
}

/// The pod that the Job will make, for a dry run: quotas and admission judge pods, and would judge it too late.
pub fn trial_pod(request: &LaunchRequest, options: &KubernetesOptions) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": named(request.launch.as_str(), request),
        "spec": pod_spec(request, options),
    })
}

/// The Secret with the instance's token, certificate and key.
pub fn secret(request: &LaunchRequest, job: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": owned(&labels::secret_name(&request.launch), request, job),
        "type": "Opaque",
        "stringData": {
            "token": request.token.expose(),
            "certificate.pem": request.identity.certificate,
            "key.pem": request.identity.key.expose(),
        },
    })
}

/// The Service, where the reach needs one.
pub fn service(request: &LaunchRequest, options: &KubernetesOptions, job: &Value) -> Option<Value> {
    let kind = match &options.reach {
        ReachBy::Service(Exposure::NodePort { .. }) => "NodePort",
        ReachBy::Service(Exposure::LoadBalancer) => "LoadBalancer",
        ReachBy::Ingress(_) => "ClusterIP",
        ReachBy::PodAddress | ReachBy::PortForward => return None,
    };
    Some(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned(&labels::service_name(&request.launch), request, job),
        "spec": {
            "type": kind,
            "selector": { labels::LAUNCH: request.launch.as_str() },
            "ports": [{ "name": "wrapper", "port": PORT, "targetPort": PORT, "protocol": "TCP" }],
        },
    }))
}

/// The Ingress, where instances are reached by name.
pub fn ingress(request: &LaunchRequest, options: &KubernetesOptions, job: &Value) -> Option<Value> {
    let ReachBy::Ingress(rule) = &options.reach else { return None };
    let name = labels::service_name(&request.launch);
    let host = host(rule, request.launch.as_str());
    let backend = json!({ "service": { "name": name, "port": { "number": PORT } } });
    let mut spec = json!({
        "rules": [{ "host": host, "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }],
    });
    if let Some(class) = &rule.class {
        spec["ingressClassName"] = json!(class);
    }
    let mut tls = json!({ "hosts": [host] });
    if let Some(secret) = &rule.tls_secret {
        tls["secretName"] = json!(secret);
    }
    spec["tls"] = json!([tls]);
    let mut metadata = owned(&name, request, job);
    for (key, value) in &rule.annotations {
        metadata["annotations"][key] = json!(value);
    }
    Some(json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec }))
}

/// The name at which an instance is reached.
pub fn host(rule: &IngressRule, launch: &str) -> String {
    rule.host.replace("{launch}", launch)
}

fn named(name: &str, request: &LaunchRequest) -> Value {
    let mut metadata = pod_metadata(request);
    metadata["name"] = json!(name);
    metadata
}

fn pod_metadata(request: &LaunchRequest) -> Value {
    json!({ "labels": labels::labels(request), "annotations": labels::annotations(request) })
}

/// Owned by the Job, whose end waits for it: an ended Job leaves no Secret behind.
fn owned(name: &str, request: &LaunchRequest, job: &Value) -> Value {
    let mut metadata = named(name, request);
    metadata["ownerReferences"] = json!([{
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "blockOwnerDeletion": true,
    }]);
    metadata
}

fn pod_spec(request: &LaunchRequest, options: &KubernetesOptions) -> Value {
    let secret = json!({ "secretName": labels::secret_name(&request.launch), "defaultMode": 0o400 });
    let mut spec = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": whole_seconds(request.drain_timeout + GRACE),
        "containers": [container(request, options)],
        "volumes": [{ "name": "secrets", "secret": secret }],
        "securityContext": pod_security(options),
        "nodeSelector": options.node_selector,
        "tolerations": options.tolerations.iter().map(toleration).collect::<Vec<_>>(),
        "imagePullSecrets": options.image_pull_secrets.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
    });
    if let Some(service_account) = &options.service_account {
        spec["serviceAccountName"] = json!(service_account);
    }
    if let Some(priority_class) = &options.priority_class {
        spec["priorityClassName"] = json!(priority_class);
    }
    spec
}

fn container(request: &LaunchRequest, options: &KubernetesOptions) -> Value {
    let literal = |text: &String| Value::String(literal(text));
    let arguments: Vec<Value> = wrapper::arguments(request, &place(options)).iter().map(literal).collect();
    let env: Vec<Value> =
        request.workload.env.iter().map(|(name, value)| json!({ "name": name, "value": literal(value) })).collect();
    let resources = resources(&request.workload.resources, &options.gpu_resource);
    json!({
        "name": "instance",
        "image": image(request, options),
        "command": [literal(&options.wrapper)],
        "args": arguments,
        "env": env,
        "ports": [{ "name": "wrapper", "containerPort": PORT, "protocol": "TCP" }],
        "resources": { "requests": resources, "limits": resources },
        "volumeMounts": [{ "name": "secrets", "mountPath": SECRETS_DIR, "readOnly": true }],
        "securityContext": container_security(options),
        // Its last words are the reason that an operator reads.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The kubelet replaces `$(NAME)` in arguments and variables, and `$$` by `$`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn place(options: &KubernetesOptions) -> Place {
    let file = |name: &str| format!("{SECRETS_DIR}/{name}");
    let identity_files = Some((file("certificate.pem"), file("key.pem")));
    let (listen, identity_files) = match options.reach {
        ReachBy::PodAddress | ReachBy::Service(_) => (format!("0.0.0.0:{PORT}"), identity_files),
        ReachBy::Ingress(_) => (format!("0.0.0.0:{PORT}"), None),
        // The kubelet connects from within the pod: nobody else needs to get there.
        ReachBy::PortForward => (format!("127.0.0.1:{PORT}"), None),
    };
    let program = options.wrapper.clone();
    Place {
        program,
        run_dir: None,
        token_file: file("token"),
        identity_files,
        listen,
        cpus: None,
        files_dir: "/".into(),
    }
}

/// Requests and limits alike: what an instance may use is what was set aside for it.
fn resources(wanted: &Resources, gpu_resource: &str) -> Value {
    let mut resources = Map::new();
    if let Some(cpu_millis) = wanted.cpu_millis {
        resources.insert("cpu".into(), json!(format!("{cpu_millis}m")));
    }
    if let Some(memory_bytes) = wanted.memory_bytes {
        resources.insert("memory".into(), json!(memory_bytes.to_string()));
    }
    if wanted.gpus > 0 {
        resources.insert(gpu_resource.to_owned(), json!(wanted.gpus.to_string()));
    }
    Value::Object(resources)
}

fn pod_security(options: &KubernetesOptions) -> Value {
    let mut security = json!({ "seccompProfile": { "type": "RuntimeDefault" } });
    if let Some(user) = options.run_as_user {
        security["runAsNonRoot"] = json!(user != 0);
        security["runAsUser"] = json!(user);
        security["runAsGroup"] = json!(user);
        // Without it the Secret's files are root's alone.
        security["fsGroup"] = json!(user);
    }
    security
}

fn container_security(options: &KubernetesOptions) -> Value {
    let mut security = json!({ "allowPrivilegeEscalation": false });
    // An image that runs as root may need root's capabilities to give root up.
    if options.run_as_user.is_some() {
        security["capabilities"] = json!({ "drop": ["ALL"] });
    }
    security
}

fn toleration(toleration: &Toleration) -> Value {
    let Toleration { key, value, effect } = toleration;
    let mut object = json!({ "operator": if value.is_some() { "Equal" } else { "Exists" } });
    for (field, text) in [("key", key), ("value", value), ("effect", effect)] {
        if let Some(text) = text {
            object[field] = json!(text);
        }
    }
    object
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
