//! An adapter tried out by an operator, with the parts of the configured node but an identity of its own: a running node
//! with the same configuration neither meets the trial's instance nor is disturbed by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::{Finding, Owner, Subject};
use edge_config::{AdapterKind, AdapterName, Config};

use crate::actors::burst::trial::{self, TrialParts};
pub use crate::actors::burst::trial::{Report, Step};
use crate::actors::burst::{AdapterSlot, Workload};
use crate::actors::publisher::Identity;
use crate::host::clock::Clock;
use crate::journal::{Journal, StateDir};

use super::{Options, parts};

/// Room for the suffix of the trial's node id.
const NODE_ID_MAX: usize = 32;

/// One adapter of a configuration.
pub struct Trial<'a> {
    config: &'a Config,
    name: AdapterName,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Trial<'a> {
    /// Finds the adapter.
    ///
    /// # Errors
    /// In words, with the adapters that there are.
    pub fn of(config: &'a Config, name: &str) -> Result<Self, String> {
        let known: Vec<String> = config.adapters.keys().map(ToString::to_string).collect();
        let found = config.adapters.keys().find(|known| known.as_str() == name).cloned();
        let missing = || match known.as_slice() {
            [] => format!("there is no adapter {name}: the configuration has none; add a table [adapter.{name}]"),
            _ => format!("there is no adapter {name}; the configuration has {}", known.join(", ")),
        };
        let name = found.ok_or_else(missing)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self { config, name, runtime: runtime.map_err(|error| format!("cannot start: {error}"))? })
    }

    /// Looks at all that a launch needs; starts nothing.
    pub fn check(&mut self) -> Vec<Finding> {
        let mut found = self.look(self.config);
        for image in self.images_of_services() {
            let mut config = self.config.clone();
            if let Some(adapter) = config.adapters.get_mut(&self.name) {
                name_image(&mut adapter.kind, &image);
            }
            let about_it = self.look(&config).into_iter().filter(|finding| finding.subject == Subject::Image);
            found.extend(about_it);
        }
        found
    }

    fn look(&self, config: &Config) -> Vec<Finding> {
        match self.slot_of(config) {
            Ok(slot) => self.runtime.block_on(slot.adapter.check()),
            Err(error) => vec![Finding::bad(Subject::Network, error)],
        }
    }

    /// The images that services bring to this adapter beside its own, where it runs images at all.
    fn images_of_services(&self) -> BTreeSet<String> {
        if !self.config.adapters[&self.name].kind.runs_images() {
            return BTreeSet::new();
        }
        let bursts = self.config.services.values().filter_map(|service| service.burst.as_ref());
        bursts.filter(|burst| burst.adapters.contains(&self.name)).filter_map(|burst| burst.image.clone()).collect()
    }

    /// Launches one instance of a service, waits until it is ready, keeps it for a while, and ends it. Ctrl-C ends it too.
    ///
    /// # Errors
    /// In words.
    pub fn launch(
        &mut self,
        service: Option<&str>,
        keep: Duration,
        options: &Options,
        say: impl FnMut(&Step),
    ) -> Result<Report, String> {
        if let Some(why) = &options.no_cloud {
            return Err(format!("nothing was launched: bursting is forbidden: {why}"));
        }
        let chosen = self.choose(service)?;
        let state_dir = StateDir::open(&self.config.node.state_dir.join("trials")).map_err(|e| e.to_string())?;
        let journal = Arc::new(Journal::open(&state_dir).map_err(|error| error.to_string())?);
        let node = self.config.node.id.as_str();
        let identity = Identity {
            fleet: self.config.node.fleet.to_string(),
            node: format!("{}-trial", node.get(..NODE_ID_MAX).unwrap_or(node).trim_end_matches('-')),
            session: state_dir.session(),
        };
        let parts = TrialParts {
            identity,
            clock: Clock::start(),
            journal,
            secret: state_dir.secret().to_vec(),
            adapter: (self.name.to_string(), self.slot()?),
            service: chosen,
            caps: parts::caps(self.config).map_err(|error| error.to_string())?,
            currency: self.config.budget.currency.clone(),
            keep,
            dialer: parts::dialer(self.config).map_err(|error| error.to_string())?,
        };
        self.runtime.block_on(trial::run(parts, say))
    }

    /// The service asked for, or the first that may use the adapter, with what it runs there.
    fn choose(&self, service: Option<&str>) -> Result<(String, Workload), String> {
        let allowed = parts::services_with_adapters(self.config);
        let may_use = |name: &str| allowed.get(name).is_some_and(|adapters| adapters.contains(self.name.as_str()));
        let mut workloads = parts::workloads(self.config).into_iter();
        let Some(name) = service else {
            let none = "no service names this adapter in burst.adapters and may use it by placement and residency";
            return workloads.find(|(name, _)| may_use(name)).ok_or_else(|| none.to_owned());
        };
        let chosen = workloads.find(|(known, _)| known == name).ok_or_else(|| format!("no service {name} bursts"))?;
        if may_use(name) {
            Ok(chosen)
        } else {
            let keys = "burst.adapters, placement and residency";
            Err(format!("service {name} may not use adapter {}; see {keys} of service.{name}", self.name))
        }
    }

    /// Makes the image of this program at a Docker Engine, where the adapter is one and names no image, so that the first
    /// launch need not wait for it; its name. Other adapters need nothing.
    ///
    /// # Errors
    /// In words.
    pub fn prepare(&mut self) -> Result<Option<String>, String> {
        match &self.config.adapters[&self.name].kind {
            #[cfg(feature = "docker")]
            edge_config::AdapterKind::Docker(docker) if docker.image.is_none() => {
                let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
                let adapter = super::providers::docker_adapter(self.name.as_str(), docker, &own, None);
                let adapter = adapter.map_err(|error| error.to_string())?;
                let image = self.runtime.block_on(adapter.own_image());
                image.map(Some).map_err(|error| error.with_causes())
            }
            _ => Ok(None),
        }
    }

    /// The instances of the configured node that its provider still runs.
    ///
    /// # Errors
    /// In words.
    pub fn alive(&mut self) -> Result<Vec<String>, String> {
        let node = &self.config.node;
        let owner = Owner { fleet: node.fleet.to_string(), node: node.id.to_string(), session: 0 };
        let adapter = self.slot()?.adapter;
        let listed = self.runtime.block_on(adapter.list(&owner)).map_err(|error| error.with_causes())?;
        Ok(listed.into_iter().filter(|i| !i.is_ended()).map(|i| format!("instance {}", i.launch)).collect())
    }

    fn slot(&self) -> Result<AdapterSlot, String> {
        self.slot_of(self.config)
    }

    fn slot_of(&self, config: &Config) -> Result<AdapterSlot, String> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut adapters = parts::adapters(config, &own).map_err(|error| error.to_string())?;
        adapters.remove(self.name.as_str()).ok_or_else(|| format!("there is no adapter {}", self.name))
    }
}

/// The same adapter with a service's image in place of its own.
fn name_image(kind: &mut AdapterKind, image: &str) {
    match kind {
        AdapterKind::Docker(docker) => docker.image = Some(image.to_owned()),
        AdapterKind::Kubernetes(cluster) => cluster.image = Some(image.to_owned()),
        _ => {}
    }
}
