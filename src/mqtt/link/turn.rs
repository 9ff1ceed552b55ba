//! Which of a link's brokers is tried next: pure.
//!
//! They are tried in the order of preference, each once a round, one right after the other: a dead first one must not delay
//! the second. After the round there is a pause. A connection that stood for a while was a good one, and after it the round
//! begins with the first again; one that broke at once is taken for a broker that does not answer.

use std::time::Duration;

/// A connection that stood this long was a good one.
pub(super) const STOOD: Duration = Duration::from_secs(30);

/// The place in the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    count: usize,
    at: usize,
}

impl Turn {
    /// Of so many brokers, the preferred first.
    pub(super) fn new(count: usize) -> Self {
        Self { count: count.max(1), at: 0 }
    }

    /// The one whose turn it is.
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// An attempt ended, or a connection that stood so long. Whether the next is tried without a pause: not after a
    /// connection, which a thousand gateways lose in the same moment, and not at the end of the round.
    pub(super) fn ended(&mut self, stood: Option<Duration>) -> bool {
        self.at = if stood.is_some_and(|stood| stood >= STOOD) { 0 } else { (self.at + 1) % self.count };
        stood.is_none() && self.at != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The brokers that are tried when attempts end so, each with whether it came without a pause.
    fn tried(count: usize, ends: &[Option<u64>]) -> Vec<(usize, bool)> {
        let mut turn = Turn::new(count);
        let mut next = |stood: &Option<u64>| {
            let at_once = turn.ended(stood.map(Duration::from_secs));
            (turn.at(), at_once)
        };
        ends.iter().map(&mut next).collect()
    }

    #[test]
    fn a_round_tries_each_once_and_pauses_at_its_end() {
        let tried = tried(3, &[None; 6]);
        assert_eq!(tried, [(1, true), (2, true), (0, false), (1, true), (2, true), (0, false)]);
    }

    #[test]
    fn a_single_broker_is_tried_after_a_pause_each_time() {
        assert_eq!(tried(1, &[None, Some(0), Some(3_600), None]), [(0, false); 4]);
    }

    #[test]
    fn a_loss_begins_with_the_preferred_again_after_a_pause() {
        assert_eq!(tried(3, &[None, None, Some(30), None]), [(1, true), (2, true), (0, false), (1, true)]);
    }

    #[test]
    fn one_that_lets_in_and_throws_out_does_not_keep_the_others_from_their_turn() {
        assert_eq!(tried(2, &[Some(1), Some(1), None]), [(1, false), (0, false), (1, true)]);
    }
}
