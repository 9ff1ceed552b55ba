//! A changed configuration, taken up while the node runs: all of it or nothing, and in both cases said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloud_adapters::CloudAdapter;
use edge_config::{AdapterName, Config};
use tokio::sync::mpsc;

use super::{NodeError, Options, parts, peers};
use crate::actors::publisher::Report;
use crate::actors::{burst, discovery, local_runner, monitor, scheduler};
use crate::console::ConfigView;
use crate::gateway::Gateway;
use crate::host::clock::rfc3339_now;
use crate::wire::{EventData, EventKind};

/// What a changed configuration is to the control plane, and what is told of it.
pub(super) enum Order {
    /// Take this up.
    Reconfigure(Box<Reconfigured>),
    /// Tell this.
    Tell(Box<Report>),
}

/// For each actor what it has of a configuration.
pub(super) struct Reconfigured {
    pub(super) local: local_runner::Reconfigure,
    pub(super) monitor: monitor::Reconfigure,
    pub(super) burst: burst::Reconfigure,
    pub(super) scheduler: scheduler::Reconfigure,
    pub(super) discovery: discovery::Reconfigure,
}

/// Orders that may wait for the control thread: an operator sends one at a time.
pub(super) const ORDERS: usize = 8;
/// What an event says of one attempt; a file may be wrong in every line.
const MOST_TOLD: usize = 20;

/// Characters of one problem: what a program says of a model may be of any length, and an event is under 64 KiB.
const LONGEST_PROBLEM: usize = 500;

/// The configuration in force, and the last attempt to change it.
pub(super) struct Reload {
    options: Options,
    gateway: Arc<Gateway>,
    orders: mpsc::Sender<Order>,
    state: Mutex<State>,
}

struct State {
    config: Config,
    attempts: u64,
    applied_at: Option<String>,
    changed: Vec<String>,
    problems: Vec<String>,
}

impl Reload {
    pub(super) fn new(config: Config, options: Options, gateway: Arc<Gateway>, orders: mpsc::Sender<Order>) -> Self {
        let state = State { config, attempts: 0, applied_at: None, changed: Vec::new(), problems: Vec::new() };
        Self { options, gateway, orders, state: Mutex::new(state) }
    }

    /// Takes all of it up, or nothing; names the keys that changed.
    pub(super) fn apply(&self, config: &Config) -> Result<Vec<String>, Vec<String>> {
        let change = self.state().config.change_to(config);
        if !change.at_start.is_empty() {
            let told = change.at_start.iter().map(|key| format!("{key} changes only with a restart of the node"));
            return Err(self.reject(told.collect()));
        }
        let mut reconfigured = match self.reconfigured(config) {
            Ok(reconfigured) => reconfigured,
            Err(error) => return Err(self.reject(vec![error.to_string()])),
        };
        // Full where the control thread stands still, and then nothing is taken up by halves.
        let Ok(room) = self.orders.try_reserve() else {
            return Err(self.reject(vec!["the control plane takes no orders; try again".to_owned()]));
        };
        // First: a table of routes that comes for a new service finds it.
        self.gateway.reconfigure(parts::service_options(config));
        reconfigured.monitor.0 = self.gateway.all_counters();
        room.send(Order::Reconfigure(Box::new(reconfigured)));
        peers::warn_of_no_guests(config);
        let mut state = self.state();
        state.config = config.clone();
        state.attempts += 1;
        (state.applied_at, state.problems) = (Some(rfc3339_now()), Vec::new());
        state.changed.clone_from(&change.live);
        drop(state);
        let reason = match listed(&change.live) {
            keys if keys.is_empty() => "nothing has changed".to_owned(),
            keys => format!("changed: {keys}"),
        };
        self.tell(EventKind::ConfigApplied, EventData { reason: Some(reason), ..EventData::default() });
        Ok(change.live)
    }

    /// Notes and tells that a configuration was not taken up, and why.
    pub(super) fn reject(&self, problems: Vec<String>) -> Vec<String> {
        let problems: Vec<String> = problems.into_iter().map(|problem| cut(&problem)).collect();
        let mut state = self.state();
        state.attempts += 1;
        state.problems = problems.clone();
        drop(state);
        let error = Some(format!("the former configuration stays in force: {}", listed(&problems)));
        self.tell(EventKind::ConfigRejected, EventData { error, ..EventData::default() });
        problems
    }

    pub(super) fn view(&self) -> ConfigView {
        let state = self.state();
        ConfigView {
            digest: state.config.digest(),
            attempts: state.attempts,
            applied_at: state.applied_at.clone(),
            changed: state.changed.clone(),
            problems: state.problems.clone(),
        }
    }

    /// All but the counters, which the gateway makes.
    fn reconfigured(&self, config: &Config) -> Result<Reconfigured, NodeError> {
        let own = std::env::current_exe()?;
        // The instances of a service that is gone stay where they are until the scheduler ends them, once nobody waits for an answer.
        let mut services = parts::services_with_adapters(&self.state().config);
        services.extend(parts::services_with_adapters(config));
        Ok(Reconfigured {
            local: local_runner::Reconfigure(parts::local_services(config, &own)),
            monitor: monitor::Reconfigure(BTreeMap::new()),
            burst: burst::Reconfigure {
                adapters: parts::adapter_settings(config)?,
                providers: self.new_providers(config, &own)?,
                services,
                workloads: parts::workloads(config),
                caps: parts::caps(config)?,
            },
            scheduler: scheduler::Reconfigure(parts::scaling(config, &self.options)),
            discovery: discovery::Reconfigure { facts: parts::facts(config), config_digest: config.digest() },
        })
    }

    fn new_providers(&self, config: &Config, own: &Path) -> Result<BTreeMap<String, Arc<dyn CloudAdapter>>, NodeError> {
        let state = self.state();
        let is_new = |name: &&AdapterName| !state.config.adapters.contains_key(*name);
        let new = config.adapters.keys().filter(is_new).map(|name| parts::provider_of(config, name, own));
        new.collect()
    }

    fn tell(&self, kind: EventKind, data: EventData) {
        if self.orders.try_send(Order::Tell(Box::new(Report { kind, data }))).is_err() {
            tracing::warn!(kind = kind.as_str(), "an event was not told: the control plane takes no orders");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(problem: &str) -> String {
    match problem.char_indices().nth(LONGEST_PROBLEM) {
        Some((at, _)) => format!("{}…", &problem[..at]),
        None => problem.to_owned(),
    }
}

fn listed(all: &[String]) -> String {
    let told = &all[..all.len().min(MOST_TOLD)];
    match all.len() - told.len() {
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}
