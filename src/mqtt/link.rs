//! One connection to a broker that survives the broker.
//!
//! `rumqttc` forgets what was queued when a session is new, never resubscribes, and reconnects without a pause. So its
//! event loop polls on a task of its own with backoff, a second task feeds it from our bounded [`Backlog`] only while the
//! connection is up, and every new connection subscribes and says the retained values again. Nobody who publishes waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::Outgoing as Sent;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWill, LastWillProperties, Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backlog::Backlog;
use super::{Incoming, MAX_PACKET_BYTES, Outgoing, Qos};

/// First and longest pause before connecting again; each is drawn at random below the current step ("full jitter"), so
/// that a thousand gateways do not come back in one second.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);
/// Unacknowledged publishes at once. The client's own default of 65,535 costs 14 MB of memory.
const MAX_INFLIGHT: u16 = 64;
/// Messages that wait for a broker that is away.
const BACKLOG_CAPACITY: usize = 1_024;
/// Room between the feeder and the event loop.
const CHANNEL_CAPACITY: usize = 32;

/// How to reach a broker and what it says when we are gone.
#[derive(Clone, Debug)]
pub struct LinkOptions {
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
    /// Messages given up because the backlog was full.
    pub dropped: u64,
}

/// What the owner of a link is told, on the link's own task: it must return at once.
pub trait LinkObserver: Send + Sync + 'static {
    /// A message came.
    fn received(&self, message: Incoming);
    /// The connection came up or went down.
    fn changed(&self, status: &LinkStatus);
}

/// Handle of a link; clones share it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    /// `host:port`, for the log.
    broker: String,
    backlog: Mutex<Backlog>,
    status: watch::Sender<LinkStatus>,
    /// Woken when there may be something to feed or room to feed it into.
    feed: Notify,
    closing: watch::Sender<bool>,
}

impl Shared {
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Starts connecting on the current tokio runtime and returns at once.
    pub fn start(options: LinkOptions, observer: Arc<dyn LinkObserver>) -> Self {
        let shared = Arc::new(Shared {
            broker: format!("{}:{}", options.host, options.port),
            backlog: Mutex::new(Backlog::new(BACKLOG_CAPACITY)),
            status: watch::Sender::new(LinkStatus::default()),
            feed: Notify::new(),
            closing: watch::Sender::new(false),
        });
        let (client, event_loop) = AsyncClient::new(client_options(&options), CHANNEL_CAPACITY);
        tokio::spawn(feed(shared.clone(), client.clone()));
        tokio::spawn(poll(shared.clone(), client, event_loop, options.subscriptions, observer));
        Self { shared }
    }

    /// Queues a message; it goes out when the broker is there. Never waits.
    pub fn publish(&self, message: Outgoing) {
        self.shared.backlog().push(message);
        self.shared.feed.notify_one();
    }

    /// What the link is doing.
    pub fn status(&self) -> LinkStatus {
        let mut status = self.shared.status.borrow().clone();
        status.dropped = self.shared.backlog().dropped();
        status
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
            backlog.put_back(message);
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
async fn poll(
    shared: Arc<Shared>,
    client: AsyncClient,
    mut event_loop: EventLoop,
    subscriptions: Vec<(String, Qos)>,
    observer: Arc<dyn LinkObserver>,
) {
    let mut step = BACKOFF_FIRST;
    let mut connected_at = None::<Instant>;
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                connected_at = Some(Instant::now());
                connected(&shared, &client, &subscriptions);
                observer.changed(&shared.status.borrow().clone());
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => observer.received(Incoming {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
                retained: publish.retain,
            }),
            Ok(Event::Incoming(Packet::PubAck(ack))) => shared.backlog().acknowledged(ack.pkid),
            Ok(Event::Outgoing(Sent::Publish(packet_id))) => shared.backlog().sent(packet_id),
            Ok(_) => {}
            Err(error) => {
                let closing = *shared.closing.borrow();
                let was_connected = disconnected(&shared, &error, closing);
                if was_connected && !closing {
                    observer.changed(&shared.status.borrow().clone());
                }
                if closing || matches!(error, ConnectionError::RequestsDone) {
                    return;
                }
                // The client keeps this over a reconnect and then sends nothing any more; the message itself goes out
                // again from our backlog.
                event_loop.state.collision = None;
                // Two that evict each other connect well each time; only a connection that stood starts afresh.
                if connected_at.take().is_some_and(|at| at.elapsed() >= BACKOFF_LONGEST) {
                    step = BACKOFF_FIRST;
                }
                tokio::time::sleep(step.mul_f64(fastrand::f64())).await;
                step = (step * 2).min(BACKOFF_LONGEST);
            }
        }
        shared.feed.notify_one();
    }
}

fn connected(shared: &Shared, client: &AsyncClient, subscriptions: &[(String, Qos)]) {
    for (filter, level) in subscriptions {
        if let Err(error) = client.try_subscribe(filter, qos(*level)) {
            tracing::warn!(%error, filter, "could not subscribe; trying again with the next connection");
        }
    }
    shared.backlog().connected();
    shared.status.send_modify(|status| {
        status.connected = true;
        status.connections += 1;
        status.last_error = None;
    });
}

/// Returns whether the link was up until now.
fn disconnected(shared: &Shared, error: &ConnectionError, closing: bool) -> bool {
    let mut was_connected = false;
    let reason = reason(error);
    shared.status.send_modify(|status| {
        was_connected = std::mem::replace(&mut status.connected, false);
        if !closing && (was_connected || status.last_error.as_deref() != Some(&reason)) {
            let broker = &shared.broker;
            tracing::info!(broker, %reason, "no connection to the MQTT broker; trying again, nothing else waits for it");
        }
        status.last_error = Some(reason.clone());
    });
    was_connected
}

/// In words, with what to do where it is for people to do something.
fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => {
            format!("the broker refuses this node ({code:?}): check mqtt.username and mqtt.password_file")
        }
        other => other.to_string(),
    }
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
