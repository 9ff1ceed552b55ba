//! What the gateway counts for one service. The gateway writes, the monitor reads; neither waits for the other longer
//! than a few additions take.
//!
//! One short lock rather than a dozen atomics: a reading is then consistent (what left the queue is in flight, never
//! both or neither), which the exact means need.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::integral::Integral;
use crate::route::Placement;

/// One hour: the longest latency told apart; longer ones count as this.
const MAX_LATENCY_US: u64 = 3_600_000_000;
/// Two digits keep percentiles within 1 % in 13 KB a histogram; a third would cost eight times that.
const SIGNIFICANT_DIGITS: u8 = 2;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A replica answered, with any status that is not a failure of its own.
    Ok,
    /// No replica could be reached, or one failed (5xx) or broke off.
    Failed,
    /// Turned away before it reached a replica: the queue was full, or the request was not acceptable.
    Rejected,
    /// Its deadline passed.
    Expired,
    /// The client went away first.
    Cancelled,
}

/// The end of a request that was at a replica.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// When the request came, for the whole latency.
    pub arrived_at: Duration,
    /// The time given to [`ServiceCounters::start`].
    pub started_at: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Where the replica is that had it last.
    pub placement: Placement,
}

/// One count for each placement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPlacement {
    /// On this node.
    pub local: u64,
    /// On another node.
    pub peer: u64,
    /// At a provider.
    pub cloud: u64,
}

impl ByPlacement {
    fn add(&mut self, placement: Placement) {
        match placement {
            Placement::Local => self.local += 1,
            Placement::Peer => self.peer += 1,
            Placement::Cloud => self.cloud += 1,
        }
    }
}

/// The counters at one moment. All but `in_flight` and `queued` only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterReading {
    /// Requests that came, admitted or not.
    pub arrivals: u64,
    /// See [`Outcome::Ok`].
    pub ok: u64,
    /// See [`Outcome::Failed`].
    pub failed: u64,
    /// See [`Outcome::Rejected`].
    pub rejected: u64,
    /// See [`Outcome::Expired`].
    pub expired: u64,
    /// See [`Outcome::Cancelled`].
    pub cancelled: u64,
    /// Requests answered well, by where they were answered.
    pub answered: ByPlacement,
    /// Requests at a replica now.
    pub in_flight: u64,
    /// Requests waiting now.
    pub queued: u64,
    /// The integral of `in_flight` over time, in request-seconds.
    pub in_flight_area: Duration,
    /// The integral of `queued` over time, in request-seconds.
    pub queued_area: Duration,
    /// Time at a replica of the requests that were answered or waited for until their deadline.
    pub service_time_sum: Duration,
    /// How many those are.
    pub service_time_count: u64,
}

impl CounterReading {
    /// Requests that came and are not answered to the end: at a replica, waiting, or still arriving.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        let ended = self.ok + self.failed + self.rejected + self.expired + self.cancelled;
        self.arrivals.saturating_sub(ended)
    }

    /// Requests that came and got no good answer, though the client waited.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.failed + self.rejected + self.expired
    }
}

/// Whole request times (queue included) of the requests that ended since the last take: those answered, those that
/// failed at a replica and those that expired. Requests turned away at once would only flatter the percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyWindow {
    /// How many requests; the percentiles mean nothing when it is zero.
    pub count: u64,
    /// The median.
    pub p50: Duration,
    /// 95 of 100 were at most this.
    pub p95: Duration,
    /// 99 of 100 were at most this.
    pub p99: Duration,
}

/// The counters of one service. Times are those since the process's epoch.
#[derive(Debug)]
pub struct ServiceCounters {
    tally: Mutex<Tally>,
}

#[derive(Debug)]
struct Tally {
    arrivals: u64,
    ok: u64,
    failed: u64,
    rejected: u64,
    expired: u64,
    cancelled: u64,
    answered: ByPlacement,
    in_flight: Integral,
    queued: Integral,
    service_time_sum: Duration,
    service_time_count: u64,
    latencies: Histogram<u32>,
}

impl Default for ServiceCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl ServiceCounters {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self { tally: Mutex::new(Tally::new()) }
    }

    /// A request came.
    pub fn arrived(&self) {
        self.tally().arrivals += 1;
    }

    /// A request began to wait for a replica.
    pub fn enqueue(&self, now: Duration) {
        self.tally().queued.enter(now);
    }

    /// A request that waited since `enqueued_at` waits no more, for whatever reason.
    pub fn dequeue(&self, enqueued_at: Duration, now: Duration) {
        self.tally().queued.leave(enqueued_at, now);
    }

    /// A request was given to a replica.
    pub fn start(&self, now: Duration) {
        self.tally().in_flight.enter(now);
    }

    /// A request that was at a replica ended.
    pub fn finish(&self, finish: Finish, now: Duration) {
        let mut tally = self.tally();
        let service_time = tally.in_flight.leave(finish.started_at, now);
        tally.count(finish.outcome);
        if finish.outcome == Outcome::Ok {
            tally.answered.add(finish.placement);
        }
        // A replica that refuses at once tells nothing of how long an answer takes; one that is waited for in vain takes as long at least.
        if matches!(finish.outcome, Outcome::Ok | Outcome::Expired) {
            tally.service_time_sum += service_time;
            tally.service_time_count += 1;
        }
        if finish.outcome != Outcome::Cancelled {
            tally.latencies.saturating_record(micros(now.saturating_sub(finish.arrived_at)));
        }
    }

    /// A request that came at `arrived_at` ended without having been at a replica.
    pub fn turned_away(&self, arrived_at: Duration, now: Duration, outcome: Outcome) {
        let mut tally = self.tally();
        tally.count(outcome);
        if outcome == Outcome::Expired {
            tally.latencies.saturating_record(micros(now.saturating_sub(arrived_at)));
        }
    }

    /// The counters as they stand at `now`.
    #[must_use]
    pub fn read(&self, now: Duration) -> CounterReading {
        let tally = self.tally();
        CounterReading {
            arrivals: tally.arrivals,
            ok: tally.ok,
            failed: tally.failed,
            rejected: tally.rejected,
            expired: tally.expired,
            cancelled: tally.cancelled,
            answered: tally.answered,
            in_flight: tally.in_flight.count(),
            queued: tally.queued.count(),
            in_flight_area: tally.in_flight.area(now),
            queued_area: tally.queued.area(now),
            service_time_sum: tally.service_time_sum,
            service_time_count: tally.service_time_count,
        }
    }

    /// The latencies since the last take, and begins a new window. The sums are made outside the lock.
    #[must_use]
    pub fn take_latencies(&self) -> LatencyWindow {
        let taken = {
            let mut tally = self.tally();
            if tally.latencies.is_empty() {
                return LatencyWindow::default();
            }
            std::mem::replace(&mut tally.latencies, empty_histogram())
        };
        let at = |quantile| Duration::from_micros(taken.value_at_quantile(quantile));
        LatencyWindow { count: taken.len(), p50: at(0.50), p95: at(0.95), p99: at(0.99) }
    }

    /// No step under this lock can leave it half done, so a poisoned lock holds good numbers.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            arrivals: 0,
            ok: 0,
            failed: 0,
            rejected: 0,
            expired: 0,
            cancelled: 0,
            answered: ByPlacement::default(),
            in_flight: Integral::default(),
            queued: Integral::default(),
            service_time_sum: Duration::ZERO,
            service_time_count: 0,
            latencies: empty_histogram(),
        }
    }

    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Failed => &mut self.failed,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Expired => &mut self.expired,
            Outcome::Cancelled => &mut self.cancelled,
        };
        *counter += 1;
    }
}

fn empty_histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, MAX_LATENCY_US, SIGNIFICANT_DIGITS).expect("the bounds are constants that fit")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn finish(arrived: u64, started: u64, outcome: Outcome) -> Finish {
        Finish { arrived_at: ms(arrived), started_at: ms(started), outcome, placement: Placement::Cloud }
    }

    #[test]
    fn a_request_is_queued_then_in_flight_then_counted_where_it_was_answered() {
        let counters = ServiceCounters::new();
        counters.arrived();
        counters.enqueue(ms(0));
        assert_eq!(counters.read(ms(5)).queued_area, ms(5));
        counters.dequeue(ms(0), ms(10));
        counters.start(ms(10));
        let reading = counters.read(ms(20));
        assert_eq!((reading.queued, reading.in_flight), (0, 1));
        counters.finish(finish(0, 10, Outcome::Ok), ms(40));
        let reading = counters.read(ms(100));
        assert_eq!((reading.arrivals, reading.ok, reading.answered.cloud), (1, 1, 1));
        assert_eq!((reading.queued_area, reading.in_flight_area), (ms(10), ms(30)));
        assert_eq!((reading.service_time_sum, reading.service_time_count), (ms(30), 1));
    }

    #[test]
    fn what_fails_or_is_given_up_tells_no_service_time_and_what_is_waited_for_in_vain_does() {
        let counters = ServiceCounters::new();
        for (outcome, sum, count) in
            [(Outcome::Ok, 10, 1), (Outcome::Failed, 10, 1), (Outcome::Cancelled, 10, 1), (Outcome::Expired, 20, 2)]
        {
            counters.start(ms(0));
            counters.finish(finish(0, 0, outcome), ms(10));
            let reading = counters.read(ms(10));
            assert_eq!((reading.service_time_sum, reading.service_time_count), (ms(sum), count), "{outcome:?}");
        }
    }

    #[test]
    fn latencies_are_of_the_window_alone_and_include_the_queue() {
        let counters = ServiceCounters::new();
        for n in 1..=100 {
            counters.start(ms(500));
            counters.finish(finish(0, 500, Outcome::Ok), ms(500 + n));
        }
        let window = counters.take_latencies();
        assert_eq!(window.count, 100);
        let p95 = window.p95.as_secs_f64();
        assert!((0.589..0.602).contains(&p95), "{p95}");
        assert_eq!(counters.take_latencies(), LatencyWindow::default());
    }

    #[test]
    fn refusals_do_not_flatter_the_percentiles_and_expiries_show_in_them() {
        let counters = ServiceCounters::new();
        counters.turned_away(ms(0), ms(0), Outcome::Rejected);
        assert_eq!(counters.take_latencies().count, 0);
        counters.turned_away(ms(0), ms(200), Outcome::Expired);
        assert_eq!(counters.take_latencies().count, 1);
        let reading = counters.read(ms(200));
        assert_eq!((reading.rejected, reading.expired, reading.lost()), (1, 1, 2));
    }

    #[test]
    fn a_cancelled_request_frees_its_place_and_teaches_nothing() {
        let counters = ServiceCounters::new();
        counters.start(ms(0));
        counters.finish(finish(0, 0, Outcome::Cancelled), ms(10));
        let reading = counters.read(ms(10));
        assert_eq!((reading.in_flight, reading.cancelled, reading.service_time_count), (0, 1, 0));
        assert_eq!(reading.in_flight_area, ms(10), "the replica did work that long");
    }

    #[test]
    fn a_latency_beyond_the_scale_counts_as_the_longest() {
        let counters = ServiceCounters::new();
        counters.turned_away(Duration::ZERO, Duration::from_secs(1_000_000), Outcome::Expired);
        assert!(counters.take_latencies().p50 >= Duration::from_secs(3_500));
    }
}
