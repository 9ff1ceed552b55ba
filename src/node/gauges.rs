//! The custom metrics of a configuration: who hears them on MQTT, who asks replicas for them, and who reads them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_config::{Config, MetricSource};

use crate::actors::monitor::Custom;
use crate::actors::surveyor::{Surveillance, Survey};
use crate::host::clock::Clock;
use crate::logic::load::{Gauge, GaugeRule};
use crate::mqtt::link::{LinkObserver, tap};
use crate::mqtt::{Incoming, Qos};
use crate::wire::number_at;

/// A replica is asked so many times while an answer counts, no more often than this and at least so often.
const ASKED_WHILE_IT_COUNTS: u32 = 3;
const SOONEST: Duration = Duration::from_millis(300);
const LATEST: Duration = Duration::from_secs(10);

/// The custom metrics of all services.
pub(super) struct Gauges {
    clock: Clock,
    gauges: BTreeMap<String, Arc<Gauge>>,
    topics: BTreeMap<String, Vec<Heard>>,
    surveys: Vec<Survey>,
}

/// What a topic tells one service.
struct Heard {
    service: String,
    pointer: String,
    gauge: Arc<Gauge>,
    /// What was wrong with the last message, so that it is said once.
    complaint: Mutex<Option<String>>,
}

/// Made once, for the services that there are at the start.
pub(super) fn prepare(config: &Config, clock: Clock) -> Arc<Gauges> {
    let mut all = Gauges { clock, gauges: BTreeMap::new(), topics: BTreeMap::new(), surveys: Vec::new() };
    for (name, service) in &config.services {
        let Some(custom) = &service.scaling.custom else { continue };
        let gauge = Arc::new(Gauge::new(GaugeRule { max_age: custom.max_age, is_counter: custom.counter }));
        let (service, pointer) = (name.to_string(), custom.pointer.clone());
        match &custom.source {
            MetricSource::Topic(topic) => {
                let heard = Heard { service, pointer, gauge: gauge.clone(), complaint: Mutex::default() };
                all.topics.entry(topic.clone()).or_default().push(heard);
            }
            MetricSource::Path(path) => {
                let every = (custom.max_age / ASKED_WHILE_IT_COUNTS).clamp(SOONEST, LATEST);
                all.surveys.push(Survey { service, path: path.clone(), pointer, gauge: gauge.clone(), every });
            }
            _ => {}
        }
        all.gauges.insert(name.to_string(), gauge);
    }
    Arc::new(all)
}

impl Gauges {
    /// What the link to the node's own broker subscribes to for them.
    pub(super) fn filters(&self) -> impl Iterator<Item = (String, Qos)> {
        self.topics.keys().map(|topic| (topic.clone(), Qos::AtMostOnce))
    }

    /// Hears them before all else that comes on that link.
    pub(super) fn observer(self: &Arc<Self>, rest: Arc<dyn LinkObserver>) -> Arc<dyn LinkObserver> {
        if self.topics.is_empty() {
            return rest;
        }
        let gauges = self.clone();
        tap(move |message| if gauges.hear(&message) { None } else { Some(message) }, rest)
    }

    /// Reads them, for the monitor.
    pub(super) fn read(self: &Arc<Self>) -> Custom {
        let gauges = self.gauges.clone();
        Box::new(move |service, now| gauges.get(service).and_then(|gauge| gauge.read(now)))
    }

    /// What replicas are asked for.
    pub(super) fn surveys(&self) -> Vec<Surveillance> {
        self.surveys.iter().cloned().map(Surveillance::new).collect()
    }

    fn hear(&self, message: &Incoming) -> bool {
        let Some(heard) = self.topics.get(&message.topic) else { return false };
        // Nobody knows how old that is which the broker kept.
        if !message.retained {
            heard.iter().for_each(|one| one.hear(message, self.clock.now()));
        }
        true
    }
}

impl Heard {
    fn hear(&self, message: &Incoming, now: Duration) {
        let complaint = match number_at(&message.payload, &self.pointer) {
            Ok(number) => {
                self.gauge.hear("", number, now);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let mut last = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(complaint) = complaint.as_ref().filter(|complaint| last.as_ref() != Some(*complaint)) {
            tracing::warn!(
                service = %self.service,
                topic = %message.topic,
                "a message of scaling.metric is of no use and left out: {complaint}"
            );
        }
        *last = complaint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8], retained: bool) -> Incoming {
        let payload = payload.to_vec();
        Incoming { topic: "line1/queue".to_owned(), payload, retained, expiry: None, properties: None }
    }

    #[test]
    fn what_the_broker_kept_from_before_is_of_unknown_age_and_not_heard() {
        let rule = GaugeRule { max_age: Duration::from_secs(10), is_counter: false };
        let gauge = Arc::new(Gauge::new(rule));
        let service = "press".to_owned();
        let heard = Heard { service, pointer: "/depth".to_owned(), gauge: gauge.clone(), complaint: Mutex::default() };
        let clock = Clock::start();
        let topics = BTreeMap::from([("line1/queue".to_owned(), vec![heard])]);
        let gauges = Gauges { clock, gauges: BTreeMap::new(), topics, surveys: Vec::new() };
        assert!(gauges.hear(&message(br#"{"depth": 7}"#, true)));
        assert_eq!(gauge.read(clock.now()), None);
        assert!(gauges.hear(&message(br#"{"depth": 9}"#, false)));
        assert_eq!(gauge.read(clock.now()), Some(9.0));
        let other = Incoming { topic: "line2/queue".to_owned(), ..message(b"1", false) };
        assert!(!gauges.hear(&other), "it is somebody else's");
    }
}
