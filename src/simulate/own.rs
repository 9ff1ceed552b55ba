//! The policies of the node, through the very code that a node scales a service by.

use std::collections::BTreeSet;

use super::engine::{Rule, SERVICE, Seen, World};
use crate::logic::load::Window;
use crate::logic::plan::{Action, Cloud};
use crate::logic::policy::{Bounds, Policy};
use crate::logic::service::{ServiceScaling, ServiceSettings, Situation};

/// How far the samples reach back: as a node's.
const HISTORY: std::time::Duration = std::time::Duration::from_secs(300);

/// A service of a node.
pub struct Own {
    scaling: ServiceScaling,
    window: Window,
}

impl Own {
    /// Scales by this policy in such a world.
    pub fn new(policy: Policy, world: &World) -> Self {
        let settings = ServiceSettings {
            name: SERVICE.to_owned(),
            policy,
            window: world.tick,
            custom_per_replica: false,
            bounds: Bounds { min: world.local, max: world.max_replicas },
            concurrency: world.concurrency,
            local_max: world.local,
            burst_max: world.max_replicas.saturating_sub(world.local),
            on_demand_floor: 0,
            cloud: Cloud::Allowed,
            adapters: world.providers.iter().map(|provider| provider.name.clone()).collect::<BTreeSet<_>>(),
            peers: None,
            guests: false,
        };
        Self { scaling: ServiceScaling::new(settings), window: Window::new(HISTORY) }
    }
}

impl Rule for Own {
    fn step(&mut self, seen: &Seen<'_>) -> Vec<Action> {
        self.window.push(seen.sample.clone());
        self.scaling.forget_gone(&seen.replicas.iter().map(|replica| replica.id.clone()).collect());
        let situation =
            Situation { replicas: seen.replicas.to_vec(), adapters: seen.adapters, local_broken: None, peer_slots: 0 };
        let step = self.scaling.step(&self.window, situation, seen.sample.at);
        step.plan.actions
    }
}
