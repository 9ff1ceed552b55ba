//! The task that keeps a link's connection up; the only place of the link that waits for the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::session::{Client, Failure, Happening, open};
use super::version::Version;
use super::{LinkObserver, LinkOptions, LinkStatus, Protocol, Shared};

/// First and longest pause before connecting again; each is drawn at random below the current step ("full jitter"), so
/// that a thousand gateways do not come back in one second.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);

/// What is missing at an old broker, for the log.
const OLD_BROKER: &str = "the MQTT broker speaks version 3.1.1: it forgets no retained message by itself, so what a node said \
     stands until its own time to live is over or it is cleared, and it gives no reason when it refuses a message";

pub(super) struct Upkeep {
    shared: Arc<Shared>,
    options: LinkOptions,
    observer: Arc<dyn LinkObserver>,
    version: Version,
    /// What is missing at an old broker is told once.
    told_old: bool,
}

impl Upkeep {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: LinkOptions,
        observer: Arc<dyn LinkObserver>,
        ask_for_v5_after: Duration,
    ) -> Self {
        Self { shared, options, observer, version: Version::new(ask_for_v5_after), told_old: false }
    }

    /// Connects again and again until the link is closed.
    pub(super) async fn run(mut self) {
        let mut step = BACKOFF_FIRST;
        while !self.shared.is_closing() {
            let protocol = self.version.next(Instant::now());
            let stood = self.one_connection(protocol).await;
            // Two that evict each other connect well each time; only a connection that stood starts afresh.
            if stood >= BACKOFF_LONGEST {
                step = BACKOFF_FIRST;
            }
            self.pause(step.mul_f64(fastrand::f64())).await;
            step = (step * 2).min(BACKOFF_LONGEST);
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

    /// Makes a connection and serves it to its end; returns how long it stood.
    async fn one_connection(&mut self, protocol: Protocol) -> Duration {
        self.prepare();
        let (client, mut connection) = open(&self.options, protocol);
        let mut up_at = None;
        let mut leaving = false;
        let mut refusals = Refusals::default();
        let failure = loop {
            match connection.next().await {
                Ok(Happening::Up) => {
                    up_at = Some(Instant::now());
                    self.came_up(&client, protocol);
                }
                Ok(Happening::Received(message)) => self.observer.received(message),
                Ok(Happening::Acknowledged(packet_id)) => self.shared.backlog().acknowledged(packet_id),
                Ok(Happening::NotTaken(packet_id, why)) => {
                    self.shared.backlog().acknowledged(packet_id);
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
            self.shared.feed.notify_one();
        };
        self.ended(&failure, up_at.is_some(), leaving);
        up_at.map_or(Duration::ZERO, |at| at.elapsed())
    }

    fn came_up(&mut self, client: &Client, protocol: Protocol) {
        if self.shared.is_closing() {
            client.say_goodbye();
            return;
        }
        self.version.connected(Instant::now());
        if protocol == Protocol::V311 && !std::mem::replace(&mut self.told_old, true) {
            tracing::info!(broker = self.shared.broker, "{OLD_BROKER}");
        }
        for (filter, level) in &self.options.subscriptions {
            client.subscribe(filter, *level, self.options.others_alone);
        }
        self.shared.backlog().connected();
        self.shared.status.send_modify(|status| {
            status.connected = true;
            status.protocol = Some(protocol);
            status.connections += 1;
            status.last_error = None;
        });
        self.shared.set_client(Some(client.clone()));
        self.tell();
    }

    fn ended(&mut self, failure: &Failure, was_up: bool, was_left: bool) {
        if !was_up {
            self.version.failed(failure.kind, Instant::now());
        }
        if !was_left {
            self.went_down(&failure.reason);
        }
    }

    /// Stops what is fed to the connection, and tells why.
    fn went_down(&self, reason: &str) {
        self.shared.set_client(None);
        let closing = self.shared.is_closing();
        let mut was_connected = false;
        self.shared.status.send_modify(|status| {
            was_connected = note_down(status, &self.shared.broker, reason, closing);
        });
        if was_connected && !closing {
            self.tell();
        }
    }

    fn tell(&self) {
        let status = self.shared.status.borrow().clone();
        self.observer.changed(&status);
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

/// Returns whether the link was up until now. The same reason over and over is told once.
fn note_down(status: &mut LinkStatus, broker: &str, reason: &str, closing: bool) -> bool {
    let was_connected = std::mem::replace(&mut status.connected, false);
    if !closing && (was_connected || status.last_error.as_deref() != Some(reason)) {
        tracing::info!(broker, %reason, "no connection to the MQTT broker; trying again, nothing else waits for it");
    }
    status.last_error = Some(reason.to_owned());
    was_connected
}
