//! A cluster of this machine's own for the tests: etcd, the API server, the controllers and the scheduler on loopback
//! ports, with certificates made for the occasion, and a machine whose kubelet is played by `kubelet.rs`.
//!
//! One cluster serves all tests of a process, each in a namespace of its own. Its processes are children of a thread that
//! lives as long as the process, and the kernel kills them with it, however it ends.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::kubelet::{Kubelet, Processes};

/// How long the control plane may take to be there: 4 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Who may do everything.
pub(crate) const ADMIN: &str = "admin-token";
/// Who may do nothing.
pub(crate) const NOBODY: &str = "nobody-token";

pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
    pub(crate) server: String,
    pub(crate) processes: Processes,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

impl Cluster {
    /// The cluster of this process, started by whoever asks first.
    pub(crate) fn shared() -> &'static Self {
        CLUSTER.get_or_init(|| {
            let (sender, receiver) = sync_channel(1);
            // The kernel kills a child with the thread that made it, so this one never ends.
            std::thread::spawn(move || Self::run(&sender));
            receiver.recv_timeout(START_TIMEOUT).expect("a cluster; see its logs below target/tmp")
        })
    }

    fn run(started: &std::sync::mpsc::SyncSender<Self>) {
        let folder = fresh_folder();
        let (server, _control_plane) = start_control_plane(&folder);
        let processes = Processes::default();
        let cluster = Self { folder: folder.clone(), server, processes: Arc::clone(&processes) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let api = cluster.api(ADMIN).await;
            until_ready(&api).await;
            let kubelet = Kubelet::register(api, folder.join("pods"), processes).await;
            started.send(cluster).expect("somebody waits");
            kubelet.run().await;
        });
    }

    /// The API by the token of a user.
    pub(crate) async fn api(&self, token: &str) -> Api {
        let path = self.kubeconfig("api", &self.server, token);
        let file = Kubeconfig::read_from(&path).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a config");
        Api(Client::try_from(config).expect("a client"))
    }

    /// A kubeconfig for a user, at an address.
    pub(crate) fn kubeconfig(&self, name: &str, server: &str, token: &str) -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let path = self.folder.join(format!("{name}-{}.kubeconfig", COUNT.fetch_add(1, Ordering::Relaxed)));
        write_kubeconfig(&path, &self.folder, server, token);
        path
    }

    /// Asks the API from a test's own thread.
    pub(crate) fn wait<T: Send>(&self, ask: impl AsyncFnOnce(Api) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async { ask(self.api(ADMIN).await).await })
            });
            asking.join().expect("an answer")
        })
    }
}

/// The API, asked with JSON and paths.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Client);

impl Api {
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, kube::Error> {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("content-type", content_type).body(body).expect("a request");
        self.0.request(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, kube::Error> {
        self.ask("GET", path, "application/json", Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, kube::Error> {
        self.ask("POST", path, "application/json", body.to_string().into()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, kube::Error> {
        self.ask("PATCH", path, "application/merge-patch+json", body.to_string().into()).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &Value) -> Result<Value, kube::Error> {
        self.ask("DELETE", path, "application/json", body.to_string().into()).await
    }
}

fn fresh_folder() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubernetes");
    for entry in fs::read_dir(&all).into_iter().flatten().flatten() {
        let is_left_over = !Path::new("/proc").join(entry.file_name()).exists();
        if is_left_over {
            // Another run may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = all.join(std::process::id().to_string());
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The server's address, and the programs, which live as long as the thread that calls.
fn start_control_plane(folder: &Path) -> (String, [Child; 4]) {
    let [etcd, peer, secure] = free_ports();
    make_certificates(folder);
    let tokens = format!("{ADMIN},admin,1,\"system:masters\"\n{NOBODY},nobody,2\n");
    fs::write(folder.join("tokens.csv"), tokens).expect("write");
    let etcd = format!("http://127.0.0.1:{etcd}");
    let peer = format!("http://127.0.0.1:{peer}");
    let server = format!("https://127.0.0.1:{secure}");
    let path = |name: &str| folder.join(name).display().to_string();
    let flags =
        |flags: &[(&str, &str)]| flags.iter().map(|(name, value)| format!("--{name}={value}")).collect::<Vec<_>>();
    let store = start(
        folder,
        "etcd",
        &flags(&[
            ("data-dir", &path("etcd")),
            ("listen-client-urls", &etcd),
            ("advertise-client-urls", &etcd),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster", &format!("default={peer}")),
            ("log-level", "error"),
        ]),
    );
    let api_server = start(
        folder,
        "kube-apiserver",
        &flags(&[
            ("etcd-servers", &etcd),
            ("bind-address", "127.0.0.1"),
            // An address of documentation (RFC 5737): nobody asks there, and the server insists on one that is no loopback.
            ("advertise-address", "192.0.2.1"),
            ("endpoint-reconciler-type", "none"),
            ("secure-port", &secure.to_string()),
            ("tls-cert-file", &path("server.pem")),
            ("tls-private-key-file", &path("server.key")),
            ("client-ca-file", &path("ca.pem")),
            ("cert-dir", &path("certs")),
            ("token-auth-file", &path("tokens.csv")),
            ("authorization-mode", "RBAC"),
            ("service-cluster-ip-range", "10.96.0.0/16"),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("service-account-key-file", &path("accounts.pem")),
            ("service-account-signing-key-file", &path("accounts.key")),
            // Machines would stay tainted as not ready: nobody plays the controller that takes the taint away.
            ("disable-admission-plugins", "TaintNodesByCondition"),
            // Owning what holds up a Job's end takes a right of its own on some clusters: the Role has to give it.
            ("enable-admission-plugins", "OwnerReferencesPermissionEnforcement"),
        ]),
    );
    let kubeconfig = folder.join("controllers.kubeconfig");
    write_kubeconfig(&kubeconfig, folder, &server, ADMIN);
    let kubeconfig = kubeconfig.display().to_string();
    let controllers = start(
        folder,
        "kube-controller-manager",
        &flags(&[
            ("kubeconfig", &kubeconfig),
            ("controllers", "job,garbagecollector,serviceaccount,resourcequota,namespace"),
            ("leader-elect", "false"),
            ("port", "0"),
            ("secure-port", "0"),
            ("kube-api-qps", "500"),
            ("kube-api-burst", "1000"),
        ]),
    );
    let scheduler =
        [("kubeconfig", kubeconfig.as_str()), ("leader-elect", "false"), ("port", "0"), ("secure-port", "0")];
    let scheduler = start(folder, "kube-scheduler", &flags(&scheduler));
    (server, [store, api_server, controllers, scheduler])
}

/// Taken and given back: nobody else on this machine is given the same ones so soon.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn start(folder: &Path, program: &str, arguments: &[String]) -> Child {
    let log =
        || fs::File::options().create(true).append(true).open(folder.join(format!("{program}.log"))).expect("a log");
    let binaries = std::env::var("TIDEGATE_KUBERNETES_API")
        .expect("set TIDEGATE_KUBERNETES_API to the folder that tests/kubernetes/build prints");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(Path::new(&binaries).join(program))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log())
        .stderr(log())
        .spawn()
        .expect("a program of the control plane")
}

fn make_certificates(folder: &Path) {
    fs::write(
        folder.join("openssl.cnf"),
        "[req]\ndistinguished_name=name\n[name]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n[server]\n\
         basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n",
    )
    .expect("write");
    let new = "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(folder, &format!("{new} -extensions ca -subj /CN=tests -keyout ca.key -out ca.pem"));
    let signed = "-CA ca.pem -CAkey ca.key -extensions server -subj /CN=127.0.0.1 -keyout server.key -out server.pem";
    openssl(folder, &format!("{new} {signed}"));
    openssl(folder, "genrsa -out accounts.key 2048");
    openssl(folder, "rsa -in accounts.key -pubout -out accounts.pem");
}

fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().expect("openssl");
    assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

fn write_kubeconfig(path: &Path, folder: &Path, server: &str, token: &str) {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": { "server": server, "certificate-authority": folder.join("ca.pem") } }],
        "users": [{ "name": "user", "user": { "token": token } }],
        "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "user" } }],
        "current-context": "tests",
    });
    // JSON is YAML.
    fs::write(path, kubeconfig.to_string()).expect("write");
}

async fn until_ready(api: &Api) {
    let deadline = Instant::now() + START_TIMEOUT;
    while api.get("/api/v1/namespaces/default").await.is_err() {
        assert!(Instant::now() < deadline, "the API server does not come up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
