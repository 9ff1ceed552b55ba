//! What waits to be published while the broker is away: bounded, newest wins for each retained topic.

use std::collections::{BTreeMap, VecDeque};

use super::{Outgoing, Qos};

/// The messages of one link that the broker has not taken yet, and the retained ones that it must hold.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The last value of each retained topic that is not empty: said again on every new connection.
    remembered: BTreeMap<String, Outgoing>,
    /// Waiting, oldest first.
    waiting: VecDeque<Outgoing>,
    /// Given to the client, in order, not yet on the wire.
    handed: VecDeque<Outgoing>,
    /// On the wire at least once, by packet id, not acknowledged.
    unacknowledged: BTreeMap<u16, Outgoing>,
    dropped: u64,
    capacity: usize,
}

impl Backlog {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Takes a message in. A retained one replaces what waits for its topic; when full, the oldest at-most-once message
    /// goes, else the oldest.
    pub(super) fn push(&mut self, message: Outgoing) {
        if message.retained {
            self.remember(&message);
            self.waiting.retain(|other| !(other.retained && other.topic == message.topic));
        }
        if self.waiting.len() >= self.capacity {
            self.drop_one();
        }
        self.waiting.push_back(message);
    }

    fn remember(&mut self, message: &Outgoing) {
        if message.payload.is_empty() {
            self.remembered.remove(&message.topic);
        } else {
            self.remembered.insert(message.topic.clone(), message.clone());
        }
    }

    fn drop_one(&mut self) {
        let oldest_unimportant = self.waiting.iter().position(|m| m.qos == Qos::AtMostOnce).unwrap_or(0);
        self.waiting.remove(oldest_unimportant);
        self.dropped += 1;
    }

    /// The next message for the client, if any.
    pub(super) fn next(&mut self) -> Option<Outgoing> {
        let message = self.waiting.pop_front()?;
        if message.qos == Qos::AtLeastOnce {
            self.handed.push_back(message.clone());
        }
        Some(message)
    }

    /// The client did not take what [`Backlog::next`] gave.
    pub(super) fn put_back(&mut self, message: Outgoing) {
        if message.qos == Qos::AtLeastOnce {
            self.handed.pop_back();
        }
        self.waiting.push_front(message);
    }

    /// The oldest handed message went out under this packet id (0 is at-most-once and has none).
    pub(super) fn sent(&mut self, packet_id: u16) {
        if packet_id == 0 {
            return;
        }
        if let Some(message) = self.handed.pop_front() {
            self.unacknowledged.insert(packet_id, message);
        }
    }

    pub(super) fn acknowledged(&mut self, packet_id: u16) {
        self.unacknowledged.remove(&packet_id);
    }

    /// A new connection: the broker may have forgotten everything, so the retained values are said again and what was
    /// not acknowledged goes out once more, before what has been waiting.
    pub(super) fn connected(&mut self) {
        let mut again: VecDeque<Outgoing> = std::mem::take(&mut self.unacknowledged).into_values().collect();
        again.extend(self.handed.drain(..));
        again.extend(self.waiting.drain(..));
        // A retained value comes from what is remembered; a clear goes out again unless something newer stands there.
        again.retain(|message| {
            !message.retained || (message.payload.is_empty() && !self.remembered.contains_key(&message.topic))
        });
        self.waiting = self.remembered.values().cloned().collect();
        for message in again {
            if self.waiting.len() >= self.capacity {
                self.drop_one();
            }
            self.waiting.push_back(message);
        }
    }

    /// Whether everything was published and acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.handed.is_empty() && self.unacknowledged.is_empty()
    }

    /// How many messages were given up because the backlog was full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &str, retained: bool, qos: Qos) -> Outgoing {
        Outgoing { topic: topic.into(), payload: payload.into(), retained, qos, expiry: None }
    }

    fn drain(backlog: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| backlog.next()).map(|m| String::from_utf8(m.payload).unwrap()).collect()
    }

    #[test]
    fn the_newest_wins_for_each_retained_topic() {
        let mut backlog = Backlog::new(8);
        backlog.push(message("state", "old", true, Qos::AtLeastOnce));
        backlog.push(message("event", "e1", false, Qos::AtLeastOnce));
        backlog.push(message("state", "new", true, Qos::AtLeastOnce));
        assert_eq!(drain(&mut backlog), ["e1", "new"]);
    }

    #[test]
    fn a_full_backlog_gives_up_the_oldest_report_before_any_event() {
        let mut backlog = Backlog::new(3);
        backlog.push(message("event", "e1", false, Qos::AtLeastOnce));
        backlog.push(message("load", "l1", false, Qos::AtMostOnce));
        backlog.push(message("event", "e2", false, Qos::AtLeastOnce));
        backlog.push(message("event", "e3", false, Qos::AtLeastOnce));
        assert_eq!(drain(&mut backlog), ["e1", "e2", "e3"]);
        assert_eq!(backlog.dropped(), 1);
    }

    #[test]
    fn what_was_not_acknowledged_goes_out_again_and_retained_values_first() {
        let mut backlog = Backlog::new(8);
        backlog.push(message("state", "online", true, Qos::AtLeastOnce));
        backlog.push(message("event", "acked", false, Qos::AtLeastOnce));
        backlog.push(message("event", "lost", false, Qos::AtLeastOnce));
        drain(&mut backlog);
        for id in 1..=3 {
            backlog.sent(id);
        }
        backlog.acknowledged(1);
        backlog.acknowledged(2);
        assert!(!backlog.is_settled());
        backlog.connected();
        assert_eq!(drain(&mut backlog), ["online", "lost"]);
    }

    #[test]
    fn a_clear_that_was_not_acknowledged_does_not_undo_what_was_said_after_it() {
        let mut backlog = Backlog::new(8);
        backlog.push(message("burst", "", true, Qos::AtLeastOnce));
        drain(&mut backlog);
        backlog.sent(1);
        backlog.push(message("burst", "again", true, Qos::AtLeastOnce));
        backlog.connected();
        assert_eq!(drain(&mut backlog), ["again"]);
    }

    #[test]
    fn a_cleared_topic_is_not_said_again() {
        let mut backlog = Backlog::new(8);
        backlog.push(message("burst", "x", true, Qos::AtLeastOnce));
        backlog.push(message("burst", "", true, Qos::AtLeastOnce));
        backlog.connected();
        assert_eq!(drain(&mut backlog), [""]);
        backlog.sent(1);
        backlog.acknowledged(1);
        backlog.connected();
        assert_eq!(drain(&mut backlog), Vec::<String>::new());
    }
}
