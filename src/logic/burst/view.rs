//! The engine as the plan sees it: what counts as capacity, what takes a place, what holds a launch back.

use std::time::Duration;

use super::{Adapter, Engine};
use crate::fleet::{Instance, Stage};
use crate::plan::{AdapterView, Phase};

impl Engine {
    /// Instances that take a place at an adapter: all but those of which the provider said that it started nothing.
    pub fn alive(&self, adapter: &str) -> u32 {
        let there = self.fleet.instances().filter(|instance| instance.adapter == adapter && !instance.refused);
        u32::try_from(there.count()).unwrap_or(u32::MAX)
    }

    /// Why no launch of a service passes at an adapter now, in words; `None` when one does. Whether there is a place and
    /// the money for it is told apart, by [`Engine::alive`] and [`Engine::affordable`].
    pub fn held_back_at(&self, adapter: &Adapter, service: &str, now: Duration) -> Option<String> {
        self.held_back().or_else(|| adapter.held_back(service, now))
    }

    /// Every adapter as it is for one service.
    pub fn adapters_for(&self, service: &str, now: Duration) -> Vec<AdapterView> {
        let views = self.adapters.iter().map(|(name, adapter)| AdapterView {
            name: name.clone(),
            price_per_hour: adapter.settings.terms.price_per_hour.units(),
            alive: self.alive(name),
            max: adapter.settings.max,
            spot: adapter.settings.spot,
            held_back: self.held_back_at(adapter, service, now),
            affordable: self.affordable(name, now),
            start_time: adapter.start_times().quantile(0.5),
            minimum_billing: adapter.settings.terms.minimum_billing,
            billing_step: adapter.settings.terms.billing_step,
        });
        views.collect()
    }

    /// Whether nothing is owned and nothing is left to be found: what a former run launched may still run while its
    /// journal or a provider's list has not been read.
    pub fn nothing_is_left(&self) -> bool {
        self.is_reconciled() && self.open.is_empty() && self.fleet.is_empty()
    }
}

/// What an instance counts as in a plan.
pub fn phase(instance: &Instance) -> Phase {
    match instance.stage {
        // The provider said that it started nothing, so it takes no place of another one's.
        _ if instance.refused => Phase::Failed,
        Stage::Intending | Stage::Launching | Stage::Starting => Phase::Starting,
        Stage::Ready => Phase::Ready,
        // It exists and is billed until the provider's list has it no more, so it keeps its place.
        Stage::Draining | Stage::Ending | Stage::Terminating | Stage::Confirming => Phase::Draining,
        Stage::Closing => Phase::Failed,
    }
}
