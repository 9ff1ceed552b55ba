//! Which requests came before: at-least-once delivery brings a message twice, and a model is asked once.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::{Duration, Instant};

/// A message comes again when a connection is made anew, which takes a link 30 s at most, and a client about as long.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Hashes that are kept, the oldest go first: a hundred requests a second for most of that time, in a quarter of a megabyte.
const MAX_REMEMBERED: usize = 8_192;

/// What was seen lately, by its hash: ids may be long, and are the clients' choice.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    known: HashMap<u64, Instant>,
    order: VecDeque<(Instant, u64)>,
}

impl Seen {
    /// Whether it comes for the first time; from now on it is known.
    pub(super) fn is_first(&mut self, key: impl Hash, now: Instant) -> bool {
        self.forget_old(now);
        let hash = self.hasher.hash_one(key);
        if self.known.contains_key(&hash) {
            return false;
        }
        self.known.insert(hash, now);
        self.order.push_back((now, hash));
        if self.order.len() > MAX_REMEMBERED {
            self.forget_oldest();
        }
        true
    }

    /// It was not done: who sends it again means it.
    pub(super) fn forget(&mut self, key: impl Hash) {
        self.known.remove(&self.hasher.hash_one(key));
    }

    fn forget_old(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= REMEMBERED) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, hash)) = self.order.pop_front()
            && self.known.get(&hash) == Some(&at)
        {
            self.known.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_known_for_a_while() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert!(seen.is_first(("s", "c", 1), start));
        assert!(seen.is_first(("s", "d", 1), start), "another client's");
        assert!(!seen.is_first(("s", "c", 1), start + REMEMBERED - Duration::from_secs(1)));
        assert!(seen.is_first(("s", "c", 1), start + REMEMBERED));
        assert!(!seen.is_first(("s", "c", 1), start + REMEMBERED));
    }

    #[test]
    fn what_was_not_done_may_come_again_and_is_then_known_anew() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert!(seen.is_first(1, start));
        seen.forget(1);
        let later = start + REMEMBERED / 2;
        assert!(seen.is_first(1, later));
        assert!(!seen.is_first(1, start + REMEMBERED), "the older entry takes the newer one along");
    }

    #[test]
    fn however_many_come_few_are_kept() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert!((0..3 * MAX_REMEMBERED).all(|number| seen.is_first(number, now)));
        assert!(seen.known.len() <= MAX_REMEMBERED && seen.order.len() <= MAX_REMEMBERED);
        assert!(!seen.is_first(3 * MAX_REMEMBERED - 1, now) && seen.is_first(0, now), "the oldest went first");
    }
}
