//! Says on MQTT what the node sees, decides and spends: each message in CBOR, and again in JSON for people's tools.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message};

use super::MAILBOX;
use super::hearing::WrittenOver;
use super::upstream::{self, Upstream, worth};
use crate::host::clock::{Clock, rfc3339_now};
use crate::host::probe::Reading;
use crate::journal::Spool;
use crate::logic::load::LoadSample;
use crate::logic::thrift::Worth;
use crate::mqtt::link::Link;
use crate::mqtt::{Outgoing, Qos};
use crate::trust::Signer;
use crate::wire::board::Board;
use crate::wire::registry::Ear;
use crate::wire::{
    Delivery, Encoding, Event, EventData, EventKind, LoadReport, Message as WireMessage, NodeState, Qos as WireQos,
    Root, ServiceLoadReport, ServiceStatus, Topic, WireError,
};

/// A topic is repaired at most once in this time.
const REPAIR_PACE: Duration = Duration::from_secs(1);
/// Topics that this node says nothing on are cleared at most this often a second, all together: whoever may write on them
/// writes on as many as there are names.
const CLEARS_A_SECOND: usize = 8;
/// Our own word may come back this late where a broker has no way to leave it out. What somebody else wrote meanwhile is
/// written over with the next refresh.
pub const ECHO: Duration = Duration::from_secs(5);

/// Who is speaking: what every message carries.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The fleet's id.
    pub fleet: String,
    /// This node's id.
    pub node: String,
    /// This run's number.
    pub session: u64,
}

/// One sample of the box and the services, from the monitor.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Sampled {
    /// What decisions are made from.
    pub sample: Arc<LoadSample>,
    /// What people see beside it.
    pub reading: Arc<Reading>,
}

/// A message for a topic of ours.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Publish {
    /// Where.
    pub topic: Topic,
    /// What; [`WireMessage::Cleared`] removes what is retained there.
    pub message: WireMessage,
}

/// A way out of the node: one tree at one broker.
#[derive(Clone)]
pub struct Way {
    /// The tree.
    pub root: Root,
    /// The connection.
    pub link: Link,
    /// The broker.
    pub ear: Ear,
}

/// A message that somebody else has signed, to be said again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Relay {
    /// The brokers that lack it.
    pub to: BTreeSet<Ear>,
    /// Where.
    pub topic: Topic,
    /// As it was signed.
    pub sealed: Vec<u8>,
    /// What it says.
    pub message: WireMessage,
}

/// Something happened: becomes an event on MQTT and a line in the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Report {
    /// What kind.
    pub kind: EventKind,
    /// About what, and why.
    pub data: EventData,
}

/// A link is connected anew: the state is said on it as of this connection, newer than the last one's Will.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LinkUp;

/// What was said in a session that others have outlived is said again in this one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SayAllAgain;

/// Answered once everything before it was handed to the links.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flush;

/// What stands on a retained topic.
pub struct Held {
    message: WireMessage,
    said_at: Duration,
}

/// The links and what is said on them; made by the node.
pub struct Publisher {
    /// Who is speaking.
    pub identity: Identity,
    /// The only clock.
    pub clock: Clock,
    /// The sampling tick, told in each report.
    pub tick: Duration,
    /// How often retained messages are said again.
    pub refresh: Duration,
    /// Signs what others act upon.
    pub signer: Arc<Signer>,
    /// Each tree at each broker; empty when MQTT is off.
    pub ways: Vec<Way>,
    /// Holds what goes to the uplink; none where there is none.
    pub upstream: Option<Upstream>,
    /// Holds on disk what must not be lost; none when MQTT is off.
    pub spool: Option<Arc<Spool>>,
    /// The last value of each message, for the console.
    pub board: Arc<Board>,
    /// Counts events.
    pub events: u64,
    /// Counts load reports.
    pub reports: u64,
    /// What stands at the brokers, by topic.
    pub retained: BTreeMap<Topic, Held>,
    /// When a topic was last repaired: two that write over each other do not make a storm.
    pub repaired: BTreeMap<Topic, Duration>,
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX * 4);
        context.run_interval(self.refresh, |publisher, _| publisher.refresh());
        if self.upstream.is_some() {
            context.run_interval(upstream::LOOK, |publisher, _| publisher.look_upstream());
        }
    }
}

impl Handler<Flush> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {}
}

impl Handler<Publish> for Publisher {
    type Result = ();

    fn handle(&mut self, publish: Publish, _: &mut Self::Context) {
        let Publish { topic, message } = publish;
        self.say(&topic, &message);
        if is_taken_back(&message) {
            self.retained.remove(&topic);
        } else if topic.delivery(self.refresh).retained {
            self.retained.insert(topic, Held { message, said_at: self.clock.now() });
        }
    }
}

impl Handler<Relay> for Publisher {
    type Result = ();

    fn handle(&mut self, Relay { to, topic, sealed, message }: Relay, _: &mut Self::Context) {
        let delivery = topic.delivery(self.refresh);
        for Way { root, link, .. } in self.ways.iter().filter(|way| to.contains(&way.ear)) {
            let payload = match root.encoding {
                Encoding::Cbor => Ok(sealed.clone()),
                Encoding::Json => message.encode(root.encoding),
            };
            match payload {
                Ok(payload) => link.publish(outgoing(root.topic(&topic), payload, &delivery)),
                Err(error) => tracing::error!(%error, %topic, "a message could not be encoded"),
            }
        }
    }
}

impl Handler<LinkUp> for Publisher {
    type Result = ();

    fn handle(&mut self, _: LinkUp, _: &mut Self::Context) {
        // The link says all that it remembers again, which may come back.
        let now = self.clock.now();
        self.retained.values_mut().for_each(|held| held.said_at = now);
        let states: Vec<_> =
            self.retained.keys().filter(|topic| matches!(topic, Topic::State { .. })).cloned().collect();
        states.iter().for_each(|topic| self.say_again(topic));
        self.look_upstream();
    }
}

impl Handler<SayAllAgain> for Publisher {
    type Result = ();

    fn handle(&mut self, _: SayAllAgain, _: &mut Self::Context) {
        let topics: Vec<_> = self.retained.keys().cloned().collect();
        topics.iter().for_each(|topic| self.say_again(topic));
        // The Last Wills that the brokers have were signed as all was before.
        let signed = self.ways.iter().filter(|way| way.root.encoding == Encoding::Cbor);
        signed.for_each(|way| way.link.begin_anew());
    }
}

impl Handler<WrittenOver> for Publisher {
    type Result = ();

    fn handle(&mut self, over: WrittenOver, _: &mut Self::Context) {
        let WrittenOver { topic, payload, was_kept, is_left_over } = over;
        let now = self.clock.now();
        let held = self.retained.get(&topic);
        let is_ours = match held {
            None => payload.is_empty(),
            // Whose a signed message is, its signature tells. One without may be our own that comes back, late from an uplink
            // that is spoken to rarely; and what a broker kept of us is written over on each connection anyway.
            Some(held) => {
                let is_echo = || held.message.encode(Encoding::Cbor).is_ok_and(|ours| ours == payload);
                !topic.is_signed() && (was_kept || now.saturating_sub(held.said_at) < ECHO || is_echo())
            }
        };
        let again = held.map_or(WireMessage::Cleared, |held| held.message.clone());
        self.repaired.retain(|_, at| now.saturating_sub(*at) < REPAIR_PACE);
        let cleared = || self.repaired.keys().filter(|topic| !self.retained.contains_key(*topic)).count();
        let is_paced = self.repaired.contains_key(&topic) || (held.is_none() && cleared() >= CLEARS_A_SECOND);
        if is_ours || is_paced {
            return;
        }
        self.repaired.insert(topic.clone(), now);
        self.say(&topic, &again);
        self.has_said(&topic);
        if is_left_over {
            return;
        }
        let reason = Some(format!("{topic} was written by somebody else, {} bytes; it was said again", payload.len()));
        self.report(Report { kind: EventKind::TopicRepaired, data: EventData { reason, ..EventData::default() } });
    }
}

impl Handler<Report> for Publisher {
    type Result = ();

    fn handle(&mut self, report: Report, _: &mut Self::Context) {
        self.report(report);
    }
}

impl Publisher {
    fn report(&mut self, report: Report) {
        self.events += 1;
        let Identity { fleet, node, session } = &self.identity;
        log(report.kind, &report.data);
        measure(report.kind, &report.data);
        let event = Event::new(report.kind, fleet, node, *session, self.events, report.data).at(rfc3339_now());
        match Topic::event(node, report.kind) {
            Ok(topic) => self.say(&topic, &WireMessage::Event(Box::new(event))),
            Err(error) => tracing::error!(%error, "an event has no topic"),
        }
    }
}

impl Handler<Sampled> for Publisher {
    type Result = ();

    fn handle(&mut self, sampled: Sampled, _: &mut Self::Context) {
        self.reports += 1;
        let report = self.load_report(&sampled);
        match Topic::load(&self.identity.node) {
            Ok(topic) => self.say(&topic, &WireMessage::Load(Box::new(report))),
            Err(error) => tracing::error!(%error, "the load has no topic"),
        }
    }
}

impl Publisher {
    /// Says again what would expire. Announcements are said again by discovery itself.
    fn refresh(&mut self) {
        let expires = |message: &WireMessage| matches!(message, WireMessage::Service(_) | WireMessage::Burst(_));
        let expiring = self.retained.iter().filter(|(_, held)| expires(&held.message));
        let topics: Vec<_> = expiring.map(|(topic, _)| topic.clone()).collect();
        topics.iter().for_each(|topic| self.say_again(topic));
    }

    fn say_again(&mut self, topic: &Topic) {
        if let Some(message) = self.retained.get(topic).map(|held| held.message.clone()) {
            self.say(topic, &message);
        }
        self.has_said(topic);
    }

    /// From now on it may come back.
    fn has_said(&mut self, topic: &Topic) {
        let now = self.clock.now();
        self.retained.get_mut(topic).into_iter().for_each(|held| held.said_at = now);
    }

    fn look_upstream(&mut self) {
        if let Some(upstream) = &mut self.upstream {
            upstream.look(self.clock.now());
        }
    }

    fn say(&mut self, topic: &Topic, message: &WireMessage) {
        self.board.record(topic, message);
        if let WireMessage::Service(status) = message {
            count_replicas(status);
        }
        let mut delivery = topic.delivery(self.refresh);
        // The last word on something that goes is for those who listen now; the topic itself is cleared after it.
        delivery.retained &= *message == WireMessage::Cleared || !is_taken_back(message);
        let worth = worth(message, is_taken_back(message));
        // Signed once, so that whoever hears both brokers hears one message twice and not two.
        let mut known: BTreeMap<Encoding, Vec<u8>> = BTreeMap::new();
        for way in self.ways.clone() {
            let payload = match known.get(&way.root.encoding) {
                Some(payload) => Ok(payload.clone()),
                None => self.payload(&way, topic, message),
            };
            match payload {
                Ok(payload) => {
                    // A state is of one connection.
                    if !matches!(message, WireMessage::State(_)) {
                        known.insert(way.root.encoding, payload.clone());
                    }
                    self.hand_over(topic, &way, worth, outgoing(way.root.topic(topic), payload, &delivery));
                }
                Err(error) => tracing::error!(%error, %topic, "a message could not be encoded"),
            }
        }
    }

    /// The message for one link; signed where only signed ones count.
    fn payload(&self, way: &Way, topic: &Topic, message: &WireMessage) -> Result<Vec<u8>, WireError> {
        let Way { root, link, .. } = way;
        let payload = match message {
            WireMessage::State(state) => {
                let connection = link.status().attempts;
                WireMessage::State(NodeState { connection, ..state.clone() }).encode(root.encoding)?
            }
            message => message.encode(root.encoding)?,
        };
        let is_signed = root.encoding == Encoding::Cbor && topic.is_signed() && *message != WireMessage::Cleared;
        if is_signed { self.signer.seal(topic, payload) } else { Ok(payload) }
    }

    /// An event goes to disk first, and from there to its link; all else is worth only as much as it is new.
    fn hand_over(&mut self, topic: &Topic, way: &Way, worth: Worth, message: Outgoing) {
        let spooled = match (&self.spool, topic) {
            (Some(spool), Topic::Event { .. }) => spool.append(way.link.name(), &message.topic, &message.payload),
            _ => false,
        };
        match &mut self.upstream {
            _ if spooled => {}
            Some(upstream) if way.ear == Ear::Uplink => upstream.offer(&way.link, worth, message, self.clock.now()),
            _ => way.link.publish(message),
        }
    }

    fn load_report(&self, sampled: &Sampled) -> LoadReport {
        let Sampled { sample, reading } = sampled;
        let services: Vec<_> = sample.services.keys().filter_map(|name| self.service_report(sample, name)).collect();
        let sum = |field: fn(&ServiceLoadReport) -> u64| services.iter().map(field).sum();
        LoadReport {
            node: self.identity.node.clone(),
            session: self.identity.session,
            sequence: self.reports,
            at: rfc3339_now(),
            uptime_s: self.clock.uptime().as_secs(),
            tick_ms: u32::try_from(self.tick.as_millis()).unwrap_or(u32::MAX),
            cpu: sample.host.cpu,
            cpu_count: reading.cpu_count,
            memory: sample.host.memory,
            memory_used_bytes: reading.memory_used_bytes,
            memory_total_bytes: reading.memory_total_bytes,
            network: reading.network,
            network_rx_bytes_per_s: reading.network_rx_bytes_per_s,
            network_tx_bytes_per_s: reading.network_tx_bytes_per_s,
            load_average_1m: Some(reading.load_average_1m),
            process_cpu: Some(reading.process_cpu),
            process_memory_bytes: reading.process_memory_bytes,
            requests_per_s: services.iter().map(|service| service.requests_per_s).sum(),
            in_flight: sum(|service| service.in_flight),
            queued: sum(|service| service.queued),
            errors_per_s: sample.services.values().map(|load| load.failed_per_s).sum(),
            replicas_local: services.iter().map(|service| service.ready_local).sum(),
            replicas_cloud: services.iter().map(|service| service.ready_cloud).sum(),
            spend_hour: self.board.spend_hour(),
            broker_connected: self.ways.iter().any(|way| way.link.status().connected),
            services,
        }
    }

    fn service_report(&self, sample: &LoadSample, name: &str) -> Option<ServiceLoadReport> {
        let load = sample.services.get(name)?;
        let status = self.board.service(name).unwrap_or_default();
        Some(ServiceLoadReport {
            service: name.to_owned(),
            requests_per_s: load.arrivals_per_s,
            in_flight: load.in_flight_now,
            queued: load.queued_now,
            utilisation: status.value.filter(|_| status.metric.as_deref() == Some("utilisation")),
            service_time_s: load.service_time.map(|time| time.as_secs_f64()),
            latency_p50_s: load.latency_p50.map(|time| time.as_secs_f64()),
            latency_p95_s: load.latency_p95.map(|time| time.as_secs_f64()),
            latency_p99_s: load.latency_p99.map(|time| time.as_secs_f64()),
            ready_local: status.ready_local,
            ready_cloud: status.ready_cloud,
            wanted: status.wanted,
        })
    }
}

/// Whether a message says that what stood on its topic is gone.
fn is_taken_back(message: &WireMessage) -> bool {
    match message {
        WireMessage::Cleared => true,
        WireMessage::Announcement(said) => said.ttl_s == 0,
        _ => false,
    }
}

/// A message as the link takes it.
pub fn outgoing(topic: String, payload: Vec<u8>, delivery: &Delivery) -> Outgoing {
    Outgoing {
        topic,
        payload,
        retained: delivery.retained,
        qos: match delivery.qos {
            WireQos::AtMostOnce => Qos::AtMostOnce,
            WireQos::AtLeastOnce => Qos::AtLeastOnce,
        },
        expiry: delivery.expiry,
        properties: None,
    }
}

/// Gauges of the local replicas, with zeros, so that a board shows the way down too; the burst engine counts its own.
fn count_replicas(status: &ServiceStatus) {
    let service = &status.service;
    for (state, count) in [("ready", status.ready_local), ("starting", status.starting_local)] {
        let labels = [("service", service.as_str()), ("placement", "local"), ("adapter", ""), ("state", state)];
        let labels = labels.map(|(name, value)| metrics::Label::new(name, value.to_owned()));
        metrics::gauge!("tidegate_replicas", labels.to_vec()).set(f64::from(count));
    }
    if let Some(error) = status.forecast_error {
        metrics::gauge!("tidegate_forecast_error_ratio", "service" => service.clone()).set(error);
    }
    metrics::gauge!("tidegate_replicas_desired", "service" => service.clone()).set(f64::from(status.wanted));
}

fn measure(kind: EventKind, data: &EventData) {
    if let (EventKind::BurstReady, Some(seconds)) = (kind, data.duration_s) {
        let adapter = data.adapter.clone().unwrap_or_default();
        metrics::histogram!("tidegate_burst_start_seconds", "adapter" => adapter, "phase" => "ready").record(seconds);
    }
}

fn log(kind: EventKind, data: &EventData) {
    let about = data.launch.as_deref().or(data.replica.as_deref()).unwrap_or_default();
    let service = data.service.as_deref().unwrap_or_default();
    let why = data.error.as_deref().or(data.reason.as_deref()).unwrap_or_default();
    let failed = kind.as_str().ends_with("failed");
    if failed || data.error.is_some() {
        tracing::warn!(event = kind.as_str(), service, about, "{why}");
    } else {
        tracing::info!(event = kind.as_str(), service, about, "{why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_forecast_errs_is_measured_once_it_is_known() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let status = |forecast_error: Option<f64>| ServiceStatus {
            service: "digits".to_owned(),
            wanted: 3,
            forecast_error,
            ..ServiceStatus::default()
        };
        metrics::with_local_recorder(&recorder, || {
            count_replicas(&status(None));
            assert!(!shown.render().contains("tidegate_forecast_error_ratio"));
            count_replicas(&status(Some(0.25)));
        });
        let text = shown.render();
        assert!(text.contains("tidegate_forecast_error_ratio{service=\"digits\"} 0.25"), "{text}");
        assert!(text.contains("tidegate_replicas_desired{service=\"digits\"} 3"), "{text}");
    }
}
