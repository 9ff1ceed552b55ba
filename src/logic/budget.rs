//! What bursting may cost: caps over rolling windows, and the ledger that no sequence of events can overdraw.
//!
//! **When money counts.** A billing step counts at the moment it begins, the minimum billing at the start: as early as
//! a provider could charge it. What a window has *spent* is what fell due within it.
//!
//! **Committed** is what is spent plus what can still fall due if the node dies this moment: every live instance runs
//! to its *horizon*, its last renewal plus lease TTL, drain timeout and one tick. Launching and renewing both buy time
//! up to a new horizon, and [`Ledger::open`] and [`Ledger::renew`] sell only what every cap bears. Between two
//! purchases `committed` can only fall. That is the whole proof that a cap holds; the rest is choosing who goes first.
//!
//! **Amounts** are whole millionths of the currency unit: sums are exact, so the invariant needs no tolerance. Costs
//! round up. The currency itself is the configuration's business.
//!
//! **Times** are durations since an epoch of the caller's choice, the same for `now` and all entries, and early enough
//! that no entry starts before it. (Wall-clock time at process start plus monotonic time since then does well: rows of
//! a journal convert directly, and a clock that steps afterwards frees no money.)

use std::collections::BTreeMap;
use std::time::Duration;

pub use entry::Entry;
pub use money::{Money, Terms};

mod entry;
mod money;

/// A rolling window that a cap is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// Any 60 minutes.
    Hour,
    /// Any 24 hours.
    Day,
}

impl Window {
    /// Both, the shorter first.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// How long it is.
    pub fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }

    /// How an operator calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "60 minutes",
            Self::Day => "24 hours",
        }
    }
}

/// The most that may be spent; `None` for no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// In any 60 minutes.
    pub per_hour: Option<Money>,
    /// In any 24 hours.
    pub per_day: Option<Money>,
}

impl Caps {
    /// The cap on a window.
    pub fn limit(&self, window: Window) -> Option<Money> {
        match window {
            Window::Hour => self.per_hour,
            Window::Day => self.per_day,
        }
    }

    fn each(&self) -> impl Iterator<Item = (Window, Money)> + use<> {
        let caps = *self;
        Window::ALL.into_iter().filter_map(move |window| Some((window, caps.limit(window)?)))
    }
}

/// Why a launch was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The window whose cap is in the way; the shorter one where both are.
    pub cap: Window,
    /// The cap.
    pub limit: Money,
    /// Committed in the window, if everything alive were renewed now.
    pub committed: Money,
    /// Committed with the launch.
    pub would_be: Money,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cap, limit, committed, would_be } = self;
        let window = cap.as_str();
        write!(f, "the launch would commit {would_be} in {window}, of {limit} allowed ({committed} without it)")
    }
}

impl std::error::Error for Refusal {}

/// Every instance of the last 24 hours, with what it costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    caps: Caps,
    /// By launch id.
    entries: BTreeMap<String, Entry>,
    /// Nothing is known of the time before: it counts as having spent every cap to the last.
    unknown_before: Option<Duration>,
    /// The earliest end of an entry, or earlier: nothing is settled before a day after it.
    first_end: Option<Duration>,
    /// How often entries were dropped.
    forgotten: u64,
}

impl Ledger {
    /// A ledger that knows its whole past, which is empty until [`Ledger::restore`].
    pub fn new(caps: Caps) -> Self {
        Self { caps, ..Self::default() }
    }

    /// A ledger whose past was lost: until `now` leaves a window, that window counts as spent.
    pub fn unknown_before(caps: Caps, now: Duration) -> Self {
        Self { unknown_before: Some(now), ..Self::new(caps) }
    }

    /// The caps in force.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// Sets other caps. Lowered ones are obeyed from the next [`Ledger::renew`].
    pub fn set_caps(&mut self, caps: Caps) {
        self.caps = caps;
    }

    /// The instances it knows, by launch id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// One instance.
    pub fn entry(&self, launch: &str) -> Option<&Entry> {
        self.entries.get(launch)
    }

    /// Takes an entry as it is: a row of the journal, or an instance that was found and adopted. It asks no cap, since
    /// what exists costs money either way.
    pub fn restore(&mut self, entry: Entry) {
        self.first_end = self.first_end.into_iter().chain(entry.end).min();
        self.entries.insert(entry.launch.clone(), entry);
    }

    /// Buys a launch: time until `now + tail`, counted from the intent and not from when the instance is up. `tail` is
    /// lease TTL plus drain timeout plus one tick. The same launch id again is the same launch and costs nothing.
    pub fn open(&mut self, launch: &str, now: Duration, terms: Terms, tail: Duration) -> Result<(), Refusal> {
        if self.entries.contains_key(launch) {
            return Ok(());
        }
        let held = cfg!(debug_assertions) && self.holds(now);
        self.admits(now, terms, tail)?;
        self.restore(Entry::started(launch, now, terms, tail));
        debug_assert!(!held || self.holds(now), "a launch broke a cap: {self:?} at {now:?}");
        Ok(())
    }

    /// Whether the caps bear one more launch.
    pub fn admits(&self, now: Duration, terms: Terms, tail: Duration) -> Result<(), Refusal> {
        let cost = terms.cost(tail);
        for (cap, limit, committed) in self.renewed(now) {
            let would_be = committed.plus(cost);
            if cost > Money::ZERO && would_be > limit {
                return Err(Refusal { cap, limit, committed, would_be });
            }
        }
        Ok(())
    }

    /// How many more launches the caps bear at once; `u32::MAX` where none is in the way.
    pub fn affordable(&self, now: Duration, terms: Terms, tail: Duration) -> u32 {
        let cost = terms.cost(tail);
        let fits = self.renewed(now).map(|(_, limit, committed)| limit.minus(committed).holds(cost));
        fits.min().unwrap_or(u32::MAX)
    }

    /// The instances that must drain now: those whose renewal the caps do not bear. The dearest go first, among equals
    /// the youngest; one whose end would save nothing stays.
    ///
    /// Drained now, they end within the horizon they have, which is paid for already. What a former run left has one that
    /// is not known: right after a start all of it drains where the caps do not bear all of it.
    pub fn must_drain(&self, now: Duration) -> Vec<String> {
        let mut excess = self.excess_if_renewed(now);
        let mut drained = Vec::new();
        if excess == Money::ZERO {
            return drained;
        }
        for entry in self.dearest_first() {
            if entry.renewal(now) > Money::ZERO && excess > Money::ZERO {
                excess = excess.minus(entry.saving(now));
                drained.push(entry.launch.clone());
            }
        }
        drained
    }

    /// Renews every instance that the caps bear, marks the others as draining, and returns those. Call it at each tick
    /// before leases are renewed, and renew no lease of an instance that drains.
    #[must_use = "these instances have to be drained"]
    pub fn renew(&mut self, now: Duration) -> Vec<String> {
        let held = cfg!(debug_assertions) && self.holds(now);
        let drained = self.must_drain(now);
        for launch in &drained {
            self.drain(launch);
        }
        for entry in self.entries.values_mut().filter(|entry| entry.renewable()) {
            entry.renewed_at = entry.renewed_at.max(now);
        }
        self.forget_settled(now);
        debug_assert!(!held || self.holds(now), "a renewal broke a cap: {self:?} at {now:?}");
        drained
    }

    /// Notes that an instance drains: its lease is not renewed any more.
    pub fn drain(&mut self, launch: &str) {
        if let Some(entry) = self.entries.get_mut(launch) {
            entry.draining = true;
        }
    }

    /// Notes when an instance ended (not when that was learned); what it did not use becomes free. A second end changes
    /// nothing.
    pub fn close(&mut self, launch: &str, end: Duration) {
        if let Some(entry) = self.entries.get_mut(launch) {
            let end = *entry.end.get_or_insert(end.max(entry.start));
            self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
        }
    }

    /// Notes that an instance is gone; nobody knows since when. It costs until now, but no longer than its lease let it live:
    /// a provider that was asked in vain for hours makes nothing dearer. One that was seen alive after that costs until now.
    pub fn gone(&mut self, launch: &str, now: Duration) {
        if let Some(entry) = self.entries.get(launch) {
            let end = if entry.overran { now } else { now.min(entry.lease_ends()) };
            self.close(launch, end);
        }
    }

    /// Notes that an instance was alive at this time.
    pub fn seen(&mut self, launch: &str, at: Duration) {
        if let Some(entry) = self.entries.get_mut(launch) {
            entry.overran |= at > entry.lease_ends();
        }
    }

    /// Notes that an instance of a former run was taken over: its lease is renewed from now on, and may be longer than it was.
    pub fn own(&mut self, launch: &str, tail: Duration) {
        if let Some(entry) = self.entries.get_mut(launch) {
            entry.unowned = false;
            entry.tail = entry.tail.max(tail);
        }
    }

    /// Notes that an instance lives on that was said to have ended: it costs as if it never had, and is not renewed.
    pub fn reopen(&mut self, launch: &str) {
        if let Some(entry) = self.entries.get_mut(launch).filter(|entry| entry.end.is_some()) {
            entry.end = None;
            entry.draining = true;
            entry.overran = true;
        }
    }

    /// Notes that an instance has run since `start` at the latest.
    pub fn began(&mut self, launch: &str, start: Duration) {
        if let Some(entry) = self.entries.get_mut(launch) {
            entry.start = entry.start.min(start);
        }
    }

    /// Forgets a launch that is proven never to have run.
    pub fn void(&mut self, launch: &str) {
        self.entries.remove(launch);
        self.forgotten += 1;
    }

    /// Changes when entries are dropped: whoever keeps something beside them looks then which are left.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What fell due in the window that ends now.
    pub fn spent(&self, now: Duration, window: Window) -> Money {
        self.sum(now, window, |entry, from| entry.due_between(from, now))
    }

    /// What is spent, and what falls due until the horizon of everything alive.
    pub fn committed(&self, now: Duration, window: Window) -> Money {
        self.sum(now, window, |entry, from| entry.due_after(from, entry.horizon(now)))
    }

    /// What the cap leaves beside what is committed; `None` without a cap.
    pub fn remaining(&self, now: Duration, window: Window) -> Option<Money> {
        Some(self.caps.limit(window)?.minus(self.committed(now, window)))
    }

    /// Each cap with what is committed in its window, if everything alive that does not drain were renewed now.
    fn renewed(&self, now: Duration) -> impl Iterator<Item = (Window, Money, Money)> + use<> {
        self.each_cap(now, Entry::horizon_if_renewed)
    }

    /// By how much renewing everything would exceed the cap that it exceeds most.
    fn excess_if_renewed(&self, now: Duration) -> Money {
        let excess = self.renewed(now).map(|(_, limit, committed)| committed.minus(limit));
        excess.max().unwrap_or(Money::ZERO)
    }

    fn dearest_first(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().filter(|entry| entry.renewable()).collect();
        let key = |entry: &Entry| (entry.terms.price_per_hour, entry.start);
        entries.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.launch.cmp(&b.launch)));
        entries
    }

    /// Each cap with what falls due in its window, if every entry ends at its `horizon`. One pass for all caps.
    fn each_cap(
        &self,
        now: Duration,
        horizon: fn(&Entry, Duration) -> Duration,
    ) -> impl Iterator<Item = (Window, Money, Money)> + use<> {
        let opened = Window::ALL.map(|window| self.opened(now, window));
        let mut sums = opened.map(|(_, lost)| lost);
        if self.caps.each().next().is_some() {
            let froms = opened.map(|(from, _)| from);
            for entry in self.entries.values() {
                let due = entry.due_after_each(froms, horizon(entry, now));
                sums = std::array::from_fn(|index| sums[index].plus(due[index]));
            }
        }
        let caps = self.caps;
        Window::ALL.into_iter().zip(sums).filter_map(move |(window, sum)| Some((window, caps.limit(window)?, sum)))
    }

    /// When a window that ends now began, and what counts as spent of a past in it that is unknown: the whole cap.
    fn opened(&self, now: Duration, window: Window) -> (Option<Duration>, Money) {
        let opens = now.checked_sub(window.length());
        let unknown = self.unknown_before.filter(|known_from| opens.is_none_or(|opens| opens < *known_from));
        (unknown.max(opens), unknown.and(self.caps.limit(window)).unwrap_or(Money::ZERO))
    }

    /// A sum over all entries of what falls due after the window began, and the whole cap for a past that is unknown.
    fn sum(&self, now: Duration, window: Window, due: impl Fn(&Entry, Option<Duration>) -> Money) -> Money {
        let (from, lost) = self.opened(now, window);
        self.entries.values().map(|entry| due(entry, from)).fold(lost, Money::plus)
    }

    /// Drops what no window can see any more, so that the ledger stays as small as a day is.
    fn forget_settled(&mut self, now: Duration) {
        let Some(opens) = now.checked_sub(Window::Day.length()) else { return };
        if self.first_end.is_some_and(|first| first <= opens) {
            self.entries.retain(|_, entry| entry.end.is_none_or(|end| end > opens));
            self.first_end = self.entries.values().filter_map(|entry| entry.end).min();
            self.forgotten += 1;
        }
    }

    /// Every cap holds. It may not when it was lowered, when the past was lost, or when an instance overran its
    /// horizon.
    fn holds(&self, now: Duration) -> bool {
        self.each_cap(now, Entry::horizon).all(|(_, limit, committed)| committed <= limit)
    }
}

#[cfg(test)]
mod tests;
