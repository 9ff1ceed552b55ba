//! What goes to the fleet's brokers: as `logic::thrift` lets it, while one of them is there.

use std::time::Duration;

use crate::logic::thrift::{Thrift, Worth};
use crate::mqtt::Outgoing;
use crate::mqtt::link::Link;
use crate::wire::Message;

/// How often what waits is looked at: the finest interval that can be set.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What a publish packet has beside topic and payload: header, lengths, packet id, expiry.
const PACKET_BYTES: usize = 14;

/// Holds what goes there.
pub struct Upstream {
    thrift: Thrift<(Link, Outgoing)>,
    /// The links to there, one for each tree.
    links: Vec<Link>,
    has_budget: bool,
    /// It was told that the budget is used up.
    told: bool,
}

impl Upstream {
    /// For these links, which share the budget.
    pub fn new(
        links: Vec<Link>,
        interval: Duration,
        refresh: Duration,
        daily_bytes: Option<u64>,
        now: Duration,
    ) -> Self {
        let thrift = Thrift::new(interval, refresh, daily_bytes, now);
        Self { thrift, links, has_budget: daily_bytes.is_some(), told: false }
    }

    /// Sends a message on one of the links, now or later.
    pub(super) fn offer(&mut self, link: &Link, worth: Worth, message: Outgoing, now: Duration) {
        let bytes = message.topic.len() + message.payload.len() + PACKET_BYTES;
        let topic = message.topic.clone();
        let parcel = (link.clone(), message);
        // While nobody is there only what must be said waits at the link: a night of load reports would all go out at once.
        if worth != Worth::Must && !link.status().connected {
            return self.thrift.hold(&topic, worth, bytes as u64, parcel);
        }
        if let Some((link, message)) = self.thrift.offer(&topic, worth, bytes as u64, parcel, now) {
            link.publish(message);
        }
    }

    /// Sends what has waited, and says how much of the budget is left.
    pub(super) fn look(&mut self, now: Duration) {
        let sent = self.links.iter().map(|link| link.traffic().sent).sum();
        self.thrift.went(sent, now);
        if self.links.iter().any(|link| link.status().connected) {
            self.thrift.due(now).into_iter().for_each(|(link, message)| link.publish(message));
        }
        if self.has_budget {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let left = self.thrift.left().unwrap_or_default();
        metrics::gauge!("tidegate_mqtt_uplink_budget_bytes").set(left);
        let is_short = self.thrift.is_short();
        if is_short && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                left,
                "the day's budget for the uplink is used up: only what must be said is, until it fills again; raise \
                 mqtt.uplink_daily_bytes, mqtt.uplink_load_interval or mqtt.refresh if this comes often"
            );
        }
        // Told again only after telemetry went, not at each message that was just paid.
        self.told &= is_short || self.thrift.is_low();
    }
}

/// What a message is worth at a broker that is paid by the byte; `is_last` where it takes back what stood there.
pub(super) fn worth(message: &Message, is_last: bool) -> Worth {
    match message {
        _ if is_last => Worth::Must,
        Message::Load(_) | Message::Service(_) => Worth::Telemetry,
        Message::Announcement(_) | Message::Burst(_) => Worth::Standing,
        _ => Worth::Must,
    }
}
