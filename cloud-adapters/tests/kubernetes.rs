//! The Kubernetes adapter against a real API server, scheduler and controllers: the contract suite, and what is special
//! about Jobs. The adapter runs as the service account of `policies/kubernetes-rbac.yaml` and with nothing but its Role.
//! Instances are counted by the machine's kubelet, which the tests play: see `kubernetes/kubelet.rs`.
//!
//! ```sh
//! TIDEGATE_KUBERNETES_API=$(tests/kubernetes/build) cargo test -p cloud-adapters --features kubernetes --test kubernetes
//! ```
//!
//! A port-forward needs a real kubelet, so of that only the tunnel and its failure are tested here.

#[path = "kubernetes/cluster.rs"]
mod cluster;
#[path = "kubernetes/faulty.rs"]
mod faulty;
#[path = "kubernetes/kubelet.rs"]
mod kubelet;
#[path = "kubernetes/scenario.rs"]
mod scenario;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloud_adapters::contract::{self, ContractHarness, Fault, arguments, end_reason, id, owner, until, until_running};
use cloud_adapters::kubernetes::{Exposure, IngressRule, ReachBy, connect};
use cloud_adapters::{
    CloudAdapter, InstanceState, KubernetesAdapter, KubernetesOptions, LaunchId, LaunchRequest, Owner, Reach,
    Resources, Retry, Secret, TlsIdentity, Workload,
};
use cluster::{ADMIN, Api, Cluster, NOBODY};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenario::Exchange;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

cloud_adapters::contract_tests!(Jobs::new());

/// Generous: a control plane, its tests and their pods share two cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace of its own in the cluster of this process.
struct Jobs {
    cluster: &'static Cluster,
    namespace: String,
    kubeconfig: PathBuf,
}

impl Jobs {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Self::named(&format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn named(namespace: &str) -> Self {
        let cluster = Cluster::shared();
        let token = cluster.wait(async |api| prepare(&api, namespace).await);
        let kubeconfig = cluster.kubeconfig(namespace, &cluster.server, &token);
        Self { cluster, namespace: namespace.to_owned(), kubeconfig }
    }

    fn options(&self) -> KubernetesOptions {
        KubernetesOptions {
            kubeconfig: Some(self.kubeconfig.clone()),
            image: Some(kubelet::IMAGE.into()),
            ..KubernetesOptions::new("cluster", self.namespace.clone())
        }
    }

    fn client(&self, options: KubernetesOptions) -> Arc<dyn CloudAdapter> {
        Arc::new(KubernetesAdapter::new(options))
    }

    fn as_user(&self, token: &str) -> KubernetesOptions {
        let kubeconfig = self.cluster.kubeconfig(&self.namespace, &self.cluster.server, token);
        KubernetesOptions { kubeconfig: Some(kubeconfig), ..self.options() }
    }

    fn pids(&self, launch: &LaunchId) -> Vec<u32> {
        let key = kubelet::key(&self.namespace, launch.as_str());
        self.cluster.processes.lock().expect("lock").get(&key).cloned().unwrap_or_default()
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.cluster.wait(async |api| api.get(path).await.ok())
    }

    fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let group = match kind {
            "jobs" => "apis/batch/v1",
            "ingresses" => "apis/networking.k8s.io/v1",
            _ => "api/v1",
        };
        self.get(&format!("/{group}/namespaces/{}/{kind}/{name}", self.namespace))
    }
}

impl Drop for Jobs {
    /// What a failed test left running would be in the way of the others.
    fn drop(&mut self) {
        let pids: Vec<u32> = {
            let processes = self.cluster.processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let of_us = |key: &&String| key.starts_with(&format!("{}/", self.namespace));
            processes.keys().filter(of_us).flat_map(|key| processes[key].clone()).collect()
        };
        pids.into_iter().for_each(end);
    }
}

/// The namespace, its service accounts, and the Role that is shipped; the token of the node's account.
async fn prepare(api: &Api, namespace: &str) -> String {
    let metadata = json!({ "metadata": { "name": namespace } });
    api.post("/api/v1/namespaces", &metadata).await.expect("a namespace");
    let rbac = include_str!("../policies/kubernetes-rbac.yaml")
        .replace("namespace: tidegate\n", &format!("namespace: {namespace}\n"));
    for document in rbac.split("\n---\n") {
        let path = match document.lines().find_map(|line| line.strip_prefix("kind: ")).expect("a kind") {
            "ServiceAccount" => format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
            "Role" => format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"),
            "RoleBinding" => format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"),
            kind => panic!("{kind} is more than a Role"),
        };
        api.ask("POST", &path, "application/yaml", document.as_bytes().to_vec()).await.expect("an object of the Role");
    }
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let deadline = Instant::now() + PATIENCE;
    while api.get(&format!("{accounts}/default")).await.is_err() {
        assert!(Instant::now() < deadline, "no service account of the namespace");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let wanted = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let token = api.post(&format!("{accounts}/tidegate-node/token"), &wanted).await.expect("a token");
    token["status"]["token"].as_str().expect("a token").to_owned()
}

impl ContractHarness for Jobs {
    fn adapter(&self) -> Arc<dyn CloudAdapter> {
        self.client(self.options())
    }

    fn adapter_with_capacity(&self, max_instances: u32) -> Option<Arc<dyn CloudAdapter>> {
        Some(self.client(KubernetesOptions { max_instances: Some(max_instances), ..self.options() }))
    }

    fn misconfigured(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let missing = self.cluster.folder.join("missing");
        let options = || self.options();
        let admin = self.as_user(ADMIN);
        vec![
            ("kubeconfig", self.client(KubernetesOptions { kubeconfig: Some(missing), ..options() })),
            ("context", self.client(KubernetesOptions { context: Some("missing".into()), ..options() })),
            ("no right", self.client(KubernetesOptions { namespace: "missing".into(), ..options() })),
            ("no namespace missing", self.client(KubernetesOptions { namespace: "missing".into(), ..admin })),
            ("serviceaccount", self.client(KubernetesOptions { service_account: Some("missing".into()), ..options() })),
            ("PriorityClass", self.client(KubernetesOptions { priority_class: Some("missing".into()), ..options() })),
            ("is no image", self.client(KubernetesOptions { image: Some("an image".into()), ..options() })),
        ]
    }

    fn request(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["sleep", "600"])
    }

    fn request_that_never_starts(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["/nonexistent/server"])
    }

    fn kill_hard(&self, launch: &LaunchId) {
        let pids = self.pids(launch);
        assert_eq!(pids.len(), 1, "{pids:?}");
        end(pids[0]);
    }

    fn alive(&self, launch: &LaunchId) -> usize {
        self.pids(launch).len()
    }

    fn public_texts(&self, launch: &LaunchId) -> Vec<String> {
        let job = self.object("jobs", launch.as_str()).expect("a Job").to_string();
        let pods = self.object("pods", "").expect("pods").to_string();
        let processes = self.pids(launch).into_iter().flat_map(arguments);
        processes.chain([job, pods]).collect()
    }

    fn adapter_with_fault(&self, fault: Fault) -> Option<Arc<dyn CloudAdapter>> {
        let (listener, address) = faulty::bind();
        let cluster = self.cluster;
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        tokio::spawn(async move {
            let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.expect("a config");
            let api = Api(kube::Client::try_from(config).expect("a client"));
            faulty::serve(listener, api, fault).await;
        });
        let kubeconfig =
            cluster.kubeconfig(&format!("{}-{fault:?}", self.namespace), &format!("http://{address}"), "none");
        Some(self.client(KubernetesOptions { kubeconfig: Some(kubeconfig), ..self.options() }))
    }

    fn with_wrong_credentials(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        vec![("expired", self.client(self.as_user("not-a-token"))), ("no right", self.client(self.as_user(NOBODY)))]
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// With the identity that its listener shows to whoever reaches it from elsewhere.
fn request(launch: &LaunchId, owner: &Owner, argv: &[&str]) -> LaunchRequest {
    let identity = TlsIdentity { certificate: "a certificate".into(), key: Secret::new("a key") };
    LaunchRequest { identity, ..contract::request(launch, owner, argv) }
}

fn end(pid: u32) {
    // Gone already is as good.
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_belongs_to_an_instance_goes_with_it() {
    let (jobs, launch) = (Jobs::new(), id("gw-1"));
    let rule = IngressRule { host: "{launch}.example.com".into(), ..IngressRule::default() };
    let adapter = jobs.client(KubernetesOptions { reach: ReachBy::Ingress(rule), ..jobs.options() });
    adapter.launch(&jobs.request(&launch, &owner())).await.expect("launch");
    let reach = until_running(PATIENCE, &*adapter, &launch).await.reach.expect("it is reachable");
    assert_eq!(reach, Reach::Ingress { authority: "gw-1.example.com:443".into() });
    let parts = [("services", "t-gw-1"), ("ingresses", "t-gw-1"), ("secrets", "tidegate-gw-1"), ("jobs", "gw-1")];
    for (kind, name) in parts {
        assert!(jobs.object(kind, name).is_some(), "{kind} {name} is missing");
    }
    adapter.terminate(&launch).await.expect("terminate");
    for (kind, name) in parts {
        assert!(jobs.object(kind, name).is_none(), "{kind} {name} stays behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_leads_to_the_machine_and_the_port_that_the_cluster_gave_it() {
    let (jobs, launch) = (Jobs::new(), id("0-gw"));
    let reach = ReachBy::Service(Exposure::NodePort { address: None });
    let adapter = jobs.client(KubernetesOptions { reach, ..jobs.options() });
    adapter.launch(&jobs.request(&launch, &owner())).await.expect("an id that begins with a digit");
    let reach = until_running(PATIENCE, &*adapter, &launch).await.reach.expect("it is reachable");
    let port = jobs.object("services", "t-0-gw").expect("a Service")["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(reach, Reach::Direct { authority: format!("127.0.0.1:{port}") });
    assert_eq!(adapter.list(&owner()).await.expect("list")[0].reach, Some(reach));
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_to_a_machine_without_a_kubelet_closes_its_connections() {
    let (jobs, launch) = (Jobs::new(), id("gw-1"));
    let adapter = jobs.client(KubernetesOptions { reach: ReachBy::PortForward, ..jobs.options() });
    adapter.launch(&jobs.request(&launch, &owner())).await.expect("launch");
    let Some(Reach::Tunnel { authority }) = until_running(PATIENCE, &*adapter, &launch).await.reach else {
        panic!("it is reached by no tunnel")
    };
    let mut connection = tokio::net::TcpStream::connect(&authority).await.expect("the tunnel's end here");
    let mut nothing = Vec::new();
    let read = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut nothing)).await.expect("it is closed");
    assert_eq!(read.unwrap_or_default(), 0);
    adapter.terminate(&launch).await.expect("terminate");
    assert!(tokio::net::TcpStream::connect(&authority).await.is_err(), "the tunnel goes with its instance");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_finds_no_machine_is_pending_until_its_time_is_over() {
    let (jobs, launch) = (Jobs::new(), id("gw-1"));
    let adapter = jobs.adapter();
    let huge = Resources { cpu_millis: Some(1_000_000), ..Resources::default() };
    let request = jobs.request(&launch, &owner());
    let request = LaunchRequest { workload: Workload { resources: huge, ..request.workload.clone() }, ..request };
    adapter.launch(&request).await.expect("the cluster takes it, and may grow");
    let hasty = jobs.client(KubernetesOptions { start_timeout: Duration::from_secs(2), ..jobs.options() });
    let state =
        async |adapter: &dyn CloudAdapter| adapter.describe(&launch).await.expect("describe").expect("known").state;
    let is_told = |state| matches!(state, InstanceState::Ended { reason } if reason.contains("Insufficient cpu"));
    until(PATIENCE, "the reason to be told", async || is_told(state(&*hasty).await).then_some(())).await;
    assert_eq!(state(&*adapter).await, InstanceState::Pending);
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_image_that_no_registry_has_ends_the_instance_with_its_words() {
    let (jobs, launch) = (Jobs::new(), id("gw-1"));
    let adapter = jobs.client(KubernetesOptions { image: Some("missing".into()), ..jobs.options() });
    adapter.launch(&jobs.request(&launch, &owner())).await.expect("the cluster takes any name");
    let state = async || adapter.describe(&launch).await.expect("describe").expect("known").state;
    let is_told = |state| matches!(state, InstanceState::Ended { reason } if reason.contains("manifest unknown"));
    until(PATIENCE, "the reason to be told", async || is_told(state().await).then_some(())).await;
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_instance_past_its_longest_life_is_ended_by_the_cluster() {
    let (jobs, launch) = (Jobs::new(), id("gw-1"));
    let adapter = jobs.client(KubernetesOptions { max_life: Some(Duration::from_secs(15)), ..jobs.options() });
    adapter.launch(&jobs.request(&launch, &owner())).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    let reason = end_reason(PATIENCE, &*adapter, &launch).await;
    until(PATIENCE, "its process to be gone", async || (jobs.alive(&launch) == 0).then_some(())).await;
    assert!(reason.contains("DeadlineExceeded"), "{reason}");
    adapter.terminate(&launch).await.expect("terminate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deletion_by_others_is_a_notice_while_the_instance_drains() {
    let (jobs, launch) = (Jobs::new(), id("gw-1"));
    let adapter = jobs.adapter();
    let stubborn = request(&launch, &owner(), &["sh", "-c", "trap '' TERM; kill -STOP $PPID; sleep 600"]);
    adapter.launch(&stubborn).await.expect("launch");
    until_running(PATIENCE, &*adapter, &launch).await;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/{launch}", jobs.namespace);
    let foreground = json!({ "propagationPolicy": "Foreground" });
    jobs.cluster.wait(async |api| api.delete(&path, &foreground).await.map(drop)).expect("a deletion");
    let described = adapter.describe(&launch).await.expect("describe").expect("it drains");
    assert_eq!(described.state, InstanceState::Running);
    assert!(described.notice.as_ref().is_some_and(|notice| notice.contains("deleted")), "{described:?}");
    adapter.terminate(&launch).await.expect("terminate");
    assert_eq!(jobs.alive(&launch), 0, "it was killed when its time was over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_api_server_that_is_away_stops_nothing_but_the_call() {
    let jobs = Jobs::new();
    let (listener, address) = faulty::bind();
    drop(listener);
    let kubeconfig = jobs.cluster.kubeconfig("away", &format!("https://{address}"), "none");
    let adapter = jobs.client(KubernetesOptions { kubeconfig: Some(kubeconfig), ..jobs.options() });
    let error = adapter.list(&owner()).await.expect_err("nobody is there");
    assert_eq!(error.retry(), Retry::Backoff, "{}", error.with_causes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_another_authority_vouches_for_is_not_trusted() {
    let jobs = Jobs::new();
    let text = std::fs::read_to_string(&jobs.kubeconfig).expect("a kubeconfig");
    let kubeconfig = jobs.cluster.folder.join("distrust.kubeconfig");
    // Without its authority the system's own are asked, who have never heard of this cluster.
    let without: Value = serde_json::from_str(&text).expect("json");
    let mut without = without;
    without["clusters"][0]["cluster"]["certificate-authority"] = Value::Null;
    std::fs::write(&kubeconfig, without.to_string()).expect("write");
    let adapter = jobs.client(KubernetesOptions { kubeconfig: Some(kubeconfig), ..jobs.options() });
    let error = adapter.list(&owner()).await.expect_err("it is not to be trusted");
    assert_eq!(error.retry(), Retry::Never, "{}", error.with_causes());
}

/// Plays every scenario against the real server; with `TIDEGATE_KUBERNETES_RECORD=1` it keeps what was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_recorded_scenarios_are_what_the_cluster_does() {
    let jobs = Jobs::named(scenario::NAMESPACE);
    for name in scenario::ALL {
        let recorded: Arc<Mutex<Vec<Exchange>>> = Arc::default();
        let options = KubernetesOptions { kubeconfig: Some(jobs.kubeconfig.clone()), ..scenario::options() };
        let real = connect(&options);
        let (keep, ask) = (Arc::clone(&recorded), real.ask);
        let recording = scenario::answering(move |call| {
            let (asked, keep) = (ask(call.clone()), Arc::clone(&keep));
            Box::pin(async move {
                let answer = asked.await?;
                keep.lock().expect("lock").push(Exchange::new(call, &answer));
                Ok(answer)
            })
        });
        scenario::play(name, recording, async |what| bring_about(&jobs, what).await).await;
        let recorded = recorded.lock().expect("lock").clone();
        assert!(!recorded.is_empty());
        if std::env::var_os("TIDEGATE_KUBERNETES_RECORD").is_some() {
            keep_recording(name, &recorded);
        }
    }
}

async fn bring_about(jobs: &Jobs, what: &str) {
    let launch = scenario::launch();
    match what {
        "runs" => drop(until_running(PATIENCE, &*jobs.adapter(), &launch).await),
        "is killed" => {
            jobs.kill_hard(&launch);
            let job_failed = async || jobs.object("jobs", launch.as_str()).filter(|job| job["status"]["failed"] == 1);
            until(PATIENCE, "the cluster to take note", job_failed).await;
        }
        "has a quota of no pods" => {
            let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": { "pods": "0" } } });
            let path = format!("/api/v1/namespaces/{}/resourcequotas", jobs.namespace);
            jobs.cluster.wait(async |api| api.post(&path, &quota).await.map(drop)).expect("a quota");
            let is_counted =
                async || jobs.object("resourcequotas", "none").filter(|quota| quota["status"]["used"]["pods"] == "0");
            until(PATIENCE, "the quota to be counted", is_counted).await;
        }
        _ => panic!("nobody knows how to bring about `{what}`"),
    }
}

fn keep_recording(name: &str, recorded: &[Exchange]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/recorded");
    std::fs::create_dir_all(&folder).expect("a folder");
    // One exchange a line: what changed is one line of a diff.
    let lines: Vec<String> = recorded.iter().map(|exchange| serde_json::to_string(exchange).expect("json")).collect();
    std::fs::write(folder.join(format!("{name}.json")), format!("[\n{}\n]\n", lines.join(",\n"))).expect("write");
}
