//! What boards read of instances and money: gauges, with zeros, so that they show the way down too.

use std::collections::BTreeSet;
use std::time::Duration;

use metrics::{Label, gauge};

use super::Burst;
use crate::logic::budget::Window;
use crate::logic::fleet::{Instance, Stage};

/// The states that a board tells apart.
const STATES: [&str; 4] = ["starting", "ready", "draining", "ending"];

impl Burst {
    pub(super) fn count_spend(&self, instance: &Instance, cost: f64) {
        gauge!("tidegate_spend_total", self.spend_labels(&instance.service, &instance.adapter)).increment(cost);
    }

    fn spend_labels(&self, service: &str, adapter: &str) -> Vec<Label> {
        labelled([("service", service), ("adapter", adapter), ("currency", &self.parts.currency)])
    }

    pub(super) fn show_budget(&self, now: Duration) {
        let ledger = self.engine.ledger();
        for window in Window::ALL {
            let labels = || self.budget_labels(window);
            let reserved = ledger.committed(now, window).minus(ledger.spent(now, window));
            gauge!("tidegate_budget_reserved", labels()).set(reserved.units());
            if let (Some(limit), Some(remaining)) = (ledger.caps().limit(window), ledger.remaining(now, window)) {
                gauge!("tidegate_budget_limit", labels()).set(limit.units());
                gauge!("tidegate_budget_remaining", labels()).set(remaining.units());
            }
        }
    }

    fn budget_labels(&self, window: Window) -> Vec<Label> {
        labelled([("window", window.as_str()), ("currency", &self.parts.currency)])
    }

    /// A cap that is gone bounds nothing any more, and its gauges must not stand at what it was.
    pub(super) fn lift(&self, window: Window) {
        let labels = || self.budget_labels(window);
        gauge!("tidegate_budget_limit", labels()).set(f64::INFINITY);
        gauge!("tidegate_budget_remaining", labels()).set(f64::INFINITY);
    }

    /// Instances by service, adapter and state; the spend of each pair stands at zero from the beginning.
    pub(super) fn count_instances(&self) {
        let services: BTreeSet<String> = self.operator.services().into_iter().chain(self.former.clone()).collect();
        let adapters: BTreeSet<&String> = self.engine.adapters().keys().chain(&self.former_adapters).collect();
        for service in services.iter().map(String::as_str) {
            for adapter in &adapters {
                gauge!("tidegate_spend_total", self.spend_labels(service, adapter)).increment(0.0);
                for state in STATES {
                    let here = self.engine.fleet().instances().filter(|instance| {
                        instance.service == *service
                            && instance.adapter == **adapter
                            && state_of(instance.stage) == state
                    });
                    let labels = [("service", service), ("placement", "cloud"), ("adapter", adapter), ("state", state)];
                    gauge!("tidegate_replicas", labelled(labels)).set(f64::from(super::count(here)));
                }
            }
        }
    }
}

fn state_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Intending | Stage::Launching | Stage::Starting => "starting",
        Stage::Ready => "ready",
        Stage::Draining => "draining",
        Stage::Ending | Stage::Terminating | Stage::Confirming | Stage::Closing => "ending",
    }
}

fn labelled<const N: usize>(labels: [(&'static str, &str); N]) -> Vec<Label> {
    labels.into_iter().map(|(name, value)| Label::new(name, value.to_owned())).collect()
}
