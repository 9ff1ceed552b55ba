//! What a node does for the others of its fleet: how many of their requests it takes, and what it says of that.
//!
//! A guest is a request that another node sent because its own replicas were busy. It is answered by a local replica, at once
//! or not at all: a guest that waited would be in the way, and one at an instance would spend money for somebody else. Half
//! of what runs here is kept for the node's own requests, so that guests alone neither delay them nor make this node burst.

use std::sync::Arc;
use std::time::Duration;

use super::{Endpoint, Placement};

/// After its own load fell a node has room again only when it stayed low for this long: each change is a message that the
/// whole fleet hears.
const SETTLING: Duration = Duration::from_secs(10);

/// Most guests at once where the local replicas take so many requests: half, so that a node of one slot takes none.
#[must_use]
pub fn most_guests(capacity: u32) -> u32 {
    capacity / 2
}

/// Whether a guest has room now.
#[must_use]
pub fn has_room_for_guest(endpoints: &[Arc<Endpoint>]) -> bool {
    let local = endpoints.iter().filter(|endpoint| endpoint.placement == Placement::Local);
    let (busy, capacity) = local.fold((0, 0), |(busy, capacity), endpoint| {
        (busy + endpoint.counters.in_flight(), capacity + endpoint.concurrency)
    });
    busy < most_guests(capacity)
}

/// What the fleet is told: all the room there is for guests, or none. The node's own load decides, not the guests it has:
/// who finds it full is told so, and goes elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spare {
    is_closed: bool,
    /// Since when the own load is low, while it is closed.
    low_since: Option<Duration>,
}

impl Spare {
    /// Requests of other nodes that there is room for, where `own` of the node's requests are at local replicas that take
    /// `capacity`.
    #[must_use]
    pub fn update(&mut self, own: u32, capacity: u32, now: Duration) -> u32 {
        let most = most_guests(capacity);
        // Nothing that runs here yet is no load.
        if most > 0 && own >= most {
            *self = Self { is_closed: true, low_since: None };
        } else if own * 2 > most {
            self.low_since = None;
        } else if self.is_closed {
            let since = *self.low_since.get_or_insert(now);
            self.is_closed = now.saturating_sub(since) < SETTLING;
        }
        if self.is_closed { 0 } else { most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{EndpointCounters, Transport};

    fn endpoint(placement: Placement, concurrency: u32, taken: u32) -> Arc<Endpoint> {
        let endpoint = Endpoint {
            replica: "r".into(),
            placement,
            authority: "127.0.0.1:1".into(),
            transport: Transport::Plain,
            bearer: None,
            concurrency,
            weight: 1,
            counters: EndpointCounters::default(),
        };
        (0..taken).for_each(|_| assert!(endpoint.try_take(Duration::ZERO)));
        Arc::new(endpoint)
    }

    #[test]
    fn half_of_the_local_replicas_is_for_guests_and_instances_are_not() {
        let room = |taken| {
            has_room_for_guest(&[
                endpoint(Placement::Local, 4, taken),
                endpoint(Placement::Local, 4, 0),
                endpoint(Placement::Cloud, 100, 0),
                endpoint(Placement::Peer, 100, 0),
            ])
        };
        assert!(room(3) && !room(4));
        assert!(!has_room_for_guest(&[endpoint(Placement::Local, 1, 0)]), "a single slot is its own");
        assert!(has_room_for_guest(&[endpoint(Placement::Local, 2, 0)]));
        assert!(!has_room_for_guest(&[endpoint(Placement::Cloud, 4, 0)]) && !has_room_for_guest(&[]));
    }

    #[test]
    fn room_goes_at_once_and_comes_back_when_the_load_stayed_low() {
        let mut spare = Spare::default();
        let at = Duration::from_secs;
        assert_eq!(spare.update(0, 8, at(0)), 4);
        assert_eq!(spare.update(3, 8, at(1)), 4, "what was open stays open until the guests' half is needed");
        assert_eq!(spare.update(4, 8, at(2)), 0);
        assert_eq!(spare.update(3, 8, at(20)), 0);
        assert_eq!(spare.update(2, 8, at(21)), 0);
        assert_eq!(spare.update(3, 8, at(25)), 0, "a peak in between starts the time again");
        assert_eq!(spare.update(2, 8, at(26)), 0);
        assert_eq!(spare.update(0, 8, at(35)), 0);
        assert_eq!(spare.update(0, 8, at(36)), 4);
    }

    #[test]
    fn a_node_without_a_local_replica_has_no_room() {
        let mut starting = Spare::default();
        let at = Duration::from_secs;
        assert_eq!(starting.update(0, 0, at(0)), 0);
        assert_eq!(starting.update(0, 8, at(1)), 4, "the first replica brings room at once");
    }
}
