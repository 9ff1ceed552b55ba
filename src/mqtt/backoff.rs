//! When to try the broker again: pure, so that five hundred nodes can be played in a test.

use std::time::Duration;

/// First and longest pause before connecting again; each is drawn at random below the current step ("full jitter", M.
/// Brooker 2015), so that a thousand gateways do not come back in one second.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// The pauses of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    /// No pause is longer than this for now.
    step: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { step: FIRST }
    }

    /// The pause after an attempt that failed or a connection that was lost. `stood`: how long it stood, none for one that
    /// never did. `random` is uniform in [0, 1), one fresh number a call.
    pub(super) fn pause(&mut self, stood: Option<Duration>, random: f64) -> Duration {
        debug_assert!((0.0..1.0).contains(&random), "random is in [0, 1), not {random}");
        // Two that evict each other connect well each time; only a connection that stood starts afresh.
        if stood.is_some_and(|stood| stood >= LONGEST) {
            self.step = FIRST;
        }
        let pause = self.step.mul_f64(random);
        self.step = (self.step * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests;
