//! Replicas that run what the configuration no longer says, replaced one after the other.
//!
//! Where there is a place for one more, the new one comes first and the old one goes when it is ready. Where there is none, the old
//! one goes first, and only where a new one could be started at all: a program that does not start, a box without memory, an adapter
//! that launches nothing leave what serves in its place.

use std::collections::BTreeSet;

use crate::plan::{Phase, ReplicaView};
use crate::route::Placement;

/// Whether a replica could be started now, and whether there is a place for one more than there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) can_start: bool,
    pub(super) has_place: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Replacement {
    outdated: BTreeSet<String>,
    /// The new one comes first, and there: one more than wanted is planned for.
    surge: Option<Placement>,
}

impl Replacement {
    pub(super) fn outdate(&mut self, replicas: impl IntoIterator<Item = String>) {
        self.outdated.extend(replicas);
    }

    pub(super) fn forget_gone(&mut self, alive: &BTreeSet<String>) {
        self.outdated.retain(|replica| alive.contains(replica));
        self.surge = self.surge.filter(|_| !self.outdated.is_empty());
    }

    pub(super) fn is_outdated(&self, replica: &str) -> bool {
        self.outdated.contains(replica)
    }

    /// Replicas to plan for beyond what is wanted. None where the one more could not be started after all.
    pub(super) fn surge(&mut self, rooms: (Room, Room)) -> u32 {
        self.surge = self.surge.filter(|placement| room(*placement, rooms).can_start);
        u32::from(self.surge.is_some())
    }

    /// The next one to go, of a service that is otherwise at rest.
    pub(super) fn next<'a>(
        &mut self,
        replicas: &'a [ReplicaView],
        wanted: u32,
        rooms: (Room, Room),
    ) -> Option<&'a ReplicaView> {
        let is_at_rest = replicas.iter().all(|replica| !matches!(replica.phase, Phase::Starting | Phase::Draining));
        let next = replicas.iter().find(|replica| is_at_rest && self.is_outdated(&replica.id))?;
        if self.surge.is_some() {
            let ready = replicas.iter().filter(|replica| replica.phase == Phase::Ready).count();
            let is_there = u32::try_from(ready).unwrap_or(u32::MAX) > wanted;
            self.surge = self.surge.filter(|_| !is_there);
            return Some(next).filter(|_| is_there);
        }
        // A local place costs nothing; an instance is paid for where one goes for it.
        let has_place = |placement: &Placement| room(*placement, rooms).has_place;
        self.surge = [Placement::Local, next.placement].into_iter().find(has_place);
        Some(next).filter(|next| self.surge.is_none() && room(next.placement, rooms).can_start)
    }
}

fn room(placement: Placement, (local, cloud): (Room, Room)) -> Room {
    if placement == Placement::Cloud { cloud } else { local }
}
