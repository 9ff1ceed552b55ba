use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{InstanceState, ReadyCheck, Secret, TlsIdentity, Workload};

/// One call that is expected, and its answer.
struct Step {
    call: &'static str,
    status: u16,
    body: Value,
}

/// A cluster that expects these calls in this order, and no other.
struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    sent: Arc<Mutex<Vec<Option<Value>>>>,
}

impl Script {
    fn new(steps: Vec<Step>) -> Self {
        Self { steps: Arc::new(Mutex::new(steps.into())), sent: Arc::default() }
    }

    fn adapter(&self) -> KubernetesAdapter {
        self.adapter_with(options())
    }

    fn adapter_with(&self, options: KubernetesOptions) -> KubernetesAdapter {
        let (steps, sent) = (Arc::clone(&self.steps), Arc::clone(&self.sent));
        let ask = move |call: Call| -> call::Pending<Answer> {
            let shown = format!("{call:?}");
            let step = steps.lock().expect("lock").pop_front().unwrap_or_else(|| panic!("nothing expects {shown}"));
            assert_eq!(shown, step.call);
            sent.lock().expect("lock").push(call.body);
            let now = clock::of_object("2026-11-25T18:36:26Z");
            Box::pin(async move { Ok(Answer { status: step.status, now, body: step.body }) })
        };
        let nowhere = |_| -> call::Pending<tokio::io::DuplexStream> {
            Box::pin(async { Err(AdapterError::transient("no kubelet here")) })
        };
        KubernetesAdapter::over(options, Transport { ask: Arc::new(ask), forward: Arc::new(nowhere) })
    }

    /// The bodies that were sent, once nothing more is expected.
    fn sent(&self) -> Vec<Option<Value>> {
        let left: Vec<&str> = self.steps.lock().expect("lock").iter().map(|step| step.call).collect();
        assert_eq!(left, [""; 0], "calls that did not come");
        self.sent.lock().expect("lock").clone()
    }
}

const GET_JOB: &str = "GET /apis/batch/v1/namespaces/burst/jobs/gw-1";
const GET_PODS: &str = "GET /api/v1/namespaces/burst/pods?labelSelector=tidegate.dev%2Flaunch%3Dgw-1&limit=250";
const TRY_POD: &str = "POST /api/v1/namespaces/burst/pods?dryRun=All";
const POST_JOB: &str = "POST /apis/batch/v1/namespaces/burst/jobs";
const POST_SECRET: &str = "POST /api/v1/namespaces/burst/secrets";
const GET_SECRET: &str = "GET /api/v1/namespaces/burst/secrets/tidegate-gw-1";
const DELETE_JOB: &str = "DELETE /apis/batch/v1/namespaces/burst/jobs/gw-1";
const LIST_JOBS: &str = "GET /apis/batch/v1/namespaces/burst/jobs?labelSelector=tidegate.dev%2Ffleet%3Df%2Ctidegate.dev%2Fnode%3Dn&limit=250";
const LIST_PODS: &str =
    "GET /api/v1/namespaces/burst/pods?labelSelector=tidegate.dev%2Ffleet%3Df%2Ctidegate.dev%2Fnode%3Dn&limit=250";

fn step(call: &'static str, status: u16, body: Value) -> Step {
    Step { call, status, body }
}

fn not_found(call: &'static str) -> Step {
    step(call, 404, json!({ "kind": "Status", "reason": "NotFound", "message": "not found" }))
}

fn exists(call: &'static str) -> Step {
    step(call, 409, json!({ "kind": "Status", "reason": "AlreadyExists", "message": "already exists" }))
}

fn list(call: &'static str, items: &[Value]) -> Step {
    step(call, 200, json!({ "metadata": {}, "items": items }))
}

fn options() -> KubernetesOptions {
    KubernetesOptions {
        image: Some("registry.example/tidegate:1".into()),
        ..KubernetesOptions::new("cluster", "burst")
    }
}

fn launch() -> LaunchId {
    "gw-1".parse().expect("a launch id")
}

fn owner() -> Owner {
    Owner { fleet: "f".into(), node: "n".into(), session: 3 }
}

fn request() -> LaunchRequest {
    LaunchRequest {
        launch: launch(),
        owner: owner(),
        service: "digits".into(),
        workload: Workload { argv: vec!["serve".into()], ..Workload::default() },
        ready: ReadyCheck::Tcp,
        lease_ttl: Duration::from_secs(180),
        drain_timeout: Duration::from_secs(30),
        token: Secret::new("sesame-4711"),
        identity: TlsIdentity { certificate: "CERT".into(), key: Secret::new("KEY") },
        concurrency: 4,
    }
}

/// The Job as the cluster keeps it.
fn kept_job() -> Value {
    let mut job = objects::job(&request(), &options());
    job["metadata"]["uid"] = json!("uid-1");
    job["metadata"]["creationTimestamp"] = json!("2026-11-25T18:36:20Z");
    job
}

fn kept_pod() -> Value {
    let mut pod = objects::trial_pod(&request(), &options());
    pod["metadata"]["name"] = json!("gw-1-abcde");
    pod["metadata"]["uid"] = json!("uid-2");
    pod["status"] = json!({ "phase": "Running", "podIP": "10.1.2.3" });
    pod
}

#[tokio::test]
async fn a_new_launch_is_tried_out_then_made_with_its_secret_last() {
    let script = Script::new(vec![
        not_found(GET_JOB),
        step(TRY_POD, 201, json!({})),
        step(POST_JOB, 201, json!({})),
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[]),
        step(POST_SECRET, 201, json!({})),
    ]);
    let instance = script.adapter().launch(&request()).await.expect("launch");
    assert_eq!((instance.state, instance.owner), (InstanceState::Pending, owner()));
    let sent = script.sent();
    let secret = sent[5].as_ref().expect("a secret");
    assert_eq!(secret["stringData"]["token"], "sesame-4711");
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "uid-1", "it goes with its Job");
    let others = sent[..5].iter().flatten().map(Value::to_string).collect::<String>();
    for secret in ["sesame-4711", "CERT", "KEY"] {
        assert!(!others.contains(secret), "{secret} stands in {others}");
    }
}

#[tokio::test]
async fn a_launch_again_makes_only_what_a_crash_left_out() {
    let mut waiting = kept_pod();
    waiting["status"] = json!({ "phase": "Pending" });
    let script = Script::new(vec![
        step(GET_JOB, 200, kept_job()),
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[waiting]),
        exists(POST_SECRET),
        step(GET_SECRET, 200, json!({ "metadata": { "ownerReferences": [{ "uid": "uid-1" }] } })),
    ]);
    let instance = script.adapter().launch(&request()).await.expect("launch");
    assert_eq!(instance.state, InstanceState::Pending);
    script.sent();
}

#[tokio::test]
async fn a_launch_again_of_what_runs_asks_for_nothing_and_so_risks_nothing() {
    let script = Script::new(vec![
        step(GET_JOB, 200, kept_job()),
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[kept_pod()]),
    ]);
    let instance = script.adapter().launch(&request()).await.expect("launch");
    assert_eq!(instance.reach, Some(Reach::Direct { authority: "10.1.2.3:8443".into() }));
    script.sent();
}

#[tokio::test]
async fn what_may_not_be_finished_is_removed_before_it_is_refused() {
    let denied = "secrets is forbidden: User \"edge\" cannot create resource \"secrets\"";
    let foreign = step(GET_SECRET, 200, json!({ "metadata": { "name": "tidegate-gw-1" } }));
    for (steps, word) in [
        (vec![step(POST_SECRET, 403, json!({ "message": denied }))], "can-i create secrets"),
        (vec![exists(POST_SECRET), foreign], "not of Tidegate's making"),
    ] {
        let mut all = vec![step(GET_JOB, 200, kept_job()), step(GET_JOB, 200, kept_job()), list(GET_PODS, &[])];
        all.extend(steps);
        all.push(step(DELETE_JOB, 200, json!({})));
        let script = Script::new(all);
        let error = script.adapter().launch(&request()).await.expect_err(word);
        assert!(error.retry() == Retry::Never && error.to_string().contains(word), "{error}");
        let deletion = script.sent().pop().flatten().expect("a body");
        assert_eq!(deletion["preconditions"]["uid"], "uid-1", "this Job, and not one of the same name");
    }
}

#[tokio::test]
async fn a_full_quota_is_no_capacity_before_anything_is_made() {
    let message = "pods \"gw-1\" is forbidden: exceeded quota: burst, requested: pods=1, used: pods=4, limited: pods=4";
    let script = Script::new(vec![not_found(GET_JOB), step(TRY_POD, 403, json!({ "message": message }))]);
    let error = script.adapter().launch(&request()).await.expect_err("full");
    assert_eq!(error.retry(), Retry::NextAdapter);
    script.sent();
}

#[tokio::test]
async fn a_hook_that_takes_no_dry_run_does_not_stop_a_launch() {
    let message = "admission webhook \"x\" does not support dry run";
    let script = Script::new(vec![
        not_found(GET_JOB),
        step(TRY_POD, 400, json!({ "message": message })),
        step(POST_JOB, 201, json!({})),
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[]),
        step(POST_SECRET, 201, json!({})),
    ]);
    script.adapter().launch(&request()).await.expect("launch");
    script.sent();
}

#[tokio::test]
async fn a_job_of_the_same_name_that_is_not_ours_is_left_alone() {
    let foreign = || json!({ "metadata": { "name": "gw-1", "labels": { "app": "web" } } });
    let script = Script::new(vec![step(GET_JOB, 200, foreign()), list(GET_PODS, &[])]);
    script.adapter().terminate(&launch()).await.expect("nothing of ours is there");
    script.sent();
    let script = Script::new(vec![step(GET_JOB, 200, foreign()), list(GET_PODS, &[])]);
    assert_eq!(script.adapter().describe(&launch()).await.expect("describe"), None);
    let script = Script::new(vec![step(GET_JOB, 200, foreign())]);
    let error = script.adapter().launch(&request()).await.expect_err("the name is taken");
    assert!(error.retry() == Retry::Never && error.to_string().contains("not of Tidegate's making"), "{error}");
}

#[tokio::test]
async fn all_pages_of_a_list_are_read_and_a_list_that_expired_starts_over() {
    let page = |job: Value, next: &str| json!({ "metadata": { "continue": next }, "items": [job] });
    let named = |name: &str| {
        let mut job = kept_job();
        job["metadata"]["labels"]["tidegate.dev/launch"] = json!(name);
        job
    };
    let second = "GET /apis/batch/v1/namespaces/burst/jobs?labelSelector=tidegate.dev%2Ffleet%3Df%2Ctidegate.dev%2Fnode%3Dn&limit=250&continue=a%3D%3D";
    let script = Script::new(vec![
        step(LIST_JOBS, 200, page(named("gw-9"), "a==")),
        step(second, 410, json!({ "reason": "Expired" })),
        step(LIST_JOBS, 200, page(named("gw-2"), "a==")),
        step(second, 200, page(named("gw-1"), "")),
        list(LIST_PODS, &[]),
    ]);
    let listed = script.adapter().list(&owner()).await.expect("list");
    assert_eq!(listed.iter().map(|instance| instance.launch.as_str()).collect::<Vec<_>>(), ["gw-1", "gw-2"]);
    script.sent();
}

#[tokio::test]
async fn a_list_that_is_not_whole_is_an_error() {
    for bad in [json!({}), json!({ "items": null }), json!([])] {
        let script = Script::new(vec![step(LIST_JOBS, 200, bad)]);
        assert_eq!(script.adapter().list(&owner()).await.expect_err("no list").retry(), Retry::Backoff);
    }
    let expired = || step(LIST_JOBS, 410, json!({ "reason": "Expired" }));
    let script = Script::new(vec![expired(), expired(), expired()]);
    assert_eq!(script.adapter().list(&owner()).await.expect_err("expired").retry(), Retry::Backoff);
    script.sent();
}

#[tokio::test]
async fn nodes_whose_labels_are_alike_are_told_apart_and_damage_is_skipped() {
    let mut other = kept_job();
    other["metadata"]["annotations"]["tidegate.dev/node"] = json!("another of the same hash");
    other["metadata"]["labels"]["tidegate.dev/launch"] = json!("gw-2");
    let mut damaged = kept_job();
    damaged["metadata"]["labels"]["tidegate.dev/launch"] = json!("gw-3");
    damaged["metadata"]["annotations"] = json!({});
    let script = Script::new(vec![list(LIST_JOBS, &[kept_job(), other, damaged]), list(LIST_PODS, &[])]);
    let listed = script.adapter().list(&owner()).await.expect("list");
    assert_eq!(listed.iter().map(|instance| instance.launch.as_str()).collect::<Vec<_>>(), ["gw-1"]);
}

#[tokio::test]
async fn a_damaged_job_is_neither_described_nor_ended() {
    let mut damaged = kept_job();
    damaged["metadata"]["annotations"] = json!({});
    let script = Script::new(vec![step(GET_JOB, 200, damaged.clone()), list(GET_PODS, &[])]);
    let error = script.adapter().terminate(&launch()).await.expect_err("it may be another's");
    assert!(error.retry() == Retry::Never && error.to_string().contains("annotation"), "{error}");
    let script = Script::new(vec![step(GET_JOB, 200, damaged), list(GET_PODS, &[])]);
    assert_eq!(script.adapter().describe(&launch()).await.expect_err("whose is it?").retry(), Retry::Never);
    script.sent();
}

#[tokio::test(start_paused = true)]
async fn a_termination_waits_for_pods_and_deletes_once() {
    let mut ending = kept_job();
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-25T18:36:21Z");
    let script = Script::new(vec![
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[kept_pod()]),
        step(DELETE_JOB, 200, json!({})),
        step(GET_JOB, 200, ending),
        list(GET_PODS, &[kept_pod()]),
        not_found(GET_JOB),
        list(GET_PODS, &[]),
    ]);
    script.adapter().terminate(&launch()).await.expect("terminate");
    assert_eq!(script.sent()[2].as_ref().expect("a body")["propagationPolicy"], "Foreground");
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_its_job_is_listed_and_deleted_itself() {
    let script = Script::new(vec![list(LIST_JOBS, &[]), list(LIST_PODS, &[kept_pod()])]);
    let listed = script.adapter().list(&owner()).await.expect("list");
    assert_eq!(listed.len(), 1, "it runs and costs");
    let script = Script::new(vec![
        not_found(GET_JOB),
        list(GET_PODS, &[kept_pod()]),
        step("DELETE /api/v1/namespaces/burst/pods/gw-1-abcde", 200, json!({})),
        not_found(GET_JOB),
        list(GET_PODS, &[]),
    ]);
    script.adapter().terminate(&launch()).await.expect("terminate");
    assert_eq!(script.sent()[2].as_ref().expect("a body")["preconditions"]["uid"], "uid-2");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_goes_is_told_with_its_machine() {
    let mut ending = kept_job();
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-25T18:36:21Z");
    let mut pod = kept_pod();
    pod["spec"]["nodeName"] = json!("machine-7");
    let rounds = (0..200).flat_map(|_| [step(GET_JOB, 200, ending.clone()), list(GET_PODS, &[pod.clone()])]).collect();
    let begun = tokio::time::Instant::now();
    let error = Script::new(rounds).adapter().terminate(&launch()).await.expect_err("it stays");
    assert_eq!(error.retry(), Retry::Backoff);
    assert!(error.to_string().contains("gw-1-abcde on machine-7"), "{error}");
    let waited = begun.elapsed();
    assert!(
        (Duration::from_secs(95)..Duration::from_secs(100)).contains(&waited),
        "drain, grace and margin: {waited:?}"
    );
}

#[tokio::test]
async fn a_page_that_says_not_found_is_no_answer_that_nothing_is_there() {
    let proxy = step(GET_JOB, 404, json!({ "message": "<html>404</html>" }));
    let script = Script::new(vec![proxy]);
    assert!(script.adapter().describe(&launch()).await.is_err(), "a wrong address must not make instances gone");
}

#[tokio::test]
async fn a_running_instance_is_reached_by_a_tunnel_where_there_is_no_other_way() {
    let options = KubernetesOptions { reach: ReachBy::PortForward, ..options() };
    let script = Script::new(vec![
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[kept_pod()]),
        step(GET_JOB, 200, kept_job()),
        list(GET_PODS, &[kept_pod()]),
    ]);
    let adapter = script.adapter_with(options);
    let reach = async || adapter.describe(&launch()).await.expect("describe").expect("it is known").reach;
    let Some(Reach::Tunnel { authority }) = reach().await else { panic!("it is reached by no tunnel") };
    assert!(authority.starts_with("127.0.0.1:"), "{authority}");
    assert_eq!(reach().await, Some(Reach::Tunnel { authority }), "the same one as long as it runs");
}
