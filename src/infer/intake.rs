//! Takes requests off a link, on the link's own task: into a queue that is bounded in number and in bytes, without waiting.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::meters::{Meters, Outcome};
use super::{MAX_HELD, MAX_HELD_BYTES};
use crate::mqtt::Incoming;
use crate::mqtt::link::{LinkObserver, tap};
use crate::wire::Root;

/// What a request costs beside its bytes: its place, its task, its strings.
const OVERHEAD_BYTES: usize = 512;
/// What a user property costs beside its bytes: a packet of empty ones must not be cheap.
const USER_PROPERTY_BYTES: usize = 64;

/// A request as it came, and the room that it takes until it is answered.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) message: Incoming,
    pub(super) at: Instant,
    pub(super) hold: Hold,
}

/// Room for one request; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// The room for all requests of a node.
#[derive(Clone, Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_HELD)), bytes: Arc::new(Semaphore::new(MAX_HELD_BYTES)) }
    }
}

impl Room {
    /// None: there is none.
    pub(super) fn hold(&self, message: &Incoming) -> Option<Hold> {
        let bytes = u32::try_from(cost(message)).ok()?;
        let place = self.places.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Hold { _place: place, _bytes: bytes })
    }
}

fn cost(message: &Incoming) -> usize {
    let properties = message.properties.as_deref();
    let properties = properties.map_or(0, |p| p.bytes() + p.user.len() * USER_PROPERTY_BYTES);
    message.topic.len() + message.payload.len() + properties + OVERHEAD_BYTES
}

/// Where requests go that come on a link.
struct Intake {
    prefix: String,
    room: Room,
    queue: mpsc::Sender<Arrived>,
    meters: Arc<Meters>,
}

/// Observes a link: requests go into the queue, all else to whoever observed it before.
pub(super) fn open(
    root: &Root,
    room: Room,
    meters: Arc<Meters>,
    rest: Arc<dyn LinkObserver>,
) -> (Arc<dyn LinkObserver>, mpsc::Receiver<Arrived>) {
    // As many as there may be: who has room in the house has a place in the queue.
    let (queue, requests) = mpsc::channel(MAX_HELD);
    let intake = Intake { prefix: format!("{root}/infer/"), room, queue, meters };
    (tap(move |message| intake.take(message), rest), requests)
}

impl Intake {
    /// Gives back what is no request.
    fn take(&self, message: Incoming) -> Option<Incoming> {
        if !message.topic.starts_with(&self.prefix) {
            return Some(message);
        }
        let Some(hold) = self.room.hold(&message) else {
            self.meters.count(Outcome::TooMany, &message.topic);
            return None;
        };
        let arrived = Arrived { message, at: Instant::now(), hold };
        if let Err(left) = self.queue.try_send(arrived) {
            self.meters.count(Outcome::TooMany, &left.into_inner().message.topic);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Properties;

    fn message(payload: usize, user: usize) -> Incoming {
        let properties = Properties { user: vec![Default::default(); user], ..Properties::default() };
        Incoming {
            topic: "tidegate/v1/f/infer/s/c".into(),
            payload: vec![0; payload],
            retained: false,
            expiry: None,
            properties: Some(Box::new(properties)),
        }
    }

    fn held_at_most(message: &Incoming) -> usize {
        let room = Room::default();
        let held: Vec<Hold> = std::iter::from_fn(|| room.hold(message)).collect();
        let most = held.len();
        drop(held);
        assert!(room.hold(message).is_some(), "what is given back is there again");
        most
    }

    #[test]
    fn room_is_bounded_in_number_and_in_bytes() {
        assert_eq!(held_at_most(&message(0, 0)), MAX_HELD);
        assert_eq!(held_at_most(&message(128 << 10, 0)), MAX_HELD_BYTES / ((128 << 10) + OVERHEAD_BYTES + 23));
        // A packet of 128 KB holds so many empty user properties, which are a megabyte and more in memory.
        assert!(held_at_most(&message(0, 26_000)) < 12);
    }
}
