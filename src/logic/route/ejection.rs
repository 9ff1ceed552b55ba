//! Setting an endpoint aside after it failed, and trying it again: passive health checking as proxies do it
//! (Envoy's outlier detection by consecutive gateway failures), with one trial request before it is trusted again.

use std::time::Duration;

/// One failure may be the network's; three in a row, with no answer between them, are the endpoint's.
const CONSECUTIVE_FAILURES: u32 = 3;
/// About the time in which a supervisor restarts a process.
const FIRST_EJECTION: Duration = Duration::from_secs(1);
/// An endpoint that keeps failing costs one request in half a minute.
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// The record of one endpoint's failures. Never ejecting the last endpoint is the picker's part: where every endpoint is
/// ejected, it picks as if none were.
#[derive(Debug, Default)]
pub struct Ejection {
    /// Failures since the last answer.
    failures: u32,
    /// Ejections since the last answer: each doubles the time.
    ejections: u32,
    /// Set from an ejection until the answer to a request that was sent after it.
    until: Option<Duration>,
    /// A request is finding out whether it answers again.
    on_trial: bool,
}

impl Ejection {
    /// Whether a request may go there: not ejected, or the time is over and nobody is trying it already.
    #[must_use]
    pub fn is_available(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| now >= until && !self.on_trial)
    }

    /// When it may be tried; `None` when it is not ejected.
    #[must_use]
    pub fn ejected_until(&self) -> Option<Duration> {
        self.until
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures == 0 && self.until.is_none()
    }

    /// A request goes there; after the ejection's time it is the trial.
    pub fn begin_trial(&mut self, now: Duration) {
        if self.until.is_some_and(|until| now >= until) {
            self.on_trial = true;
        }
    }

    /// The trial ended without telling anything.
    pub fn forget_trial(&mut self) {
        self.on_trial = false;
    }

    /// It answered a request sent at `sent_at`: all is forgiven, unless the answer is to a request from before the
    /// ejection, which a draining endpoint gives too.
    pub fn answered(&mut self, sent_at: Duration) {
        if self.until.is_none_or(|until| sent_at >= until) {
            *self = Self::default();
        }
    }

    /// It failed a request sent at `sent_at`. A failed trial ejects at once, and for longer.
    pub fn failed(&mut self, sent_at: Duration, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        let is_due = match self.until {
            None => self.failures >= CONSECUTIVE_FAILURES,
            Some(until) => sent_at >= until,
        };
        if is_due {
            self.eject(now);
        }
    }

    /// It asked to be left alone.
    pub fn set_aside(&mut self, now: Duration) {
        if self.until.is_none_or(|until| now >= until) {
            self.eject(now);
        }
    }

    fn eject(&mut self, now: Duration) {
        self.until = Some(now + ejection_time(self.ejections));
        self.ejections = self.ejections.saturating_add(1);
        self.on_trial = false;
    }
}

fn ejection_time(earlier: u32) -> Duration {
    let factor = 2_u32.saturating_pow(earlier);
    FIRST_EJECTION.saturating_mul(factor).min(LONGEST_EJECTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn two_failures_are_forgiven_and_three_in_a_row_eject() {
        let mut ejection = Ejection::default();
        ejection.failed(at(0), at(0));
        ejection.failed(at(0), at(0));
        assert!(ejection.is_available(at(0)));
        ejection.answered(at(0));
        ejection.failed(at(0), at(0));
        ejection.failed(at(0), at(0));
        assert!(ejection.is_available(at(0)), "an answer between them starts the count again");
        ejection.failed(at(0), at(0));
        assert!(!ejection.is_available(at(0)));
        assert_eq!(ejection.ejected_until(), Some(at(1)));
    }

    #[test]
    fn each_failed_trial_doubles_the_time_up_to_the_longest() {
        let mut ejection = Ejection::default();
        ejection.set_aside(at(0));
        let mut now = at(1);
        for expected in [2, 4, 8, 16, 30, 30] {
            assert!(ejection.is_available(now));
            ejection.begin_trial(now);
            assert!(!ejection.is_available(now));
            ejection.failed(now, now);
            assert_eq!(ejection.ejected_until(), Some(now + at(expected)));
            now += at(expected);
        }
    }

    #[test]
    fn late_failures_of_requests_sent_before_do_not_lengthen_an_ejection() {
        let mut ejection = Ejection::default();
        for _ in 0..10 {
            ejection.failed(at(0), at(0));
        }
        ejection.failed(at(0), at(5));
        assert_eq!(ejection.ejected_until(), Some(at(1)));
    }
}
