//! The last word on everything that this node says: the same values as on MQTT, for whoever asks over HTTP.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Announcement, BurstStatus, Event, LoadReport, Message, ServiceStatus, Topic};

/// Ended instances that are remembered, newest last.
const MAX_ENDED: usize = 200;
/// Events that are remembered, newest last.
const MAX_EVENTS: usize = 200;

/// What the budget looks like, in currency units.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spend {
    /// ISO 4217.
    pub currency: String,
    /// What fell due in the last 60 minutes.
    pub hour: f64,
    /// What fell due in the last 24 hours.
    pub day: f64,
    /// What fell due in the last 60 minutes, and what everything alive may still cost.
    pub committed: f64,
    /// The cap of any 60 minutes.
    pub limit_hour: Option<f64>,
    /// The cap of any 24 hours.
    pub limit_day: Option<f64>,
}

/// One replica, wherever it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaStatus {
    /// Replica or launch id.
    pub replica: String,
    /// The service it serves.
    pub service: String,
    /// `local`, `peer` or `cloud`.
    pub placement: &'static str,
    /// The adapter of an instance.
    pub adapter: Option<String>,
    /// `starting`, `ready`, `draining` or `failed`.
    pub state: &'static str,
    /// `host:port`, while requests may go there.
    pub address: Option<String>,
    /// Requests that it has now.
    pub in_flight: u32,
    /// Seconds since it was asked for; not known of another node's.
    pub age_s: Option<u64>,
}

/// One adapter, as an operator asks about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterStatus {
    /// Name of the table in the configuration.
    pub adapter: String,
    /// What an instance costs an hour, in the budget's currency.
    pub price_per_hour: f64,
    /// Whether its instances may be taken away at short notice.
    pub spot: bool,
    /// Instances that exist there, in every stage.
    pub alive: u32,
    /// Most instances there; `None` without a limit.
    pub max: Option<u32>,
    /// Launches there that the budget still bears; `None` where none is in the way.
    pub affordable: Option<u32>,
    /// Half of the starts took at most this long; `None` before the first one.
    pub start_median_s: Option<f64>,
    /// 95 % of the starts took at most this long.
    pub start_p95_s: Option<f64>,
    /// Seconds that an instance lives on without hearing from its node.
    pub lease_ttl_s: f64,
    /// Why launches do not pass there now, by service; empty where all do.
    pub held_back: BTreeMap<String, String>,
}

/// A shared board; readers copy, writers are the actors.
#[derive(Debug, Default)]
pub struct Board {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    load: Option<LoadReport>,
    loaded_at: Option<Instant>,
    services: BTreeMap<String, ServiceStatus>,
    live: BTreeMap<String, BurstStatus>,
    ended: VecDeque<BurstStatus>,
    announcements: BTreeMap<String, Announcement>,
    events: VecDeque<Event>,
    replicas: Vec<ReplicaStatus>,
    spend: Spend,
    adapters: Vec<AdapterStatus>,
}

impl Board {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a message that is being published.
    pub fn record(&self, topic: &Topic, message: &Message) {
        let mut state = self.write();
        match message {
            Message::Load(report) => {
                state.load = Some((**report).clone());
                state.loaded_at = Some(Instant::now());
            }
            Message::Service(status) => drop(state.services.insert(status.service.clone(), (**status).clone())),
            Message::Burst(status) => drop(state.live.insert(status.launch.clone(), (**status).clone())),
            Message::Announcement(said) => drop(state.announcements.insert(topic.to_string(), (**said).clone())),
            Message::Event(event) => push(&mut state.events, (**event).clone(), MAX_EVENTS),
            Message::State(_) | Message::Command(_) | Message::Response(_) | Message::Trust(_) => {}
            Message::Cleared => state.clear(topic),
        }
    }

    /// Keeps an instance that has ended.
    pub fn remember_burst(&self, status: BurstStatus) {
        let mut state = self.write();
        state.live.remove(&status.launch);
        // One that was found alive after its end ends once more, later and dearer.
        state.ended.retain(|other| other.launch != status.launch);
        push(&mut state.ended, status, MAX_ENDED);
    }

    /// Sets how the adapters are.
    pub fn set_adapters(&self, adapters: Vec<AdapterStatus>) {
        self.write().adapters = adapters;
    }

    /// How the adapters are, by name.
    pub fn adapters(&self) -> Vec<AdapterStatus> {
        self.read().adapters.clone()
    }

    /// Sets what the budget looks like.
    pub fn set_spend(&self, spend: Spend) {
        self.write().spend = spend;
    }

    /// Sets the replicas as they are now.
    pub fn set_replicas(&self, replicas: Vec<ReplicaStatus>) {
        self.write().replicas = replicas;
    }

    /// Every replica as it was at the last tick.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.read().replicas.clone()
    }

    /// The last load report.
    pub fn load(&self) -> Option<LoadReport> {
        self.read().load.clone()
    }

    /// Whether a load report came within this time: the control plane's pulse.
    pub fn sampled_within(&self, patience: Duration) -> bool {
        self.read().loaded_at.is_some_and(|at| at.elapsed() < patience)
    }

    /// One service's last status.
    pub fn service(&self, name: &str) -> Option<ServiceStatus> {
        self.read().services.get(name).cloned()
    }

    /// The services that have a status.
    pub fn service_names(&self) -> Vec<String> {
        self.read().services.keys().cloned().collect()
    }

    /// Every service's last status, by name.
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.read().services.values().cloned().collect()
    }

    /// Every instance: the ended ones, oldest first, then the live ones.
    pub fn bursts(&self) -> Vec<BurstStatus> {
        let state = self.read();
        state.ended.iter().chain(state.live.values()).cloned().collect()
    }

    /// What this node announces now.
    pub fn announcements(&self) -> Vec<Announcement> {
        self.read().announcements.values().cloned().collect()
    }

    /// The last events, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.read().events.iter().cloned().collect()
    }

    /// What the budget looks like.
    pub fn spend(&self) -> Spend {
        self.read().spend.clone()
    }

    /// What fell due in the last 60 minutes, in currency units.
    pub fn spend_hour(&self) -> f64 {
        self.read().spend.hour
    }
}

impl State {
    fn clear(&mut self, topic: &Topic) {
        match topic {
            Topic::Burst { launch, .. } => drop(self.live.remove(launch.as_str())),
            Topic::Service { service, .. } => drop(self.services.remove(service.as_str())),
            other => drop(self.announcements.remove(&other.to_string())),
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(launch: &str) -> BurstStatus {
        BurstStatus { launch: launch.into(), ..BurstStatus::default() }
    }

    #[test]
    fn an_instance_moves_from_the_live_to_the_ended_and_is_there_once() {
        let board = Board::default();
        let topic = Topic::burst("n", "l1").unwrap();
        board.record(&topic, &Message::Burst(Box::new(burst("l1"))));
        board.remember_burst(burst("l1"));
        board.remember_burst(burst("l1"));
        board.record(&topic, &Message::Cleared);
        assert_eq!(board.bursts().len(), 1);
    }

    #[test]
    fn the_history_is_bounded() {
        let board = Board::default();
        (0..MAX_ENDED + 50).for_each(|n| board.remember_burst(burst(&n.to_string())));
        assert_eq!(board.bursts().len(), MAX_ENDED);
        assert_eq!(board.bursts().last().unwrap().launch, (MAX_ENDED + 49).to_string());
    }
}
