//! What waits to be published while the broker is away: bounded in number and in bytes, newest wins for each retained
//! topic.
//!
//! Three kinds, each with a bound of its own, so that none pushes out another: what is *remembered* (the last value of each
//! retained topic), what is *kept* (its owner has it on disk and is told once the broker has it), and all else.

mod waiting;

use std::collections::{BTreeMap, VecDeque};

use super::{MAX_PACKET_BYTES, Outgoing, Qos};
use waiting::Waiting;

/// How much one link may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Messages that wait for a broker that is away. A load report every two seconds: half an hour.
    pub(super) waiting: Bound,
    /// Retained topics: a state, announcements, services and instances of one node.
    pub(super) remembered: Bound,
    /// Messages whose owner has them on disk: enough to keep the broker busy until the disk was asked for the next.
    pub(super) kept: Bound,
    /// Given to the client and not acknowledged. The number is the client's own limit and its channel's; one message of any
    /// size always passes.
    pub(super) in_flight_bytes: usize,
}

/// Most messages, and most bytes of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: Bound { messages: 1_024, bytes: 2 << 20 },
            remembered: Bound { messages: 1_024, bytes: 2 << 20 },
            kept: Bound { messages: 64, bytes: 256 << 10 },
            in_flight_bytes: 256 << 10,
        }
    }
}

/// What a message costs beside its topic and payload: its place in a queue, allocations, the client's copy of the rest.
const OVERHEAD_BYTES: usize = 128;

/// How many messages of a kind there are, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    messages: usize,
    bytes: usize,
}

impl Tally {
    fn add(&mut self, message: &Outgoing) {
        self.messages += 1;
        self.bytes += cost(message);
    }

    fn remove(&mut self, message: &Outgoing) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost(message));
    }

    fn exceeds(&self, bound: Bound) -> bool {
        self.messages > bound.messages || self.bytes > bound.bytes
    }
}

fn cost(message: &Outgoing) -> usize {
    let properties = message.properties.as_ref().map_or(0, |properties| properties.bytes());
    message.topic.len() + message.payload.len() + properties + OVERHEAD_BYTES
}

/// A message on its way; one with a ticket is kept by its owner until the ticket is released.
#[derive(Clone, Debug)]
struct Item {
    message: Outgoing,
    ticket: Option<u64>,
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug)]
enum GivenUp {
    Full,
    TooLarge,
    Refused,
}

impl GivenUp {
    fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }
}

/// The messages of one link that the broker has not taken yet, and the retained ones that it must hold.
#[derive(Debug)]
pub(super) struct Backlog {
    link: &'static str,
    limits: Limits,
    /// Whether messages may go out; nothing is handed over while this is not so.
    up: bool,
    /// The largest packet that the broker takes.
    packet_limit: usize,
    /// The last value of each retained topic that is not empty, and when it was said, counted: said again on every new
    /// connection.
    remembered: BTreeMap<String, (u64, Outgoing)>,
    remembered_tally: Tally,
    /// Their topics by when they were said.
    by_age: BTreeMap<u64, String>,
    said: u64,
    /// Retained topics to be said again on this connection.
    replay: VecDeque<String>,
    waiting: Waiting,
    /// The ones with a ticket, wherever they are.
    kept: Tally,
    /// Given to the client, in order, not yet on the wire.
    handed: VecDeque<Item>,
    /// On the wire, not acknowledged, in the order in which they went.
    unacknowledged: VecDeque<(u16, Item)>,
    in_flight_bytes: usize,
    /// Tickets of messages that the broker has, or will never take.
    released: Vec<u64>,
    dropped: u64,
    /// Given up since this was last full; none while there is room.
    overflow: Option<u64>,
    /// Whether a message that is too large has been told of on this connection.
    told: bool,
}

impl Backlog {
    pub(super) fn new(link: &'static str, limits: Limits) -> Self {
        Self {
            link,
            limits,
            up: false,
            packet_limit: MAX_PACKET_BYTES as usize,
            remembered: BTreeMap::new(),
            remembered_tally: Tally::default(),
            by_age: BTreeMap::new(),
            said: 0,
            replay: VecDeque::new(),
            waiting: Waiting::default(),
            kept: Tally::default(),
            handed: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            in_flight_bytes: 0,
            released: Vec::new(),
            dropped: 0,
            overflow: None,
            told: false,
        }
    }

    /// Takes a message in. A retained one replaces what waits for its topic; when full, the oldest at-most-once message
    /// goes, else the oldest.
    pub(super) fn push(&mut self, message: Outgoing) {
        if message.packet_bytes() > MAX_PACKET_BYTES as usize {
            return self.give_up(Item { message, ticket: None }, GivenUp::TooLarge);
        }
        if message.retained {
            // Something newer stands there.
            self.replay.retain(|waiting| *waiting != message.topic);
            self.waiting.remove_retained(&message.topic);
            self.remember(&message);
            if !self.up && !message.payload.is_empty() {
                // Said with all that is remembered once the broker is there.
                return;
            }
        }
        self.waiting.push_back(Item { message, ticket: None });
        self.make_room();
    }

    /// Takes in a message that its owner keeps until `ticket` is released. False: no room, to be given again after the next
    /// release.
    pub(super) fn keep(&mut self, message: Outgoing, ticket: u64) -> bool {
        let item = Item { message, ticket: Some(ticket) };
        let mut kept = self.kept;
        kept.add(&item.message);
        if kept.exceeds(self.limits.kept) && self.kept.messages > 0 {
            return false;
        }
        self.kept = kept;
        if item.message.packet_bytes() > MAX_PACKET_BYTES as usize {
            self.give_up(item, GivenUp::TooLarge);
        } else {
            self.waiting.push_back(item);
        }
        true
    }

    fn remember(&mut self, message: &Outgoing) {
        self.forget(&message.topic);
        if message.payload.is_empty() {
            return;
        }
        self.said += 1;
        self.remembered_tally.add(message);
        self.remembered.insert(message.topic.clone(), (self.said, message.clone()));
        self.by_age.insert(self.said, message.topic.clone());
        // The one that was not said for longest: its owner says it again with its next refresh.
        while self.remembered_tally.exceeds(self.limits.remembered) {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.forget(&oldest);
            self.count(GivenUp::Full);
        }
    }

    fn forget(&mut self, topic: &str) {
        if let Some((said, message)) = self.remembered.remove(topic) {
            self.by_age.remove(&said);
            self.remembered_tally.remove(&message);
        }
    }

    fn make_room(&mut self) {
        while self.waiting.ordinary().exceeds(self.limits.waiting) {
            let Some(item) = self.waiting.remove_least() else { return };
            self.give_up(item, GivenUp::Full);
        }
    }

    fn give_up(&mut self, item: Item, why: GivenUp) {
        self.count(why);
        match why {
            GivenUp::Full => self.tell_full(),
            GivenUp::TooLarge | GivenUp::Refused => self.tell(&item.message, why),
        }
        self.release(&item);
    }

    fn count(&mut self, why: GivenUp) {
        self.dropped += 1;
        metrics::counter!("tidegate_mqtt_dropped_total", "link" => self.link, "reason" => why.word()).increment(1);
    }

    fn tell_full(&mut self) {
        if self.overflow.is_none() {
            let Bound { messages, bytes } = self.limits.waiting;
            tracing::warn!(
                link = self.link,
                "{messages} messages or {bytes} bytes wait for the MQTT broker, which is all that is kept: the oldest are \
                 given up, reports first"
            );
        }
        *self.overflow.get_or_insert(0) += 1;
    }

    /// In words once a connection: a broker that takes no large packets takes none of the next ones either. Why a broker
    /// refuses a message is told by the link.
    fn tell(&mut self, message: &Outgoing, why: GivenUp) {
        let (link, topic, bytes, limit) = (self.link, &message.topic, message.packet_bytes(), self.packet_limit);
        if matches!(why, GivenUp::Refused) || std::mem::replace(&mut self.told, true) {
            tracing::debug!(link, topic, bytes, why = why.word(), "a message was given up");
        } else {
            tracing::warn!(
                link,
                topic,
                bytes,
                limit,
                "a message is larger than the MQTT broker takes and was given up"
            );
        }
    }

    fn release(&mut self, item: &Item) {
        if let Some(ticket) = item.ticket {
            self.kept.remove(&item.message);
            self.released.push(ticket);
        }
    }

    /// The next message for the client, if any may go.
    pub(super) fn next(&mut self) -> Option<Outgoing> {
        if !self.up || (self.in_flight_bytes >= self.limits.in_flight_bytes && self.is_busy()) {
            return None;
        }
        loop {
            let item = self.next_item()?;
            if item.message.packet_bytes() > self.packet_limit {
                self.give_up(item, GivenUp::TooLarge);
                continue;
            }
            let message = item.message.clone();
            self.in_flight_bytes += cost(&message);
            self.handed.push_back(item);
            return Some(message);
        }
    }

    fn next_item(&mut self) -> Option<Item> {
        while let Some(topic) = self.replay.pop_front() {
            if let Some((_, message)) = self.remembered.get(&topic) {
                return Some(Item { message: message.clone(), ticket: None });
            }
        }
        let item = self.waiting.pop_front();
        if item.is_none() {
            self.tell_room();
        }
        item
    }

    fn tell_room(&mut self) {
        if let Some(given_up) = self.overflow.take() {
            tracing::info!(link = self.link, given_up, "nothing waits for the MQTT broker any more");
        }
    }

    /// The client did not take what [`Backlog::next`] gave.
    pub(super) fn put_back(&mut self) {
        if let Some(item) = self.handed.pop_back() {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(cost(&item.message));
            self.waiting.push_front(item);
        }
    }

    /// The message that [`Backlog::sent`] is about next.
    pub(super) fn oldest_handed(&self) -> Option<&Outgoing> {
        self.handed.front().map(|item| &item.message)
    }

    /// The oldest handed message went out under this packet id (0 is at-most-once and has none).
    pub(super) fn sent(&mut self, packet_id: u16) {
        let Some(item) = self.handed.pop_front() else { return };
        if packet_id == 0 {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(cost(&item.message));
            self.release(&item);
        } else {
            self.unacknowledged.push_back((packet_id, item));
        }
    }

    /// The broker answered for this packet id; `refused` if it did not take the message.
    pub(super) fn acknowledged(&mut self, packet_id: u16, refused: bool) {
        let Some(index) = self.unacknowledged.iter().position(|(id, _)| *id == packet_id) else { return };
        let Some((_, item)) = self.unacknowledged.remove(index) else { return };
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(cost(&item.message));
        if refused { self.give_up(item, GivenUp::Refused) } else { self.release(&item) }
    }

    /// The tickets that were released since the last call.
    pub(super) fn take_released(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.released)
    }

    /// The connection is gone, and with it what the client had.
    pub(super) fn disconnected(&mut self) {
        self.up = false;
    }

    /// A new connection to a broker that takes packets up to `packet_limit`: it may have forgotten everything, so the
    /// retained values are said again and what was not acknowledged goes out once more, before what has been waiting.
    pub(super) fn connected(&mut self, packet_limit: Option<u32>) {
        self.up = true;
        self.told = false;
        self.packet_limit = packet_limit.map_or(usize::MAX, |limit| limit as usize).min(MAX_PACKET_BYTES as usize);
        self.replay = self.remembered.keys().cloned().collect();
        let mut again: VecDeque<Item> = self.unacknowledged.drain(..).map(|(_, item)| item).collect();
        again.extend(self.handed.drain(..));
        // What may be lost with a connection was.
        again.retain(|item| item.message.qos == Qos::AtLeastOnce || item.ticket.is_some());
        again.extend(std::mem::take(&mut self.waiting).into_items());
        // A retained value comes from what is remembered; a clear goes out again unless something newer stands there.
        again.retain(|Item { message, .. }| {
            !message.retained || (message.payload.is_empty() && !self.remembered.contains_key(&message.topic))
        });
        self.in_flight_bytes = 0;
        again.into_iter().for_each(|item| self.waiting.push_back(item));
        self.make_room();
    }

    fn is_busy(&self) -> bool {
        !self.handed.is_empty() || !self.unacknowledged.is_empty()
    }

    /// Whether everything was published and acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        let all_said = if self.up { self.replay.is_empty() } else { self.remembered.is_empty() };
        all_said && self.waiting.is_empty() && !self.is_busy()
    }

    /// How many messages wait or are on their way.
    pub(super) fn messages(&self) -> usize {
        self.waiting.len() + self.handed.len() + self.unacknowledged.len()
    }

    /// What all of it takes in memory, about: what waits, is on its way, or is remembered.
    pub(super) fn bytes(&self) -> usize {
        let waiting = self.waiting.items().map(|item| cost(&item.message)).sum::<usize>();
        let replay = self.replay.iter().map(|topic| topic.len() + size_of::<String>()).sum::<usize>();
        waiting + replay + self.in_flight_bytes + self.remembered_tally.bytes
    }

    /// How many messages were given up: the backlog was full, or the broker does not take them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests;
