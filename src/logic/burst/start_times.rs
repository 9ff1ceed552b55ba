//! How long instances take to start at an adapter: a histogram whose older observations fade.
//!
//! Buckets grow by a constant factor and each observation weighs half of what a day younger one does, as Kubernetes'
//! vertical pod autoscaler keeps its samples: a provider that became faster is believed within days, without a list of
//! observations that grows.

use std::time::Duration;

/// The upper end of the first bucket: no cloud starts anything faster.
const FIRST: Duration = Duration::from_millis(50);
/// From one bucket's end to the next: a quantile is at most this much too high.
const GROWTH: f64 = 1.2;
/// 50 ms times 1.2 to the 63rd is 80 minutes, above the longest start timeout.
const BUCKETS: usize = 64;
/// After so long an observation weighs half.
const HALF_LIFE: Duration = Duration::from_hours(24);
/// Weights are taken down before they grow beyond this many doublings, far within what a float holds.
const RENORMALISE_AFTER: f64 = 64.0;

/// The start times seen at one adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct StartTimes {
    weights: [f64; BUCKETS],
    /// The moment at which an observation weighs 1.
    reference: Duration,
}

impl Default for StartTimes {
    fn default() -> Self {
        Self { weights: [0.0; BUCKETS], reference: Duration::ZERO }
    }
}

impl StartTimes {
    /// An instance that became ready at `now` took so long from its intent.
    pub fn observe(&mut self, took: Duration, now: Duration) {
        if doublings(self.reference, now) > RENORMALISE_AFTER {
            let fade = (-doublings(self.reference, now)).exp2();
            self.weights.iter_mut().for_each(|weight| *weight *= fade);
            self.reference = now;
        }
        self.weights[bucket(took)] += doublings(self.reference, now).exp2();
    }

    /// The time within which this share of starts was over, by the end of its bucket; `None` before the first one.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: f64 = self.weights.iter().sum();
        let mut below = 0.0;
        let reached = |(_, weight): &(usize, &f64)| {
            below += **weight;
            below >= share * total
        };
        (total > 0.0)
            .then(|| self.weights.iter().enumerate().find(reached).map(|(index, _)| upper_end(index)))
            .flatten()
    }
}

/// How many half-lives lie between, negative for an observation that is told late.
fn doublings(reference: Duration, now: Duration) -> f64 {
    (now.as_secs_f64() - reference.as_secs_f64()) / HALF_LIFE.as_secs_f64()
}

fn bucket(took: Duration) -> usize {
    (0..BUCKETS - 1).find(|index| took <= upper_end(*index)).unwrap_or(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    FIRST.mul_f64(GROWTH.powi(i32::try_from(bucket).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn nothing_is_known_before_the_first_start() {
        assert_eq!(StartTimes::default().quantile(0.95), None);
    }

    #[test]
    fn a_quantile_is_right_to_a_bucket() {
        let mut times = StartTimes::default();
        (1..=100).for_each(|n| times.observe(secs(f64::from(n)), secs(0.0)));
        for (share, exact) in [(0.5, 50.0), (0.95, 95.0), (1.0, 100.0)] {
            let told = times.quantile(share).unwrap().as_secs_f64();
            assert!((exact..=exact * GROWTH).contains(&told), "{share}: {told}");
        }
    }

    #[test]
    fn what_is_a_week_old_counts_for_almost_nothing() {
        let mut times = StartTimes::default();
        (0..10).for_each(|_| times.observe(secs(600.0), secs(0.0)));
        let week = Duration::from_hours(7 * 24);
        times.observe(secs(1.0), week);
        times.observe(secs(1.0), week);
        assert!(times.quantile(0.95).unwrap() < secs(1.3), "{:?}", times.quantile(0.95));
    }

    #[test]
    fn years_of_observations_stay_finite() {
        let mut times = StartTimes::default();
        (0..4000_u64).for_each(|day| times.observe(secs(2.0), Duration::from_hours(24 * day)));
        let told = times.quantile(0.5).unwrap();
        assert!(told >= secs(2.0) && told < secs(2.5), "{told:?}");
    }

    #[test]
    fn the_slowest_start_has_a_bucket_too() {
        let mut times = StartTimes::default();
        times.observe(Duration::from_hours(1000), Duration::ZERO);
        assert!(times.quantile(0.5).unwrap() > Duration::from_hours(1));
    }
}
