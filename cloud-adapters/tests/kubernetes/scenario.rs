//! The life of one instance, call by call, as it is recorded against a real API server and replayed everywhere else. What
//! the adapter sends and what it concludes must stay what it was.

use std::collections::BTreeMap;
use std::time::Duration;

use cloud_adapters::contract::{id, owner};
use cloud_adapters::kubernetes::call::{Answer, Call, Pending, Transport};
use cloud_adapters::kubernetes::{KubernetesAdapter, KubernetesOptions};
use cloud_adapters::{
    CloudAdapter, InstanceState, LaunchId, LaunchRequest, Owner, Reach, ReadyCheck, Resources, Retry, Secret,
    TlsIdentity, Verdict, Workload,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call and its answer, as they went over the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) accepts: String,
    pub(crate) sent: Option<Value>,
    pub(crate) status: u16,
    pub(crate) now: Option<i64>,
    pub(crate) answer: Value,
}

impl Exchange {
    pub(crate) fn new(call: Call, answer: &Answer) -> Self {
        let Answer { status, now, body } = answer.clone();
        let (method, target, accepts) = (call.method().to_owned(), call.target(), call.accepts().to_owned());
        Self { method, target, accepts, sent: call.body, status, now, answer: without_weight(body) }
    }
}

/// Without what no client reads, and without Secrets' contents.
fn without_weight(mut answer: Value) -> Value {
    if let Some(metadata) = answer.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(object) = answer.as_object_mut() {
        object.remove("data");
    }
    if let Some(Value::Array(items)) = answer.get_mut("items") {
        *items = std::mem::take(items).into_iter().map(without_weight).collect();
    }
    answer
}

/// The namespace of the recordings.
pub(crate) const NAMESPACE: &str = "recorded";

pub(crate) fn options() -> KubernetesOptions {
    KubernetesOptions { image: Some("stand-in".into()), ..KubernetesOptions::new("cluster", NAMESPACE) }
}

pub(crate) fn launch() -> LaunchId {
    id("gw-1")
}

pub(crate) fn request() -> LaunchRequest {
    LaunchRequest {
        launch: launch(),
        owner: owner(),
        service: "digits and letters".into(),
        workload: Workload {
            argv: vec!["sleep".into(), "600".into()],
            env: BTreeMap::from([("STAGE".into(), "5$".into())]),
            resources: Resources { cpu_millis: Some(250), memory_bytes: Some(64 << 20), gpus: 0 },
            ..Workload::default()
        },
        ready: ReadyCheck::Http { path: "/v2/health/ready".into() },
        lease_ttl: Duration::from_secs(300),
        drain_timeout: Duration::from_secs(5),
        token: Secret::new("sesame-4711"),
        identity: TlsIdentity { certificate: "a certificate".into(), key: Secret::new("a key") },
        concurrency: 4,
    }
}

/// Plays one scenario; `between` is called with what has to happen in the cluster before the next call.
pub(crate) async fn play(name: &str, transport: Transport, between: impl AsyncFn(&str)) {
    let adapter = KubernetesAdapter::over(options(), transport.clone());
    match name {
        "life" => life(&adapter, between).await,
        "crash" => crash(&adapter, between).await,
        "check" => check(&adapter).await,
        "quota" => quota(&adapter, between).await,
        "refusals" => refusals(transport).await,
        _ => panic!("there is no scenario {name}"),
    }
}

/// All of them, each a file in `recorded/`.
pub(crate) const ALL: [&str; 5] = ["life", "crash", "check", "quota", "refusals"];

async fn life(adapter: &KubernetesAdapter, between: impl AsyncFn(&str)) {
    assert_eq!(adapter.describe(&launch()).await.expect("describe"), None);
    let launched = adapter.launch(&request()).await.expect("launch");
    assert_eq!((launched.state, launched.owner, launched.reach), (InstanceState::Pending, owner(), None));
    assert_eq!(launched.service, "digits and letters", "what is no label is kept as an annotation");
    between("runs").await;
    let running = adapter.describe(&launch()).await.expect("describe").expect("it is known");
    assert_eq!(running.state, InstanceState::Running);
    assert_eq!(running.reach, Some(Reach::Direct { authority: "127.0.0.1:8443".into() }));
    assert!(running.age.is_some_and(|age| age < Duration::from_secs(60)), "{:?}", running.age);
    let again = adapter.launch(&request()).await.expect("launch again");
    assert_eq!((again.state, again.reach), (running.state.clone(), running.reach.clone()));
    let listed = adapter.list(&owner()).await.expect("list");
    assert_eq!(listed.iter().map(|instance| &instance.state).collect::<Vec<_>>(), [&running.state]);
    let other = Owner { node: "gateway-8".into(), ..owner() };
    let stolen = adapter.launch(&LaunchRequest { owner: other, ..request() }).await.expect_err("another's id");
    assert_eq!(stolen.retry(), Retry::Never, "{stolen}");
    adapter.terminate(&launch()).await.expect("terminate");
    assert_eq!(adapter.describe(&launch()).await.expect("describe"), None);
    assert_eq!(adapter.list(&owner()).await.expect("list"), []);
}

async fn crash(adapter: &KubernetesAdapter, between: impl AsyncFn(&str)) {
    adapter.launch(&request()).await.expect("launch");
    between("runs").await;
    between("is killed").await;
    let ended = adapter.describe(&launch()).await.expect("describe").expect("it is kept");
    assert!(matches!(&ended.state, InstanceState::Ended { reason } if reason.contains("137")), "{ended:?}");
    assert_eq!(adapter.launch(&request()).await.expect("launch again").state, ended.state);
    adapter.terminate(&launch()).await.expect("terminate");
}

async fn check(adapter: &KubernetesAdapter) {
    let found = adapter.check().await;
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Good), "{found:?}");
}

async fn quota(adapter: &KubernetesAdapter, between: impl AsyncFn(&str)) {
    between("has a quota of no pods").await;
    let full = adapter.launch(&request()).await.expect_err("no room");
    assert_eq!(full.retry(), Retry::NextAdapter, "{full}");
    assert!(full.to_string().contains("exceeded quota"), "{full}");
    assert_eq!(adapter.describe(&launch()).await.expect("describe"), None, "nothing was started");
    let found = adapter.check().await;
    assert!(found.iter().any(|finding| finding.words.contains("0 of 0 pods")), "{found:?}");
}

async fn refusals(transport: Transport) {
    let with = |options: KubernetesOptions| KubernetesAdapter::over(options, transport.clone());
    let elsewhere = with(KubernetesOptions { namespace: "elsewhere".into(), ..options() });
    let nobody = with(KubernetesOptions { service_account: Some("nobody".into()), ..options() });
    let invalid = LaunchRequest {
        workload: Workload { env: BTreeMap::from([("1 2".into(), String::new())]), ..request().workload },
        ..request()
    };
    for (adapter, request, word) in [
        (&elsewhere, request(), "no right to"),
        (&nobody, request(), "serviceaccount \"nobody\" not found"),
        (&with(options()), invalid, "env[0].name"),
    ] {
        let error = adapter.launch(&request).await.expect_err(word);
        assert!(error.retry() == Retry::Never && error.to_string().contains(word), "{error}");
    }
}

/// A transport that answers every call by a function.
pub(crate) fn answering(ask: impl Fn(Call) -> Pending<Answer> + Send + Sync + 'static) -> Transport {
    let nowhere = |_| -> Pending<tokio::io::DuplexStream> {
        Box::pin(async { Err(cloud_adapters::AdapterError::transient("no pod is here")) })
    };
    Transport { ask: std::sync::Arc::new(ask), forward: std::sync::Arc::new(nowhere) }
}
