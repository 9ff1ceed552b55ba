//! An adapter tried out by an operator, with the parts of the configured node but an identity of its own: a running node
//! with the same configuration neither meets the trial's instance nor is disturbed by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cloud_adapters::{Finding, Owner, Subject};
use edge_config::{AdapterKind, AdapterName, Config};

use crate::actors::burst::AdapterSlot;
use crate::actors::burst::trial::{self, TrialParts};
pub use crate::actors::burst::trial::{Report, Step};
use crate::actors::publisher::Identity;
use crate::host::clock::Clock;
use crate::journal::{Journal, StateDir};

use super::parts;

/// What a look at a provider may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(60);
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
        let bad = |words: String| vec![Finding::bad(Subject::Network, words)];
        let slot = match self.slot_of(config) {
            Ok(slot) => slot,
            Err(error) => return bad(error),
        };
        let looked = async { tokio::time::timeout(CHECK_DEADLINE, slot.adapter.check()).await };
        let late = || bad(format!("the provider did not answer within {CHECK_DEADLINE:?}"));
        self.runtime.block_on(looked).unwrap_or_else(|_| late())
    }

    /// The images that services bring to this adapter beside its own.
    fn images_of_services(&self) -> BTreeSet<String> {
        let bursts = self.config.services.values().filter_map(|service| service.burst.as_ref());
        bursts.filter(|burst| burst.adapters.contains(&self.name)).filter_map(|burst| burst.image.clone()).collect()
    }

    /// Launches one instance of a service, waits until it is ready, keeps it for a while, and ends it. Ctrl-C ends it too.
    ///
    /// # Errors
    /// In words.
    pub fn launch(&mut self, service: Option<&str>, keep: Duration, say: impl FnMut(&Step)) -> Result<Report, String> {
        let workloads = parts::workloads(self.config);
        let uses = |name: &String| {
            let service = self.config.services.iter().find(|(known, _)| known.as_str() == name);
            service.and_then(|(_, service)| service.burst.as_ref()).is_some_and(|b| b.adapters.contains(&self.name))
        };
        let chosen = match service {
            Some(name) => workloads.get_key_value(name).ok_or_else(|| format!("no service {name} bursts"))?,
            None => workloads
                .iter()
                .find(|(name, _)| uses(name))
                .ok_or("no service names this adapter in burst.adapters")?,
        };
        let chosen = (chosen.0.clone(), chosen.1.clone());
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
