//! The life of an instance, as a decision: starting, ready, draining, over. Pure: `now` is the time since boot.
//!
//! Level-triggered: [`Life::next`] derives what to do from what is known, and can be asked at any time and again.

use std::fmt;
use std::time::Duration;

use super::lease::{Lease, RenewalOrder, RenewalRefused};

/// How long an instance may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From its start to the server's first answer.
    pub(super) ready_timeout: Duration,
    /// From the beginning of a drain to its end, finished or not.
    pub(super) drain_timeout: Duration,
}

/// Why an instance ends. Shown in the file `ended` and in its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Nobody renewed the lease in time.
    LeaseExpired,
    /// The owner asked, over HTTP.
    Asked,
    /// SIGTERM or SIGINT.
    Signalled,
    /// The server did not answer in time.
    NeverReady {
        /// The time that it had.
        timeout: Duration,
        /// What the last look at it said; empty where none ended.
        last_words: String,
    },
    /// The server ended by itself, with this status.
    ServerExited(String),
}

impl EndReason {
    /// Whether the instance did what it was for.
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::LeaseExpired | Self::Asked | Self::Signalled)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseExpired => f.write_str("the lease expired"),
            Self::Asked => f.write_str("its owner asked for the drain"),
            Self::Signalled => f.write_str("a signal asked for the end"),
            Self::NeverReady { timeout, last_words } => {
                write!(f, "the server was not ready within {} s", timeout.as_secs_f64())?;
                if last_words.is_empty() { Ok(()) } else { write!(f, "; at the last look: {last_words}") }
            }
            Self::ServerExited(status) => write!(f, "server exited with {status}"),
        }
    }
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Draining,
}

/// What to do next.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing before this time since boot, unless something happens.
    WaitUntil(Duration),
    /// End the server now, for this reason.
    End(EndReason),
}

#[derive(Clone, Debug)]
struct Drain {
    reason: EndReason,
    /// Since boot.
    until: Duration,
}

/// What an instance knows of itself.
#[derive(Clone, Debug)]
pub(super) struct Life {
    limits: Limits,
    lease: Lease,
    /// The server must have answered by then, since boot; `None` once it has.
    ready_by: Option<Duration>,
    /// Why it was not ready when it was last looked at.
    not_ready: String,
    drain: Option<Drain>,
}

impl Life {
    /// An instance that starts now.
    pub(super) fn new(lease: Lease, limits: Limits, now: Duration) -> Self {
        Self { limits, lease, ready_by: Some(now + limits.ready_timeout), not_ready: String::new(), drain: None }
    }

    /// Where it is.
    pub(super) fn phase(&self) -> Phase {
        match (&self.drain, self.ready_by) {
            (Some(_), _) => Phase::Draining,
            (None, Some(_)) => Phase::Starting,
            (None, None) => Phase::Ready,
        }
    }

    /// Its lease, to look at.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The server answered.
    pub(super) fn server_is_ready(&mut self) {
        self.ready_by = None;
    }

    /// A look at the server found it not ready, for this reason.
    pub(super) fn server_is_not_ready(&mut self, why: String) {
        self.not_ready = why;
    }

    /// The owner says: live on. A drain that began goes on all the same.
    pub(super) fn renew(
        &mut self,
        launch: &str,
        order: RenewalOrder,
        ttl: Duration,
        now: Duration,
    ) -> Result<(), RenewalRefused> {
        self.lease.renew(launch, order, ttl, now)
    }

    /// Begins to drain; the first reason stands.
    pub(super) fn drain(&mut self, reason: EndReason, now: Duration) {
        let until = now + self.limits.drain_timeout;
        self.drain.get_or_insert(Drain { reason, until });
    }

    /// What is left of the time to drain; all of it before it begins.
    pub(super) fn left_to_drain(&self, now: Duration) -> Duration {
        self.drain.as_ref().map_or(self.limits.drain_timeout, |drain| drain.until.saturating_sub(now))
    }

    /// What to do, given the time and the requests in flight.
    pub(super) fn next(&mut self, now: Duration, in_flight: u64) -> Next {
        if self.lease.expired(now) {
            self.drain(EndReason::LeaseExpired, now);
        }
        if let Some(drain) = &self.drain {
            return if in_flight == 0 || now >= drain.until {
                Next::End(drain.reason.clone())
            } else {
                Next::WaitUntil(drain.until)
            };
        }
        let lease_ends = now + self.lease.remaining(now);
        match self.ready_by {
            Some(ready_by) if now >= ready_by => Next::End(EndReason::NeverReady {
                timeout: self.limits.ready_timeout,
                last_words: self.not_ready.clone(),
            }),
            Some(ready_by) => Next::WaitUntil(ready_by.min(lease_ends)),
            None => Next::WaitUntil(lease_ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const NEWER: RenewalOrder = RenewalOrder { session: 1, sequence: 1 };

    /// Lease of 20 s, ready within 60 s, drained within 10 s, started at 100 s.
    fn starting() -> Life {
        let limits = Limits { ready_timeout: at(60), drain_timeout: at(10) };
        Life::new(Lease::new("l".to_owned(), at(20), at(100)), limits, at(100))
    }

    fn ready() -> Life {
        let mut life = starting();
        life.server_is_ready();
        life
    }

    #[test]
    fn an_expired_lease_drains_and_then_ends_even_with_requests_held() {
        let mut life = ready();
        assert_eq!(life.next(at(119), 1), Next::WaitUntil(at(120)));
        assert_eq!(life.next(at(120), 1), Next::WaitUntil(at(130)));
        assert_eq!(life.phase(), Phase::Draining);
        assert_eq!(life.next(at(130), 1), Next::End(EndReason::LeaseExpired));
    }

    #[test]
    fn a_drain_ends_as_soon_as_nothing_is_in_flight() {
        let mut life = ready();
        life.drain(EndReason::Asked, at(105));
        assert_eq!(life.next(at(106), 2), Next::WaitUntil(at(115)));
        assert_eq!(life.next(at(107), 0), Next::End(EndReason::Asked));
    }

    #[test]
    fn a_renewal_moves_the_end_but_does_not_revive_what_drains() {
        let mut life = ready();
        life.renew("l", NEWER, at(60), at(110)).unwrap();
        assert_eq!(life.next(at(121), 0), Next::WaitUntil(at(170)));
        life.drain(EndReason::Signalled, at(122));
        life.renew("l", RenewalOrder { sequence: 2, ..NEWER }, at(600), at(123)).unwrap();
        assert_eq!(life.next(at(132), 1), Next::End(EndReason::Signalled));
    }

    #[test]
    fn a_server_that_never_answers_ends_as_a_failure() {
        let mut life = starting();
        life.renew("l", NEWER, at(600), at(101)).unwrap();
        assert_eq!(life.next(at(159), 0), Next::WaitUntil(at(160)));
        life.server_is_not_ready("connection refused".to_owned());
        let Next::End(reason) = life.next(at(160), 0) else { panic!("it should end") };
        assert_eq!(reason.to_string(), "the server was not ready within 60 s; at the last look: connection refused");
        assert!(!reason.is_success());
    }

    #[test]
    fn a_lease_that_ends_before_the_server_is_ready_ends_it_too() {
        assert_eq!(starting().next(at(101), 0), Next::WaitUntil(at(120)));
        assert_eq!(starting().next(at(120), 0), Next::End(EndReason::LeaseExpired));
    }

    #[test]
    fn the_first_reason_to_drain_stands() {
        let mut life = ready();
        life.drain(EndReason::Asked, at(101));
        life.drain(EndReason::Signalled, at(109));
        assert_eq!(life.next(at(111), 5), Next::End(EndReason::Asked));
    }

    #[test]
    fn waking_long_after_both_deadlines_ends_at_once_unless_requests_are_held() {
        let mut life = ready();
        assert_eq!(life.next(at(9_000), 0), Next::End(EndReason::LeaseExpired));
    }
}
