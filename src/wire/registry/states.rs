//! What a node is said to be: the last state heard at each of this node's brokers, and one word out of them.
//!
//! A node speaks at its own broker and at its uplink, by connections that live and die apart, and numbers the attempts of
//! each link for itself. So two numbers are compared only where both were heard at one broker; and a Last Will, which proves
//! that one connection is gone, says nothing of another broker's. Whoever is online anywhere is online.

use crate::{NodeState, NodeStateKind, Stamp};

/// By which of this node's links something was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ear {
    /// The broker of the box or of the site.
    #[default]
    Home,
    /// A broker of the fleet.
    Uplink,
}

impl Ear {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Home, Self::Uplink];
}

/// A node's own state or its Last Will, and its place in the order of states at one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    /// Session, connection, whether it is the Will, sequence.
    order: (u64, u64, bool, u64),
    kind: NodeStateKind,
    /// Heard before the link went to another broker: what is said there is counted by other connections.
    is_elsewhere: bool,
}

/// The states of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct States([Option<Heard>; 2]);

impl States {
    /// Enters a state. The Last Will of a connection is newer than whatever was said on it, and older than what is said on
    /// the next.
    pub(super) fn enter(&mut self, said: &NodeState, stamp: Stamp, ear: Ear) -> Result<(), Stamp> {
        let is_will = said.state == NodeStateKind::Lost;
        let order = (stamp.session, said.connection, is_will, stamp.sequence);
        let slot = &mut self.0[ear as usize];
        if let Some(Heard { order: known, is_elsewhere: false, .. }) = slot
            && order < *known
        {
            if is_said_again(order, *known) {
                return Ok(());
            }
            return Err(Stamp { session: known.0, sequence: known.3 });
        }
        *slot = Some(Heard { order, kind: said.state, is_elsewhere: false });
        Ok(())
    }

    /// The link went to another broker.
    pub(super) fn moved(&mut self, ear: Ear) {
        if let Some(heard) = &mut self.0[ear as usize] {
            heard.is_elsewhere = true;
        }
    }

    /// The newest word of the newest session; a Will counts where nothing else does.
    pub(super) fn kind(&self) -> Option<NodeStateKind> {
        let newest = self.0.iter().flatten().max_by_key(|heard| {
            let (session, _, is_will, sequence) = heard.order;
            (session, !is_will, sequence)
        });
        newest.map(|heard| heard.kind)
    }
}

/// What a node that came back says again of the connection before, whose Last Will was heard: true then, and no news.
fn is_said_again(order: (u64, u64, bool, u64), known: (u64, u64, bool, u64)) -> bool {
    let ((session, connection, is_will, _), (of_session, of_connection, knows_will, _)) = (order, known);
    (session, connection) == (of_session, of_connection) && !is_will && knows_will
}
