//! A replica that answers: its address, its limits, and what its requests taught so far.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Ejection, PeakEwma, Placement, Transport};

/// What proves to a replica that the node is asking. It cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(String);

impl Bearer {
    /// Takes a token in.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token, for the request's header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer")
    }
}

/// A replica that is ready.
#[derive(Debug)]
pub struct Endpoint {
    /// The replica's id, as in the header `x-tidegate-replica`.
    pub replica: String,
    /// Where it runs.
    pub placement: Placement,
    /// Host and port, such as `127.0.0.1:4711`.
    pub authority: String,
    /// How the way there is secured.
    pub transport: Transport,
    /// What it asks of every caller; `None` for a replica that nobody else can reach.
    pub bearer: Option<Bearer>,
    /// Requests it takes at once; of a peer, those that it has room for.
    pub concurrency: u32,
    /// Its share under weighted round robin; zero counts as one.
    pub weight: u32,
    /// What its requests taught so far.
    pub counters: EndpointCounters,
}

impl Endpoint {
    /// Whether a request may go there now, as far as its health is concerned.
    #[must_use]
    pub fn is_available(&self, now: Duration) -> bool {
        self.counters.is_available(now)
    }

    /// Whether it has a free slot.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        self.counters.in_flight() < self.concurrency
    }

    /// Takes a slot, unless the last one has just gone. Each slot taken is given back by [`Endpoint::release`].
    #[must_use]
    pub fn try_take(&self, now: Duration) -> bool {
        let more = |taken| (taken < self.concurrency).then_some(taken + 1);
        let taken = self.counters.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok();
        if taken && self.counters.troubled.load(Ordering::Acquire) {
            self.counters.ejection().begin_trial(now);
        }
        taken
    }

    /// Takes in what a request that was sent there at `sent_at` taught at `now`. Told as soon as it is known, which is
    /// before the slot is given back when the answer is a long one.
    pub fn learn(&self, sent_at: Duration, now: Duration, verdict: Verdict) {
        self.counters.learn(sent_at, now, verdict);
    }

    /// Gives a slot back. Sequentially consistent with the queue's own counter: of a request that begins to wait and a
    /// slot that becomes free at the same moment, one sees the other.
    pub fn release(&self) {
        let before = self.counters.in_flight.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "what is released was taken");
    }
}

/// What a request taught about the endpoint that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its answer began.
    Answered,
    /// It could not be reached, broke off, or answered as a gateway without anyone behind it (502, 503, 504).
    Failed,
    /// It said that it takes no more requests: it is set aside at once, without waiting for more evidence.
    Draining,
    /// It has no room for another node's request: it is set aside for a moment, which is no failure.
    Full,
    /// Its answer did not begin before the client's deadline: it is at least this slow, which is no failure.
    TooLate,
    /// Nothing: the client went away, or its body was at fault.
    Nothing,
}

/// Live state of an endpoint, written by every request that goes there.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    in_flight: AtomicU32,
    /// Those of `in_flight` that other nodes sent.
    guests: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Set while the ejection has anything to say, so that a healthy endpoint costs no lock.
    troubled: AtomicBool,
    ejection: Mutex<Ejection>,
    latency: Mutex<PeakEwma>,
    /// The running weight of smooth weighted round robin; touched under the rotation's lock alone.
    pub(super) running_weight: AtomicI64,
}

impl EndpointCounters {
    /// Requests it has now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Those of them that other nodes sent.
    #[must_use]
    pub fn guests(&self) -> u32 {
        self.guests.load(Ordering::Relaxed)
    }

    /// A request of another node has a slot now.
    pub fn guest_came(&self) {
        self.guests.fetch_add(1, Ordering::Relaxed);
    }

    /// It has gone.
    pub fn guest_went(&self) {
        self.guests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests it answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests it failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// When an ejected endpoint may be tried again; `None` when it is not ejected.
    #[must_use]
    pub fn ejected_until(&self) -> Option<Duration> {
        if self.troubled.load(Ordering::Acquire) { self.ejection().ejected_until() } else { None }
    }

    /// Its smoothed latency, and `None` before its first answer.
    #[must_use]
    pub fn latency(&self, now: Duration) -> Option<Duration> {
        self.smoothed().estimate(now)
    }

    fn is_available(&self, now: Duration) -> bool {
        !self.troubled.load(Ordering::Acquire) || self.ejection().is_available(now)
    }

    fn learn(&self, sent_at: Duration, now: Duration, verdict: Verdict) {
        match verdict {
            Verdict::Answered => self.answer(sent_at, now),
            Verdict::Failed => self.trouble(|ejection| ejection.failed(sent_at, now)),
            Verdict::Draining => self.trouble(|ejection| ejection.set_aside(now)),
            Verdict::Full => self.set_aside(|ejection| ejection.set_aside(now)),
            Verdict::TooLate => self.be_late(sent_at, now),
            Verdict::Nothing => self.forget_trial(),
        }
    }

    fn answer(&self, sent_at: Duration, now: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.smoothed().observe(now, now.saturating_sub(sent_at));
        if self.troubled.load(Ordering::Acquire) {
            let mut ejection = self.ejection();
            ejection.answered(sent_at);
            self.troubled.store(!ejection.is_clean(), Ordering::Release);
        }
    }

    /// A time that is not over yet can raise the estimate, never lower it.
    fn be_late(&self, sent_at: Duration, now: Duration) {
        let waited = now.saturating_sub(sent_at);
        let mut smoothed = self.smoothed();
        if smoothed.estimate(now).is_none_or(|estimate| waited > estimate) {
            smoothed.observe(now, waited);
        }
        drop(smoothed);
        self.forget_trial();
    }

    fn trouble(&self, tell: impl FnOnce(&mut Ejection)) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.set_aside(tell);
    }

    fn set_aside(&self, tell: impl FnOnce(&mut Ejection)) {
        let mut ejection = self.ejection();
        tell(&mut ejection);
        self.troubled.store(true, Ordering::Release);
    }

    fn forget_trial(&self) {
        if self.troubled.load(Ordering::Acquire) {
            self.ejection().forget_trial();
        }
    }

    fn ejection(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn smoothed(&self) -> MutexGuard<'_, PeakEwma> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(concurrency: u32) -> Endpoint {
        Endpoint {
            replica: "r".into(),
            placement: Placement::Local,
            authority: "127.0.0.1:1".into(),
            transport: Transport::Plain,
            bearer: None,
            concurrency,
            weight: 1,
            counters: EndpointCounters::default(),
        }
    }

    fn give_back(endpoint: &Endpoint, now: Duration, verdict: Verdict) {
        endpoint.learn(now, now, verdict);
        endpoint.release();
    }

    #[test]
    fn gives_out_no_more_slots_than_it_has() {
        let endpoint = endpoint(2);
        assert!(endpoint.try_take(Duration::ZERO) && endpoint.try_take(Duration::ZERO));
        assert!(!endpoint.try_take(Duration::ZERO));
        endpoint.release();
        assert!(endpoint.try_take(Duration::ZERO));
    }

    #[test]
    fn many_threads_never_take_one_slot_too_many() {
        let endpoint = endpoint(3);
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if endpoint.try_take(Duration::ZERO) {
                            most.fetch_max(endpoint.counters.in_flight(), Ordering::SeqCst);
                            endpoint.release();
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(endpoint.counters.in_flight(), 0);
    }

    #[test]
    fn a_drained_endpoint_is_set_aside_and_comes_back_by_one_trial() {
        let endpoint = endpoint(4);
        let start = Duration::from_secs(10);
        assert!(endpoint.try_take(start));
        give_back(&endpoint, start, Verdict::Draining);
        assert!(!endpoint.is_available(start));
        let later = endpoint.counters.ejected_until().expect("it is set aside");
        assert!(endpoint.is_available(later));
        assert!(endpoint.try_take(later));
        assert!(!endpoint.is_available(later), "one trial at a time");
        give_back(&endpoint, later, Verdict::Answered);
        assert!(endpoint.is_available(later) && endpoint.counters.ejected_until().is_none());
    }

    #[test]
    fn the_late_answers_of_a_draining_endpoint_do_not_bring_it_back() {
        let endpoint = endpoint(4);
        endpoint.learn(Duration::from_secs(2), Duration::from_secs(3), Verdict::Draining);
        endpoint.learn(Duration::from_secs(1), Duration::from_secs(3), Verdict::Answered);
        assert!(!endpoint.is_available(Duration::from_secs(3)));
    }

    #[test]
    fn a_trial_that_taught_nothing_makes_room_for_the_next() {
        let endpoint = endpoint(4);
        assert!(endpoint.try_take(Duration::ZERO));
        give_back(&endpoint, Duration::ZERO, Verdict::Draining);
        let later = endpoint.counters.ejected_until().expect("it is set aside");
        assert!(endpoint.try_take(later));
        give_back(&endpoint, later, Verdict::Nothing);
        assert!(endpoint.is_available(later));
    }
}
