//! Which version of MQTT to speak: 5, unless the broker has shown that it speaks 3.1.1 only.
//!
//! A broker shows it in one of two ways. It says so in CONNACK, or, as old ones do that cannot read the packet, it closes the
//! connection right at CONNECT. The second is a guess: a broker that is starting, stopping or full does the same. So it has to
//! happen twice in a row, 3.1.1 has to work, and version 5 is asked for again after a while. A broker that answers in a
//! version's own words ("bad password") has shown that it speaks that version.

use std::time::Duration;

use tokio::time::Instant;

use super::Protocol;
use super::failure::FailureKind;

/// So many closed connections in a row are taken for "I do not understand you".
const CLOSED_SAYS_OLD: u32 = 2;
/// Longest time between two tries of version 5 at a broker that was taken for an old one.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// What is known of the broker's version.
#[derive(Debug)]
pub(super) struct Version {
    /// Set while 3.1.1 is spoken.
    fallback: Option<Fallback>,
    /// Connections in a row, with the version at hand, that were closed right at CONNECT.
    closed: u32,
    first_pause: Duration,
    pause: Duration,
}

#[derive(Debug)]
struct Fallback {
    /// The broker said so itself; else it was guessed.
    told: bool,
    /// 3.1.1 has worked.
    proven: bool,
    v5_again_at: Instant,
}

impl Version {
    /// `first_pause`: after which a broker that was taken for an old one is asked for version 5 again.
    pub(super) fn new(first_pause: Duration) -> Self {
        Self { fallback: None, closed: 0, first_pause, pause: first_pause }
    }

    /// The version for the next connection.
    pub(super) fn next(&mut self, now: Instant) -> Protocol {
        if let Some(old) = self.fallback.take_if(|fallback| now >= fallback.v5_again_at) {
            // At one that is known to speak 3.1.1 a single closed connection says enough.
            self.closed = if old.proven { CLOSED_SAYS_OLD - 1 } else { 0 };
        }
        self.spoken()
    }

    fn spoken(&self) -> Protocol {
        if self.fallback.is_some() { Protocol::V311 } else { Protocol::V5 }
    }

    /// The broker has accepted the connection.
    pub(super) fn connected(&mut self, now: Instant) {
        self.closed = 0;
        match &mut self.fallback {
            None => self.pause = self.first_pause,
            Some(fallback) if !fallback.proven => {
                fallback.proven = true;
                fallback.v5_again_at = now + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
            Some(_) => {}
        }
    }

    /// The connection has failed before the broker accepted it.
    pub(super) fn failed(&mut self, kind: FailureKind, now: Instant) {
        self.closed = if kind == FailureKind::Closed { self.closed + 1 } else { 0 };
        let is_closed_for_good = self.closed >= CLOSED_SAYS_OLD;
        match &self.fallback {
            None if kind == FailureKind::RefusesVersion || is_closed_for_good => {
                let told = kind == FailureKind::RefusesVersion;
                self.fallback = Some(Fallback { told, proven: false, v5_again_at: now + self.pause });
                self.closed = 0;
            }
            Some(fallback) if is_over(fallback, kind, is_closed_for_good) => {
                self.fallback = None;
                self.closed = 0;
            }
            _ => {}
        }
    }

    /// Whether a connection that stands should be given up to ask for version 5. Not at a broker that has said what it
    /// speaks: it cannot change without ending its connections.
    pub(super) fn is_worth_asking_again(&self, now: Instant) -> bool {
        self.fallback.as_ref().is_some_and(|fallback| !fallback.told && now >= fallback.v5_again_at)
    }
}

/// Whether 3.1.1 was no better. A guess does not outlive a broker that is away; what has worked outlives everything but a
/// refusal.
fn is_over(fallback: &Fallback, kind: FailureKind, is_closed_for_good: bool) -> bool {
    let is_no_talk = matches!(kind, FailureKind::Unreachable | FailureKind::Oversized);
    let failed_guess = !fallback.proven && (is_closed_for_good || is_no_talk);
    kind == FailureKind::RefusesVersion || failed_guess
}

#[cfg(test)]
mod tests {
    use super::FailureKind::{Closed, Refuses, RefusesVersion, Unreachable};
    use super::Protocol::{V5, V311};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// The versions that are tried when these failures follow each other.
    fn tried(version: &mut Version, now: Instant, failures: &[FailureKind]) -> Vec<Protocol> {
        let one = |kind: &FailureKind| {
            let protocol = version.next(now);
            version.failed(*kind, now);
            protocol
        };
        failures.iter().map(one).collect()
    }

    #[test]
    fn a_refusal_is_followed_at_once_and_two_closed_connections_say_the_same() {
        let now = Instant::now();
        assert_eq!(tried(&mut Version::new(HOUR), now, &[RefusesVersion, Unreachable]), [V5, V311]);
        assert_eq!(tried(&mut Version::new(HOUR), now, &[Closed, Closed, Refuses]), [V5, V5, V311]);
        assert_eq!(tried(&mut Version::new(HOUR), now, &[Closed, Unreachable, Closed, Refuses]), [V5; 4]);
    }

    #[test]
    fn a_bad_password_says_nothing_of_the_version() {
        let mut version = Version::new(HOUR);
        assert_eq!(tried(&mut version, Instant::now(), &[Refuses; 20]), [V5; 20]);
        assert_eq!(tried(&mut version, Instant::now(), &[Closed, Refuses, Closed, Refuses]), [V5; 4]);
        // Said in 3.1.1: there it is understood, and the password can be put right there.
        let mut version = Version::new(HOUR);
        let failures = [RefusesVersion, Refuses, Refuses, Refuses];
        assert_eq!(tried(&mut version, Instant::now(), &failures), [V5, V311, V311, V311]);
    }

    #[test]
    fn a_broker_that_closes_every_connection_is_tried_in_both_versions() {
        let tried = tried(&mut Version::new(HOUR), Instant::now(), &[Closed; 6]);
        assert_eq!(tried, [V5, V5, V311, V311, V5, V5]);
    }

    #[test]
    fn a_guess_does_not_outlive_a_broker_that_is_away() {
        let mut version = Version::new(HOUR);
        assert_eq!(tried(&mut version, Instant::now(), &[Closed, Closed, Unreachable]), [V5, V5, V311]);
        assert_eq!(version.next(Instant::now()), V5);
    }

    #[test]
    fn version_5_is_asked_for_again_after_ever_longer_pauses() {
        let mut now = Instant::now();
        let mut version = Version::new(HOUR);
        tried(&mut version, now, &[Closed, Closed]);
        for pause in [1, 2, 4, 8, 16, 24, 24] {
            assert_eq!(version.next(now), V311);
            version.connected(now);
            // Lost and found again in between: nothing changes.
            version.failed(Closed, now);
            version.failed(Unreachable, now);
            now += HOUR * pause - Duration::from_secs(1);
            assert_eq!(version.next(now), V311);
            version.connected(now);
            assert!(!version.is_worth_asking_again(now));
            now += Duration::from_secs(1);
            assert!(version.is_worth_asking_again(now), "after {pause} h");
            // One closed connection is enough for one that is known to be old.
            assert_eq!(tried(&mut version, now, &[Closed]), [V5]);
        }
        now += HOUR * 24;
        version.next(now);
        version.connected(now);
        assert_eq!(version.next(now), V5);
        assert_eq!(tried(&mut version, now, &[Closed, Closed, Closed]), [V5, V5, V311], "it is trusted as before");
    }

    #[test]
    fn a_standing_connection_is_not_given_up_at_a_broker_that_said_what_it_speaks() {
        let now = Instant::now();
        let mut version = Version::new(HOUR);
        tried(&mut version, now, &[RefusesVersion]);
        version.next(now);
        version.connected(now);
        assert!(!version.is_worth_asking_again(now + HOUR * 100));
        assert_eq!(version.next(now + HOUR), V5, "but the next connection asks");
    }
}
