use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::{Owner, ReadyCheck, Secret, TlsIdentity, Workload};

fn request() -> LaunchRequest {
    LaunchRequest {
        launch: "0-gw".parse().expect("a launch id"),
        owner: Owner { fleet: "f".into(), node: "n".into(), session: 3 },
        service: "llama 3".into(),
        workload: Workload {
            image: Some("registry.example/llama:3".into()),
            argv: vec!["serve".into(), "--port={port}".into(), "$(HOME)".into()],
            env: BTreeMap::from([("PRICE".into(), "5$".into())]),
            files: BTreeMap::new(),
            resources: Resources { cpu_millis: Some(1500), memory_bytes: Some(1 << 30), gpus: 2 },
        },
        ready: ReadyCheck::Http { path: "/ready".into() },
        lease_ttl: Duration::from_secs(180),
        drain_timeout: Duration::from_millis(2500),
        token: Secret::new("t0ken"),
        identity: TlsIdentity { certificate: "CERT".into(), key: Secret::new("KEY") },
        concurrency: 4,
    }
}

fn options() -> KubernetesOptions {
    KubernetesOptions {
        node_selector: BTreeMap::from([("gpu".into(), "a10".into())]),
        tolerations: vec![
            Toleration { key: Some("nvidia.com/gpu".into()), value: None, effect: Some("NoSchedule".into()) },
            Toleration { key: Some("team".into()), value: Some("edge".into()), effect: None },
        ],
        image_pull_secrets: vec!["registry".into()],
        service_account: Some("instances".into()),
        priority_class: Some("low".into()),
        run_as_user: Some(10_001),
        max_life: Some(Duration::from_secs(3600)),
        ..KubernetesOptions::new("cluster", "burst")
    }
}

#[test]
fn a_job_runs_one_pod_once_with_all_that_was_asked_for() {
    let labels = json!({
        "tidegate.dev/fleet": "f", "tidegate.dev/node": "n", "tidegate.dev/session": "3",
        "tidegate.dev/launch": "0-gw", "tidegate.dev/service": "x-6143b51ecbab83c3",
    });
    let annotations = json!({ "tidegate.dev/fleet": "f", "tidegate.dev/node": "n", "tidegate.dev/service": "llama 3" });
    let resources = json!({ "cpu": "1500m", "memory": "1073741824", "nvidia.com/gpu": "2" });
    let args = json!([
        "wrap",
        "--service",
        "llama 3",
        "--launch",
        "0-gw",
        "--token-file",
        "/run/tidegate/secrets/token",
        "--tls-cert-file",
        "/run/tidegate/secrets/certificate.pem",
        "--tls-key-file",
        "/run/tidegate/secrets/key.pem",
        "--listen",
        "0.0.0.0:8443",
        "--lease-ttl",
        "180s",
        "--drain-timeout",
        "2500ms",
        "--ready",
        "/ready",
        "--concurrency",
        "4",
        "--",
        "serve",
        "--port={port}",
        "$$(HOME)",
    ]);
    let expected = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "0-gw", "labels": labels, "annotations": annotations },
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 0, "activeDeadlineSeconds": 3600,
            "template": { "metadata": { "labels": labels, "annotations": annotations }, "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 8,
                "nodeSelector": { "gpu": "a10" },
                "tolerations": [
                    { "operator": "Exists", "key": "nvidia.com/gpu", "effect": "NoSchedule" },
                    { "operator": "Equal", "key": "team", "value": "edge" },
                ],
                "imagePullSecrets": [{ "name": "registry" }],
                "serviceAccountName": "instances",
                "priorityClassName": "low",
                "securityContext": {
                    "seccompProfile": { "type": "RuntimeDefault" },
                    "runAsNonRoot": true, "runAsUser": 10_001, "runAsGroup": 10_001, "fsGroup": 10_001,
                },
                "volumes": [{ "name": "secrets", "secret": { "secretName": "tidegate-0-gw", "defaultMode": 256 } }],
                "containers": [{
                    "name": "instance",
                    "image": "registry.example/llama:3",
                    "command": ["/usr/local/bin/tidegate"],
                    "args": args,
                    "env": [{ "name": "PRICE", "value": "5$$" }],
                    "ports": [{ "name": "wrapper", "containerPort": 8443, "protocol": "TCP" }],
                    "resources": { "requests": resources, "limits": resources },
                    "volumeMounts": [{ "name": "secrets", "mountPath": "/run/tidegate/secrets", "readOnly": true }],
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }],
            } },
        },
    });
    assert_eq!(job(&request(), &options()), expected);
    assert_eq!(trial_pod(&request(), &options())["spec"], expected["spec"]["template"]["spec"]);
}

#[test]
fn each_reach_gets_the_objects_and_the_listener_that_it_needs() {
    let rule = IngressRule {
        host: "{launch}.example.com".into(),
        class: Some("nginx".into()),
        tls_secret: Some("wildcard".into()),
        annotations: BTreeMap::from([("nginx.ingress.kubernetes.io/proxy-read-timeout".into(), "600".into())]),
    };
    let owner = json!({ "metadata": { "name": "0-gw", "uid": "uid-1" } });
    for (reach, kind, has_ingress, listen, is_tls) in [
        (ReachBy::PodAddress, None, false, "0.0.0.0:8443", true),
        (ReachBy::Service(Exposure::NodePort { address: None }), Some("NodePort"), false, "0.0.0.0:8443", true),
        (ReachBy::Service(Exposure::LoadBalancer), Some("LoadBalancer"), false, "0.0.0.0:8443", true),
        (ReachBy::Ingress(rule), Some("ClusterIP"), true, "0.0.0.0:8443", false),
        (ReachBy::PortForward, None, false, "127.0.0.1:8443", false),
    ] {
        let options = KubernetesOptions { reach: reach.clone(), ..options() };
        let service = service(&request(), &options, &owner);
        assert_eq!(
            service.as_ref().map(|service| service["spec"]["type"].as_str().expect("a type")),
            kind,
            "{reach:?}"
        );
        assert_eq!(ingress(&request(), &options, &owner).is_some(), has_ingress, "{reach:?}");
        let args = job(&request(), &options)["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(args.contains(&format!("\"--listen\",\"{listen}\"")), "{args}");
        assert_eq!(args.contains("--tls-key-file"), is_tls, "{args}");
    }
}

#[test]
fn a_service_and_an_ingress_lead_to_the_pod_of_the_launch_and_go_with_its_job() {
    let rule =
        IngressRule { host: "{launch}.example.com".into(), class: Some("nginx".into()), ..IngressRule::default() };
    let options = KubernetesOptions { reach: ReachBy::Ingress(rule), ..options() };
    let owner = json!({ "metadata": { "name": "0-gw", "uid": "uid-1" } });
    let service = service(&request(), &options, &owner).expect("a service");
    let ingress = ingress(&request(), &options, &owner).expect("an ingress");
    assert_eq!(service["spec"]["selector"], json!({ "tidegate.dev/launch": "0-gw" }));
    assert_eq!(service["metadata"]["name"], "t-0-gw", "a Service's name begins with a letter");
    let rule = &ingress["spec"]["rules"][0];
    assert_eq!(rule["host"], "0-gw.example.com");
    assert_eq!(rule["http"]["paths"][0]["backend"]["service"], json!({ "name": "t-0-gw", "port": { "number": 8443 } }));
    assert_eq!(ingress["spec"]["tls"], json!([{ "hosts": ["0-gw.example.com"] }]));
    for object in [service, ingress] {
        let reference = &object["metadata"]["ownerReferences"][0];
        assert_eq!((&reference["uid"], &reference["blockOwnerDeletion"]), (&json!("uid-1"), &json!(true)));
    }
}

#[test]
fn what_cannot_become_a_job_is_refused_with_what_to_change() {
    let bare = KubernetesOptions::new("cluster", "burst");
    let service = KubernetesOptions { reach: ReachBy::Service(Exposure::LoadBalancer), ..options() };
    let no_image = LaunchRequest { workload: Workload { image: None, ..request().workload }, ..request() };
    let odd_image = Workload { image: Some("a b".into()), ..request().workload };
    let files = BTreeMap::from([("model".into(), PathBuf::from("/m.onnx"))]);
    let with_files = LaunchRequest { workload: Workload { files, ..request().workload }, ..request() };
    let long = LaunchRequest { launch: "a".repeat(62).parse().expect("a launch id"), ..request() };
    for (request, options, word) in [
        (no_image, &bare, "image"),
        (LaunchRequest { workload: odd_image, ..request() }, &bare, "`a b` is no image"),
        (with_files, &bare, "`model`"),
        (long.clone(), &service, "too long"),
    ] {
        let error = check(&request, options).expect_err(word);
        assert!(error.retry() == crate::Retry::Never && error.to_string().contains(word), "{error}");
    }
    check(&long, &options()).expect("a long id is only a Service's problem");
    check(&request(), &bare).expect("a workload that names its image");
}
