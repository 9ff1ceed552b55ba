//! The task that keeps a link's connection up; the only place of the link that waits for the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Failure, FailureKind};
use super::session::{Client, Happening, open};
use super::version::Version;
use super::{LinkOptions, Protocol, Shared};
use crate::mqtt::backoff::Backoff;

/// After so many connections that ended with a packet larger than we take, one that asks for none: what the broker keeps for
/// a topic comes again with every subscription.
pub(super) const DEAF_AFTER: u32 = 2;
/// A connection that stood this long was a good one.
const STOOD: Duration = Duration::from_secs(30);

/// What is missing at an old broker, for the log.
const OLD_BROKER: &str = "the MQTT broker speaks version 3.1.1: it forgets no retained message by itself, so what a node said \
     stands until its own time to live is over or it is cleared, and it gives no reason when it refuses a message";

pub(super) struct Upkeep {
    shared: Arc<Shared>,
    options: LinkOptions,
    version: Version,
    backoff: Backoff,
    /// When the last connection was lost.
    lost_at: Option<Instant>,
    /// Connections that ended with a packet larger than we take, with no good one between them.
    oversized: u32,
    /// What is missing at an old broker is told once.
    told_old: bool,
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>, options: LinkOptions, ask_for_v5_after: Duration) -> Self {
        let version = Version::new(ask_for_v5_after);
        Self { shared, options, version, backoff: Backoff::new(), lost_at: None, oversized: 0, told_old: false }
    }

    /// Connects again and again until the link is closed.
    pub(super) async fn run(mut self) {
        while !self.shared.is_closing() {
            let protocol = self.version.next(Instant::now());
            let stood = self.one_connection(protocol).await;
            let pause = self.backoff.pause(stood, fastrand::f64());
            self.pause(pause).await;
        }
    }

    fn prepare(&mut self) {
        let mut attempt = 0;
        self.shared.status.send_modify(|status| {
            status.attempts += 1;
            attempt = status.attempts;
        });
        if let Some(prepare) = self.options.prepare.clone() {
            (prepare.0)(attempt, &mut self.options);
        }
    }

    async fn pause(&self, pause: Duration) {
        let mut closing = self.shared.closing.subscribe();
        // Either way the caller looks whether the link is being closed.
        let _ = tokio::time::timeout(pause, closing.wait_for(|closing| *closing)).await;
    }

    /// Makes a connection and serves it to its end; returns how long it stood, if it ever did.
    async fn one_connection(&mut self, protocol: Protocol) -> Option<Duration> {
        self.prepare();
        let (client, mut connection) = open(&self.options, protocol);
        let mut up_at = None;
        let mut leaving = false;
        let mut refusals = Refusals::default();
        let failure = loop {
            match connection.next(self.options.keepalive).await {
                Ok(Happening::Up(packet_limit)) => {
                    up_at = Some(Instant::now());
                    self.came_up(&client, protocol, packet_limit);
                }
                Ok(Happening::Received(message)) => self.shared.observer.received(message),
                Ok(Happening::Acknowledged(packet_id)) => self.shared.backlog().acknowledged(packet_id, false),
                Ok(Happening::NotTaken(packet_id, why)) => {
                    self.shared.backlog().acknowledged(packet_id, true);
                    refusals.tell(&self.shared.broker, "a message", &why);
                }
                Ok(Happening::NotSubscribed(why)) => refusals.tell(&self.shared.broker, "a subscription", &why),
                Ok(Happening::Sent(packet_id)) => self.shared.backlog().sent(packet_id),
                Ok(Happening::Other) => {}
                Err(failure) => break failure,
            }
            if !leaving && up_at.is_some() && self.version.is_worth_asking_again(Instant::now()) {
                leaving = true;
                self.went_down(&format!("asking the broker for {} again", Protocol::V5));
                client.say_goodbye();
            }
            self.shared.tell_released();
            self.shared.feed.notify_one();
        };
        let stood = up_at.map(|at| at.elapsed());
        self.ended(&failure, stood, leaving);
        stood
    }

    fn came_up(&mut self, client: &Client, protocol: Protocol, packet_limit: Option<u32>) {
        if self.shared.is_closing() {
            client.say_goodbye();
            return;
        }
        self.version.connected(Instant::now());
        if protocol == Protocol::V311 && !std::mem::replace(&mut self.told_old, true) {
            tracing::info!(broker = self.shared.broker, "{OLD_BROKER}");
        }
        self.subscribe(client);
        self.shared.backlog().connected(packet_limit);
        self.note_up(protocol);
        self.shared.set_client(Some(client.clone()));
        self.tell();
    }

    fn subscribe(&self, client: &Client) {
        if self.oversized >= DEAF_AFTER {
            let link = self.shared.name;
            tracing::warn!(link, "connected, but hears nothing: the broker sends packets larger than this node takes");
            return;
        }
        for (filter, level) in &self.options.subscriptions {
            client.subscribe(filter, *level, self.options.others_alone);
        }
    }

    fn note_up(&self, protocol: Protocol) {
        let away = self.lost_at.map(|at| at.elapsed());
        let mut again = false;
        self.shared.status.send_modify(|status| {
            status.connected = true;
            status.protocol = Some(protocol);
            status.connections += 1;
            status.last_error = None;
            status.away = away;
            again = status.connections > 1;
        });
        let (broker, link) = (&self.shared.broker, self.shared.name);
        metrics::gauge!("tidegate_mqtt_connected", "link" => link).set(1.0);
        metrics::counter!("tidegate_mqtt_reconnects_total", "link" => link).increment(again.into());
        if again {
            tracing::info!(broker, link, "connected to the MQTT broker again");
        }
    }

    fn ended(&mut self, failure: &Failure, stood: Option<Duration>, was_left: bool) {
        if stood.is_none() {
            self.version.failed(failure.kind, Instant::now());
        }
        let was_good = stood.is_some_and(|stood| stood >= STOOD);
        self.oversized = match (failure.kind == FailureKind::Oversized, was_good) {
            (true, true) => 1,
            (true, false) => self.oversized + 1,
            (false, true) => 0,
            (false, false) => self.oversized,
        };
        if !was_left {
            self.went_down(&failure.reason);
        }
    }

    /// Stops what is fed to the connection, and tells why.
    fn went_down(&mut self, reason: &str) {
        self.shared.set_client(None);
        self.shared.backlog().disconnected();
        let closing = self.shared.is_closing();
        let mut was_connected = false;
        self.shared.status.send_modify(|status| {
            was_connected = std::mem::replace(&mut status.connected, false);
            // The same reason over and over is told once.
            if !closing && (was_connected || status.last_error.as_deref() != Some(reason)) {
                let (broker, link) = (&self.shared.broker, self.shared.name);
                tracing::info!(
                    broker,
                    link,
                    %reason,
                    "no connection to the MQTT broker; trying again, nothing else waits for it"
                );
            }
            status.last_error = Some(reason.to_owned());
        });
        metrics::gauge!("tidegate_mqtt_connected", "link" => self.shared.name).set(0.0);
        if was_connected {
            self.lost_at = Some(Instant::now());
        }
        if was_connected && !closing {
            self.tell();
        }
    }

    fn tell(&self) {
        let status = self.shared.status.borrow().clone();
        self.shared.observer.changed(&status);
    }
}

/// What the broker refused on one connection; each kind is told once, since a node says the same again and again.
#[derive(Default)]
struct Refusals(Vec<&'static str>);

impl Refusals {
    fn tell(&mut self, broker: &str, what: &'static str, why: &str) {
        if !self.0.contains(&what) {
            self.0.push(what);
            tracing::warn!(
                broker,
                why,
                "the MQTT broker refuses {what}: look at what it lets this node read and write"
            );
        }
    }
}
