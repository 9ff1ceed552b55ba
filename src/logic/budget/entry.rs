//! One instance in the ledger: when it ran, until when it may run, and what of its cost falls due when.

use std::time::Duration;

use super::{Money, Terms};

/// One instance, from its launch intent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Launch id.
    pub launch: String,
    /// When its launch was intended.
    pub start: Duration,
    /// When it ended; `None` while it may be alive.
    pub end: Option<Duration>,
    /// How it is billed.
    pub terms: Terms,
    /// How long it may live after a renewal: lease TTL, drain timeout and one tick.
    pub tail: Duration,
    /// When its time was last renewed, as far as is known; at first the start.
    pub renewed_at: Duration,
    /// Until when it may live by a renewal of a former run, of which nothing is known.
    pub may_live_until: Option<Duration>,
    /// Its lease is not renewed any more.
    pub draining: bool,
    /// A former run's, and not taken over yet: nobody renews its lease.
    pub unowned: bool,
    /// It was seen alive when its lease had ended it: nothing is known of how long it lives.
    pub overran: bool,
}

impl Entry {
    /// An instance whose launch is intended now.
    pub fn started(launch: &str, now: Duration, terms: Terms, tail: Duration) -> Self {
        Self {
            launch: launch.to_owned(),
            start: now,
            end: None,
            terms,
            tail,
            renewed_at: now,
            may_live_until: None,
            draining: false,
            unowned: false,
            overran: false,
        }
    }

    /// An instance of a former run that may be alive: its last renewal may have been a moment ago.
    pub fn found(self, now: Duration) -> Self {
        let may_live_until = Some(now.saturating_add(self.tail));
        Self { may_live_until, unowned: true, ..self }
    }

    pub(super) fn renewable(&self) -> bool {
        self.end.is_none() && !self.draining && !self.unowned
    }

    /// When it has ended, or will have at the latest. One that overran (a provider that does not terminate) goes on
    /// costing until somebody says that it ended.
    pub(super) fn horizon(&self, now: Duration) -> Duration {
        let horizon = || self.known_horizon(now).max(self.may_live_until.unwrap_or_default());
        self.end.unwrap_or_else(horizon)
    }

    /// The moment by which its lease has ended it, whoever was told so or not.
    pub(super) fn lease_ends(&self) -> Duration {
        self.renewed_at.saturating_add(self.tail).max(self.may_live_until.unwrap_or_default())
    }

    /// The horizon by the renewals that are known of.
    fn known_horizon(&self, now: Duration) -> Duration {
        self.renewed_at.saturating_add(self.tail).max(now)
    }

    pub(super) fn horizon_if_renewed(&self, now: Duration) -> Duration {
        let horizon = self.horizon(now);
        if self.renewable() { horizon.max(now.saturating_add(self.tail)) } else { horizon }
    }

    /// What renewing it now costs at most.
    pub(super) fn renewal(&self, now: Duration) -> Money {
        self.whole_life(self.horizon_if_renewed(now)).minus(self.whole_life(self.known_horizon(now)))
    }

    /// What draining it now saves at least: nothing, where a former run may have paid for as much.
    pub(super) fn saving(&self, now: Duration) -> Money {
        self.whole_life(self.horizon_if_renewed(now)).minus(self.whole_life(self.horizon(now)))
    }

    fn whole_life(&self, end: Duration) -> Money {
        self.terms.cost(end.saturating_sub(self.start))
    }

    /// What falls due after `from` (`None`: since ever), if it ends at `end`.
    pub(super) fn due_after(&self, from: Option<Duration>, end: Duration) -> Money {
        self.due_after_each([from], end)[0]
    }

    /// The same for several beginnings at once: the whole life is the same for all, and every look at the budget asks this of
    /// every instance of a day.
    pub(super) fn due_after_each<const N: usize>(&self, froms: [Option<Duration>; N], end: Duration) -> [Money; N] {
        let is_over = |from: &Option<Duration>| from.is_some_and(|from| end <= from);
        if froms.iter().all(is_over) {
            return [Money::ZERO; N];
        }
        let whole = self.whole_life(end);
        froms.map(|from| match from {
            Some(from) if end <= from => Money::ZERO,
            Some(from) if from >= self.start => whole.minus(self.due_by(from, Some(end))),
            _ => whole,
        })
    }

    /// What fell due after `from` and not after `until`.
    pub(super) fn due_between(&self, from: Option<Duration>, until: Duration) -> Money {
        let due = self.due_by(until, self.end);
        from.map_or(due, |from| due.minus(self.due_by(from, self.end)))
    }

    /// What has fallen due by `at`, if it ends at `end`.
    fn due_by(&self, at: Duration, end: Option<Duration>) -> Money {
        match end {
            _ if at < self.start => Money::ZERO,
            Some(end) if end <= at => self.terms.cost(end.saturating_sub(self.start)),
            _ => self.terms.due(at - self.start),
        }
    }
}
