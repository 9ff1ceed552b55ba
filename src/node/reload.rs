//! A changed configuration, taken up while the node runs: all of it or nothing, and in both cases said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloud_adapters::CloudAdapter;
use edge_config::{AdapterName, Config};
use tokio::sync::mpsc;

use super::{NodeError, Options, parts, peers};
use crate::actors::burst::Workload;
use crate::actors::local_runner::LocalService;
use crate::actors::publisher::Report;
use crate::actors::{burst, discovery, local_runner, scheduler};
use crate::console::ConfigView;
use crate::gateway::Gateway;
use crate::host::clock::rfc3339_now;
use crate::wire::board::Board;
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
    /// This program, as it stood when it started.
    own: PathBuf,
    gateway: Arc<Gateway>,
    board: Arc<Board>,
    orders: mpsc::Sender<Order>,
    state: Mutex<State>,
}

struct State {
    config: Config,
    /// Services that are gone from it and not ended yet, each with its adapters and what its instances run.
    going: BTreeMap<String, Going>,
    attempts: u64,
    applied_at: Option<String>,
    changed: Vec<String>,
    problems: Vec<String>,
}

type Going = (BTreeSet<String>, Option<Workload>);

impl Reload {
    pub(super) fn new(
        config: Config,
        options: Options,
        own: PathBuf,
        (gateway, board): (Arc<Gateway>, Arc<Board>),
        orders: mpsc::Sender<Order>,
    ) -> Self {
        let (applied_at, changed, problems) = (None, Vec::new(), Vec::new());
        let state = State { config, going: BTreeMap::new(), attempts: 0, applied_at, changed, problems };
        Self { options, own, gateway, board, orders, state: Mutex::new(state) }
    }

    /// Takes all of it up, or nothing; names the keys that changed.
    pub(super) fn apply(&self, config: &Config) -> Result<Vec<String>, Vec<String>> {
        let change = self.state().config.change_to(config);
        if !change.at_start.is_empty() {
            let told = change.at_start.iter().map(|key| format!("{key} changes only with a restart of the node"));
            return Err(self.reject(told.collect()));
        }
        if let Some(name) = self.still_ending(config) {
            let why = format!(
                "adapter.{name} was taken out, and its last instances are still ending; try again when they have"
            );
            return Err(self.reject(vec![why]));
        }
        let going = self.going(config);
        let reconfigured = match self.reconfigured(config, &going) {
            Ok(reconfigured) => reconfigured,
            Err(error) => return Err(self.reject(vec![error.to_string()])),
        };
        // Full where the control thread stands still, and then nothing is taken up by halves.
        let Ok(room) = self.orders.try_reserve() else {
            return Err(self.reject(vec!["the control plane takes no orders; try again".to_owned()]));
        };
        // First: a table of routes that comes for a new service finds it.
        self.gateway.reconfigure(parts::service_options(config));
        room.send(Order::Reconfigure(Box::new(reconfigured)));
        peers::warn_of_no_guests(config);
        let mut state = self.state();
        state.config = config.clone();
        state.going = going;
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

    /// A new adapter whose namesake is not gone yet: calls for the one would go to the other.
    fn still_ending(&self, config: &Config) -> Option<AdapterName> {
        let state = self.state();
        let mut new = config.adapters.keys().filter(|name| !state.config.adapters.contains_key(*name));
        let known = self.board.adapters();
        new.find(|name| known.iter().any(|adapter| adapter.adapter == name.as_str())).cloned()
    }

    /// The services that go with a configuration, and those that went before and have not ended yet.
    fn going(&self, config: &Config) -> BTreeMap<String, Going> {
        let state = self.state();
        let mut workloads = parts::workloads(&state.config);
        let before = parts::services_with_adapters(&state.config).into_iter();
        let gone = before.map(|(name, adapters)| (name.clone(), (adapters, workloads.remove(&name))));
        let still = state.going.clone().into_iter().filter(|(name, _)| self.board.service(name).is_some());
        let named = |name: &str| config.services.keys().any(|service| service.as_str() == name);
        still.chain(gone).filter(|(name, _)| !named(name)).collect()
    }

    fn reconfigured(&self, config: &Config, going: &BTreeMap<String, Going>) -> Result<Reconfigured, NodeError> {
        let own = &self.own;
        // The instances of a service that is gone stay where they are until the scheduler ends them, once nobody waits for an answer.
        let (mut services, mut workloads) = (parts::services_with_adapters(config), parts::workloads(config));
        for (name, (adapters, workload)) in going.clone() {
            services.insert(name.clone(), adapters);
            workloads.extend(workload.map(|workload| (name, workload)));
        }
        Ok(Reconfigured {
            local: local_runner::Reconfigure(parts::local_services(config, own)),
            burst: burst::Reconfigure {
                adapters: parts::adapter_settings(config)?,
                providers: self.new_providers(config, own)?,
                services,
                workloads,
                caps: parts::caps(config)?,
            },
            scheduler: self.rescheduled(config),
            discovery: discovery::Reconfigure { facts: parts::facts(config), config_digest: config.digest() },
        })
    }

    fn rescheduled(&self, config: &Config) -> scheduler::Reconfigure {
        let state = self.state();
        let [before, after] = [&state.config, config].map(|config| parts::local_services(config, &self.own));
        let is_other = |(name, runs): (String, LocalService)| {
            let former = before.get(&name)?;
            (former.program != runs.program || former.ready != runs.ready).then_some(name)
        };
        let former = parts::workloads(&state.config);
        let workloads = parts::workloads(config).into_iter();
        let changed = workloads.filter(|(name, workload)| former.get(name).is_some_and(|former| former != workload));
        scheduler::Reconfigure {
            services: parts::scaling(config, &self.options),
            changed_local: after.into_iter().filter_map(is_other).collect(),
            changed_cloud: changed.map(|(name, _)| name).collect(),
        }
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
