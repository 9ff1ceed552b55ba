//! When to leave something alone that keeps failing, and when to try it again.
//!
//! [`Backoff`] says how long, for restarts of replicas and for launches; [`Circuit`] adds whether, for endpoints and
//! adapters. Time and chance are arguments: `random` is uniform in [0, 1), one fresh number a call.

use std::time::Duration;

/// Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015): a uniform share of a
/// ceiling that doubles. Many nodes that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first ceiling.
    pub base: Duration,
    /// The last ceiling.
    pub cap: Duration,
}

impl Backoff {
    /// The longest wait before a retry; `attempt` 0 is the first one.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        // 2^31 times any base worth the name is beyond any cap, and a shift has to end somewhere.
        let factor = 1_u32 << attempt.min(31);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The wait before a retry; `attempt` 0 is the first one.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        debug_assert!((0.0..1.0).contains(&random), "random is in [0, 1), not {random}");
        let share = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        let ceiling = self.ceiling(attempt);
        Duration::try_from_secs_f64(ceiling.as_secs_f64() * share).map_or(ceiling, |delay| delay.min(ceiling))
    }
}

/// How a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// So many failures in a row open it; 0 counts as 1.
    pub failures: u32,
    /// How long it stays open: attempt 0 the first time, one more with each probe that fails.
    pub open: Backoff,
    /// A probe that was not heard of for so long counts as lost, and another one may pass.
    pub probe_timeout: Duration,
}

/// What a circuit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes; so many failures in a row so far.
    Closed {
        /// Below [`Config::failures`].
        failures: u32,
    },
    /// Nothing passes.
    Open {
        /// When a probe may pass.
        until: Duration,
        /// Times it opened since it was last closed.
        opened: u32,
    },
    /// One probe is under way, nothing else passes.
    HalfOpen {
        /// When the probe was let through.
        since: Duration,
        /// Times it opened since it was last closed.
        opened: u32,
    },
}

/// A circuit: closed, open, half-open with one probe, and closed again by a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    state: State,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }
}

impl Circuit {
    /// What it is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether something would pass now. Takes no probe: ask as often as you like.
    pub fn available(&self, config: &Config, now: Duration) -> bool {
        self.retry_in(config, now).is_zero()
    }

    /// How long until something may pass; zero when it may now.
    pub fn retry_in(&self, config: &Config, now: Duration) -> Duration {
        match self.state {
            State::Closed { .. } => Duration::ZERO,
            State::Open { until, .. } => until.saturating_sub(now),
            State::HalfOpen { since, .. } => since.saturating_add(config.probe_timeout).saturating_sub(now),
        }
    }

    /// Lets one attempt through, or not. Past the open time it is the probe, and its outcome has to be reported.
    #[must_use = "what was not let through must not be tried"]
    pub fn pass(&mut self, config: &Config, now: Duration) -> bool {
        let passes = self.available(config, now);
        if let (true, State::Open { opened, .. } | State::HalfOpen { opened, .. }) = (passes, self.state) {
            self.state = State::HalfOpen { since: now, opened };
        }
        passes
    }

    /// An attempt succeeded. While the circuit is open this is an attempt from before, and says nothing about now.
    pub fn succeeded(&mut self) {
        if !matches!(self.state, State::Open { .. }) {
            self.state = State::Closed { failures: 0 };
        }
    }

    /// An attempt failed. While the circuit is open this is an attempt from before, and known already.
    pub fn failed(&mut self, config: &Config, now: Duration, random: f64) {
        self.state = match self.state {
            State::Closed { failures } if failures.saturating_add(1) < config.failures => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => open(config, 0, now, random),
            State::HalfOpen { opened, .. } => open(config, opened, now, random),
            open @ State::Open { .. } => open,
        };
    }
}

/// Opens for the `opened + 1`st time.
fn open(config: &Config, opened: u32, now: Duration, random: f64) -> State {
    State::Open { until: now.saturating_add(config.open.delay(opened, random)), opened: opened.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest number below one: the whole ceiling, but for a rounding.
    const ALL: f64 = 1.0 - f64::EPSILON / 2.0;

    const CONFIG: Config = Config {
        failures: 3,
        open: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(5) },
        probe_timeout: Duration::from_secs(10),
    };

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn fail(circuit: &mut Circuit, times: u32, now: f64) {
        (0..times).for_each(|_| circuit.failed(&CONFIG, secs(now), 0.5));
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let ceilings: Vec<u64> = (0..5).map(|attempt| CONFIG.open.ceiling(attempt).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 5, 5]);
        assert_eq!(CONFIG.open.ceiling(u32::MAX), secs(5.0));
        let endless = Backoff { base: Duration::MAX, cap: Duration::MAX };
        assert!(endless.delay(40, 0.999) <= Duration::MAX);
    }

    #[test]
    fn the_delay_is_the_share_of_the_ceiling_that_chance_says() {
        assert_eq!(CONFIG.open.delay(2, 0.0), Duration::ZERO);
        assert_eq!(CONFIG.open.delay(2, 0.25), secs(1.0));
        assert!(CONFIG.open.delay(9, ALL) <= secs(5.0));
        assert_eq!(Backoff { base: Duration::ZERO, cap: Duration::ZERO }.delay(3, 0.5), Duration::ZERO);
    }

    #[test]
    fn so_many_failures_in_a_row_open_it() {
        let mut circuit = Circuit::default();
        fail(&mut circuit, 2, 0.0);
        circuit.succeeded();
        fail(&mut circuit, 2, 0.0);
        assert!(circuit.pass(&CONFIG, secs(0.0)), "a success in between begins anew");
        fail(&mut circuit, 1, 0.0);
        assert!(!circuit.pass(&CONFIG, secs(0.0)));
        assert_eq!(circuit.retry_in(&CONFIG, secs(0.1)), secs(0.4));
    }

    #[test]
    fn one_probe_passes_when_the_time_is_over_and_its_success_closes() {
        let mut circuit = Circuit::default();
        fail(&mut circuit, 3, 0.0);
        assert!(!circuit.available(&CONFIG, secs(0.499)));
        assert!(circuit.available(&CONFIG, secs(0.5)), "asking takes no probe");
        assert!(circuit.pass(&CONFIG, secs(0.5)));
        assert!(!circuit.pass(&CONFIG, secs(0.5)), "one is enough");
        circuit.succeeded();
        assert_eq!(circuit.state(), State::Closed { failures: 0 });
    }

    #[test]
    fn each_failed_probe_doubles_the_time_and_a_success_begins_anew() {
        let mut circuit = Circuit::default();
        let mut now = secs(0.0);
        fail(&mut circuit, 3, 0.0);
        let mut waits = Vec::new();
        for _ in 0..5 {
            let wait = circuit.retry_in(&CONFIG, now);
            waits.push(wait.as_secs_f64());
            now += wait;
            assert!(circuit.pass(&CONFIG, now));
            circuit.failed(&CONFIG, now, 0.5);
        }
        assert_eq!(waits, [0.5, 1.0, 2.0, 2.5, 2.5]);
        now += secs(2.5);
        assert!(circuit.pass(&CONFIG, now));
        circuit.succeeded();
        fail(&mut circuit, 3, now.as_secs_f64());
        assert_eq!(circuit.retry_in(&CONFIG, now), secs(0.5));
    }

    #[test]
    fn outcomes_of_attempts_from_before_change_nothing_while_it_is_open() {
        let mut circuit = Circuit::default();
        fail(&mut circuit, 3, 0.0);
        let open = circuit.state();
        circuit.succeeded();
        fail(&mut circuit, 5, 0.2);
        assert_eq!(circuit.state(), open);
    }

    #[test]
    fn a_probe_that_is_not_heard_of_makes_way_for_another() {
        let mut circuit = Circuit::default();
        fail(&mut circuit, 3, 0.0);
        assert!(circuit.pass(&CONFIG, secs(1.0)));
        assert!(!circuit.pass(&CONFIG, secs(10.9)));
        assert!(circuit.pass(&CONFIG, secs(11.0)));
        assert!(!circuit.pass(&CONFIG, secs(11.0)));
    }

    #[test]
    fn zero_failures_count_as_one() {
        let mut circuit = Circuit::default();
        circuit.failed(&Config { failures: 0, ..CONFIG }, secs(0.0), 0.5);
        assert!(!circuit.available(&CONFIG, secs(0.0)));
    }
}
