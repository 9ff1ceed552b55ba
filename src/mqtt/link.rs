//! One connection to a broker that survives the broker.
//!
//! `rumqttc` forgets what was queued when a session is new, never resubscribes, and reconnects without a pause. So its
//! event loop polls on a task of its own with backoff, a second task feeds it from our bounded [`Backlog`] only while the
//! connection is up, and every new connection subscribes and says the retained values again. Nobody who publishes waits.

mod reason;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::Outgoing as Sent;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, LastWill, LastWillProperties, Packet, PubAckReason, PublishProperties,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, MqttState};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backlog::{Backlog, Limits};
use super::backoff::Backoff;
use super::{Incoming, MAX_PACKET_BYTES, Outgoing, Qos};

/// Unacknowledged publishes at once. The client's own default of 65,535 costs 14 MB of memory.
const MAX_INFLIGHT: u16 = 64;
/// After so many connections that ended with a packet larger than we take, one that asks for none: what the broker keeps for
/// a topic comes again with every subscription.
const DEAF_AFTER: u32 = 2;
/// A connection that stood this long was a good one.
const STOOD: Duration = Duration::from_secs(30);
/// Room between the feeder and the event loop.
const CHANNEL_CAPACITY: usize = 32;

/// How to reach a broker and what it says when we are gone.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// What metrics and the log call it.
    pub name: &'static str,
    /// Unique at the broker.
    pub client_id: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// At least 5 s, the client's floor.
    pub keepalive: Duration,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// Published by the broker when the connection dies without a goodbye.
    pub last_will: Option<Outgoing>,
    /// Topic filters to subscribe on every connection.
    pub subscriptions: Vec<(String, Qos)>,
}

/// What a link is doing; read at any time, never waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether the broker accepted us and the connection stands.
    pub connected: bool,
    /// Connections made so far.
    pub connections: u64,
    /// The last reason for being down.
    pub last_error: Option<String>,
    /// Messages given up: too many waited, or the broker does not take them.
    pub dropped: u64,
    /// Messages that wait or are on their way.
    pub waiting: usize,
    /// How long the broker was away before this connection; none before the second one.
    pub away: Option<Duration>,
}

/// What the owner of a link is told, on the link's own task: it must return at once.
pub trait LinkObserver: Send + Sync + 'static {
    /// A message came.
    fn received(&self, message: Incoming);
    /// The connection came up or went down.
    fn changed(&self, status: &LinkStatus);
    /// The broker has these messages of [`Link::keep`], or will never take them; there may be room for more. Also called on
    /// the thread that calls [`Link::keep`].
    fn released(&self, _tickets: &[u64]) {}
}

/// Handle of a link; clones share it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    /// `host:port`, for the log.
    broker: String,
    backlog: Mutex<Backlog>,
    status: watch::Sender<LinkStatus>,
    /// Woken when there may be something to feed or room to feed it into.
    feed: Notify,
    closing: watch::Sender<bool>,
    observer: Arc<dyn LinkObserver>,
}

impl Shared {
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_released(&self) {
        let released = self.backlog().take_released();
        if !released.is_empty() {
            self.observer.released(&released);
        }
    }
}

impl Link {
    /// Starts connecting on the current tokio runtime and returns at once.
    pub fn start(options: LinkOptions, observer: Arc<dyn LinkObserver>) -> Self {
        let shared = Arc::new(Shared {
            name: options.name,
            broker: format!("{}:{}", options.host, options.port),
            backlog: Mutex::new(Backlog::new(options.name, Limits::default())),
            status: watch::Sender::new(LinkStatus::default()),
            feed: Notify::new(),
            closing: watch::Sender::new(false),
            observer,
        });
        metrics::gauge!("tidegate_mqtt_connected", "link" => options.name).set(0.0);
        metrics::counter!("tidegate_mqtt_reconnects_total", "link" => options.name).absolute(0);
        let (client, event_loop) = AsyncClient::new(client_options(&options), CHANNEL_CAPACITY);
        tokio::spawn(feed(shared.clone(), client.clone()));
        tokio::spawn(poll(shared.clone(), client, event_loop, options));
        Self { shared }
    }

    /// Queues a message; it goes out when the broker is there. Never waits.
    pub fn publish(&self, message: Outgoing) {
        self.shared.backlog().push(message);
        self.shared.feed.notify_one();
    }

    /// Queues a message that its owner has on disk until the observer is told that `ticket` is released. False: there is no
    /// room; to be given again after the next release. Never waits.
    #[must_use = "a message without room is still its owner's to give"]
    pub fn keep(&self, message: Outgoing, ticket: u64) -> bool {
        let taken = self.shared.backlog().keep(message, ticket);
        self.shared.tell_released();
        self.shared.feed.notify_one();
        taken
    }

    /// What metrics and the log call it.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// What the link is doing.
    pub fn status(&self) -> LinkStatus {
        let mut status = self.shared.status.borrow().clone();
        let backlog = self.shared.backlog();
        (status.dropped, status.waiting) = (backlog.dropped(), backlog.messages());
        status
    }

    /// Bytes of memory that its messages take, about; bounded.
    pub fn held_bytes(&self) -> usize {
        self.shared.backlog().bytes()
    }

    /// Waits until the broker has acknowledged everything, at most `deadline`, then says goodbye, so that the Last Will
    /// stays unsaid.
    pub async fn close(&self, deadline: Duration) {
        let settled = async {
            while !self.shared.backlog().is_settled() {
                self.shared.feed.notify_one();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(deadline, settled).await.is_err() {
            tracing::warn!("the MQTT broker did not take the last messages in time");
        }
        self.shared.closing.send_replace(true);
        self.shared.feed.notify_one();
        let mut status = self.shared.status.subscribe();
        // Down after the goodbye; a broker that does not answer must not hold the shutdown.
        let _ = tokio::time::timeout(deadline, status.wait_for(|s| !s.connected)).await;
    }
}

fn client_options(options: &LinkOptions) -> MqttOptions {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    let connect = ConnectProperties { max_packet_size: Some(MAX_PACKET_BYTES), ..ConnectProperties::new() };
    mqtt.set_connect_properties(connect)
        .set_keep_alive(options.keepalive)
        .set_clean_start(true)
        .set_connection_timeout(5)
        .set_outgoing_inflight_upper_limit(MAX_INFLIGHT);
    if let Some((user, password)) = &options.credentials {
        mqtt.set_credentials(user, password);
    }
    if let Some(will) = &options.last_will {
        let properties = will.expiry.map(|expiry| LastWillProperties {
            delay_interval: None,
            payload_format_indicator: None,
            message_expiry_interval: Some(whole_seconds(expiry)),
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        });
        let will = LastWill::new(&will.topic, will.payload.clone(), qos(will.qos), will.retained, properties);
        mqtt.set_last_will(will);
    }
    mqtt
}

/// Moves messages from the backlog to the client while the connection is up.
async fn feed(shared: Arc<Shared>, client: AsyncClient) {
    loop {
        shared.feed.notified().await;
        if !shared.status.borrow().connected {
            if *shared.closing.borrow() {
                return;
            }
            continue;
        }
        hand_over(&shared, &client);
        shared.tell_released();
        if *shared.closing.borrow() {
            if let Err(error) = client.try_disconnect() {
                tracing::debug!(%error, "no goodbye to the MQTT broker");
            }
            return;
        }
    }
}

fn hand_over(shared: &Shared, client: &AsyncClient) {
    loop {
        let mut backlog = shared.backlog();
        let Some(message) = backlog.next() else { return };
        if !publish(client, &message) {
            backlog.put_back();
            return;
        }
    }
}

/// Returns whether the client had room for it.
fn publish(client: &AsyncClient, message: &Outgoing) -> bool {
    let properties = PublishProperties {
        message_expiry_interval: message.expiry.map(whole_seconds),
        ..PublishProperties::default()
    };
    let (topic, payload) = (message.topic.clone(), message.payload.clone());
    client.try_publish_with_properties(topic, qos(message.qos), message.retained, payload, properties).is_ok()
}

/// Polls the client's event loop for ever; the only place that waits for the network.
async fn poll(shared: Arc<Shared>, client: AsyncClient, mut event_loop: EventLoop, options: LinkOptions) {
    let observer = &shared.observer;
    let mut backoff = Backoff::new();
    let (mut connected_at, mut lost_at) = (None::<Instant>, None::<Instant>);
    let mut oversized = 0;
    loop {
        // A healthy connection has a ping every keepalive, ours or what the broker asks for. One that takes no bytes blocks
        // even these.
        let patience = event_loop.options.keep_alive().max(options.keepalive) * 2;
        let polled = tokio::time::timeout(patience, event_loop.poll()).await;
        match polled.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                connected_at = Some(Instant::now());
                keep_alive(&mut event_loop, &options);
                let subscriptions = if oversized < DEAF_AFTER { &options.subscriptions[..] } else { &[] };
                connected(&shared, &client, subscriptions, &answer, lost_at.map(|at| at.elapsed()));
                if oversized >= DEAF_AFTER {
                    let link = shared.name;
                    tracing::warn!(
                        link,
                        "connected, but hears nothing: the broker sends packets larger than this node takes"
                    );
                }
                observer.changed(&shared.status.borrow().clone());
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => observer.received(Incoming {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
                retained: publish.retain,
            }),
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                let taken = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                shared.backlog().acknowledged(ack.pkid, !taken);
            }
            Ok(Event::Outgoing(Sent::Publish(packet_id))) => shared.backlog().sent(packet_id),
            Ok(_) => {}
            Err(error) => {
                let closing = *shared.closing.borrow();
                let was_connected = disconnected(&shared, &error, closing);
                if was_connected {
                    lost_at = Some(Instant::now());
                }
                if was_connected && !closing {
                    observer.changed(&shared.status.borrow().clone());
                }
                if closing || matches!(error, ConnectionError::RequestsDone) {
                    return;
                }
                start_afresh(&mut event_loop, &options);
                let stood = connected_at.take().map(|at| at.elapsed());
                oversized = match (reason::is_oversized(&error), stood.is_some_and(|stood| stood >= STOOD)) {
                    (true, stood) => 1 + if stood { 0 } else { oversized },
                    (false, true) => 0,
                    (false, false) => oversized,
                };
                tokio::time::sleep(backoff.pause(stood, fastrand::f64())).await;
            }
        }
        shared.tell_released();
        shared.feed.notify_one();
    }
}

/// Nothing of one connection may reach into the next: the client keeps packet ids beyond a smaller window of the next
/// broker, a collision after which it sends nothing any more, and requests that our backlog sends again anyway.
fn start_afresh(event_loop: &mut EventLoop, options: &LinkOptions) {
    event_loop.clean();
    event_loop.pending.clear();
    event_loop.state = MqttState::new(MAX_INFLIGHT, false);
    event_loop.options = client_options(options);
}

/// A broker that wants no pings says zero, which the client takes for one after the other without a pause.
fn keep_alive(event_loop: &mut EventLoop, options: &LinkOptions) {
    if event_loop.options.keep_alive().is_zero() {
        event_loop.options = client_options(options);
    }
}

fn connected(
    shared: &Shared,
    client: &AsyncClient,
    subscriptions: &[(String, Qos)],
    answer: &ConnAck,
    away: Option<Duration>,
) {
    for (filter, level) in subscriptions {
        if let Err(error) = client.try_subscribe(filter, qos(*level)) {
            tracing::warn!(%error, filter, "could not subscribe; trying again with the next connection");
        }
    }
    shared.backlog().connected(answer.properties.as_ref().and_then(|properties| properties.max_packet_size));
    let mut again = false;
    shared.status.send_modify(|status| {
        status.connected = true;
        status.connections += 1;
        status.last_error = None;
        status.away = away;
        again = status.connections > 1;
    });
    metrics::gauge!("tidegate_mqtt_connected", "link" => shared.name).set(1.0);
    metrics::counter!("tidegate_mqtt_reconnects_total", "link" => shared.name).increment(again.into());
    if again {
        tracing::info!(broker = shared.broker, link = shared.name, "connected to the MQTT broker again");
    }
}

/// Returns whether the link was up until now.
fn disconnected(shared: &Shared, error: &ConnectionError, closing: bool) -> bool {
    shared.backlog().disconnected();
    let mut was_connected = false;
    let reason = reason::in_words(error);
    shared.status.send_modify(|status| {
        was_connected = std::mem::replace(&mut status.connected, false);
        if !closing && (was_connected || status.last_error.as_deref() != Some(&reason)) {
            let (broker, link) = (&shared.broker, shared.name);
            tracing::info!(
                broker,
                link,
                %reason,
                "no connection to the MQTT broker; trying again, nothing else waits for it"
            );
        }
        status.last_error = Some(reason.clone());
    });
    metrics::gauge!("tidegate_mqtt_connected", "link" => shared.name).set(0.0);
    was_connected
}

fn qos(level: Qos) -> QoS {
    match level {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

/// Whole seconds, at least one: zero would mean "forget at once".
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
