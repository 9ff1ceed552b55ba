//! How the adapter is set up: which cluster, what instances run there, and how the edge gets to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How long an instance may take from its Job to its running container, unless set. A cluster autoscaler brings a GPU
/// machine in about five minutes, and an image of ten gigabytes takes as long again.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// How a Kubernetes adapter is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesOptions {
    /// The adapter's name in the configuration, for what is said about it.
    pub name: String,
    /// The kubeconfig file; `None` for the one that `KUBECONFIG` or the home directory names, else the credentials of
    /// the pod that the node itself runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; `None` for its current one.
    pub context: Option<String>,
    /// The namespace that instances live in. It has to be there.
    pub namespace: String,
    /// The image of workloads that name none.
    pub image: Option<String>,
    /// Where `tidegate` lies in the image.
    pub wrapper: String,
    /// How the edge reaches an instance.
    pub reach: ReachBy,
    /// Labels that a machine of the cluster must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of machines that instances put up with.
    pub tolerations: Vec<Toleration>,
    /// Names of the Secrets that hold the registry's credentials.
    pub image_pull_secrets: Vec<String>,
    /// The resource that a GPU is.
    pub gpu_resource: String,
    /// The service account of instances; `None` for the namespace's own. Its token is mounted for neither.
    pub service_account: Option<String>,
    /// The priority class of instances.
    pub priority_class: Option<String>,
    /// The user and group id that the container runs as; `None` for the image's own, root included.
    pub run_as_user: Option<u32>,
    /// The most instances alive in the namespace, of every node. Two nodes that launch in the same moment may exceed
    /// it by one each: a ResourceQuota is what the cluster itself enforces.
    pub max_instances: Option<u32>,
    /// How long the cluster lets an instance live, renewed or not.
    pub max_life: Option<Duration>,
    /// How long an instance may take to run before it is told as ended.
    pub start_timeout: Duration,
}

/// How the edge reaches an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachBy {
    /// At the pod's address, with TLS that the edge pins: for a node within the cluster's network.
    PodAddress,
    /// Through a Service of its own, with TLS that the edge pins.
    Service(Exposure),
    /// By a name at the cluster's ingress, whose TLS it is.
    Ingress(IngressRule),
    /// Through the API server, with no way to the cluster but that: slower, for a few requests at a time.
    PortForward,
}

/// What kind of Service an instance gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    /// A port on every machine of the cluster.
    NodePort {
        /// The machine to ask; `None` for the one that the instance runs on, at its address within the cluster.
        address: Option<String>,
    },
    /// A load balancer of the cloud that the cluster runs in. It takes a minute, and costs.
    LoadBalancer,
}

/// The Ingress that an instance gets. The ingress ends TLS and passes requests on as HTTP within the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngressRule {
    /// The name of an instance, in which `{launch}` becomes its launch id: `{launch}.burst.example.com`.
    pub host: String,
    /// The ingress class; `None` for the cluster's default.
    pub class: Option<String>,
    /// The Secret with the certificate of the host; `None` where the ingress has a default one.
    pub tls_secret: Option<String>,
    /// Annotations that the ingress controller reads.
    pub annotations: BTreeMap<String, String>,
}

/// A taint that instances put up with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; `None` for every taint.
    pub key: Option<String>,
    /// The taint's value; `None` for any.
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; `None` for all three.
    pub effect: Option<String>,
}

impl KubernetesOptions {
    /// A namespace of whichever cluster the environment names, its instances reached at their pod addresses.
    pub fn new(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kubeconfig: None,
            context: None,
            namespace: namespace.into(),
            image: None,
            wrapper: "/usr/local/bin/tidegate".into(),
            reach: ReachBy::PodAddress,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            image_pull_secrets: Vec::new(),
            gpu_resource: "nvidia.com/gpu".into(),
            service_account: None,
            priority_class: None,
            run_as_user: None,
            max_instances: None,
            max_life: None,
            start_timeout: START_TIMEOUT,
        }
    }
}
