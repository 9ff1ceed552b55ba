//! What the burst engine tells: snapshots to the scheduler, statuses and spend to everybody.

use std::time::Duration;

use super::{Burst, InstanceView, Instances};
use crate::actors::publisher::Publish;
use crate::actors::tell;
use crate::host::clock::{rfc3339, unix_ms_now};
use crate::logic::budget::{Money, Window};
use crate::logic::burst::phase;
use crate::logic::fleet::{Instance, Stage};
use crate::logic::plan::AdapterView;
use crate::logic::route::Bearer;
use crate::tls::launch_token;
use crate::wire::board::{AdapterStatus, Spend};
use crate::wire::{BurstState, BurstStatus, EventData, Message as WireMessage, Placement, Topic};

impl Burst {
    pub(super) fn tell_scheduler(&self) {
        let now = self.parts.clock.now();
        let services = self.operator.services();
        let snapshot = Instances {
            instances: self.engine.fleet().instances().map(|instance| self.view(instance)).collect(),
            adapters: services.into_iter().map(|service| self.adapters_for(service, now)).collect(),
            order: self.order,
            reconciled: self.engine.is_reconciled(),
            reconciled_at: self.engine.reconciled(),
        };
        tell(&self.parts.scheduler, snapshot);
        self.show_spend(now);
    }

    fn adapters_for(&self, service: String, now: Duration) -> (String, Vec<AdapterView>) {
        let adapters = self.engine.adapters_for(&service, now);
        (service, adapters)
    }

    fn adapter_status(&self, name: &str, now: Duration) -> AdapterStatus {
        let adapter = &self.engine.adapters()[name];
        let start = |share| adapter.start_times().quantile(share).map(|took| took.as_secs_f64());
        let limited = |count: u32| (count != u32::MAX).then_some(count);
        let held = |service: &String| self.engine.held_back_at(adapter, service, now);
        AdapterStatus {
            adapter: name.to_owned(),
            price_per_hour: self.price(name),
            spot: adapter.settings().spot,
            alive: self.engine.alive(name),
            max: limited(adapter.settings().max),
            affordable: limited(self.engine.affordable(name, now)),
            start_median_s: start(0.5),
            start_p95_s: start(0.95),
            lease_ttl_s: adapter.timing().lease_ttl.as_secs_f64(),
            held_back: self.operator.services().into_iter().filter_map(|s| Some((s.clone(), held(&s)?))).collect(),
        }
    }

    /// For showing and sorting, in currency units per hour.
    fn price(&self, adapter: &str) -> f64 {
        self.engine.terms(adapter).price_per_hour.units()
    }

    pub(super) fn show_spend(&self, now: Duration) {
        self.show_budget(now);
        self.parts
            .board
            .set_adapters(self.engine.adapters().keys().map(|name| self.adapter_status(name, now)).collect());
        self.count_instances();
        let ledger = self.engine.ledger();
        self.parts.board.set_spend(Spend {
            currency: self.parts.currency.clone(),
            hour: ledger.spent(now, Window::Hour).units(),
            day: ledger.spent(now, Window::Day).units(),
            committed: ledger.committed(now, Window::Hour).units(),
            limit_hour: ledger.caps().limit(Window::Hour).map(Money::units),
            limit_day: ledger.caps().limit(Window::Day).map(Money::units),
        });
    }

    pub(super) fn view(&self, instance: &Instance) -> InstanceView {
        InstanceView {
            launch: instance.launch.clone(),
            service: instance.service.clone(),
            adapter: instance.adapter.clone(),
            phase: phase(instance),
            address: instance.address.clone().filter(|_| instance.is_routable()),
            bearer: Bearer::new(launch_token(&self.parts.secret, &instance.launch)),
            price_per_hour: self.engine.terms_of(instance).price_per_hour.units(),
            since: instance.intended_at,
        }
    }

    /// Says each instance's status once per stage.
    pub(super) fn publish_changes(&mut self) {
        let changed: Vec<_> = self
            .engine
            .fleet()
            .instances()
            .filter(|instance| instance.stage != Stage::Intending)
            .filter(|instance| self.published.get(&instance.launch) != Some(&instance.stage))
            .cloned()
            .collect();
        for instance in changed {
            self.published.insert(instance.launch.clone(), instance.stage);
            self.publish_status(self.status(&instance, state_of(instance.stage)));
        }
        let fleet = self.engine.fleet();
        self.published.retain(|launch, _| fleet.get(launch).is_some());
    }

    pub(super) fn publish_end(&self, instance: &Instance, cost: f64) {
        let mut status = self.status(instance, BurstState::Ended);
        status.ended_at = Some(rfc3339(unix_ms_now()));
        status.cost = cost;
        let launch = status.launch.clone();
        self.parts.board.remember_burst(status);
        if let Ok(topic) = Topic::burst(&self.parts.identity.node, &launch) {
            tell(&self.parts.publisher, Publish { topic, message: WireMessage::Cleared });
        }
    }

    pub(super) fn publish_status(&self, status: BurstStatus) {
        match Topic::burst(&self.parts.identity.node, &status.launch) {
            Ok(topic) => {
                let message = WireMessage::Burst(Box::new(status));
                tell(&self.parts.publisher, Publish { topic, message });
            }
            Err(error) => tracing::error!(%error, "an instance has no topic"),
        }
    }

    pub(super) fn status(&self, instance: &Instance, state: BurstState) -> BurstStatus {
        let clock = self.parts.clock;
        let since = self.engine.since(instance);
        BurstStatus {
            node: self.parts.identity.node.clone(),
            session: self.parts.identity.session,
            launch: instance.launch.clone(),
            service: instance.service.clone(),
            adapter: instance.adapter.clone(),
            state,
            reason: instance.reason.clone(),
            end_reason: instance.end_reason.clone(),
            started_at: rfc3339(clock.to_unix_ms(since)),
            ready_at: instance.ready_at.map(|at| rfc3339(clock.to_unix_ms(at))),
            ended_at: None,
            cost: self.engine.cost(instance, clock.now()).units(),
            currency: Some(self.parts.currency.clone()),
            price_per_hour: Some(self.engine.terms_of(instance).price_per_hour.units()),
            lease_remaining_s: instance.lease_left(clock.now()).map(|left| left.as_secs()),
            ..BurstStatus::default()
        }
    }

    pub(super) fn about(&self, launch: &str) -> EventData {
        let known = self.engine.fleet().get(launch).map(|instance| self.about_instance(instance));
        known.unwrap_or_else(|| EventData { launch: Some(launch.to_owned()), ..EventData::default() })
    }

    pub(super) fn about_instance(&self, instance: &Instance) -> EventData {
        EventData {
            launch: Some(instance.launch.clone()),
            service: Some(instance.service.clone()),
            adapter: Some(instance.adapter.clone()),
            reason: Some(instance.reason.clone()),
            placement: Some(Placement::Cloud),
            ..EventData::default()
        }
    }
}

fn state_of(stage: Stage) -> BurstState {
    match stage {
        Stage::Intending | Stage::Launching => BurstState::Launching,
        Stage::Starting => BurstState::Starting,
        Stage::Ready => BurstState::Ready,
        Stage::Draining => BurstState::Draining,
        Stage::Ending | Stage::Terminating | Stage::Confirming | Stage::Closing => BurstState::Terminating,
    }
}
