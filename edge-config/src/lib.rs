//! Tidegate's configuration: read in layers, validated as a whole, every problem told at once.
//!
//! # Layers
//!
//! Lowest first, merged key by key with the `config` crate:
//!
//! 1. built-in defaults (in the documentation of each field),
//! 2. a compiled-in [`Profile`], or the layer that `run --model FILE` means,
//! 3. the main file,
//! 4. `conf.d/*.toml` beside it, in the order of their names,
//! 5. the environment: `TIDEGATE__NODE__STATE_DIR=/data` sets `node.state_dir`. A `-` in the name of a service or
//!    adapter may be written `_`; arrays are TOML (`["a", "b"]`); an empty variable goes back to the default,
//! 6. arguments of the command line ([`Override`]).
//!
//! Everything that repeats is a table by name, so a layer can change one key of one service. Arrays are replaced as a
//! whole. Relative paths in a file are relative to that file. Durations are text: `"250ms"`, `"10s"`, `"1h30m"`.
//!
//! # Problems
//!
//! [`load`] gives a [`Config`] whose every value is in range, or [`ConfigErrors`] with everything that is wrong: key,
//! value, what is allowed, file and line. Unknown keys are errors that suggest the nearest key. After a syntax error, or
//! with a file that cannot be read, no values are judged, since what the rest means cannot be known.
//!
//! # Decisions where two keys meet
//!
//! * `mqtt.broker` names a broker elsewhere, and then none is started here; setting `mqtt.listen` or `mqtt.uplink` too is an
//!   error. `mqtt.uplink` names the fleet's brokers beside the embedded one.
//! * Listeners are loopback only, because authentication is not available yet; `gateway.allow_unauthenticated = true`
//!   opens the gateway, and nothing opens the others.
//! * `scaling.threshold` and `band` stand in the metric's unit: fractions for `utilisation` (may exceed 1, up to 10),
//!   `cpu`, `memory` and `network` (at most 1), requests a second for `request_rate`, a duration for `latency_p95`, and its own
//!   unit for a custom one.
//!
//! ```
//! use edge_config::{Profile, Sources, load};
//!
//! let quickstart = Sources { profile: Some(Profile::Quickstart), ..Sources::default() };
//! let config = load(quickstart.env([("TIDEGATE__NODE__ID", "gateway-7")])).unwrap();
//! assert_eq!(config.node.id.as_str(), "gateway-7");
//!
//! let wrong = load(Sources::default().env([("TIDEGATE__NODE__TIK", "1s")])).unwrap_err();
//! assert!(wrong.to_string().contains("did you mean `tick`?"));
//! ```

#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;

mod adapter;
mod budget;
mod change;
mod layers;
mod listen;
mod model_layer;
pub mod models;
mod mqtt;
mod name;
mod node;
mod origin;
mod problem;
mod profile;
mod scaling;
mod schema;
mod section;
mod service;
mod shape;
mod show;
mod sources;
mod toml_layer;

pub use adapter::{Adapter, AdapterKind, Docker, Exec, Kubernetes, KubernetesReach, Process, Ssh, Toleration};
pub use budget::Budget;
pub use change::Change;
pub use listen::{Balance, Console, Gateway};
pub use mqtt::{Broker, BrokerAddress, BrokerTls, Credentials, Hub, Inference, Mqtt, Uplink};
pub use name::{AdapterName, FleetId, NAME_BYTES_MAX, NameError, NodeId, ServiceName};
pub use node::Node;
pub use origin::Origin;
pub use problem::{ConfigErrors, Problem};
pub use profile::{Profile, UnknownProfile};
pub use scaling::{CustomMetric, Metric, MetricSource, Scaling, ScalingPolicy};
pub use schema::schema;
pub use service::{
    Burst, FetchedModel, Local, ModelSource, PlacementRule, Ready, ReplicaEnv, Runtime, Service, ServiceMqtt,
};
pub use sources::{INSTALLED_FILE, Machine, Override, Sources};

use section::{Context, Section};
use service::Surroundings;

/// The tables at the top.
pub(crate) const SECTIONS: [&str; 7] = ["node", "mqtt", "gateway", "console", "service", "adapter", "budget"];

/// A whole configuration; only [`load`] makes one, so every value is in its range and fits the others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[mqtt]`.
    pub mqtt: Mqtt,
    /// `[gateway]`.
    pub gateway: Gateway,
    /// `[console]`.
    pub console: Console,
    /// `[service.NAME]`; there may be none.
    pub services: BTreeMap<ServiceName, Service>,
    /// `[adapter.NAME]`.
    pub adapters: BTreeMap<AdapterName, Adapter>,
    /// `[budget]`.
    pub budget: Budget,
    settings: Vec<show::Setting>,
}

/// Reads and merges the layers and validates the result, telling every problem at once.
pub fn load(sources: Sources) -> Result<Config, ConfigErrors> {
    let merged = layers::merge(&sources);
    if !merged.complete {
        return Err(ConfigErrors::new(merged.problems));
    }
    let (context, table) = Context::new(merged);
    let config = read(Section::root(&context, &table), &sources);
    match context.into_outcome() {
        (problems, settings) if problems.is_empty() => Ok(Config { settings, ..config }),
        (problems, _) => Err(ConfigErrors::new(problems)),
    }
}

impl Config {
    /// The configuration of `run --model path` on this machine, its environment included: a service named by the
    /// file's stem, with two local replicas and the quickstart profile's burst.
    pub fn from_model(path: impl Into<PathBuf>) -> Result<Self, ConfigErrors> {
        load(Sources { model: Some(path.into()), ..Sources::of_process() })
    }

    /// A short hash of what is configured, for announcements: 12 hex digits, the same for two nodes that are
    /// configured alike. `node.id` and the values of replicas' environments do not count.
    pub fn digest(&self) -> String {
        show::digest(&self.settings)
    }

    /// The resolved values as TOML, each with its origin as a comment. Values of replicas' environments are hidden.
    pub fn show(&self) -> String {
        show::show(&self.settings)
    }
}

/// Reads every section, wrong ones too; what comes back counts only if no problem was told.
fn read(mut root: Section<'_>, sources: &Sources) -> Config {
    let [mut node, mut mqtt, mut gateway, mut console, service, adapter, mut budget] =
        SECTIONS.map(|name| root.section(name));
    let read_node = node::read(&mut node, sources);
    let read_mqtt = mqtt::read(&mut mqtt);
    let read_gateway = listen::read_gateway(&mut gateway);
    let read_console = listen::read_console(&mut console);
    let (adapters, adapter_names) = adapter::read_all(&adapter);
    let around = Surroundings { node: &read_node, gateway: &read_gateway, mqtt: &read_mqtt, adapters: &adapter_names };
    let services = service::read_all(&service, &around);
    let read_budget = budget::read(&mut budget);
    budget::check(&mut budget, &read_budget, &adapters, read_node.drain_timeout);
    service::check_adapters(&service, &services, &adapters);
    check_ports(&read_mqtt, &read_gateway, &read_console, &mut mqtt, &mut gateway, &mut console);
    check_peers(&read_node, &read_mqtt, &read_gateway, &mut gateway);
    for section in [node, mqtt, gateway, console, budget, root] {
        section.finish();
    }
    Config {
        node: read_node,
        mqtt: read_mqtt,
        gateway: read_gateway,
        console: read_console,
        services,
        adapters,
        budget: read_budget,
        settings: Vec::new(),
    }
}

/// Nodes find each other on MQTT, and know each other by the fleet's credentials.
fn check_peers(node: &Node, mqtt: &Mqtt, gateway: &Gateway, section: &mut Section<'_>) {
    let advice = match gateway.peer_listen {
        Some(_) if node.credentials.is_none() => {
            "is for nodes of one fleet, which know each other by its credentials; make one with `tidegate fleet enroll` and set \
             node.credentials, or remove it"
        }
        Some(_) if !mqtt.enabled => {
            "is found by the other nodes on MQTT, and mqtt.enabled = false; enable it, or remove this"
        }
        _ => return,
    };
    if section.sound(&["peer_listen"]) {
        section.refuse("peer_listen", advice);
    }
}

/// Each listener has a port of its own. A broken address reads as its default, which clashes with nothing by itself.
fn check_ports(
    mqtt: &Mqtt,
    gateway: &Gateway,
    console: &Console,
    mqtt_section: &mut Section<'_>,
    gateway_section: &mut Section<'_>,
    console_section: &mut Section<'_>,
) {
    let taken_by = |listen, others: &[(&'static str, Option<std::net::SocketAddr>)]| {
        let clash = others.iter().find(|(_, other)| other.is_some_and(|other| listen::clash(listen, other)));
        clash.map(|(name, _)| format!("is the address of {name} too; give each its own port"))
    };
    let broker = ("mqtt.listen", mqtt.embedded_listen());
    let hub = ("mqtt.listen_tls", mqtt.hub().map(|hub| hub.listen));
    let clash = hub.1.and_then(|listen| taken_by(listen, &[broker]));
    if let Some(advice) = clash.filter(|_| mqtt_section.sound(&["listen_tls"])) {
        mqtt_section.refuse("listen_tls", advice);
    }
    if let Some(advice) = taken_by(gateway.listen, &[broker, hub]).filter(|_| gateway_section.sound(&["listen"])) {
        gateway_section.refuse("listen", advice);
    }
    let others = [broker, hub, ("gateway.listen", Some(gateway.listen))];
    let clash = gateway.peer_listen.and_then(|listen| {
        taken_by(listen, &others).or_else(|| taken_by(listen, &[("console.listen", Some(console.listen))]))
    });
    if let Some(advice) = clash.filter(|_| gateway_section.sound(&["peer_listen"])) {
        gateway_section.refuse("peer_listen", advice);
    }
    if let Some(advice) = taken_by(console.listen, &others).filter(|_| console_section.sound(&["listen"])) {
        console_section.refuse("listen", advice);
    }
}
