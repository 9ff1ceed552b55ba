//! Who is there: the last believed word of every node of the fleet and of its instances.
//!
//! Whoever hears messages enters them, whoever decides or shows reads; nobody waits for an actor. What is entered was
//! verified before; here it is held against what is known, so that a message that comes again, or late, changes nothing. Ages
//! count from receipt, on a clock that only goes forward: no date of a message is believed.

mod states;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use states::States;

use super::{Announcement, NodeState, NodeStateKind, ServiceOffer, Stamp};

pub use states::Ear;

/// Nodes that are known at once, those included that went and could come back.
pub const MAX_NODES: usize = 20_000;
/// Instances of one node: far above what any budget bears.
pub const MAX_INSTANCES: usize = 1_000;

/// Nobody is believed to be there for longer without a word.
const LONGEST_TTL: Duration = Duration::from_hours(24);

/// The SHA-256 digest of the public key that a word was signed with, which is the key that its node's channel has too.
pub type KeyDigest = [u8; 32];

/// What the fleet's trust, as it is now, says of a key that was believed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is believed still.
    Believed,
    /// It is not: its certificate was revoked, or its root was taken out.
    PutOut,
    /// It is not known any more whose it was.
    Unknown,
}

/// Why a word changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A newer one is known.
    Stale(Stamp),
    /// There are as many as are kept.
    Full,
}

/// The fleet as it was heard.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: Mutex<BTreeMap<String, Node>>,
}

#[derive(Debug, Default)]
struct Node {
    /// Nothing up to here is news on a topic of which nothing is known: what was forgotten does not come back.
    floor: Stamp,
    itself: Option<Said>,
    instances: BTreeMap<String, Said>,
    states: States,
}

#[derive(Clone, Debug)]
struct Said {
    stamp: Stamp,
    /// Whose word it is.
    key: KeyDigest,
    /// When it was heard, retained or live.
    heard_at: Duration,
    /// When it was last heard live: somebody was there to say it.
    alive_at: Option<Duration>,
    announcement: Announcement,
}

/// One node or instance, as an operator asks about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// What it said.
    pub announcement: Announcement,
    /// How long ago that was heard.
    pub age: Duration,
    /// Whether it was heard live, and not only found at the broker.
    pub alive: bool,
    /// The node's state, where one was heard.
    pub state: Option<NodeStateKind>,
}

/// A node that has room for another's requests of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its id.
    pub node: String,
    /// Where it takes them, `host:port`.
    pub authority: String,
    /// Who must be there.
    pub key: KeyDigest,
    /// What it offers.
    pub offer: ServiceOffer,
    /// Where it stands, as its operator calls it.
    pub site: Option<String>,
    /// The region that it is in.
    pub region: Option<String>,
}

impl Said {
    fn ttl(&self) -> Duration {
        Duration::from_secs(self.announcement.ttl_s).min(LONGEST_TTL)
    }

    /// The time between two announcements: a ttl is three of them.
    fn heartbeat(&self) -> Duration {
        self.ttl() / 3
    }

    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard_at) <= self.ttl()
    }

    /// Whether requests may go there: it was heard live, and the next word is not yet overdue.
    fn is_alive(&self, now: Duration) -> bool {
        self.alive_at.is_some_and(|at| now.saturating_sub(at) < self.heartbeat())
    }

    fn as_peer(&self, service: &str) -> Option<Peer> {
        let Announcement { node, endpoints, services, site, region, .. } = &self.announcement;
        let offer = services.iter().find(|offer| offer.name == service && offer.spare > 0)?;
        Some(Peer {
            node: node.clone(),
            authority: endpoints.peers.clone()?,
            key: self.key,
            offer: offer.clone(),
            site: site.clone(),
            region: region.clone(),
        })
    }
}

impl Node {
    /// What it is asked now it may not answer any more.
    fn is_leaving(&self) -> bool {
        matches!(self.states.kind(), Some(NodeStateKind::Draining | NodeStateKind::Offline | NodeStateKind::Lost))
    }

    fn known(&self, instance: Option<&str>) -> Stamp {
        let said = match instance {
            None => self.itself.as_ref(),
            Some(launch) => self.instances.get(launch),
        };
        said.map_or(self.floor, |said| said.stamp)
    }

    fn forget_where(&mut self, is_over: impl Fn(&Said) -> bool) {
        let Self { floor, itself, instances, .. } = self;
        let mut goes = |said: &Said| {
            let goes = is_over(said);
            if goes {
                *floor = (*floor).max(said.stamp);
            }
            goes
        };
        if itself.as_ref().is_some_and(&mut goes) {
            *itself = None;
        }
        instances.retain(|_, said| !goes(said));
    }
}

impl Registry {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an announcement. `live` where it was just said, not kept by the broker. One that lives no time takes back
    /// what was announced.
    pub fn announce(
        &self,
        announcement: Announcement,
        stamp: Stamp,
        key: KeyDigest,
        live: bool,
        now: Duration,
    ) -> Result<(), Refused> {
        let mut nodes = self.nodes();
        make_room(&mut nodes, &announcement.node)?;
        let node = nodes.entry(announcement.node.clone()).or_default();
        let known = node.known(announcement.instance.as_deref());
        if stamp < known {
            return Err(Refused::Stale(known));
        }
        if stamp == known {
            // The same once more, by a broker that repeats it or keeps it.
            return Ok(());
        }
        if announcement.ttl_s == 0 {
            node.floor = node.floor.max(stamp);
            match &announcement.instance {
                None => node.itself = None,
                Some(launch) => drop(node.instances.remove(launch)),
            }
            return Ok(());
        }
        let before = match &announcement.instance {
            None => node.itself.as_ref(),
            Some(launch) => node.instances.get(launch),
        };
        let alive_at = if live { Some(now) } else { before.and_then(|said| said.alive_at) };
        let said = Said { stamp, key, heard_at: now, alive_at, announcement };
        match said.announcement.instance.clone() {
            None => node.itself = Some(said),
            Some(launch) if node.instances.len() < MAX_INSTANCES || node.instances.contains_key(&launch) => {
                node.instances.insert(launch, said);
            }
            Some(_) => return Err(Refused::Full),
        }
        Ok(())
    }

    /// Enters a node's state, heard at one of this node's brokers. The Last Will of a connection is newer than whatever was
    /// said on it, and older than what is said on the next; it counts for nothing at the other broker.
    pub fn state(&self, said: &NodeState, stamp: Stamp, ear: Ear) -> Result<(), Refused> {
        let mut nodes = self.nodes();
        make_room(&mut nodes, &said.node)?;
        let node = nodes.entry(said.node.clone()).or_default();
        node.states.enter(said, stamp, ear).map_err(Refused::Stale)?;
        if matches!(node.states.kind(), Some(NodeStateKind::Lost | NodeStateKind::Offline)) {
            // Nobody is there to take a request; the announcement may stand until it expires.
            node.itself.iter_mut().for_each(|itself| itself.alive_at = None);
        }
        Ok(())
    }

    /// The link of this ear went to another broker, where states are counted by other connections.
    pub fn moved(&self, ear: Ear) {
        self.nodes().values_mut().for_each(|node| node.states.moved(ear));
    }

    /// Forgets what nobody repeats.
    pub fn forget_stale(&self, now: Duration) {
        self.nodes().values_mut().for_each(|node| node.forget_where(|said| !said.is_fresh(now)));
    }

    /// The nodes that have room for another's requests of a service and were just heard, by name.
    pub fn peers(&self, service: &str, now: Duration) -> Vec<Peer> {
        let nodes = self.nodes();
        let staying = nodes.values().filter(|node| !node.is_leaving());
        let alive = staying.filter_map(|node| node.itself.as_ref()).filter(|said| said.is_alive(now));
        alive.filter_map(|said| said.as_peer(service)).collect()
    }

    /// What the fleet believes has changed: what those said who are put out is forgotten, and who is not known any more is
    /// routable once they were heard again. Names the nodes that are put out.
    pub fn judge(&self, standing: impl Fn(&KeyDigest) -> Standing) -> Vec<String> {
        let mut put_out = Vec::new();
        self.nodes().retain(|name, node| {
            let itself = node.itself.as_mut().map(|itself| (standing(&itself.key), itself));
            match itself {
                // All of it, also how far it had come: another box may be let in under its name, which begins anew, and nobody
                // believes what is played again of this one.
                Some((Standing::PutOut, _)) => {
                    put_out.push(name.clone());
                    return false;
                }
                Some((Standing::Unknown, itself)) => itself.alive_at = None,
                Some((Standing::Believed, _)) | None => {}
            }
            node.forget_where(|said| standing(&said.key) == Standing::PutOut);
            true
        });
        put_out
    }

    /// Every node and instance whose word has not expired.
    pub fn present(&self, now: Duration) -> Vec<Present> {
        let nodes = self.nodes();
        let all = nodes.values().flat_map(|node| {
            let state = node.states.kind();
            node.itself.iter().chain(node.instances.values()).map(move |said| (said, state))
        });
        let fresh = all.filter(|(said, _)| said.is_fresh(now));
        fresh
            .map(|(said, state)| Present {
                announcement: said.announcement.clone(),
                age: now.saturating_sub(said.heard_at),
                alive: said.is_alive(now),
                state,
            })
            .collect()
    }

    /// How many nodes and instances are announced.
    pub fn len(&self) -> usize {
        self.nodes().values().map(|node| usize::from(node.itself.is_some()) + node.instances.len()).sum()
    }

    /// Whether nobody is announced.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Those that went make room for one that comes.
fn make_room(nodes: &mut BTreeMap<String, Node>, name: &str) -> Result<(), Refused> {
    if nodes.len() >= MAX_NODES && !nodes.contains_key(name) {
        nodes.retain(|_, node| node.itself.is_some() || !node.instances.is_empty());
        if nodes.len() >= MAX_NODES {
            return Err(Refused::Full);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
