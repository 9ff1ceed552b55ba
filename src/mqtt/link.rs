//! One connection to a broker that survives the broker; where several are named, to the first of them that answers.
//!
//! `rumqttc` forgets what was queued when a session is new, never resubscribes, and reconnects without a pause. So a task
//! of its own keeps the connection up (`upkeep`), with backoff and a fresh client each time; a second one feeds it from our
//! bounded [`Backlog`] only while the connection is up, and every new connection subscribes and says the retained values
//! again. Nobody who publishes waits. `turn` decides which broker is tried next, `lookout` whether to leave one for a better,
//! `version` which version of MQTT is spoken; `session` is one connection in either, by the two clients in `v5` and `v311`, and
//! `traffic` counts its bytes.

mod failure;
mod lookout;
mod session;
mod traffic;
mod turn;
mod upkeep;
mod v311;
mod v5;
mod version;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::session::Client;
use self::traffic::Meter;
use self::upkeep::Upkeep;
use super::backlog::{Backlog, Limits};
use super::{Incoming, Outgoing, Qos};
use crate::tls::BrokerTls;

pub use self::traffic::Traffic;

/// A broker that was taken for an old one is asked for MQTT 5 again after this, and after twice as long each time that it
/// still is one: rarely enough that the short gap of a reconnect goes unnoticed, often enough that a hiccup on one day does
/// not cost the next one its expiries.
const ASK_FOR_V5_AGAIN: Duration = Duration::from_secs(3_600);
/// From a less preferred broker the preferred one is asked for after this and up to as long again: a broker that went for an
/// upgrade has its nodes back within two hours, and one that comes and goes costs a gap of a second an hour.
const ASK_FOR_PREFERRED_AGAIN: Duration = Duration::from_secs(3_600);

/// When what is better than what stands is asked for again.
#[derive(Clone, Copy, Debug)]
struct AskAgain {
    for_v5: Duration,
    for_preferred: Duration,
}

impl Default for AskAgain {
    fn default() -> Self {
        Self { for_v5: ASK_FOR_V5_AGAIN, for_preferred: ASK_FOR_PREFERRED_AGAIN }
    }
}

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
    /// TLS, and what proves the broker's name (`host`) in it; none for a plain connection.
    pub tls: Option<BrokerTls>,
    /// Brokers that are tried after that one, in this order, while it does not answer.
    pub alternatives: Vec<Alternative>,
    /// Published by the broker when the connection dies without a goodbye.
    pub last_will: Option<Outgoing>,
    /// Topic filters to subscribe on every connection.
    pub subscriptions: Vec<(String, Qos)>,
    /// Whether what this link publishes itself is to be left out of what it hears, where the broker can (MQTT 5's no local).
    pub others_alone: bool,
    /// Brings the options up to date just before each attempt to connect: what proves who we are may have been renewed.
    pub prepare: Option<Prepare>,
}

impl LinkOptions {
    /// Those for one of its brokers; 0 is the preferred one.
    fn at(&self, index: usize) -> Self {
        match index.checked_sub(1).and_then(|index| self.alternatives.get(index)) {
            Some(Alternative { host, port, tls }) => {
                Self { host: host.clone(), port: *port, tls: tls.clone(), ..self.clone() }
            }
            None => self.clone(),
        }
    }
}

/// Another broker of a link, reached by the same credentials.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// As in [`LinkOptions::tls`], for this host.
    pub tls: Option<BrokerTls>,
}

/// Changes options for the attempt of this number, from 1.
#[derive(Clone)]
pub struct Prepare(Arc<Change>);

type Change = dyn Fn(u64, &mut LinkOptions) + Send + Sync;

impl Prepare {
    /// By this function, which must return at once.
    pub fn new(change: impl Fn(u64, &mut LinkOptions) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }
}

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

/// The version of MQTT that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1 (OASIS 2014), where the broker refuses version 5. It has no message expiry, so a broker keeps what is
    /// retained until it is cleared, and no reasons beside the five of CONNACK.
    V311,
    /// MQTT 5 (OASIS 2019).
    V5,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        })
    }
}

/// What a link is doing; read at any time, never waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether the broker accepted us and the connection stands.
    pub connected: bool,
    /// `host:port` of the broker of this connection, or of the last one; none before the first.
    pub broker: Option<String>,
    /// The version that is spoken, or was with the last connection; none before the first.
    pub protocol: Option<Protocol>,
    /// Attempts to connect so far; the connection that stands was made by the last.
    pub attempts: u64,
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

/// An observer before another one: what `take` does not give back, it keeps; all else goes on to `rest`.
pub fn tap(
    take: impl Fn(Incoming) -> Option<Incoming> + Send + Sync + 'static,
    rest: Arc<dyn LinkObserver>,
) -> Arc<dyn LinkObserver> {
    Arc::new(Tap { take, rest })
}

struct Tap<F> {
    take: F,
    rest: Arc<dyn LinkObserver>,
}

impl<F: Fn(Incoming) -> Option<Incoming> + Send + Sync + 'static> LinkObserver for Tap<F> {
    fn received(&self, message: Incoming) {
        if let Some(message) = (self.take)(message) {
            self.rest.received(message);
        }
    }

    fn changed(&self, status: &LinkStatus) {
        self.rest.changed(status);
    }

    fn released(&self, tickets: &[u64]) {
        self.rest.released(tickets);
    }
}

/// Handle of a link; clones share it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    meter: Meter,
    backlog: Mutex<Backlog>,
    /// Where messages go while the connection is up; none while it is not.
    client: Mutex<Option<Client>>,
    status: watch::Sender<LinkStatus>,
    /// The connection is to be made anew.
    begins_anew: AtomicBool,
    /// Filters that were given up.
    unwanted: Mutex<Vec<String>>,
    /// Woken when there may be something to feed or room to feed it into.
    feed: Notify,
    closing: watch::Sender<bool>,
    observer: Arc<dyn LinkObserver>,
}

impl Shared {
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_client(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    fn unwanted(&self) -> MutexGuard<'_, Vec<String>> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
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
        Self::start_asking_again(options, observer, AskAgain::default())
    }

    fn start_asking_again(options: LinkOptions, observer: Arc<dyn LinkObserver>, again: AskAgain) -> Self {
        let shared = Arc::new(Shared {
            name: options.name,
            meter: Meter::new(options.name),
            backlog: Mutex::new(Backlog::new(options.name, Limits::default())),
            client: Mutex::new(None),
            status: watch::Sender::new(LinkStatus::default()),
            begins_anew: AtomicBool::new(false),
            unwanted: Mutex::default(),
            feed: Notify::new(),
            closing: watch::Sender::new(false),
            observer,
        });
        metrics::gauge!("tidegate_mqtt_connected", "link" => options.name).set(0.0);
        metrics::counter!("tidegate_mqtt_reconnects_total", "link" => options.name).absolute(0);
        tokio::spawn(feed(shared.clone()));
        tokio::spawn(Upkeep::new(shared.clone(), options, again).run());
        Self { shared }
    }

    /// Queues a message; it goes out when the broker is there. Never waits. One over [`super::MAX_PACKET_BYTES`] is given
    /// up and counted: it would end the connection, each time anew.
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

    /// Makes the connection anew, with a goodbye, within a keepalive: what it was made with (the Last Will, the certificate)
    /// does not count any more.
    pub fn begin_anew(&self) {
        self.shared.begins_anew.store(true, Ordering::Relaxed);
    }

    /// Gives one of its subscriptions up, now and on every later connection.
    pub fn unsubscribe(&self, filter: &str) {
        self.shared.unwanted().push(filter.to_owned());
        if let Some(client) = self.shared.client() {
            self.shared.meter.sent(client.unsubscribe(filter));
        }
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

    /// Bytes that went over the wire so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.meter.traffic()
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

/// Moves messages from the backlog to the client while the connection is up.
async fn feed(shared: Arc<Shared>) {
    loop {
        shared.feed.notified().await;
        let client = shared.client();
        if let Some(client) = &client {
            hand_over(&shared, client);
        }
        shared.tell_released();
        if shared.is_closing() {
            if let Some(client) = &client {
                client.say_goodbye();
            }
            return;
        }
    }
}

fn hand_over(shared: &Shared, client: &Client) {
    loop {
        let mut backlog = shared.backlog();
        let Some(message) = backlog.next() else { return };
        if !client.publish(&message) {
            backlog.put_back();
            return;
        }
    }
}

/// Whole seconds, at least one: zero would mean "forget at once".
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
