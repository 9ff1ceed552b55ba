//! Ties the links to the spool: what waits on disk goes to the link of its tree, and leaves the disk once the broker has it.

use std::sync::Arc;

use edge_config::Config;

use super::links;
use crate::actors::publisher::Way;
use crate::console::{LinkView, SpoolView, Telemetry};
use crate::journal::{Releases, Spool, StateDir};
use crate::mqtt::link::{Link, LinkObserver, LinkStatus};
use crate::mqtt::{Incoming, Outgoing, Qos};

/// The spool of a node that publishes.
pub(super) fn open(config: &Config, state_dir: &StateDir) -> Option<Arc<Spool>> {
    let names: Vec<&'static str> = links::wanted(config).into_iter().map(links::name).collect();
    config.mqtt.enabled.then(|| Arc::new(Spool::open(state_dir.path(), state_dir.session(), &names)))
}

/// The same observer, which also tells the spool what the broker has.
pub(super) fn observer(
    inner: Arc<dyn LinkObserver>,
    spool: Option<&Arc<Spool>>,
    link: &'static str,
) -> Arc<dyn LinkObserver> {
    match spool {
        Some(spool) => Arc::new(Spooled { inner, releases: spool.releases(link) }),
        None => inner,
    }
}

/// Hands what waits for this link to it from now on.
pub(super) fn attach(spool: Option<&Arc<Spool>>, link: &Link) {
    let Some(spool) = spool else { return };
    let to = link.clone();
    spool.attach(
        link.name(),
        Box::new(move |letter| {
            let message = Outgoing {
                topic: letter.topic,
                payload: letter.payload,
                retained: false,
                qos: Qos::AtLeastOnce,
                expiry: None,
                properties: None,
            };
            to.keep(message, letter.ticket)
        }),
    );
}

struct Spooled {
    inner: Arc<dyn LinkObserver>,
    releases: Releases,
}

impl LinkObserver for Spooled {
    fn received(&self, message: Incoming) {
        self.inner.received(message);
    }

    fn changed(&self, status: &LinkStatus) {
        self.inner.changed(status);
    }

    fn released(&self, tickets: &[u64]) {
        self.releases.released(tickets);
    }
}

/// Why the link was restored, in words.
pub(super) fn restored(status: &LinkStatus) -> Option<String> {
    let away = std::time::Duration::from_millis(u64::try_from(status.away?.as_millis()).unwrap_or(u64::MAX));
    Some(format!("the broker was away for {}; what waited follows", humantime::format_duration(away)))
}

/// What the console shows of it.
pub(super) fn telemetry(ways: &[Way], spool: Option<&Arc<Spool>>) -> Telemetry {
    let view = |Way { link, .. }: &Way| {
        let (status, traffic) = (link.status(), link.traffic());
        LinkView {
            link: link.name(),
            broker: status.broker,
            connected: status.connected,
            connections: status.connections,
            last_error: status.last_error,
            waiting: status.waiting,
            held_bytes: link.held_bytes(),
            dropped: status.dropped,
            sent_bytes: traffic.sent,
            received_bytes: traffic.received,
        }
    };
    let spool = spool.map(|spool| {
        let status = spool.status();
        SpoolView {
            events: status.events,
            bytes: status.bytes,
            saved: status.saved,
            unsaved: status.unsaved,
            dropped: status.dropped,
            problem: status.problem,
        }
    });
    Telemetry { links: ways.iter().map(view).collect(), spool }
}
