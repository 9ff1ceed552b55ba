//! The queue of a backlog: in order, and with what it takes to find the one to give up, or to replace, without a search.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, Tally};
use crate::mqtt::Qos;

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    items: BTreeMap<i64, Item>,
    /// Places of those without a ticket that may be lost with the connection, and of the others without one.
    at_most_once: BTreeSet<i64>,
    at_least_once: BTreeSet<i64>,
    /// The place of the one for a retained topic.
    retained: BTreeMap<String, i64>,
    /// Those without a ticket.
    ordinary: Tally,
}

impl Waiting {
    pub(super) fn push_back(&mut self, item: Item) {
        let place = self.items.last_key_value().map_or(0, |(last, _)| last + 1);
        self.put(place, item);
    }

    pub(super) fn push_front(&mut self, item: Item) {
        let place = self.items.first_key_value().map_or(0, |(first, _)| first - 1);
        self.put(place, item);
    }

    fn put(&mut self, place: i64, item: Item) {
        if item.ticket.is_none() {
            self.ordinary.add(&item.message);
            self.places(item.message.qos).insert(place);
        }
        if item.message.retained {
            self.retained.insert(item.message.topic.clone(), place);
        }
        self.items.insert(place, item);
    }

    fn places(&mut self, qos: Qos) -> &mut BTreeSet<i64> {
        match qos {
            Qos::AtMostOnce => &mut self.at_most_once,
            Qos::AtLeastOnce => &mut self.at_least_once,
        }
    }

    fn remove(&mut self, place: i64) -> Option<Item> {
        let item = self.items.remove(&place)?;
        if item.ticket.is_none() {
            self.ordinary.remove(&item.message);
            self.places(item.message.qos).remove(&place);
        }
        if item.message.retained && self.retained.get(&item.message.topic) == Some(&place) {
            self.retained.remove(&item.message.topic);
        }
        Some(item)
    }

    pub(super) fn remove_retained(&mut self, topic: &str) {
        if let Some(place) = self.retained.get(topic) {
            self.remove(*place);
        }
    }

    /// The oldest that may be lost with the connection, else the oldest, among those without a ticket.
    pub(super) fn remove_least(&mut self) -> Option<Item> {
        let least = self.at_most_once.first().or_else(|| self.at_least_once.first()).copied()?;
        self.remove(least)
    }

    pub(super) fn pop_front(&mut self) -> Option<Item> {
        let first = *self.items.first_key_value()?.0;
        self.remove(first)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Those without a ticket.
    pub(super) fn ordinary(&self) -> Tally {
        self.ordinary
    }

    /// Oldest first.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Oldest first.
    pub(super) fn into_items(self) -> impl Iterator<Item = Item> {
        self.items.into_values()
    }
}
