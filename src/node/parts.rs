//! From the configuration to what each part is made with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::{CloudAdapter, ReadyCheck, Resources, deadline};
use edge_config::{Adapter, AdapterName, Config, ModelSource, PlacementRule, Ready, Runtime, Service};

use super::{Addresses, NodeError, Options, providers};
use crate::actors::burst::{AdapterSlot, Workload, status_of_row};
use crate::actors::discovery::ServiceFacts;
use crate::actors::local_runner::LocalService;
use crate::actors::publisher::Identity;
use crate::console::{About, History, PastDecision, Recorded};
use crate::gateway::{GatewayOptions, ServiceOptions};
use crate::host::call::ReadyProbe;
use crate::host::clock::{rfc3339, unix_ms_now};
use crate::host::process::Program;
use crate::journal::{self, Decided, Journal};
use crate::logic::breaker::{self, Backoff};
use crate::logic::budget::{Caps, Money, Terms};
use crate::logic::burst::AdapterSettings;
use crate::logic::plan::Cloud;
use crate::logic::policy::{self, Bounds, Policy, concurrency, predictive, threshold};
use crate::logic::route::Balance;
use crate::logic::service::ServiceSettings;
use crate::tls::Dialer;
use crate::wire::EventData;

/// A provider's call that takes longer is as good as failed.
const ADAPTER_DEADLINE: Duration = Duration::from_secs(60);
/// An adapter is left alone after so many failures in a row, for so long.
pub(super) const CIRCUIT: breaker::Config = breaker::Config {
    failures: 3,
    open: Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(300) },
    probe_timeout: Duration::from_secs(60),
};

/// A provider that is full is asked again after about so long, and at most after so long.
const FULL: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// How often the providers' lists are compared with what is known.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// Where instances are taken away: the shortest notice that a large cloud gives is 30 s (Azure, Google Cloud), of which some
/// are for the requests in flight.
const LIST_SPOT_EVERY: Duration = Duration::from_secs(10);

pub(super) fn data_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).clamp(1, 4)
}

pub(super) fn identity(config: &Config, session: u64) -> Identity {
    Identity { fleet: config.node.fleet.to_string(), node: config.node.id.to_string(), session }
}

pub(super) fn about(config: &Config, options: &Options, identity: &Identity, addresses: Addresses) -> About {
    let mqtt = addresses.mqtt.map(|address| address.to_string());
    let external = match &config.mqtt.broker {
        edge_config::Broker::External { address, .. } if config.mqtt.enabled => Some(address.to_string()),
        _ => None,
    };
    About {
        node: identity.node.clone(),
        fleet: identity.fleet.clone(),
        session: identity.session,
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        gateway: Some(addresses.gateway),
        console: Some(addresses.console),
        mqtt: mqtt.or(external),
        no_cloud: options.no_cloud.is_some(),
        state_dir: config.node.state_dir.display().to_string(),
    }
}

/// Secures connections to instances; trusts the configured authorities beside the public ones.
pub(super) fn dialer(config: &Config) -> Result<Dialer, NodeError> {
    Dialer::new(config.node.ca_file.as_deref()).map_err(|error| NodeError::Setting(format!("node.ca_file: {error}")))
}

pub(super) fn gateway_options(config: &Config, dialer: Dialer) -> GatewayOptions {
    GatewayOptions {
        dialer,
        max_connections: config.gateway.max_connections as usize,
        replay_bytes: usize::try_from(config.gateway.replay_bytes).unwrap_or(usize::MAX),
        drain_timeout: config.node.drain_timeout.mul_f64(super::DRAIN_SHARE_OF_REQUESTS),
        ..GatewayOptions::default()
    }
}

pub(super) fn service_options(config: &Config) -> Vec<ServiceOptions> {
    let services = config.services.iter().map(|(name, service)| ServiceOptions {
        name: name.to_string(),
        queue: service.queue as usize,
        request_timeout: service.request_timeout,
        max_body_bytes: config.gateway.max_body_bytes,
        repeatable: service.repeatable,
        balance: balance(service.balance),
        guests: super::peers::takes_guests(config, service),
        by_message: service.mqtt.is_some(),
    });
    services.collect()
}

fn balance(balance: edge_config::Balance) -> Balance {
    match balance {
        edge_config::Balance::LeastRequest => Balance::LeastRequest,
        edge_config::Balance::RoundRobin => Balance::RoundRobin,
        edge_config::Balance::WeightedRoundRobin => Balance::WeightedRoundRobin,
        _ => Balance::PeakEwma,
    }
}

pub(super) fn scaling(config: &Config, options: &Options) -> Vec<ServiceSettings> {
    let all = config.services.iter().map(|(name, service)| {
        let burst_max = service.instances_max();
        let adapters = allowed_adapters(config, service);
        ServiceSettings {
            name: name.to_string(),
            policy: policy(config, service, &adapters),
            window: service.scaling.window,
            custom_per_replica: service.scaling.custom.as_ref().is_some_and(|custom| custom.per_replica),
            bounds: Bounds { min: service.scaling.min_replicas, max: service.local.max_replicas + burst_max },
            concurrency: service.local.concurrency,
            local_max: service.local.max_replicas,
            burst_max,
            on_demand_floor: service.burst.as_ref().map_or(0, |burst| burst.on_demand_floor),
            cloud: cloud(service, options),
            adapters,
            peers: super::peers::rule(config, service),
            guests: super::peers::takes_guests(config, service),
        }
    });
    all.collect()
}

/// The adapters that a service names, and that its placement and residency let it use.
fn allowed_adapters(config: &Config, service: &Service) -> BTreeSet<String> {
    let named = service.burst.iter().flat_map(|burst| &burst.adapters);
    let allowed = named.filter(|name| config.adapters.get(*name).is_some_and(|adapter| service.may_use(adapter)));
    allowed.map(ToString::to_string).collect()
}

/// Each service that bursts, with the adapters that it may use.
pub(super) fn services_with_adapters(config: &Config) -> BTreeMap<String, BTreeSet<String>> {
    let bursting = config.services.iter().filter(|(_, service)| service.burst.is_some());
    bursting.map(|(name, service)| (name.to_string(), allowed_adapters(config, service))).collect()
}

fn cloud(service: &Service, options: &Options) -> Cloud {
    match (&options.no_cloud, service.placement) {
        (Some(why), _) => Cloud::Forbidden(why.clone()),
        (None, PlacementRule::Any | PlacementRule::Site) => Cloud::Allowed,
        (None, _) => Cloud::Forbidden("the service's placement keeps it on this machine".to_owned()),
    }
}

fn policy(config: &Config, service: &Service, adapters: &BTreeSet<String>) -> Policy {
    let policies = service.scaling.policies.iter().map(|policy| one_policy(*policy, config, service, adapters));
    let mut policies: Vec<_> = policies.collect();
    if policies.len() == 1 { policies.remove(0) } else { Policy::Largest(policies) }
}

fn one_policy(
    policy: edge_config::ScalingPolicy,
    config: &Config,
    service: &Service,
    adapters: &BTreeSet<String>,
) -> Policy {
    let scaling = &service.scaling;
    match policy {
        edge_config::ScalingPolicy::Concurrency => Policy::Concurrency(concurrency::Config {
            target: scaling.target_utilisation * f64::from(service.local.concurrency),
            scale_down_delay: scaling.scale_down_delay,
            ..concurrency::Config::new(service.local.concurrency)
        }),
        edge_config::ScalingPolicy::Predictive => Policy::Predictive(predictive::Config::new(
            service.local.concurrency,
            scaling.late_after,
            late_price(config, scaling.late_request_cost, adapters),
        )),
        _ => Policy::Threshold(threshold::Config {
            metric: metric(scaling.metric),
            threshold: scaling.threshold,
            scale_factor: scaling.scale_factor,
            interval: scaling.interval,
            band: scaling.band,
        }),
    }
}

/// A late request's cost as the time of an instance that costs as much, at the cheapest adapter that costs anything.
fn late_price(config: &Config, cost: Option<f64>, adapters: &BTreeSet<String>) -> Option<Duration> {
    let prices = config.adapters.iter().filter(|(name, _)| adapters.contains(name.as_str()));
    let cheapest =
        prices.map(|(_, adapter)| adapter.price_per_hour).filter(|price| *price > 0.0).min_by(f64::total_cmp);
    cost.zip(cheapest).map(|(cost, price)| predictive::late_price(cost, price))
}

fn metric(metric: edge_config::Metric) -> policy::Metric {
    match metric {
        edge_config::Metric::Cpu => policy::Metric::Cpu,
        edge_config::Metric::Memory => policy::Metric::Memory,
        edge_config::Metric::Network => policy::Metric::Network,
        edge_config::Metric::RequestRate => policy::Metric::RequestRate,
        edge_config::Metric::LatencyP95 => policy::Metric::LatencyP95,
        edge_config::Metric::Custom => policy::Metric::Custom,
        _ => policy::Metric::Utilisation,
    }
}

/// What announcements say of each service.
pub(super) fn facts(config: &Config) -> BTreeMap<String, ServiceFacts> {
    let facts = config.services.iter().map(|(name, service)| {
        let placement = match service.placement {
            PlacementRule::Local => crate::wire::PlacementRule::Local,
            PlacementRule::Site => crate::wire::PlacementRule::Site,
            PlacementRule::Any => crate::wire::PlacementRule::Any,
            _ => crate::wire::PlacementRule::Other,
        };
        (name.to_string(), ServiceFacts { protocol: protocol(&service.local.runtime), placement })
    });
    facts.collect()
}

pub(super) fn protocol(runtime: &Runtime) -> &'static str {
    match runtime {
        Runtime::Onnx { .. } => "oip-v2",
        _ => "http",
    }
}

/// How each service runs on this box.
pub(super) fn local_services(config: &Config, own: &Path) -> BTreeMap<String, LocalService> {
    let services = config.services.iter().map(|(name, service)| {
        let local = &service.local;
        let program = Program {
            path: own.to_owned(),
            arguments: local_arguments(name.as_str(), service, config.node.drain_timeout),
            environment: local.env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            service: name.to_string(),
            replica: String::new(),
        };
        let runs = LocalService {
            program,
            ready: match &local.ready {
                Ready::Http(path) => ReadyProbe::Http(path.clone()),
                _ => ReadyProbe::Tcp,
            },
            ready_timeout: local.ready_timeout,
            longest_backoff: local.restart_backoff_max,
            drain_timeout: config.node.drain_timeout.mul_f64(0.5),
        };
        (name.to_string(), runs)
    });
    services.collect()
}

fn local_arguments(name: &str, service: &Service, drain_timeout: Duration) -> Vec<String> {
    let cpus =
        service.local.cpus.as_ref().map(|cpus| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    let cpus = cpus.map(|list| vec!["--cpus".to_owned(), list]).unwrap_or_default();
    match &service.local.runtime {
        Runtime::Process { command } => {
            // Ends its group before the node loses patience with it.
            let grace = humantime::format_duration(drain_timeout.mul_f64(0.3)).to_string();
            let mut arguments = strings(&["wrap", "--shim", "--grace", &grace]);
            arguments.extend(cpus);
            arguments.push("--".to_owned());
            arguments.extend(command.iter().cloned());
            arguments
        }
        Runtime::Onnx { model, .. } => {
            let mut arguments = model_arguments(name, service, &model.to_string());
            arguments.extend(cpus);
            arguments.push("--watch-stdin".to_owned());
            arguments
        }
        _ => Vec::new(),
    }
}

fn model_arguments(name: &str, service: &Service, model: &str) -> Vec<String> {
    let Runtime::Onnx { threads, .. } = &service.local.runtime else { return Vec::new() };
    strings(&[
        "model",
        "serve",
        model,
        "--name",
        name,
        "--port",
        "{port}",
        "--threads",
        &threads.to_string(),
        "--concurrency",
        &service.local.concurrency.to_string(),
    ])
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The name under which an instance's arguments speak of the service's model file.
const MODEL_FILE: &str = "model.onnx";

/// What an instance of each service runs: the burst command, or what runs here.
pub(super) fn workloads(config: &Config) -> BTreeMap<String, Workload> {
    let bursting = config.services.iter().filter_map(|(name, service)| {
        let burst = service.burst.as_ref()?;
        let ready = match &service.local.ready {
            Ready::Http(path) => ReadyCheck::Http { path: path.clone() },
            _ => ReadyCheck::Tcp,
        };
        let (argv, own_files) = instance_command(name.as_str(), service, burst);
        let workload = cloud_adapters::Workload {
            image: burst.image.clone(),
            argv,
            env: service.local.env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            files: burst.files.clone().into_iter().chain(own_files).collect(),
            resources: Resources { cpu_millis: burst.cpu_millis, memory_bytes: burst.memory_bytes, gpus: burst.gpus },
        };
        Some((name.to_string(), Workload { workload, ready, concurrency: service.local.concurrency }))
    });
    bursting.collect()
}

/// The command, and the files of this box that it needs: a model that stands in a file goes along, unless instances fetch it.
fn instance_command(
    name: &str,
    service: &Service,
    burst: &edge_config::Burst,
) -> (Vec<String>, Option<(String, PathBuf)>) {
    match (&burst.command, &service.local.runtime) {
        (Some(command), _) | (None, Runtime::Process { command }) => (command.clone(), None),
        (None, Runtime::Onnx { model, .. }) => {
            let (model, file) = match (&burst.model, model) {
                (Some(fetched), _) => (fetched.url.clone(), None),
                (None, ModelSource::File(path)) => {
                    (format!("{{file:{MODEL_FILE}}}"), Some((MODEL_FILE.to_owned(), path.clone())))
                }
                (None, builtin) => (builtin.to_string(), None),
            };
            let mut argv = vec![cloud_adapters::wrapper::PROGRAM.to_owned()];
            argv.extend(model_arguments(name, service, &model));
            if let Some(fetched) = &burst.model {
                argv.extend(strings(&["--sha256", &fetched.sha256]));
            }
            (argv, file)
        }
        _ => (Vec::new(), None),
    }
}

/// The journal, for a console that asks how things were.
pub(super) fn history(journal: Arc<Journal>, node: String) -> History {
    Arc::new(move |days| {
        let (journal, node) = (journal.clone(), node.clone());
        let since_ms = unix_ms_now() - i64::from(days) * DAY_MS;
        Box::pin(async move {
            let rows = journal.rows_since(since_ms).await.map_err(|error| error.to_string())?;
            Ok(rows.iter().map(|row| status_of_row(row, &node)).collect())
        })
    })
}

const DAY_MS: i64 = 24 * 3_600_000;

/// The recordings on disk, for a console that asks what was decided.
pub(super) fn recorded(state_dir: PathBuf) -> Recorded {
    let events = |service: String, all: Vec<Decided>| {
        let event = |one: Decided| PastDecision {
            time: rfc3339(one.at_ms),
            data: EventData {
                service: Some(service.clone()),
                reason: Some(one.why),
                wanted: Some(one.wanted),
                ..EventData::default()
            },
        };
        all.into_iter().map(event).collect()
    };
    Arc::new(move |service| {
        let state_dir = state_dir.clone();
        Box::pin(async move {
            let name = service.clone();
            let read = tokio::task::spawn_blocking(move || journal::decided(&state_dir, &name)).await;
            let all = read.map_err(|error| error.to_string())?.map_err(|error| format!("recordings: {error}"))?;
            Ok(events(service, all))
        })
    })
}

/// Each configured adapter, with what it costs and how long it may take.
pub(super) fn adapters(config: &Config, own: &Path) -> Result<BTreeMap<String, AdapterSlot>, NodeError> {
    let slots = config
        .adapters
        .iter()
        .map(|(name, adapter)| Ok((name.to_string(), slot(config, name.as_str(), adapter, own)?)));
    slots.collect()
}

/// What stands in the way of each.
pub(super) fn check_adapters(config: &Config, own: &Path) -> Vec<Result<(), NodeError>> {
    config.adapters.iter().map(|(name, adapter)| slot(config, name.as_str(), adapter, own).map(drop)).collect()
}

/// What the engine is to know of each adapter.
pub(super) fn adapter_settings(config: &Config) -> Result<BTreeMap<String, AdapterSettings>, NodeError> {
    let adapters = config.adapters.iter();
    adapters.map(|(name, adapter)| Ok((name.to_string(), settings_of(config, name.as_str(), adapter)?))).collect()
}

/// The provider's side of one, by its name.
pub(super) fn provider_of(
    config: &Config,
    name: &AdapterName,
    own: &Path,
) -> Result<(String, Arc<dyn CloudAdapter>), NodeError> {
    let adapter = config.adapters.get(name).ok_or_else(|| NodeError::Setting(format!("there is no adapter {name}")))?;
    Ok((name.to_string(), slot(config, name.as_str(), adapter, own)?.adapter))
}

fn slot(config: &Config, name: &str, adapter: &Adapter, own: &Path) -> Result<AdapterSlot, NodeError> {
    let provider = providers::provider(config, name, adapter, own)?;
    let provider: Arc<dyn CloudAdapter> = Arc::new(deadline::with_deadline(provider, ADAPTER_DEADLINE));
    Ok(AdapterSlot { adapter: provider, settings: settings_of(config, name, adapter)? })
}

fn settings_of(config: &Config, name: &str, adapter: &Adapter) -> Result<AdapterSettings, NodeError> {
    Ok(AdapterSettings {
        terms: Terms {
            price_per_hour: money(&format!("adapter.{name}.price_per_hour"), adapter.price_per_hour)?,
            minimum_billing: adapter.minimum_billing,
            billing_step: adapter.billing_step,
        },
        lease_ttl: adapter.lease_ttl,
        start_timeout: adapter.start_timeout,
        drain_timeout: config.node.drain_timeout.mul_f64(0.5),
        max: adapter.max_instances.unwrap_or(u32::MAX),
        spot: adapter.spot,
        // Every instance is a wrapper, whose lease ends it; a bound of the provider can only come earlier.
        max_life: None,
        circuit: CIRCUIT,
        full: FULL,
        list_every: if adapter.spot { LIST_SPOT_EVERY } else { LIST_EVERY },
    })
}

pub(super) fn caps(config: &Config) -> Result<Caps, NodeError> {
    let cap = |key: &str, amount: Option<f64>| amount.map(|amount| money(key, amount)).transpose();
    Ok(Caps {
        per_hour: cap("budget.per_hour", config.budget.per_hour)?,
        per_day: cap("budget.per_day", config.budget.per_day)?,
    })
}

fn money(key: &str, units: f64) -> Result<Money, NodeError> {
    Money::from_units(units).ok_or_else(|| NodeError::Setting(format!("{key} = {units} is not an amount of money")))
}
