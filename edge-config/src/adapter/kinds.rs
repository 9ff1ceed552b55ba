//! What each kind of adapter has to know beside the price.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::KIND;
use crate::section::Section;
use crate::service::ReplicaEnv;
use crate::shape::{Address, Choice, Count, Cpus, FilePath, Flag, Parsed, Span, Variables, Words};

/// What launches instances.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AdapterKind {
    /// Processes on this machine, each with an identity and a lease of its own.
    Process(Process),
    /// Containers at a Docker Engine.
    Docker(Docker),
    /// Processes on another machine that is reached by SSH.
    Ssh(Ssh),
    /// Whatever a program of the operator's launches.
    Exec(Exec),
    /// Jobs in a Kubernetes cluster.
    Kubernetes(Kubernetes),
}

impl AdapterKind {
    /// The word in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Docker(_) => "docker",
            Self::Ssh(_) => "ssh",
            Self::Exec(_) => "exec",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// Whether the image that a service names is run.
    pub fn runs_images(&self) -> bool {
        match self {
            Self::Process(_) | Self::Ssh(_) => false,
            Self::Exec(exec) => exec.runs_images,
            Self::Docker(_) | Self::Kubernetes(_) => true,
        }
    }

    /// Whether files of this machine are brought to the instances.
    pub fn takes_files(&self) -> bool {
        match self {
            Self::Process(_) | Self::Docker(_) | Self::Ssh(_) => true,
            Self::Exec(exec) => exec.takes_files,
            Self::Kubernetes(_) => false,
        }
    }
}

/// Kind `process`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// CPUs that instances are held to, sorted; without it, any.
    pub cpus: Option<Vec<usize>>,
}

/// Kind `docker`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Docker {
    /// The engine; without it `DOCKER_HOST`, else the local socket.
    pub host: Option<String>,
    /// The image of services that name none; without it, one made from this program.
    pub image: Option<String>,
    /// Whether an image that is missing at the engine is pulled. Default false.
    pub pull: bool,
    /// The address that ports are published on.
    pub publish: Option<IpAddr>,
    /// Certificates for an engine that is reached by TCP: its authority, and the client's certificate and key.
    pub tls: Option<[PathBuf; 3]>,
}

/// Kind `ssh`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ssh {
    /// The machine's name or address.
    pub host: String,
    /// Its SSH port; without it 22, or what the configuration file of `ssh` says.
    pub port: Option<u16>,
    /// Who to be there; without it, who the node is.
    pub user: Option<String>,
    /// The private key; without it, what the SSH client has.
    pub key: Option<PathBuf>,
    /// The file that knows the machine's host key; without it, the user's own.
    pub known_hosts: Option<PathBuf>,
    /// A configuration file of `ssh`, as for a jump host; without it none, not even the user's own.
    pub ssh_config: Option<PathBuf>,
    /// Where instances live there; without it `.tidegate` in the home directory.
    pub directory: Option<String>,
    /// Bytes of data that a process of an instance may have.
    pub memory_bytes: Option<u64>,
    /// CPUs there that instances are held to, sorted; without it, any.
    pub cpus: Option<Vec<usize>>,
    /// How far instances step back behind other work there, 0 to 19. Default 0.
    pub niceness: u8,
}

/// Kind `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment beside `PATH`, `HOME` and `LANG`.
    pub env: ReplicaEnv,
    /// More of it, whose values are hidden in whatever the program says.
    pub secrets: ReplicaEnv,
    /// Whether it launches images. Default false.
    pub runs_images: bool,
    /// Whether it brings files of this machine to the instances. Default false.
    pub takes_files: bool,
    /// Where the wrapper listens in the instance. Default `0.0.0.0:8443`.
    pub listen: Option<SocketAddr>,
    /// Where the wrapper keeps its things in the instance, `{launch}` being the launch id. Default `/run/tidegate`.
    pub instance_dir: Option<String>,
    /// The wrapper listens with the launch's certificate; only a way that is private may do without. Default true.
    pub tls: bool,
}

/// Kind `kubernetes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kubernetes {
    /// The file with cluster and credentials; without it `KUBECONFIG`, the user's own, or those of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; without it, its current one.
    pub context: Option<String>,
    /// Where jobs are made. Default `default`.
    pub namespace: String,
    /// The image of services that name none.
    pub image: Option<String>,
    /// How instances are reached. Default `port-forward`.
    pub reach: KubernetesReach,
    /// Labels of the machines that may be used.
    pub node_selector: BTreeMap<String, String>,
    /// Secrets with which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// The service account of the pods.
    pub service_account: Option<String>,
    /// The name under which the cluster counts GPUs. Default `nvidia.com/gpu`.
    pub gpu_resource: String,
    /// The host name of an ingress, with `{launch}` in it; for `reach = "ingress"`.
    pub ingress_host: Option<String>,
    /// The ingress class; without it, the cluster's default.
    pub ingress_class: Option<String>,
    /// The secret with the certificate of the ingress; without it, its own.
    pub ingress_tls_secret: Option<String>,
    /// The machine to ask with `reach = "node-port"`; without it, the one that the instance runs on.
    pub node_address: Option<String>,
    /// Taints of machines that instances put up with.
    pub tolerations: Vec<Toleration>,
    /// The priority class of instances.
    pub priority_class: Option<String>,
    /// The user and group that instances run as; without it, the image's own.
    pub run_as_user: Option<u32>,
    /// The cluster itself ends each instance after so long.
    pub max_life: Option<Duration>,
}

/// A taint that instances put up with: `KEY`, `KEY=VALUE`, each with `:EFFECT` or without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Toleration {
    /// The taint's key.
    pub key: String,
    /// Its value; `None` for any.
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; `None` for all three.
    pub effect: Option<String>,
}

impl Toleration {
    fn parse(text: &str) -> Option<Self> {
        let (taint, effect) = match text.split_once(':') {
            Some((taint, effect)) => (taint, Some(effect)),
            None => (text, None),
        };
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (taint, None),
        };
        let known = effect.is_none_or(|effect| ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect));
        (known && !key.is_empty()).then(|| Self { key: key.to_owned(), value, effect: effect.map(ToOwned::to_owned) })
    }
}

/// How instances in a cluster are reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KubernetesReach {
    /// Through the API server; works wherever `kubectl` does.
    #[default]
    PortForward,
    /// At the pods' own addresses, from inside the cluster's network.
    Pod,
    /// At a service of type NodePort.
    NodePort,
    /// At a load balancer of the cloud that the cluster runs in.
    LoadBalancer,
    /// At the provider's name for an ingress.
    Ingress,
}

/// The word for a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Process,
    Docker,
    Ssh,
    Exec,
    Kubernetes,
}

/// The keys of each kind; those of another are told as such.
const KEYS: [(Word, &str, &[&str]); 5] = [
    (Word::Process, "process", &["cpus"]),
    (Word::Docker, "docker", &["host", "image", "pull", "publish", "tls_ca", "tls_cert", "tls_key"]),
    (
        Word::Ssh,
        "ssh",
        &["host", "port", "user", "key", "known_hosts", "ssh_config", "directory", "memory_mib", "cpus", "niceness"],
    ),
    (Word::Exec, "exec", &["command", "env", "secrets", "runs_images", "takes_files", "listen", "instance_dir", "tls"]),
    (
        Word::Kubernetes,
        "kubernetes",
        &[
            "kubeconfig",
            "context",
            "namespace",
            "image",
            "reach",
            "node_selector",
            "image_pull_secrets",
            "service_account",
            "gpu_resource",
            "ingress_host",
            "ingress_class",
            "ingress_tls_secret",
            "node_address",
            "tolerations",
            "priority_class",
            "run_as_user",
            "max_life",
        ],
    ),
];

/// Reads the kind and its keys.
pub(super) fn read(section: &mut Section<'_>) -> Option<AdapterKind> {
    let Some(word) = section.required("kind", &KIND) else {
        KEYS.iter().for_each(|(_, _, keys)| section.leave(keys));
        return None;
    };
    let kind = match word {
        Word::Process => Some(AdapterKind::Process(Process { cpus: section.optional("cpus", &Cpus) })),
        Word::Docker => Some(AdapterKind::Docker(read_docker(section))),
        Word::Ssh => read_ssh(section).map(AdapterKind::Ssh),
        Word::Exec => read_exec(section).map(AdapterKind::Exec),
        Word::Kubernetes => Some(AdapterKind::Kubernetes(read_kubernetes(section))),
    };
    refuse_others(section, word);
    kind
}

fn refuse_others(section: &mut Section<'_>, word: Word) {
    let own = |key: &str| KEYS.iter().any(|(of, _, keys)| *of == word && keys.contains(&key));
    for (_, name, keys) in KEYS.iter().filter(|(of, _, _)| *of != word) {
        for key in keys.iter().filter(|key| !own(key)) {
            // A key of two other kinds is told once.
            if section.sound(&[key]) {
                section.foreign(key, &format!("is for kind = {name:?}; remove it, or change the kind"));
            }
        }
    }
}

fn read_docker(section: &mut Section<'_>) -> Docker {
    let files = ["tls_ca", "tls_cert", "tls_key"].map(|key| section.optional(key, &FilePath));
    let some = files.iter().filter(|file| file.is_some()).count();
    let tls = match files {
        [Some(ca), Some(cert), Some(key)] => Some([ca, cert, key]),
        _ => None,
    };
    if tls.is_none() && some > 0 && section.sound(&["tls_ca", "tls_cert", "tls_key"]) {
        section.refuse("tls_cert", "needs the others: set tls_ca, tls_cert and tls_key, or none of them");
    }
    Docker {
        host: section.optional("host", &DOCKER_HOST),
        image: section.optional("image", &TEXT),
        pull: section.get("pull", &Flag, false),
        publish: section.optional("publish", &IP_ADDRESS),
        tls,
    }
}

fn read_ssh(section: &mut Section<'_>) -> Option<Ssh> {
    let ssh = Ssh {
        port: section.optional("port", &Count(1..=65_535)),
        user: section.optional("user", &TEXT),
        key: section.optional("key", &FilePath),
        known_hosts: section.optional("known_hosts", &FilePath),
        ssh_config: section.optional("ssh_config", &FilePath),
        directory: section.optional("directory", &TEXT),
        memory_bytes: section.optional("memory_mib", &Count(16_u64..=16_777_216)).map(|mib| mib << 20),
        cpus: section.optional("cpus", &Cpus),
        niceness: section.get("niceness", &Count(0..=19), 0),
        host: section.required("host", &TEXT)?,
    };
    Some(ssh)
}

fn read_exec(section: &mut Section<'_>) -> Option<Exec> {
    let env = section.get("env", &Variables, BTreeMap::new());
    let secrets = section.get("secrets", &Variables, BTreeMap::new());
    let exec = Exec {
        env: ReplicaEnv::new(env),
        secrets: ReplicaEnv::new(secrets),
        runs_images: section.get("runs_images", &Flag, false),
        takes_files: section.get("takes_files", &Flag, false),
        listen: section.optional("listen", &Address),
        instance_dir: section.optional("instance_dir", &TEXT),
        tls: section.get("tls", &Flag, true),
        command: section.required("command", &COMMAND)?,
    };
    Some(exec)
}

fn read_kubernetes(section: &mut Section<'_>) -> Kubernetes {
    let reach = section.get("reach", &REACH, KubernetesReach::PortForward);
    let ingress_host = section.optional("ingress_host", &INGRESS_HOST);
    if reach == KubernetesReach::Ingress && ingress_host.is_none() && section.sound(&["ingress_host"]) {
        section.refuse(
            "ingress_host",
            format!("is missing; with reach = \"ingress\" it must be {}", INGRESS_HOST.allowed),
        );
    }
    Kubernetes {
        kubeconfig: section.optional("kubeconfig", &FilePath),
        context: section.optional("context", &TEXT),
        namespace: section.get("namespace", &TEXT, "default".to_owned()),
        image: section.optional("image", &TEXT),
        reach,
        node_selector: section.get("node_selector", &Variables, BTreeMap::new()),
        image_pull_secrets: section.optional("image_pull_secrets", &PULL_SECRETS).unwrap_or_default(),
        service_account: section.optional("service_account", &TEXT),
        gpu_resource: section.get("gpu_resource", &TEXT, "nvidia.com/gpu".to_owned()),
        ingress_host,
        ingress_class: section.optional("ingress_class", &TEXT),
        ingress_tls_secret: section.optional("ingress_tls_secret", &TEXT),
        node_address: section.optional("node_address", &TEXT),
        tolerations: read_tolerations(section),
        priority_class: section.optional("priority_class", &TEXT),
        run_as_user: section.optional("run_as_user", &Count(0..=u32::MAX)),
        max_life: section.optional("max_life", &MAX_LIFE),
    }
}

fn read_tolerations(section: &mut Section<'_>) -> Vec<Toleration> {
    let words = section.optional("tolerations", &TOLERATIONS).unwrap_or_default();
    let read: Vec<Option<Toleration>> = words.iter().map(|word| Toleration::parse(word)).collect();
    if read.iter().any(Option::is_none) {
        section.refuse("tolerations", format!("must be {}", TOLERATIONS.0));
    }
    read.into_iter().flatten().collect()
}

/// Text that is passed on: an image, a user, a name at the provider.
pub(crate) const TEXT: Parsed<String> = Parsed {
    allowed: "a text without spaces that does not begin with -",
    parse: |text| match !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| !c.is_whitespace()) {
        true => Ok(text.to_owned()),
        false => Err("must be a text without spaces that does not begin with -".to_owned()),
    },
    show: String::clone,
    secret: false,
};

const DOCKER_HOST: Parsed<String> = Parsed {
    allowed: "unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST",
    parse: |text| match ["unix:///", "tcp://", "ssh://"].iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text.to_owned()),
        false => Err("must be unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST".to_owned()),
    },
    show: String::clone,
    secret: false,
};

const IP_ADDRESS: Parsed<IpAddr> = Parsed {
    allowed: "an IP address of the engine's machine, as in \"0.0.0.0\"",
    parse: |text| {
        text.parse().map_err(|_| "must be an IP address of the engine's machine, as in \"0.0.0.0\"".to_owned())
    },
    show: ToString::to_string,
    secret: false,
};

const INGRESS_HOST: Parsed<String> = Parsed {
    allowed: "a host name with {launch} in it, as in \"{launch}.burst.example.org\"",
    parse: |text| match text.contains("{launch}") {
        true => Ok(text.to_owned()),
        false => Err("must be a host name with {launch} in it, as in \"{launch}.burst.example.org\"".to_owned()),
    },
    show: String::clone,
    secret: false,
};

const REACH: Choice<KubernetesReach> = Choice {
    words: &[
        ("port-forward", KubernetesReach::PortForward),
        ("pod", KubernetesReach::Pod),
        ("node-port", KubernetesReach::NodePort),
        ("load-balancer", KubernetesReach::LoadBalancer),
        ("ingress", KubernetesReach::Ingress),
    ],
    later: &[],
};

const COMMAND: Words = Words("an array of text, as in [\"python3\", \"adapter.py\"]");
const TOLERATIONS: Words = Words(
    "an array of taints, as in [\"gpu=true:NoSchedule\"]; the effect is NoSchedule, PreferNoSchedule or NoExecute",
);
const PULL_SECRETS: Words = Words("an array of secrets' names");

/// A provider that ends instances sooner than after a minute is no place to burst to; a month is longer than any lease.
const MAX_LIFE: Span = Span(Duration::from_secs(60)..=Duration::from_secs(31 * 86_400));
