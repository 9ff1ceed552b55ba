//! What boards read of instances and money: gauges, with zeros, so that they show the way down too.

use metrics::{Label, gauge};

use super::Burst;
use crate::logic::fleet::Stage;
use crate::wire::board::Spend;

/// The states that a board tells apart.
const STATES: [&str; 4] = ["starting", "ready", "draining", "ending"];

impl Burst {
    /// Instances by service, adapter and state.
    pub(super) fn count_instances(&self) {
        for service in self.parts.workloads.keys() {
            for adapter in self.parts.adapters.keys() {
                for state in STATES {
                    let here = self.fleet.instances().filter(|instance| {
                        instance.service == *service
                            && instance.adapter == *adapter
                            && state_of(instance.stage) == state
                    });
                    let labels =
                        [("service", service.as_str()), ("placement", "cloud"), ("adapter", adapter), ("state", state)];
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

/// What was spent, what is promised, and what the caps leave.
pub(super) fn count_money(spend: &Spend) {
    let currency = spend.currency.as_str();
    gauge!("tidegate_spend_total", labelled([("currency", currency)])).set(spend.day);
    for (window, spent, limit) in [("hour", spend.hour, spend.limit_hour), ("day", spend.day, spend.limit_day)] {
        let labels = || labelled([("currency", currency), ("window", window)]);
        gauge!("tidegate_budget_reserved", labels()).set((spend.committed - spend.hour).max(0.0));
        if let Some(limit) = limit {
            let reserved = (spend.committed - spend.hour).max(0.0);
            gauge!("tidegate_budget_limit", labels()).set(limit);
            gauge!("tidegate_budget_remaining", labels()).set((limit - spent - reserved).max(0.0));
        }
    }
}

fn labelled<const N: usize>(labels: [(&'static str, &str); N]) -> Vec<Label> {
    labels.into_iter().map(|(name, value)| Label::new(name, value.to_owned())).collect()
}
