//! A latency estimate that rises at once and falls slowly: an exponentially weighted moving average in which a value
//! above the average replaces it. From Finagle's `PeakEwma` load metric (Twitter), which linkerd's balancer took over.

use std::time::Duration;

/// How long an old latency still matters, as in Finagle and linkerd: after this time an observation has lost 63 % of
/// its weight.
const DECAY: Duration = Duration::from_secs(10);

/// The smoothed latency of one endpoint.
#[derive(Debug, Default)]
pub struct PeakEwma {
    cost_s: Option<f64>,
    at: Duration,
}

impl PeakEwma {
    /// Takes in a latency that was measured at `now`.
    pub fn observe(&mut self, now: Duration, latency: Duration) {
        let latency_s = latency.as_secs_f64();
        let cost_s = match self.cost_s {
            Some(cost_s) if latency_s <= cost_s => {
                let kept = weight(now.saturating_sub(self.at));
                cost_s * kept + latency_s * (1.0 - kept)
            }
            _ => latency_s,
        };
        self.cost_s = Some(cost_s);
        self.at = self.at.max(now);
    }

    /// The estimate at `now`; it decays while nothing is observed, so that an endpoint which was slow once is tried
    /// again. `None` before the first observation.
    #[must_use]
    pub fn estimate(&self, now: Duration) -> Option<Duration> {
        let decayed = self.cost_s? * weight(now.saturating_sub(self.at));
        Some(Duration::from_secs_f64(decayed))
    }
}

fn weight(age: Duration) -> f64 {
    (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.estimate(ms(0)), None);
        ewma.observe(ms(0), ms(10));
        ewma.observe(ms(1), ms(500));
        assert_eq!(ewma.estimate(ms(1)), Some(ms(500)));
        ewma.observe(ms(1_001), ms(10));
        let after_a_second = ewma.estimate(ms(1_001)).expect("observed");
        assert!((ms(430)..ms(470)).contains(&after_a_second), "{after_a_second:?}");
    }

    #[test]
    fn the_estimate_decays_by_its_time_constant_without_traffic() {
        let mut ewma = PeakEwma::default();
        ewma.observe(ms(0), ms(100));
        let later = ewma.estimate(DECAY).expect("observed");
        assert!((ms(36)..ms(37)).contains(&later), "{later:?}");
    }

    #[test]
    fn an_observation_told_late_does_not_turn_time_back() {
        let mut ewma = PeakEwma::default();
        ewma.observe(ms(1_000), ms(10));
        ewma.observe(ms(900), ms(5));
        assert!(ewma.estimate(ms(1_000)).expect("observed") <= ms(10));
    }
}
