//! All that a subscriber heard of a node's events, by tree and id: what is missing, and what was said twice but differs.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::wire::describe;

use super::clients::Message;
use super::embedded::{CBOR, JSON};
use crate::support::Node;

/// The events of one node.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// By tree and id.
    events: BTreeMap<(&'static str, String), Vec<u8>>,
    /// How many came more than once.
    pub(crate) repeated: usize,
}

impl Story {
    /// Fails where an id comes twice with different bytes.
    pub(crate) fn of(heard: &[Message]) -> Self {
        let mut story = Self::default();
        for message in heard.iter().filter(|message| message.topic.contains("/event/")) {
            let event = describe(&message.topic, &message.bytes).unwrap_or_else(|e| panic!("{e}: {message:?}"));
            let tree = if message.topic.starts_with(JSON) { JSON } else { CBOR };
            let id = event["id"].as_str().unwrap_or_else(|| panic!("no id: {event}")).to_owned();
            match story.events.insert((tree, id.clone()), message.bytes.clone()) {
                Some(before) => {
                    assert_eq!(before, message.bytes, "{id} was said twice and differs");
                    story.repeated += 1;
                }
                None => assert!(event["type"].is_string(), "{event}"),
            }
        }
        story
    }

    fn numbers(&self, tree: &str, session: u64) -> BTreeSet<u64> {
        let prefix = format!("{session}-");
        let ours = self.events.keys().filter(|(of, _)| *of == tree);
        ours.filter_map(|(_, id)| id.strip_prefix(&prefix)?.parse().ok()).collect()
    }

    /// Whether the first `count` events of a session are there in both trees.
    pub(crate) fn has(&self, session: u64, count: u64) -> bool {
        self.missing(session, count).is_empty()
    }

    fn missing(&self, session: u64, count: u64) -> Vec<String> {
        let in_tree = |tree: &'static str| {
            let there = self.numbers(tree, session);
            (1..=count)
                .filter(move |number| !there.contains(number))
                .map(move |number| format!("{tree} {session}-{number}"))
        };
        [CBOR, JSON].into_iter().flat_map(in_tree).collect()
    }

    /// Fails unless the first `count` events of a session are there in both trees, and nothing between them and the last
    /// is missing.
    pub(crate) fn assert_whole(&self, session: u64, count: u64) {
        let last = self.numbers(JSON, session).last().copied().unwrap_or(0).max(count);
        let missing = self.missing(session, last);
        assert!(missing.is_empty(), "of {last} events of session {session}: {missing:?} never came");
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

/// The number of the last event that the node said by its own console.
pub(crate) fn last_event(node: &Node) -> u64 {
    let events = node.get_json("/api/v1/events");
    let last = events.as_array().and_then(|events| events.last()).unwrap_or_else(|| panic!("no events: {events}"));
    last["id"].as_str().and_then(|id| id.split_once('-')).map(|(_, number)| number.parse().unwrap()).unwrap()
}

/// How many events a node said, by its log.
pub(crate) fn logged_events(log: &str) -> u64 {
    log.lines().filter(|line| line.contains(" event=\"")).count() as u64
}
