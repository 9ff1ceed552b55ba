//! When a local replica may be started again: at once after a first end, ever more slowly when it keeps dying.
//!
//! The bound is a pace, not a count: a replica that fails because of a full disk comes back by itself once there is
//! room, and meanwhile the planner is told not to count on this box.

use std::time::Duration;

/// First pause after a failure.
const FIRST: Duration = Duration::from_millis(500);
/// A replica that stayed ready this long has recovered; its next failure is a first one.
const RECOVERED_AFTER: Duration = Duration::from_secs(30);
/// From this many failures in a row on the service cannot run here for now, and its load may burst.
const BROKEN_AFTER: u32 = 3;

/// The failures of one service's local replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    failures: u32,
    not_before: Duration,
    /// The last thing heard was that one is ready.
    works: bool,
}

impl Restarts {
    /// A replica ended without being asked to, after having been ready for `ready_for`. `random` in 0..1 spreads the
    /// next start over half the pause; `longest` caps the pause. Returns the pause.
    pub fn failed(&mut self, now: Duration, ready_for: Option<Duration>, longest: Duration, random: f64) -> Duration {
        self.works = false;
        let recovered = ready_for.is_some_and(|time| time >= RECOVERED_AFTER);
        self.failures = if recovered { 1 } else { self.failures.saturating_add(1) };
        let doubled = FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(longest.max(FIRST));
        let pause = doubled.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        self.not_before = self.not_before.max(now + pause);
        pause
    }

    /// A replica became ready. Its failures are forgotten only once it has stayed so for a while.
    pub fn recovered(&mut self) {
        self.works = true;
    }

    /// Whether another one may be started now.
    pub fn may_start(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    /// Whether this box cannot run the service for now.
    pub fn is_broken(&self) -> bool {
        !self.works && self.failures >= BROKEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn the_pause_doubles_up_to_its_cap() {
        let mut restarts = Restarts::default();
        let pauses: Vec<_> = (0..8).map(|n| restarts.failed(Duration::from_secs(n), None, LONGEST, 1.0)).collect();
        assert_eq!(pauses[..3].iter().map(Duration::as_millis).collect::<Vec<_>>(), [500, 1_000, 2_000]);
        assert_eq!(pauses[7], LONGEST);
    }

    #[test]
    fn nothing_starts_during_the_pause_and_something_after_it() {
        let mut restarts = Restarts::default();
        let now = Duration::from_secs(10);
        let pause = restarts.failed(now, None, LONGEST, 0.0);
        assert!(!restarts.may_start(now) && restarts.may_start(now + pause));
    }

    #[test]
    fn three_failures_in_a_row_mean_broken_and_a_ready_replica_mends_it() {
        let mut restarts = Restarts::default();
        for n in 0..3 {
            assert!(!restarts.is_broken());
            restarts.failed(Duration::from_secs(n), None, LONGEST, 0.5);
        }
        assert!(restarts.is_broken());
        restarts.recovered();
        assert!(!restarts.is_broken());
    }

    #[test]
    fn one_that_becomes_ready_and_dies_again_and_again_is_slowed_down_and_broken() {
        let mut restarts = Restarts::default();
        let pauses = (0..4).map(|n| {
            restarts.recovered();
            restarts.failed(Duration::from_secs(n), Some(Duration::from_secs(1)), LONGEST, 1.0).as_millis()
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [500, 1_000, 2_000, 4_000]);
        assert!(restarts.is_broken());
    }

    #[test]
    fn a_failure_after_a_long_good_time_is_a_first_one() {
        let mut restarts = Restarts::default();
        restarts.failed(Duration::ZERO, None, LONGEST, 1.0);
        restarts.failed(Duration::ZERO, None, LONGEST, 1.0);
        let pause = restarts.failed(Duration::from_secs(99), Some(Duration::from_secs(90)), LONGEST, 1.0);
        assert_eq!(pause, FIRST);
    }
}
