//! What the scheduler says: decisions and shortfalls as events, each service's status, the replicas for the console, and what
//! discovery is to announce.

use super::{Scheduler, Service};
use crate::actors::discovery::{InstanceOffer, Instances as Offered, Offers};
use crate::actors::publisher::{Publish, Report};
use crate::actors::tell;
use crate::host::clock::rfc3339_now;
use crate::logic::load::{LoadSample, ServiceLoad};
use crate::logic::plan::{Action, Phase, Plan, ReplicaView};
use crate::logic::policy::Decision;
use crate::logic::route::Placement;
use crate::logic::service::count;
use crate::wire::board::ReplicaStatus;
use crate::wire::{EventData, EventKind, Message as WireMessage, ServiceOffer, ServiceStatus, Topic};

/// Why a service that goes has what it has.
pub(super) const RETIRED: &str = "the service is gone from the configuration";

/// Why a replica is replaced.
pub(super) const OUTDATED: &str = "the configuration says another program";

impl Scheduler {
    pub(super) fn report_replacement(&self, name: &str, action: &Action) {
        let (service, reason) = (Some(name.to_owned()), Some(format!("{OUTDATED}: {action}")));
        self.report(EventKind::ScaleDecided, EventData { service, reason, ..EventData::default() });
    }

    pub(super) fn report_decision(&self, name: &str, decision: &Decision, reason: &str, plan: &Plan) {
        let actions: Vec<_> = plan.actions.iter().map(ToString::to_string).collect();
        let data = EventData {
            service: Some(name.to_owned()),
            reason: Some(format!("{reason}: {}", actions.join(", "))),
            wanted: Some(decision.wanted),
            metric: Some(decision.reason.metric.to_string()),
            value: decision.reason.value,
            threshold: Some(decision.reason.threshold),
            ..EventData::default()
        };
        self.report(EventKind::ScaleDecided, data);
    }

    /// Tells once what stands in the way, not on every tick.
    pub(super) fn report_shortfall(&mut self, name: &str, shortfall: Option<String>) {
        let Some(service) = self.services.get_mut(name) else { return };
        if service.shortfall == shortfall {
            return;
        }
        service.shortfall.clone_from(&shortfall);
        if let Some(why) = shortfall {
            tracing::warn!(service = name, "{why}");
        }
    }

    fn report(&self, kind: EventKind, data: EventData) {
        if let Some(outputs) = &self.outputs {
            tell(&outputs.report, Report { kind, data });
        }
    }

    pub(super) fn publish_status(&mut self, name: &str, sample: &LoadSample) {
        let replicas = self.replicas(name);
        let Some(status) = self.status(name, &replicas, sample) else { return };
        let (Some(outputs), Some(service)) = (&self.outputs, self.services.get_mut(name)) else { return };
        if service.published.as_ref() == Some(&status) {
            return;
        }
        service.published = Some(status.clone());
        match Topic::service(&self.identity.node, name) {
            Ok(topic) => {
                let message = WireMessage::Service(Box::new(ServiceStatus { at: rfc3339_now(), ..status }));
                tell(&outputs.publish, Publish { topic, message });
            }
            Err(error) => tracing::error!(%error, "a service has no topic"),
        }
    }

    /// Takes the last status of a service back: it is gone.
    pub(super) fn clear_status(&self, name: &str) {
        if let (Some(outputs), Ok(topic)) = (&self.outputs, Topic::service(&self.identity.node, name)) {
            tell(&outputs.publish, Publish { topic, message: WireMessage::Cleared });
        }
    }

    fn status(&self, name: &str, replicas: &[ReplicaView], sample: &LoadSample) -> Option<ServiceStatus> {
        let service = self.services.get(name)?;
        let is_retired = service.scaling.is_retired();
        let load = sample.services.get(name).cloned().or_else(|| is_retired.then(ServiceLoad::default))?;
        let decision = service.scaling.decision().filter(|_| !service.scaling.is_retired());
        let reason = match decision {
            Some(decision) => decision.reason.to_string(),
            None if service.scaling.is_retired() => RETIRED.to_owned(),
            None => "nothing is decided yet".to_owned(),
        };
        let shortfall = service.shortfall.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        let draining =
            count(replicas, Placement::Local, Phase::Draining) + count(replicas, Placement::Cloud, Phase::Draining);
        Some(ServiceStatus {
            node: self.identity.node.clone(),
            session: self.identity.session,
            service: name.to_owned(),
            wanted: decision.map_or(0, |decision| decision.wanted),
            ready_local: count(replicas, Placement::Local, Phase::Ready),
            ready_cloud: count(replicas, Placement::Cloud, Phase::Ready),
            starting_local: count(replicas, Placement::Local, Phase::Starting),
            starting_cloud: count(replicas, Placement::Cloud, Phase::Starting),
            draining,
            failed: count(replicas, Placement::Local, Phase::Failed) + count(replicas, Placement::Cloud, Phase::Failed),
            in_flight: load.in_flight_now,
            queued: load.queued_now,
            reason: format!("{reason}{shortfall}"),
            metric: decision.map(|decision| decision.reason.metric.to_string()),
            value: decision.and_then(|decision| decision.reason.value),
            threshold: decision.map(|decision| decision.reason.threshold),
            requests_per_s: load.arrivals_per_s,
            latency_p50_s: load.latency_p50.map(|time| time.as_secs_f64()),
            latency_p95_s: load.latency_p95.map(|time| time.as_secs_f64()),
            latency_p99_s: load.latency_p99.map(|time| time.as_secs_f64()),
            spend_hour: self.board.spend_hour(),
            currency: Some(self.currency.clone()),
            // In hundredths: what trembles below that is no news.
            forecast_error: service.scaling.forecast_error().map(|error| (error * 100.0).round() / 100.0),
            ..ServiceStatus::default()
        })
    }

    /// Shows every replica to the console.
    pub(super) fn show_replicas(&self) {
        let replicas = self.services.iter().flat_map(|(name, service)| {
            self.replicas(name).into_iter().map(|replica| {
                let endpoint = service.endpoints.get(&replica.id);
                ReplicaStatus {
                    service: name.clone(),
                    placement: replica.placement.as_str(),
                    adapter: replica.adapter,
                    state: word(replica.phase),
                    address: endpoint.map(|endpoint| endpoint.authority.clone()),
                    in_flight: endpoint.map_or(0, |endpoint| endpoint.counters.in_flight()),
                    age_s: Some(replica.age.as_secs()),
                    replica: replica.id,
                }
            })
        });
        let peers = self.services.iter().flat_map(|(name, service)| {
            let peers = service.endpoints.values().filter(|endpoint| endpoint.placement == Placement::Peer);
            peers.map(|peer| ReplicaStatus {
                replica: peer.replica.clone(),
                service: name.clone(),
                placement: peer.placement.as_str(),
                adapter: None,
                state: word(Phase::Ready),
                address: Some(peer.authority.clone()),
                in_flight: peer.counters.in_flight(),
                age_s: None,
            })
        });
        self.board.set_replicas(replicas.chain(peers).collect());
    }

    /// Tells discovery what the node and its instances offer.
    pub(super) fn offer(&mut self) {
        let now = self.clock.now();
        let spare: Vec<u32> = self.services.values_mut().map(|service| service.spare(now)).collect();
        let Some(outputs) = &self.outputs else { return };
        let services = self.services.iter().zip(spare).filter(|((_, service), _)| !service.scaling.is_retired());
        let offers = services.map(|((name, service), spare)| self.offer_of(name, service, spare)).collect();
        tell(&outputs.offers, Offers(offers));
        let instances = self.services.keys().flat_map(|name| self.instance_offers(name)).collect();
        tell(&outputs.instance_offers, Offered(instances));
    }

    fn offer_of(&self, name: &str, service: &Service, spare: u32) -> ServiceOffer {
        let replicas = self.replicas(name);
        let local = count(&replicas, Placement::Local, Phase::Ready);
        let cloud = count(&replicas, Placement::Cloud, Phase::Ready);
        let concurrency = service.scaling.settings().concurrency;
        ServiceOffer {
            name: name.to_owned(),
            ready_local: local,
            ready_cloud: cloud,
            concurrency,
            capacity: (local + cloud) * concurrency,
            spare,
            ..ServiceOffer::default()
        }
    }

    fn instance_offers(&self, name: &str) -> Vec<(String, InstanceOffer)> {
        let concurrency = self.services.get(name).map_or(1, |service| service.scaling.settings().concurrency);
        let ready = self.routable(name).into_iter().filter(|found| found.placement == Placement::Cloud);
        let offers = ready.map(|found| {
            let instance = self.cloud.instances.iter().find(|instance| instance.launch == found.replica);
            let offer = ServiceOffer {
                name: name.to_owned(),
                ready_cloud: 1,
                concurrency,
                capacity: concurrency,
                adapter: instance.map(|instance| instance.adapter.clone()),
                price_per_hour: instance.map(|instance| instance.price_per_hour),
                currency: Some(self.currency.clone()),
                ..ServiceOffer::default()
            };
            (found.replica, InstanceOffer { authority: found.authority, offer })
        });
        offers.collect()
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
        Phase::Failed => "failed",
    }
}
