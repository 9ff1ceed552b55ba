//! The launches that the journal knows. What a provider lists under this node's id and is not among them, though its
//! session is one that the journal knows everything of, was launched by another box.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The latest launches that are remembered, here and in the journal: years of bursting every other hour, in 2 MB of memory
/// and 6 MB of disk.
pub const MOST_LAUNCHES: usize = 20_000;

#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The first session of which everything is known.
    since: u64,
    /// With their sessions, the oldest first.
    order: VecDeque<(Arc<str>, u64)>,
    ids: BTreeSet<Arc<str>>,
}

impl Known {
    pub(super) fn since(session: u64) -> Self {
        Self { since: session, order: VecDeque::new(), ids: BTreeSet::new() }
    }

    /// Whether it is news. The oldest is forgotten where there are too many, and with it what is known of its session.
    pub(super) fn insert(&mut self, launch: &str, session: u64) -> bool {
        let launch: Arc<str> = launch.into();
        let is_news = self.ids.insert(Arc::clone(&launch));
        if is_news {
            self.order.push_back((launch, session));
        }
        while self.order.len() > MOST_LAUNCHES {
            let Some((oldest, session)) = self.order.pop_front() else { break };
            self.ids.remove(&oldest);
            self.since = self.since.max(session.saturating_add(1));
        }
        is_news
    }

    pub(super) fn contains(&self, launch: &str) -> bool {
        self.ids.contains(launch)
    }

    /// Whether a launch of this session would be known if it were ours.
    pub(super) fn is_whole_for(&self, session: u64) -> bool {
        session >= self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_together_with_what_is_known_of_its_session() {
        let mut known = Known::since(1);
        for number in 0..MOST_LAUNCHES {
            assert!(known.insert(&format!("l{number}"), if number < 10 { 3 } else { 4 }));
        }
        assert!(!known.insert("l0", 3), "it is known already");
        assert!(known.contains("l0") && known.is_whole_for(3));
        assert!(known.insert("one more", 4));
        assert!(!known.contains("l0") && known.contains("l1") && known.contains("one more"));
        assert!(!known.is_whole_for(3) && known.is_whole_for(4));
    }
}
