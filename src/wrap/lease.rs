//! An instance's permission to live. Pure: the time comes in as the duration since the box was started, suspended time
//! included, and never as a date.

use std::time::Duration;

/// The most that one renewal grants: an owner that asks for more has a wrong unit.
pub(super) const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a renewal stands among all of them: the owner's session, then the count within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RenewalOrder {
    pub(super) session: u64,
    pub(super) sequence: u64,
}

/// Why a renewal was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RenewalRefused {
    /// It is meant for another launch.
    #[error("this instance is launch '{own}', not '{asked}'")]
    WrongLaunch { own: String, asked: String },
    /// It was overtaken by, or is, one that was already received.
    #[error(
        "renewal {} of session {} is not newer than renewal {} of session {}",
        asked.sequence, asked.session, last.sequence, last.session
    )]
    Stale { asked: RenewalOrder, last: RenewalOrder },
    /// It came too late: nobody counts on this instance any more, and a bound that moves is none.
    #[error("the lease of '{0}' has expired; launch another instance")]
    Expired(String),
}

/// The lease of one instance.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    launch: String,
    /// Granted until, since boot.
    until: Duration,
    last: Option<RenewalOrder>,
}

impl Lease {
    /// A lease that nobody renewed yet: it counts from now.
    pub(super) fn new(launch: String, ttl: Duration, now: Duration) -> Self {
        Self { launch, until: now + ttl.min(MAX_TTL), last: None }
    }

    /// The launch that it belongs to.
    pub(super) fn launch(&self) -> &str {
        &self.launch
    }

    /// Counts `ttl` anew from now, if the renewal is ours and newer than all before.
    pub(super) fn renew(
        &mut self,
        launch: &str,
        order: RenewalOrder,
        ttl: Duration,
        now: Duration,
    ) -> Result<(), RenewalRefused> {
        if launch != self.launch {
            return Err(RenewalRefused::WrongLaunch { own: self.launch.clone(), asked: launch.to_owned() });
        }
        if let Some(last) = self.last.filter(|last| order <= *last) {
            return Err(RenewalRefused::Stale { asked: order, last });
        }
        if self.expired(now) {
            return Err(RenewalRefused::Expired(self.launch.clone()));
        }
        self.last = Some(order);
        self.until = now + ttl.min(MAX_TTL);
        Ok(())
    }

    /// What is left of it.
    pub(super) fn remaining(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    /// Whether nothing is left.
    pub(super) fn expired(&self, now: Duration) -> bool {
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn order(session: u64, sequence: u64) -> RenewalOrder {
        RenewalOrder { session, sequence }
    }

    fn lease() -> Lease {
        Lease::new("l-1".to_owned(), TTL, at(100))
    }

    #[test]
    fn never_renewed_it_counts_from_its_start() {
        assert!(!lease().expired(at(119)));
        assert!(lease().expired(at(120)));
        assert_eq!(lease().remaining(at(500)), Duration::ZERO);
    }

    #[test]
    fn a_renewal_counts_from_its_receipt() {
        let mut lease = lease();
        lease.renew("l-1", order(1, 1), at(5), at(110)).unwrap();
        assert_eq!(lease.remaining(at(111)), at(4));
    }

    #[test]
    fn a_renewal_that_comes_after_the_end_revives_nothing() {
        let mut lease = lease();
        let late = lease.renew("l-1", order(1, 1), TTL, at(120));
        assert!(matches!(late, Err(RenewalRefused::Expired(_))), "{late:?}");
        assert!(lease.expired(at(121)));
    }

    #[test]
    fn an_old_or_repeated_renewal_changes_nothing() {
        let mut lease = lease();
        lease.renew("l-1", order(3, 7), TTL, at(110)).unwrap();
        for stale in [order(3, 7), order(3, 6), order(2, 9)] {
            assert!(matches!(lease.renew("l-1", stale, at(1000), at(115)), Err(RenewalRefused::Stale { .. })));
        }
        assert!(lease.expired(at(130)));
    }

    #[test]
    fn the_first_renewal_of_a_new_session_may_count_from_one_again() {
        let mut lease = lease();
        lease.renew("l-1", order(3, 700), TTL, at(110)).unwrap();
        assert!(lease.renew("l-1", order(4, 1), TTL, at(111)).is_ok());
    }

    #[test]
    fn a_renewal_for_another_launch_is_refused_and_leaves_the_order_alone() {
        let mut lease = lease();
        let refused = lease.renew("l-2", order(9, 9), TTL, at(110)).unwrap_err();
        assert_eq!(refused.to_string(), "this instance is launch 'l-1', not 'l-2'");
        assert!(lease.renew("l-1", order(1, 1), TTL, at(110)).is_ok());
    }

    #[test]
    fn no_renewal_grants_more_than_a_day_or_overflows() {
        let mut lease = lease();
        lease.renew("l-1", order(1, 1), Duration::from_millis(u64::MAX), at(100)).unwrap();
        assert_eq!(lease.remaining(at(100)), MAX_TTL);
        lease.renew("l-1", order(1, 2), Duration::ZERO, at(101)).unwrap();
        assert!(lease.expired(at(101)));
    }

    #[test]
    fn a_box_that_was_suspended_past_the_lease_wakes_up_expired() {
        let mut lease = lease();
        lease.renew("l-1", order(1, 1), TTL, at(110)).unwrap();
        assert!(lease.expired(at(110 + 3600)));
    }
}
