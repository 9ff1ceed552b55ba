//! The task that keeps a link's connection up; the only place of the link that waits for the network.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Failure, FailureKind};
use super::lookout::Lookout;
use super::session::{Client, Happening, Step, open, publish_bytes};
use super::turn::{STOOD, Turn};
use super::version::Version;
use super::{AskAgain, LinkOptions, Protocol, Shared};
use crate::mqtt::backoff::Backoff;

/// After so many connections that ended with a packet larger than we take, one that asks for none: what the broker keeps for
/// a topic comes again with every subscription.
pub(super) const DEAF_AFTER: u32 = 2;
/// What is missing at an old broker, for the log.
const OLD_BROKER: &str = "the MQTT broker speaks version 3.1.1: it forgets no retained message by itself, so what a node said \
     stands until its own time to live is over or it is cleared, and it gives no reason when it refuses a message";

pub(super) struct Upkeep {
    shared: Arc<Shared>,
    options: LinkOptions,
    /// What is known of each broker, the preferred first; never empty.
    places: Vec<Place>,
    turn: Turn,
    backoff: Backoff,
    look_again: Duration,
    /// When the last connection was lost.
    lost_at: Option<Instant>,
}

/// What is known of one broker.
struct Place {
    /// `host:port`, for people.
    broker: String,
    version: Version,
    /// Connections that ended with a packet larger than we take, with no good one between them.
    oversized: u32,
    /// What is missing at an old broker is told once.
    told_old: bool,
    /// Why there was no connection, as it was told last.
    told: Option<String>,
}

impl Place {
    fn new(options: &LinkOptions, ask_for_v5_after: Duration) -> Self {
        Self {
            broker: format!("{}:{}", options.host, options.port),
            version: Version::new(ask_for_v5_after),
            oversized: 0,
            told_old: false,
            told: None,
        }
    }
}

impl Upkeep {
    pub(super) fn new(shared: Arc<Shared>, options: LinkOptions, again: AskAgain) -> Self {
        let brokers = 0..=options.alternatives.len();
        let places: Vec<Place> = brokers.map(|index| Place::new(&options.at(index), again.for_v5)).collect();
        Self {
            shared,
            turn: Turn::new(places.len()),
            options,
            places,
            backoff: Backoff::new(),
            look_again: again.for_preferred,
            lost_at: None,
        }
    }

    /// Connects again and again until the link is closed.
    pub(super) async fn run(mut self) {
        while !self.shared.is_closing() {
            let stood = self.one_connection().await;
            if !self.turn.ended(stood) {
                let pause = self.backoff.pause(stood, fastrand::f64());
                self.pause(pause).await;
            }
        }
    }

    fn place(&mut self) -> &mut Place {
        // `Turn` stays within the number of places.
        &mut self.places[self.turn.at()]
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
    async fn one_connection(&mut self) -> Option<Duration> {
        let protocol = self.place().version.next(Instant::now());
        self.shared.begins_anew.store(false, Ordering::Relaxed);
        self.prepare();
        let (client, mut connection, greeting) = open(&self.options.at(self.turn.at()), protocol);
        let mut refusals = Refusals::new(self.place().broker.clone());
        let mut lookout = Lookout::new(self.look_again, fastrand::f64());
        let mut up_at = None;
        let mut leaving = false;
        let failure = loop {
            match connection.next(self.options.keepalive).await {
                Ok(Step { happening, received, sent }) => {
                    self.count(received, sent);
                    if let Happening::Up(packet_limit) = happening {
                        up_at = Some(Instant::now());
                        self.shared.meter.sent(greeting);
                        self.came_up(&client, protocol, packet_limit);
                    } else {
                        self.take_in(happening, protocol, &mut refusals);
                    }
                }
                Err(failure) => break failure,
            }
            if !leaving && up_at.is_some() && self.place().version.is_worth_asking_again(Instant::now()) {
                leaving = true;
                self.went_down(&format!("asking the broker for {} again", Protocol::V5));
                client.say_goodbye();
            }
            if !leaving && up_at.is_some() && self.shared.begins_anew.load(Ordering::Relaxed) {
                leaving = true;
                self.went_down("connecting anew, by what was renewed");
                client.say_goodbye();
            }
            if self.turn.at() > 0 && up_at.is_some() && lookout.sees(&self.options.host, self.options.port).await {
                // Without a goodbye: the Last Will tells those who stay here that this node is heard elsewhere.
                let preferred = &self.places[0].broker;
                break Failure::unreachable(format!("the preferred broker {preferred} answers again"));
            }
            self.shared.tell_released();
            self.shared.feed.notify_one();
        };
        let stood = up_at.map(|at| at.elapsed());
        if stood.is_none() && failure.kind != FailureKind::Unreachable {
            // It was heard, and answered or not.
            self.shared.meter.sent(greeting);
        }
        self.ended(&failure, stood, leaving);
        stood
    }

    fn count(&self, received: usize, sent: usize) {
        self.shared.meter.received(received);
        self.shared.meter.sent(sent);
    }

    fn take_in(&self, happening: Happening, protocol: Protocol, refusals: &mut Refusals) {
        match happening {
            Happening::Received(message) => self.shared.observer.received(message),
            Happening::Acknowledged(packet_id) => self.shared.backlog().acknowledged(packet_id, false),
            Happening::NotTaken(packet_id, why) => {
                self.shared.backlog().acknowledged(packet_id, true);
                refusals.tell("a message", &why);
            }
            Happening::NotSubscribed(why) => refusals.tell("a subscription", &why),
            Happening::Sent(packet_id) => self.sent(packet_id, protocol),
            Happening::Up(_) | Happening::Other => {}
        }
    }

    fn sent(&self, packet_id: u16, protocol: Protocol) {
        let mut backlog = self.shared.backlog();
        let bytes = backlog.oldest_handed().map_or(0, |message| publish_bytes(protocol, message));
        backlog.sent(packet_id);
        drop(backlog);
        self.shared.meter.sent(bytes);
    }

    fn came_up(&mut self, client: &Client, protocol: Protocol, packet_limit: Option<u32>) {
        if self.shared.is_closing() {
            client.say_goodbye();
            return;
        }
        let place = self.place();
        place.version.connected(Instant::now());
        if protocol == Protocol::V311 && !std::mem::replace(&mut place.told_old, true) {
            tracing::info!(broker = place.broker, "{OLD_BROKER}");
        }
        self.places.iter_mut().for_each(|place| place.told = None);
        self.subscribe(client);
        self.shared.backlog().connected(packet_limit);
        self.note_up(protocol);
        self.shared.set_client(Some(client.clone()));
        self.tell();
    }

    fn subscribe(&mut self, client: &Client) {
        if self.place().oversized >= DEAF_AFTER {
            let link = self.shared.name;
            tracing::warn!(link, "connected, but hears nothing: the broker sends packets larger than this node takes");
            return;
        }
        for (filter, level) in &self.options.subscriptions {
            if self.shared.unwanted().contains(filter) {
                continue;
            }
            let bytes = client.subscribe(filter, *level, self.options.others_alone);
            self.shared.meter.sent(bytes);
        }
    }

    fn note_up(&mut self, protocol: Protocol) {
        let away = self.lost_at.map(|at| at.elapsed());
        let mut again = false;
        let broker = self.place().broker.clone();
        self.shared.status.send_modify(|status| {
            status.connected = true;
            status.broker = Some(broker.clone());
            status.protocol = Some(protocol);
            status.connections += 1;
            status.last_error = None;
            status.away = away;
            again = status.connections > 1;
        });
        let link = self.shared.name;
        metrics::gauge!("tidegate_mqtt_connected", "link" => link).set(1.0);
        metrics::counter!("tidegate_mqtt_reconnects_total", "link" => link).increment(again.into());
        if again {
            tracing::info!(broker, link, "connected to the MQTT broker again");
        }
    }

    fn ended(&mut self, failure: &Failure, stood: Option<Duration>, was_left: bool) {
        let place = self.place();
        if stood.is_none() {
            place.version.failed(failure.kind, Instant::now());
        }
        let was_good = stood.is_some_and(|stood| stood >= STOOD);
        place.oversized = match (failure.kind == FailureKind::Oversized, was_good) {
            (true, true) => 1,
            (true, false) => place.oversized + 1,
            (false, true) => 0,
            (false, false) => place.oversized,
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
        let is_one_of_several = self.places.len() > 1;
        let place = self.place();
        let was_told = place.told.as_deref() == Some(reason);
        place.told = Some(reason.to_owned());
        let broker = place.broker.clone();
        let mut was_connected = false;
        self.shared.status.send_modify(|status| {
            was_connected = std::mem::replace(&mut status.connected, false);
            let whole = if is_one_of_several { format!("{broker}: {reason}") } else { reason.to_owned() };
            status.last_error = Some(whole);
        });
        // The same reason over and over is told once.
        if !closing && (was_connected || !was_told) {
            let link = self.shared.name;
            tracing::info!(
                broker,
                link,
                %reason,
                "no connection to the MQTT broker; trying again, nothing else waits for it"
            );
        }
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
struct Refusals {
    broker: String,
    told: Vec<&'static str>,
}

impl Refusals {
    fn new(broker: String) -> Self {
        Self { broker, told: Vec::new() }
    }

    fn tell(&mut self, what: &'static str, why: &str) {
        if !self.told.contains(&what) {
            self.told.push(what);
            tracing::warn!(
                broker = self.broker,
                why,
                "the MQTT broker refuses {what}: look at what it lets this node read and write"
            );
        }
    }
}
