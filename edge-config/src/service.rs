//! `[service.NAME]`: how a service runs here, where it bursts to, how it scales.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapter::{Adapter, TEXT, is_region};
use crate::listen::{BALANCE, Balance, Gateway, QUEUE, REQUEST_TIMEOUT};
use crate::model_layer::BUILTIN_PREFIX;
use crate::mqtt::Mqtt;
use crate::name::{AdapterName, ServiceName};
use crate::node::Node;
use crate::problem::{nearest, one_of};
use crate::scaling::{self, MetricSource, Scaling};
use crate::section::Section;
use crate::shape::{Choice, Count, Cpus, FilePath, Flag, Input, Least, Number, Parsed, Shape, Span, Variables, Words};
use crate::show::toml_text;

/// `[service.NAME]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// How far requests may travel. Default `any`.
    pub placement: PlacementRule,
    /// The regions that its requests may go to; empty for all. Default empty.
    pub residency: Vec<String>,
    /// Whether other nodes of the fleet may have its requests while this one is busy, and this one theirs. Default true.
    pub peers: bool,
    /// Requests that may wait. Default `gateway.queue`.
    pub queue: u32,
    /// How long a request may take, waiting included. Default `gateway.request_timeout`.
    pub request_timeout: Duration,
    /// Whether a request may be sent again to another replica, whatever its method. Default false.
    pub repeatable: bool,
    /// How a replica is picked. Default `gateway.balance`.
    pub balance: Balance,
    /// How it is asked over MQTT; `None`: it is not.
    pub mqtt: Option<ServiceMqtt>,
    /// How it runs on this machine.
    pub local: Local,
    /// How it bursts; `None` keeps it on this machine.
    pub burst: Option<Burst>,
    /// When replicas come and go.
    pub scaling: Scaling,
}

impl Service {
    /// Most instances at once: 0 when the service stays here.
    pub fn instances_max(&self) -> u32 {
        match (&self.burst, self.placement) {
            (Some(burst), PlacementRule::Any | PlacementRule::Site) => burst.max_replicas,
            _ => 0,
        }
    }

    /// Whether its instances may be launched at an adapter, by placement and residency.
    pub fn may_use(&self, adapter: &Adapter) -> bool {
        self.placement != PlacementRule::Local
            && adapter.is_allowed(self.placement == PlacementRule::Site, &self.residency)
    }
}

/// `[service.NAME.mqtt]`, where it is enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceMqtt {
    /// What is posted to at the service. Default `/v2/models/NAME/infer` for `onnx`, `/` for `process`.
    pub path: String,
}

/// How far a service's requests may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementRule {
    /// This node only.
    Local,
    /// The nodes of this site, but no cloud.
    Site,
    /// Wherever an adapter reaches.
    Any,
}

/// `[service.NAME.local]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Local {
    /// What a replica runs.
    pub runtime: Runtime,
    /// Environment variables of each replica.
    pub env: ReplicaEnv,
    /// How a replica shows that it is ready. Default `/v2/health/ready` for `onnx`, `tcp` for `process`.
    pub ready: Ready,
    /// How long a replica may take to become ready. Default 30 s.
    pub ready_timeout: Duration,
    /// Most replicas on this machine. Default 1.
    pub max_replicas: u32,
    /// Requests that one replica takes at once. Default 1.
    pub concurrency: u32,
    /// CPUs that the replicas are held to, sorted; without it, any.
    pub cpus: Option<Vec<usize>>,
    /// Longest wait before a replica that failed is started again. Default 30 s.
    pub restart_backoff_max: Duration,
}

/// What a local replica runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Runtime {
    /// The built-in ONNX engine.
    Onnx {
        /// The model.
        model: ModelSource,
        /// Threads per replica. Default 1.
        threads: u32,
    },
    /// Any server.
    Process {
        /// Program and arguments, at least the program; `{port}` stands for the port to listen on, as does `$PORT`.
        command: Vec<String>,
    },
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSource {
    /// The digits model that is compiled in: [`crate::models::DIGITS_ONNX`].
    BuiltinDigits,
    /// A file, absolute. Whether it is there and a model, the model server says.
    File(PathBuf),
}

impl fmt::Display for ModelSource {
    /// As it may stand in a configuration: `builtin:digits`, or the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltinDigits => write!(f, "{BUILTIN_PREFIX}digits"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How a replica shows that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready {
    /// It accepts a connection.
    Tcp,
    /// It answers a GET of this path with 2xx.
    Http(String),
}

/// Environment variables, whose values may be secrets: neither `Debug` nor `Config::show` prints them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReplicaEnv(BTreeMap<String, String>);

impl ReplicaEnv {
    pub(crate) fn new(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for ReplicaEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// `[service.NAME.burst]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Burst {
    /// Where instances may be launched, at least one, each once.
    pub adapters: Vec<AdapterName>,
    /// Most instances at once; 0 pauses bursting. Default 1.
    pub max_replicas: u32,
    /// What an instance runs; without it, what a local replica runs.
    pub command: Option<Vec<String>>,
    /// The image that holds it, for adapters that run images; without it, the adapter's own.
    pub image: Option<String>,
    /// Where an instance fetches the model by itself; without it, the model of this machine goes along.
    pub model: Option<FetchedModel>,
    /// Files of this machine that an instance gets, by the name that `{file:NAME}` in the command stands for.
    pub files: BTreeMap<String, PathBuf>,
    /// So many instances first are launched where nobody takes them away. Default 0.
    pub on_demand_floor: u32,
    /// Thousandths of a CPU for each instance; without it, what the provider gives.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory for each instance; without it, what the provider gives.
    pub memory_bytes: Option<u64>,
    /// GPUs for each instance. Default 0.
    pub gpus: u32,
}

/// A model that stands in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedModel {
    /// Its address, `http://` or `https://`.
    pub url: String,
    /// What it must be: the SHA-256 in 64 hexadecimal digits.
    pub sha256: String,
}

/// What services need to know of the rest of the configuration.
pub(crate) struct Surroundings<'a> {
    pub(crate) node: &'a Node,
    pub(crate) gateway: &'a Gateway,
    pub(crate) mqtt: &'a Mqtt,
    pub(crate) adapters: &'a [&'a str],
}

/// Reads every service.
pub(crate) fn read_all(section: &Section<'_>, around: &Surroundings<'_>) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    for (name, mut service) in section.named() {
        let valid = ServiceName::new(name).map_err(|error| service.refuse_table(format!("as a name {error}")));
        if let (Ok(name), Some(read)) = (valid, read(name, &mut service, around)) {
            services.insert(name, read);
        }
        service.finish();
    }
    services
}

fn read(name: &str, section: &mut Section<'_>, around: &Surroundings<'_>) -> Option<Service> {
    let gateway = around.gateway;
    let placement = section.get("placement", &PLACEMENT, PlacementRule::Any);
    let residency = section.optional("residency", &RESIDENCY).unwrap_or_default();
    let peers = section.get("peers", &Flag, true);
    let queue = section.get("queue", &QUEUE, gateway.queue);
    let request_timeout = section.get("request_timeout", &REQUEST_TIMEOUT, gateway.request_timeout);
    let repeatable = section.get("repeatable", &Flag, false);
    let balance = section.get("balance", &BALANCE, gateway.balance);
    let mut parts = Parts {
        mqtt: section.section("mqtt"),
        local: section.section("local"),
        burst: section.section("burst"),
        scaling: section.section("scaling"),
    };
    let local = read_local(&mut parts.local);
    let burst = parts.burst.is_present().then(|| read_burst(&mut parts.burst, around.adapters));
    let scaling = scaling::read(&mut parts.scaling, around.node);
    let is_heard = scaling.custom.as_ref().is_some_and(|custom| matches!(custom.source, MetricSource::Topic(_)));
    if is_heard && !around.mqtt.enabled {
        parts.scaling.refuse("metric", "needs mqtt.enabled = true: without it there is no broker to hear a topic from");
    }
    let mqtt = read_mqtt(name, &mut parts.mqtt, local.as_ref(), around.mqtt);
    if let Some(local) = &local {
        parts.check_minimum(local, burst.as_ref(), &scaling);
        parts.check_fetched_model(local, burst.as_ref());
    }
    parts.finish();
    Some(Service {
        placement,
        residency,
        peers,
        queue,
        request_timeout,
        repeatable,
        balance,
        mqtt,
        local: local?,
        burst,
        scaling,
    })
}

struct Parts<'a> {
    mqtt: Section<'a>,
    local: Section<'a>,
    burst: Section<'a>,
    scaling: Section<'a>,
}

impl Parts<'_> {
    fn check_minimum(&mut self, local: &Local, burst: Option<&Burst>, scaling: &Scaling) {
        let most = local.max_replicas + burst.map_or(0, |burst| burst.max_replicas);
        let sound = self.local.sound(&["max_replicas"]) && self.burst.sound(&["max_replicas"]);
        if sound && self.scaling.sound(&["min_replicas"]) && scaling.min_replicas > most {
            let advice = format!("must be at most {most}, which is local.max_replicas and burst.max_replicas together");
            self.scaling.refuse("min_replicas", advice);
        }
    }

    /// A model is for the built-in server; a command of one's own fetches what it needs.
    fn check_fetched_model(&mut self, local: &Local, burst: Option<&Burst>) {
        let is_served = matches!(local.runtime, Runtime::Onnx { .. });
        let Some(burst) = burst.filter(|burst| burst.model.is_some()) else { return };
        if burst.command.is_some() || !is_served {
            let advice = "is for what the built-in server runs (runtime = \"onnx\" and no burst.command); remove it, and \
                          have your own command fetch what it needs";
            self.burst.refuse("model", advice.to_owned());
        }
    }

    fn finish(self) {
        self.mqtt.finish();
        self.local.finish();
        if self.burst.is_present() {
            self.burst.finish();
        }
        self.scaling.finish();
    }
}

fn read_mqtt(name: &str, section: &mut Section<'_>, local: Option<&Local>, mqtt: &Mqtt) -> Option<ServiceMqtt> {
    let is_enabled = section.get("enabled", &Flag, false);
    let usual = match local.map(|local| &local.runtime) {
        Some(Runtime::Process { .. }) => "/".to_owned(),
        _ => format!("/v2/models/{name}/infer"),
    };
    let path = section.get("path", &PATH, usual);
    if is_enabled && !mqtt.enabled {
        section.refuse("enabled", "needs mqtt.enabled = true: without it there is no broker to be asked through");
    }
    is_enabled.then_some(ServiceMqtt { path })
}

pub(crate) const PATH: Parsed<String> = Parsed {
    allowed: "a path as in \"/classify\"",
    parse: |text| match text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        true => Ok(text.to_owned()),
        false => Err("must be a path as in \"/classify\"".to_owned()),
    },
    show: String::clone,
    secret: false,
};

fn read_local(section: &mut Section<'_>) -> Option<Local> {
    let runtime = read_runtime(section);
    let ready_by_default = match &runtime {
        Some(Runtime::Process { .. }) => Ready::Tcp,
        _ => Ready::Http("/v2/health/ready".to_owned()),
    };
    let env = section.get("env", &Variables, BTreeMap::new());
    let ready = section.get("ready", &READY, ready_by_default);
    let ready_timeout = section.get("ready_timeout", &READY_TIMEOUT, Duration::from_secs(30));
    let max_replicas = section.get("max_replicas", &Count(1..=256), 1);
    let concurrency = section.get("concurrency", &Count(1..=10_000), 1);
    let cpus = section.optional("cpus", &Cpus);
    let restart_backoff_max = section.get("restart_backoff_max", &BACKOFF, Duration::from_secs(30));
    Some(Local {
        runtime: runtime?,
        env: ReplicaEnv(env),
        ready,
        ready_timeout,
        max_replicas,
        concurrency,
        cpus,
        restart_backoff_max,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum RuntimeKind {
    Onnx,
    Process,
}

fn read_runtime(section: &mut Section<'_>) -> Option<Runtime> {
    match section.required("runtime", &RUNTIME) {
        Some(RuntimeKind::Onnx) => {
            section.foreign("command", "is for runtime = \"process\"; remove it, or change the runtime");
            let model = section.required("model", &Model);
            let threads = section.get("threads", &Count(1..=256), 1);
            Some(Runtime::Onnx { model: model?, threads })
        }
        Some(RuntimeKind::Process) => {
            for key in ["model", "threads"] {
                section.foreign(key, "is for runtime = \"onnx\"; remove it, or change the runtime");
            }
            Some(Runtime::Process { command: section.required("command", &COMMAND)? })
        }
        None => {
            section.leave(&["model", "command", "threads"]);
            None
        }
    }
}

fn read_burst(section: &mut Section<'_>, known: &[&str]) -> Burst {
    let names = section.required("adapters", &Words("an array of adapters' names, as in [\"demo-cloud\"]"));
    let adapters = names.map_or(Vec::new(), |names| checked_adapters(section, &names, known));
    Burst {
        adapters,
        max_replicas: section.get("max_replicas", &Count(0..=10_000), 1),
        command: section.optional("command", &COMMAND),
        image: section.optional("image", &TEXT),
        model: read_fetched_model(section),
        files: read_files(section),
        on_demand_floor: section.get("on_demand_floor", &Count(0..=10_000), 0),
        cpu_millis: section.optional("cpus", &CPUS).map(millis),
        memory_bytes: section.optional("memory_mib", &Count(16_u64..=16_777_216)).map(|mib| mib << 20),
        gpus: section.get("gpus", &Count(0..=64), 0),
    }
}

/// An address and a digest, or neither.
fn read_fetched_model(section: &mut Section<'_>) -> Option<FetchedModel> {
    let (url, sha256) = (section.optional("model", &MODEL_URL), section.optional("model_sha256", &SHA256));
    match (url, sha256) {
        (Some(url), Some(sha256)) => Some(FetchedModel { url, sha256 }),
        (Some(_), None) if section.sound(&["model_sha256"]) => {
            section.refuse("model_sha256", format!("is missing; with burst.model it must be {}", SHA256.allowed));
            None
        }
        (None, Some(_)) if section.sound(&["model"]) => {
            section.refuse("model", format!("is missing; with burst.model_sha256 it must be {}", MODEL_URL.allowed));
            None
        }
        _ => None,
    }
}

const MODEL_URL: Parsed<String> = Parsed {
    allowed: "the address of an ONNX file, as in \"https://models.example/digits.onnx\"",
    parse: |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        match !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace) {
            true => Ok(text.to_owned()),
            false => {
                Err("must be an address that begins with https:// or http:// and a host, without user and password"
                    .to_owned())
            }
        }
    },
    show: String::clone,
    secret: false,
};

const SHA256: Parsed<String> = Parsed {
    allowed: "64 hexadecimal digits, as `sha256sum FILE` shows them",
    parse: |text| match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_owned()),
        false => Err("must be 64 hexadecimal digits, as `sha256sum FILE` shows them".to_owned()),
    },
    show: String::clone,
    secret: false,
};

/// The files by name, each told where it is missing.
fn read_files(section: &mut Section<'_>) -> BTreeMap<String, PathBuf> {
    let files = section.section("files");
    let names = files.names();
    let mut found = BTreeMap::new();
    for name in names {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match files.named_value(name, &FilePath) {
            Some(_) if !is_name || name.starts_with('.') => {
                files.refuse_named(name, "must be named with letters, digits, ., _ and -, not beginning with a dot");
            }
            Some(path) if !path.is_file() => {
                files.refuse_named(name, "is no file on this machine; name one that is there");
            }
            Some(path) => drop(found.insert(name.to_owned(), path)),
            None => {}
        }
    }
    found
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range of CPUS")]
fn millis(cpus: f64) -> u32 {
    (cpus * 1000.0).round() as u32
}

/// What can only be told once services and adapters are read: who may go where, and what is only on this machine.
pub(crate) fn check_adapters(
    section: &Section<'_>,
    services: &BTreeMap<ServiceName, Service>,
    adapters: &BTreeMap<AdapterName, Adapter>,
) {
    for (name, mut table) in section.named() {
        let Some(service) = services.iter().find(|(known, _)| known.as_str() == name).map(|(_, service)| service)
        else {
            continue;
        };
        let Some(burst) = &service.burst else { continue };
        let mut burst_table = table.section("burst");
        let known: Vec<_> = burst.adapters.iter().filter_map(|name| adapters.get_key_value(name)).collect();
        let stays_here = service.placement == PlacementRule::Local;
        if !stays_here && !known.is_empty() && !known.iter().any(|(_, adapter)| service.may_use(adapter)) {
            burst_table.refuse("adapters", no_adapter_allowed(service));
        }
        for (adapter_name, adapter) in known {
            if let Some(what) = service.only_here().filter(|_| !adapter.kind.takes_files()) {
                let advice = format!(
                    "names {:?}, which brings no files of this machine to its instances, and {what} is one; have instances \
                     fetch a model with burst.model and burst.model_sha256, or put the file into the image and name what \
                     to run there with burst.command",
                    adapter_name.as_str()
                );
                burst_table.refuse("adapters", advice);
            }
            if burst.image.is_some() && !adapter.kind.runs_images() {
                let advice = format!(
                    "names {:?}, which runs no images, so that burst.image would go unheeded there; take either out, or \
                     split the service into two",
                    adapter_name.as_str()
                );
                burst_table.refuse("adapters", advice);
            }
        }
    }
}

fn no_adapter_allowed(service: &Service) -> String {
    match service.placement {
        PlacementRule::Site => {
            "names no adapter that this service may use: with placement = \"site\" it needs one with site = true"
                .to_owned()
        }
        _ => {
            let regions = one_of(service.residency.iter().map(String::as_str));
            format!("names no adapter that this service may use: its residency needs one with region = {regions}")
        }
    }
}

fn checked_adapters(section: &mut Section<'_>, names: &[String], known: &[&str]) -> Vec<AdapterName> {
    let mut adapters: Vec<AdapterName> = Vec::new();
    for name in names {
        if !known.contains(&name.as_str()) {
            section.refuse("adapters", no_such_adapter(name, known));
        } else if adapters.iter().any(|adapter| adapter.as_str() == name) {
            section.refuse("adapters", format!("names {name:?} twice"));
        } else {
            // A bad name is told where the adapter stands.
            adapters.extend(AdapterName::new(name.as_str()));
        }
    }
    adapters
}

fn no_such_adapter(name: &str, known: &[&str]) -> String {
    let hint = match (nearest(name, known.iter().copied()), known) {
        (Some(near), _) => format!("did you mean {near:?}?"),
        (None, []) => format!("add a table [adapter.{name}]"),
        (None, _) => format!("there is {}", one_of(known.iter().copied())),
    };
    format!("names {name:?}, and no adapter is called that; {hint}")
}

impl Service {
    /// What an instance would need of this machine's disk, in words.
    fn only_here(&self) -> Option<String> {
        let burst = self.burst.as_ref()?;
        let file = burst.files.values().next().map(|path| format!("the file {}", path.display()));
        let model = match (&self.local.runtime, &burst.command) {
            (Runtime::Onnx { model: ModelSource::File(path), .. }, None) if burst.model.is_none() => {
                Some(format!("the model {}", path.display()))
            }
            _ => None,
        };
        file.or(model)
    }
}

/// Regions that a service's requests may go to.
struct Residency;

const RESIDENCY: Residency = Residency;

impl Shape for Residency {
    type Out = Vec<String>;

    fn allowed(&self) -> String {
        REGIONS.allowed()
    }

    fn schema(&self) -> serde_json::Map<String, serde_json::Value> {
        REGIONS.schema()
    }

    fn read(&self, input: &Input<'_>) -> Result<Vec<String>, String> {
        let regions = REGIONS.read(input)?;
        if regions.iter().all(|region| is_region(region)) { Ok(regions) } else { Err(self.must()) }
    }

    fn show(&self, value: &Vec<String>) -> String {
        REGIONS.show(value)
    }
}

const REGIONS: Words = Words("an array of regions, as in [\"eu-central\", \"eu-west\"]");

/// From a hundredth of a CPU to more than any machine has.
const CPUS: Number = Number { least: Least::From(0.01), to: 1024.0, unit: "a number of CPUs" };

const PLACEMENT: Choice<PlacementRule> = Choice {
    words: &[("any", PlacementRule::Any), ("site", PlacementRule::Site), ("local", PlacementRule::Local)],
    later: &[],
};

const RUNTIME: Choice<RuntimeKind> = Choice {
    words: &[("onnx", RuntimeKind::Onnx), ("process", RuntimeKind::Process)],
    later: &["container", "external"],
};

const COMMAND: Words = Words("an array of text, as in [\"python3\", \"app.py\", \"--port\", \"{port}\"]");

/// Big models on slow disks take many minutes to load.
const READY_TIMEOUT: Span = Span(Duration::from_millis(100)..=Duration::from_secs(3600));

/// Under 100 ms a replica that fails at once would keep a core busy with starting it.
const BACKOFF: Span = Span(Duration::from_millis(100)..=Duration::from_secs(3600));

const READY: Parsed<Ready> = Parsed {
    allowed: "\"tcp\", or a path as in \"/health\"",
    parse: |text| match text {
        "tcp" => Ok(Ready::Tcp),
        path if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Ready::Http(path.to_owned()))
        }
        _ => Err("must be \"tcp\", or a path as in \"/health\"".to_owned()),
    },
    show: |ready| match ready {
        Ready::Tcp => "tcp".to_owned(),
        Ready::Http(path) => path.clone(),
    },
    secret: false,
};

/// A model: a path, or one that is compiled in.
struct Model;

impl Shape for Model {
    type Out = ModelSource;

    fn allowed(&self) -> String {
        format!("the path of an .onnx file, or \"{BUILTIN_PREFIX}digits\"")
    }

    fn read(&self, input: &Input<'_>) -> Result<ModelSource, String> {
        match input.text().and_then(|text| text.strip_prefix(BUILTIN_PREFIX)) {
            Some("digits") => Ok(ModelSource::BuiltinDigits),
            Some(_) => Err(self.must()),
            None => FilePath.read(input).map(ModelSource::File).map_err(|_| self.must()),
        }
    }

    fn show(&self, value: &ModelSource) -> String {
        toml_text(&value.to_string())
    }
}
