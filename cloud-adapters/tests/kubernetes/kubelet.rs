//! Plays the kubelet of the one machine in the tests' cluster: runs the command of each pod bound to it as a process here,
//! with the Secret's files beside it, and tells the API server how the pod is, as a kubelet does: by its status.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloud_adapters::kubernetes::objects::SECRETS_DIR;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::cluster::Api;

/// The image that this machine has.
pub(crate) const IMAGE: &str = "stand-in";

/// What lies in the image where `tidegate` would.
const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes/stand-in.sh");

/// How often the machine looks at its pods.
const SYNC: Duration = Duration::from_millis(50);

const MACHINE: &str = "machine-1";

/// The processes that run, by the namespace and launch of their pods.
pub(crate) type Processes = Arc<Mutex<BTreeMap<String, Vec<u32>>>>;

/// The key of a launch's processes.
pub(crate) fn key(namespace: &str, launch: &str) -> String {
    format!("{namespace}/{launch}")
}

pub(crate) struct Kubelet {
    api: Api,
    folder: PathBuf,
    processes: Processes,
    pods: BTreeMap<String, Running>,
}

/// A pod that was started here.
struct Running {
    key: String,
    child: Child,
    log: PathBuf,
    asked: Option<Instant>,
    is_told: bool,
}

impl Kubelet {
    pub(crate) async fn register(api: Api, folder: PathBuf, processes: Processes) -> Self {
        let room = json!({ "cpu": "8", "memory": "16Gi", "pods": "200" });
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "Tests", "message": "" }]);
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": MACHINE },
            "status": { "capacity": room, "allocatable": room, "conditions": ready },
        });
        api.post("/api/v1/nodes", &node).await.expect("a machine");
        Self { api, folder, processes, pods: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self) {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{MACHINE}");
        loop {
            let pods = self.api.get(&path).await;
            for pod in pods.iter().flat_map(|pods| pods["items"].as_array().into_iter().flatten()) {
                self.sync(pod).await;
            }
            // delay: a kubelet looks at its pods again and again, as long as its machine is up.
            tokio::time::sleep(SYNC).await;
        }
    }

    async fn sync(&mut self, pod: &Value) {
        let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let is_deleted = pod["metadata"]["deletionTimestamp"].is_string();
        if !self.pods.contains_key(&uid) && !is_deleted && pod["status"]["phase"] == "Pending" {
            self.start(&uid, pod).await;
        }
        if let Some(running) = self.pods.get_mut(&uid) {
            let exit = running.child.try_wait().expect("a child");
            if let (Some(exit), false) = (exit, running.is_told) {
                running.is_told = true;
                forget(&self.processes, running);
                tell_exit(&self.api, pod, exit.code(), &running.log).await;
            }
            if is_deleted && exit.is_none() {
                ask_to_end(running, pod);
                return;
            }
        }
        if is_deleted {
            let body = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
            // Gone already is as good.
            let _ = self.api.delete(&path(pod), &body).await;
            self.pods.remove(&uid);
        }
    }

    async fn start(&mut self, uid: &str, pod: &Value) {
        let container = &pod["spec"]["containers"][0];
        if container["image"] != IMAGE {
            let waiting = json!({ "reason": "ErrImagePull", "message": "manifest unknown" });
            tell(&self.api, pod, "Pending", &json!({ "waiting": waiting }), false).await;
            return;
        }
        let folder = self.folder.join(uid);
        if !self.mount(pod, &folder).await {
            return;
        }
        let child = spawn(container, &folder);
        let launch = pod["metadata"]["labels"]["tidegate.dev/launch"].as_str().unwrap_or_default();
        let key = key(pod["metadata"]["namespace"].as_str().expect("a namespace"), launch);
        remember(&self.processes, &key, child.id());
        let running = Running { key, child, log: folder.join("log"), asked: None, is_told: false };
        self.pods.insert(uid.to_owned(), running);
        let state = json!({ "running": { "startedAt": pod["metadata"]["creationTimestamp"] } });
        tell(&self.api, pod, "Running", &state, true).await;
    }

    /// Writes the Secret's files; a Secret that is not there yet is waited for.
    async fn mount(&self, pod: &Value, folder: &Path) -> bool {
        let (namespace, secret) = (&pod["metadata"]["namespace"], &pod["spec"]["volumes"][0]["secret"]["secretName"]);
        let (namespace, secret) = (namespace.as_str().expect("a namespace"), secret.as_str().expect("a Secret"));
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{secret}");
        let Ok(secret) = self.api.get(&path).await else { return false };
        fs::create_dir_all(folder).expect("a folder");
        for (name, encoded) in secret["data"].as_object().expect("data") {
            let mut decode = Command::new("base64");
            decode.arg("-d").stdin(Stdio::piped()).stdout(fs::File::create(folder.join(name)).expect("a file"));
            let mut decoding = decode.spawn().expect("base64");
            let mut input = decoding.stdin.take().expect("a pipe");
            std::io::Write::write_all(&mut input, encoded.as_str().expect("text").as_bytes()).expect("write");
            drop(input);
            assert!(decoding.wait().expect("base64").success());
        }
        true
    }
}

/// As the container's runtime would: `$$` is a dollar, and what the image and the Secret hold lies where this machine has
/// put it.
fn spawn(container: &Value, folder: &Path) -> Child {
    let words =
        container["command"].as_array().into_iter().flatten().chain(container["args"].as_array().into_iter().flatten());
    let here = folder.display().to_string();
    let placed = |word: &Value| match word.as_str().expect("a word") {
        "/usr/local/bin/tidegate" => STAND_IN.to_owned(),
        word => word.replace("$$", "$").replace(SECRETS_DIR, &here),
    };
    let log = fs::File::create(folder.join("log")).expect("a log");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(words.map(placed)).stdin(Stdio::null());
    command.stderr(log.try_clone().expect("a log")).stdout(log).spawn().expect("a process")
}

fn remember(processes: &Processes, key: &str, pid: u32) {
    let mut processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
    processes.entry(key.to_owned()).or_default().push(pid);
}

fn forget(processes: &Processes, running: &Running) {
    let mut processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pids) = processes.get_mut(&running.key) {
        pids.retain(|pid| *pid != running.child.id());
    }
}

fn ask_to_end(running: &mut Running, pod: &Value) {
    let grace = Duration::from_secs(pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30));
    let pid = Pid::from_raw(i32::try_from(running.child.id()).expect("a pid"));
    let signal = match running.asked {
        None => Signal::SIGTERM,
        Some(asked) if asked.elapsed() > grace => Signal::SIGKILL,
        Some(_) => return,
    };
    running.asked.get_or_insert_with(Instant::now);
    kill(pid, signal).expect("it was not reaped yet");
}

/// A process that a signal ended is told with the status of a container: 137.
async fn tell_exit(api: &Api, pod: &Value, code: Option<i32>, log: &Path) {
    let code = code.unwrap_or(137);
    let words = fs::read_to_string(log).unwrap_or_default();
    let terminated =
        json!({ "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": words });
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    tell(api, pod, phase, &json!({ "terminated": terminated }), false).await;
}

async fn tell(api: &Api, pod: &Value, phase: &str, state: &Value, is_ready: bool) {
    let container = json!({
        "name": "instance", "image": pod["spec"]["containers"][0]["image"], "imageID": "", "ready": is_ready,
        "restartCount": 0, "state": state,
    });
    let status = json!({
        "phase": phase, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }],
        "startTime": pod["metadata"]["creationTimestamp"], "containerStatuses": [container],
    });
    // A pod that is gone by now has nothing to be told of.
    let _ = api.patch(&format!("{}/status", path(pod)), &json!({ "status": status })).await;
}

fn path(pod: &Value) -> String {
    let (namespace, name) = (&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
    format!("/api/v1/namespaces/{}/pods/{}", namespace.as_str().expect("a namespace"), name.as_str().expect("a name"))
}
