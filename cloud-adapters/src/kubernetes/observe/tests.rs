use serde_json::json;

use super::super::options::IngressRule;
use super::*;

fn metadata(extra: &Value) -> Value {
    let mut metadata = json!({
        "name": "gw-1",
        "uid": "1",
        "creationTimestamp": "2026-11-25T18:35:26Z",
        "labels": {
            "tidegate.dev/launch": "gw-1", "tidegate.dev/fleet": "f", "tidegate.dev/node": "n",
            "tidegate.dev/session": "3", "tidegate.dev/service": "x-1",
        },
        "annotations": { "tidegate.dev/fleet": "f", "tidegate.dev/node": "n", "tidegate.dev/service": "llama 3" },
    });
    for (key, value) in extra.as_object().expect("an object") {
        metadata[key] = value.clone();
    }
    metadata
}

fn job(status: Value) -> Value {
    json!({ "metadata": metadata(&json!({})), "status": status })
}

fn deleted_job() -> Value {
    json!({ "metadata": metadata(&json!({ "deletionTimestamp": "2026-11-25T18:36:00Z" })), "status": {} })
}

fn pod(status: Value) -> Value {
    json!({ "metadata": metadata(&json!({ "name": "gw-1-abcde" })), "status": status })
}

fn running() -> Value {
    pod(json!({
        "phase": "Running", "podIP": "10.1.2.3", "hostIP": "192.0.2.7",
        "containerStatuses": [{ "state": { "running": {} } }],
    }))
}

fn waiting(reason: &str, message: &str) -> Value {
    let waiting = json!({ "reason": reason, "message": message });
    pod(json!({ "phase": "Pending", "containerStatuses": [{ "state": { "waiting": waiting } }] }))
}

fn exited(code: i64, more: &Value) -> Value {
    let mut terminated = json!({ "exitCode": code, "reason": "Error" });
    for (key, value) in more.as_object().expect("an object") {
        terminated[key] = value.clone();
    }
    pod(json!({ "phase": "Failed", "containerStatuses": [{ "state": { "terminated": terminated } }] }))
}

/// A minute after the creation.
fn look(job: Option<&Value>, pods: &[Value], options: &KubernetesOptions) -> Instance {
    let now = clock::of_object("2026-11-25T18:36:26Z");
    observe(Seen { job, pods, service: None, now }, options).expect("readable").expect("ours").instance
}

fn options() -> KubernetesOptions {
    KubernetesOptions::new("cluster", "burst")
}

fn end(job: &Value, pods: &[Value]) -> String {
    let instance = look(Some(job), pods, &options());
    assert_eq!((&instance.reach, &instance.notice), (&None, &None));
    match instance.state {
        InstanceState::Ended { reason } => reason,
        state => panic!("it ended, and is told as {state:?}"),
    }
}

#[test]
fn a_job_without_a_pod_is_pending_and_whose_it_is_is_told_by_its_annotations() {
    let instance = look(Some(&job(json!({}))), &[], &options());
    assert_eq!(instance.state, InstanceState::Pending);
    assert_eq!((instance.owner.session, instance.service.as_str()), (3, "llama 3"));
    assert_eq!(instance.age, Some(Duration::from_secs(60)), "by the cluster's clock");
}

#[test]
fn a_running_pod_is_reached_as_the_options_say() {
    let service = json!({ "spec": { "ports": [{ "nodePort": 30123 }] }, "status": { "loadBalancer": { "ingress": [{ "hostname": "lb.example" }] } } });
    let node_port = |address: Option<&str>| ReachBy::Service(Exposure::NodePort { address: address.map(Into::into) });
    let rule = IngressRule { host: "{launch}.burst.example".into(), ..IngressRule::default() };
    for (reach, expected) in [
        (ReachBy::PodAddress, Some(Reach::Direct { authority: "10.1.2.3:8443".into() })),
        (node_port(None), Some(Reach::Direct { authority: "192.0.2.7:30123".into() })),
        (node_port(Some("edge.example")), Some(Reach::Direct { authority: "edge.example:30123".into() })),
        (ReachBy::Service(Exposure::LoadBalancer), Some(Reach::Direct { authority: "lb.example:8443".into() })),
        (ReachBy::Ingress(rule), Some(Reach::Ingress { authority: "gw-1.burst.example:443".into() })),
        (ReachBy::PortForward, None),
    ] {
        let options = KubernetesOptions { reach, ..options() };
        let (job, pods) = (job(json!({})), [running()]);
        let seen = Seen { job: Some(&job), pods: &pods, service: Some(&service), now: None };
        let observed = observe(seen, &options).expect("readable").expect("ours");
        assert_eq!((observed.instance.state, observed.instance.reach), (InstanceState::Running, expected));
        assert_eq!(observed.running_pod.as_deref(), Some("gw-1-abcde"));
    }
}

#[test]
fn an_address_of_ipv6_is_bracketed_and_one_that_is_missing_is_waited_for() {
    let mut pod = running();
    pod["status"]["podIP"] = json!("fd00::7");
    let instance = look(Some(&job(json!({}))), &[pod.clone()], &options());
    assert_eq!(instance.reach, Some(Reach::Direct { authority: "[fd00::7]:8443".into() }));
    pod["status"]["podIP"] = Value::Null;
    assert_eq!(look(Some(&job(json!({}))), &[pod], &options()).state, InstanceState::Pending);
    let options = KubernetesOptions { reach: ReachBy::Service(Exposure::LoadBalancer), ..options() };
    assert_eq!(look(Some(&job(json!({}))), &[running()], &options).state, InstanceState::Pending);
}

#[test]
fn what_cannot_recover_ends_at_once_and_what_may_waits_for_its_time() {
    let hopeless = [
        ("InvalidImageName", "couldn't parse image reference"),
        ("ErrImagePull", "manifest unknown: manifest unknown"),
        ("ImagePullBackOff", "pull access denied for tidegate"),
    ];
    for (reason, message) in hopeless {
        let told = end(&job(json!({})), &[waiting(reason, message)]);
        assert!(told.contains(reason) && told.contains(message), "{told}");
    }
    let unscheduled = pod(json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "1 Insufficient cpu." },
    ] }));
    let slow = waiting("ErrImagePull", "dial tcp: i/o timeout");
    let creating = waiting("ContainerCreating", "");
    for (waits, word) in [(unscheduled, "1 Insufficient cpu."), (slow, "i/o timeout"), (creating, "ContainerCreating")]
    {
        let job = job(json!({}));
        assert_eq!(look(Some(&job), std::slice::from_ref(&waits), &options()).state, InstanceState::Pending);
        let hasty = KubernetesOptions { start_timeout: Duration::from_secs(60), ..options() };
        match look(Some(&job), &[waits], &hasty).state {
            InstanceState::Ended { reason } => {
                assert!(reason.contains(word) && reason.contains("did not start within 60s"), "{reason}");
            }
            state => panic!("its time is over: {state:?}"),
        }
    }
}

#[test]
fn an_exit_is_told_with_its_last_words_and_who_caused_it() {
    let failed = |reason: &str| {
        job(
            json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": reason, "message": "was active longer" }] }),
        )
    };
    let told =
        end(&job(json!({})), &[exited(137, &json!({ "reason": "OOMKilled", "message": "one\nout of memory\n" }))]);
    assert_eq!(told, "exit status 137 (OOMKilled): out of memory");
    assert_eq!(end(&failed("BackoffLimitExceeded"), &[exited(1, &json!({}))]), "exit status 1");
    assert_eq!(
        end(&failed("DeadlineExceeded"), &[exited(143, &json!({}))]),
        "DeadlineExceeded: was active longer; exit status 143"
    );
    assert_eq!(end(&failed("DeadlineExceeded"), &[]), "DeadlineExceeded: was active longer");
    let evicted = pod(json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." }));
    assert_eq!(end(&job(json!({})), &[evicted]), "Evicted: The node was low on memory.");
    let complete = job(json!({ "conditions": [{ "type": "Complete", "status": "True" }] }));
    assert_eq!(end(&complete, &[]), "it ended by itself");
    assert_eq!(end(&deleted_job(), &[]), "its Job is being deleted");
    assert_eq!(end(&deleted_job(), &[waiting("ContainerCreating", "")]), "it was deleted before it ran");
}

#[test]
fn a_container_that_ended_is_ended_before_its_phase_says_so() {
    let mut pod = exited(137, &json!({}));
    pod["status"]["phase"] = json!("Running");
    assert_eq!(end(&job(json!({})), &[pod]), "exit status 137");
}

#[test]
fn an_instance_that_is_taken_away_runs_on_with_a_notice() {
    let mut preempted = running();
    preempted["status"]["conditions"] =
        json!([{ "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler" }]);
    let mut evicted = running();
    evicted["metadata"]["deletionTimestamp"] = json!("2026-11-25T18:36:20Z");
    let mut lost = running();
    lost["status"]["phase"] = json!("Unknown");
    let job = job(json!({}));
    for (pod, word) in [(preempted, "PreemptionByScheduler"), (evicted, "being deleted"), (lost, "lost contact")] {
        let instance = look(Some(&job), &[pod], &options());
        assert_eq!(instance.state, InstanceState::Running);
        assert!(instance.notice.as_ref().is_some_and(|notice| notice.contains(word)), "{instance:?}");
    }
    let instance = look(Some(&deleted_job()), &[running()], &options());
    assert!(instance.notice.is_some_and(|notice| notice.contains("Job is being deleted")));
    assert_eq!(look(Some(&job), &[running()], &options()).notice, None);
}

#[test]
fn a_pod_whose_job_somebody_removed_is_still_an_instance() {
    let instance = look(None, &[running()], &options());
    assert_eq!((instance.launch.as_str(), instance.state), ("gw-1", InstanceState::Running));
    assert_eq!(observe(Seen::default(), &options()), Ok(None));
}

#[test]
fn a_pod_that_lives_counts_before_one_that_is_on_its_way_out() {
    let mut old = running();
    old["metadata"]["deletionTimestamp"] = json!("2026-11-25T18:36:20Z");
    old["status"]["podIP"] = json!("10.0.0.1");
    let instance = look(Some(&job(json!({}))), &[old, running()], &options());
    assert_eq!(instance.reach, Some(Reach::Direct { authority: "10.1.2.3:8443".into() }));
}
