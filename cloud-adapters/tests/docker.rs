//! The docker adapter against a real `dockerd`, which each test has for itself, and a stand-in for the wrapper: the
//! contract suite, and what is special about containers. Containers are counted by asking the daemon.

/// An engine for this test; without one the test ends here, and has said so.
macro_rules! containers {
    () => {
        match Containers::new() {
            Some(containers) => containers,
            None => return,
        }
    };
}

#[path = "docker/certificates.rs"]
mod certificates;
#[path = "docker/containers.rs"]
mod containers;
#[path = "docker/engine.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod engine;
#[path = "docker/proxy.rs"]
mod proxy;
#[path = "docker/reaching.rs"]
mod reaching;
#[path = "docker/secure_shell.rs"]
mod secure_shell;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_adapters::contract::{self, ContractHarness, Fault, end_reason, id, launch_and_run, owner, until};
use cloud_adapters::deadline::with_deadline;
use cloud_adapters::{
    CloudAdapter, DockerAdapter, DockerOptions, Instance, InstanceState, LaunchId, LaunchRequest, Owner, Pull, Reach,
    Resources, Retry, Secret, TlsIdentity, Verdict,
};
use engine::{Engine, IMAGE};
use secure_shell::SecureShell;

cloud_adapters::contract_tests!(containers!());

/// Generous: the tests run beside others on two cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// One daemon of its own.
struct Containers {
    engine: Engine,
}

impl Containers {
    fn new() -> Option<Self> {
        Engine::start().map(|engine| Self { engine })
    }

    fn options(&self) -> DockerOptions {
        DockerOptions {
            host: Some(format!("unix://{}", self.engine.socket().display())),
            image: Some(IMAGE.to_owned()),
            ..DockerOptions::new("docker", program())
        }
    }

    fn client(&self, options: DockerOptions) -> Arc<dyn CloudAdapter> {
        Arc::new(DockerAdapter::new(options).expect("an address"))
    }

    fn over_tls(&self, tls: cloud_adapters::DockerTls) -> Arc<dyn CloudAdapter> {
        let host = Some(format!("tcp://127.0.0.1:{}", self.engine.tcp_port));
        self.client(DockerOptions { host, tls: Some(tls), ..self.options() })
    }

    fn without_wrapper(&self) -> String {
        let mut tar = tar::Builder::new(Vec::new());
        engine::add(&mut tar, "bin/sh", b"#!/nothing\n", 0o755);
        self.engine.import("bare:1", &[], &tar.into_inner().expect("an archive"));
        "bare:1".to_owned()
    }
}

impl ContractHarness for Containers {
    fn adapter(&self) -> Arc<dyn CloudAdapter> {
        self.client(self.options())
    }

    fn adapter_with_capacity(&self, max_instances: u32) -> Option<Arc<dyn CloudAdapter>> {
        Some(self.client(DockerOptions { max_instances: Some(max_instances), ..self.options() }))
    }

    fn misconfigured(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let image = |image: &str| self.client(DockerOptions { image: Some(image.to_owned()), ..self.options() });
        let socket = |path: PathBuf| {
            self.client(DockerOptions { host: Some(format!("unix://{}", path.display())), ..self.options() })
        };
        let network = |name: &str| self.client(DockerOptions { network: Some(name.to_owned()), ..self.options() });
        let plain = self.engine.path("plain");
        std::fs::write(&plain, "no socket").expect("write");
        let own = DockerOptions { image: None, program: self.engine.path("missing"), ..self.options() };
        vec![
            ("pull or build it", image("no-such-image:1")),
            ("does not hold the wrapper", image(&self.without_wrapper())),
            ("there is no socket", socket(self.engine.path("missing.sock"))),
            ("is no socket", socket(plain)),
            ("use a bridge network", network("host")),
            ("cannot read", self.client(own)),
        ]
    }

    fn request(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["sleep", "600"])
    }

    fn request_that_never_starts(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["/nonexistent/server"])
    }

    fn kill_hard(&self, launch: &LaunchId) {
        self.engine.kill(launch.as_str());
    }

    fn alive(&self, launch: &LaunchId) -> usize {
        self.engine.running(launch.as_str()).len()
    }

    fn public_texts(&self, launch: &LaunchId) -> Vec<String> {
        vec![self.engine.inspect(launch.as_str()).to_string(), self.engine.log(launch.as_str())]
    }

    fn adapter_with_fault(&self, fault: Fault) -> Option<Arc<dyn CloudAdapter>> {
        let socket = proxy::start(self.engine.socket(), fault);
        Some(self.client(DockerOptions { host: Some(format!("unix://{}", socket.display())), ..self.options() }))
    }

    fn with_wrong_credentials(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let files = self.engine.certificates();
        let unreadable = cloud_adapters::DockerTls { key: self.engine.path("missing"), ..files.client() };
        vec![
            ("refuses this client's certificate", self.over_tls(files.stranger())),
            ("is not to be trusted", self.over_tls(files.distrustful())),
            ("cannot read", self.over_tls(unreadable)),
        ]
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// A program that is dynamically linked and is no tidegate; only tests of the node's own image read it.
fn program() -> PathBuf {
    std::env::current_exe().expect("a path")
}

/// With the identity that its listener shows to whoever reaches it from elsewhere.
fn request(launch: &LaunchId, owner: &Owner, argv: &[&str]) -> LaunchRequest {
    let identity = TlsIdentity { certificate: "a certificate\n".into(), key: Secret::new("the-key-of-it") };
    LaunchRequest { identity, ..contract::request(launch, owner, argv) }
}

/// What the instance's front says to whoever connects.
fn greeting(instance: &Instance) -> Option<String> {
    let authority = instance.reach.as_ref().map(Reach::authority)?;
    let mut stream = TcpStream::connect(authority).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}
