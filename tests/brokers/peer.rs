//! Our own end: a link on a runtime of its own, so that a test can take it away as a power cut would.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::mqtt::link::{Link, LinkObserver, LinkOptions, LinkStatus};
use tidegate::mqtt::{Incoming, Outgoing, Qos};
use tokio::runtime::Runtime;

use crate::site::Door;
use crate::support::{PATIENCE, wait_until};

#[derive(Default)]
struct Notes {
    heard: Mutex<Vec<Incoming>>,
    changes: Mutex<Vec<LinkStatus>>,
}

impl LinkObserver for Notes {
    fn received(&self, message: Incoming) {
        self.heard.lock().unwrap().push(message);
    }

    fn changed(&self, status: &LinkStatus) {
        self.changes.lock().unwrap().push(status.clone());
    }
}

/// A running link and what it heard.
pub(crate) struct Peer {
    runtime: Option<Runtime>,
    link: Link,
    notes: Arc<Notes>,
}

/// A name that no other client has.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn retained(topic: &str, payload: &str) -> Outgoing {
    Outgoing { retained: true, ..live(topic, payload) }
}

pub(crate) fn live(topic: &str, payload: &str) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        payload: payload.into(),
        retained: false,
        qos: Qos::AtLeastOnce,
        expiry: None,
        properties: None,
    }
}

impl Peer {
    /// Connects by itself; see [`Peer::up`].
    pub(crate) fn start(door: &Door, client_id: &str, filters: &[&str], will: Option<Outgoing>) -> Self {
        Self::start_at(door, client_id, filters, Qos::AtLeastOnce, will)
    }

    fn start_at(door: &Door, client_id: &str, filters: &[&str], qos: Qos, will: Option<Outgoing>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = LinkOptions {
            name: "peer",
            client_id: client_id.to_owned(),
            host: door.host.to_owned(),
            port: door.port,
            keepalive: Duration::from_secs(5),
            credentials: door.login.clone(),
            tls: door.tls.clone(),
            alternatives: Vec::new(),
            last_will: will,
            others_alone: false,
            prepare: None,
            subscriptions: filters.iter().map(|filter| ((*filter).to_owned(), qos)).collect(),
        };
        let notes = Arc::new(Notes::default());
        let link = runtime.block_on(async { Link::start(options, notes.clone()) });
        Self { runtime: Some(runtime), link, notes }
    }

    /// A new client with subscriptions that stand.
    pub(crate) fn up(door: &Door, filters: &[&str]) -> Self {
        Self::up_with(door, filters, None)
    }

    /// As [`Peer::up`], with a Last Will.
    pub(crate) fn up_with(door: &Door, filters: &[&str], will: Option<Outgoing>) -> Self {
        let echo = unique("echo");
        let peer = Self::start(door, &unique("peer"), &[filters, &[&echo]].concat(), will);
        peer.wait_for_echo(&echo);
        peer
    }

    /// What a broker takes in order it also gives in order: once an own message is back, the subscriptions before it stand
    /// and whatever they brought is here.
    fn wait_for_echo(&self, topic: &str) {
        self.link.publish(live(topic, "back"));
        self.wait_for(topic, |message| message.topic == topic);
        self.notes.heard.lock().unwrap().retain(|message| message.topic != topic);
    }

    pub(crate) fn publish(&self, message: Outgoing) {
        self.link.publish(message);
    }

    pub(crate) fn status(&self) -> LinkStatus {
        self.link.status()
    }

    /// How often it came up or went down.
    pub(crate) fn changes(&self) -> Vec<LinkStatus> {
        self.notes.changes.lock().unwrap().clone()
    }

    pub(crate) fn heard(&self) -> Vec<Incoming> {
        self.notes.heard.lock().unwrap().clone()
    }

    /// The payloads on a topic, in order.
    pub(crate) fn payloads(&self, topic: &str) -> Vec<String> {
        let heard = self.heard().into_iter().filter(|message| message.topic == topic);
        heard.map(|message| String::from_utf8(message.payload).unwrap()).collect()
    }

    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Incoming) -> bool) -> Incoming {
        let heard = || self.notes.heard.lock().unwrap().iter().find(|message| wanted(message)).cloned();
        wait_until(PATIENCE, &format!("{what} is heard; {:?}", self.status()), heard)
    }

    pub(crate) fn wait_for_payload(&self, topic: &str, payload: &str) -> Incoming {
        let is_it = |message: &Incoming| message.topic == topic && message.payload == payload.as_bytes();
        self.wait_for(&format!("{payload} on {topic}"), is_it)
    }

    pub(crate) fn wait_connected(&self, connections: u64) -> LinkStatus {
        wait_until(PATIENCE, "the link is up", || {
            Some(self.status()).filter(|status| status.connected && status.connections >= connections)
        })
    }

    /// Waits until the link says why it is down.
    pub(crate) fn wait_refused(&self, words: &str) -> LinkStatus {
        wait_until(PATIENCE, &format!("the link is refused: {words}"), || {
            let status = self.status();
            assert!(!status.connected && status.connections == 0, "it was let in: {status:?}");
            status.last_error.as_deref().is_some_and(|reason| reason.contains(words)).then_some(status)
        })
    }

    /// Says everything and goodbye.
    pub(crate) fn close(self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(self.link.close(PATIENCE));
        }
    }
}

/// Without a goodbye: the connection just ends.
impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a late subscriber gets of what is retained, at most once as discovery has it.
pub(crate) fn look(door: &Door, filter: &str) -> Vec<Incoming> {
    let echo = unique("echo");
    let peer = Peer::start_at(door, &unique("late"), &[filter, &echo], Qos::AtMostOnce, None);
    peer.wait_for_echo(&echo);
    let heard = peer.heard();
    peer.close();
    heard
}
