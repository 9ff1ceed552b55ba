//! What the load is: the counts a gateway keeps for each service, the rates and means between two readings of them, and
//! the sample that one monitor tick makes of a whole node.

use std::collections::BTreeMap;
use std::time::Duration;

mod counters;
mod gauge;
mod integral;
mod window;

pub use counters::{ByPlacement, CounterReading, Finish, LatencyWindow, Outcome, ServiceCounters};
pub use gauge::{Gauge, GaugeRule};
pub use window::Window;

/// How hard the box itself works.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostLoad {
    /// Share of all processors in use, 0 to 1; `None` until two readings were taken.
    pub cpu: Option<f64>,
    /// Share of memory in use, 0 to 1.
    pub memory: Option<f64>,
    /// Share of the link in use, 0 to 1, the busier direction; `None` where the link's speed is not known.
    pub network: Option<f64>,
    /// Processors that the scheduler may use.
    pub cpu_count: u32,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Memory of the box, in bytes.
    pub memory_total: u64,
    /// Bytes received a second, over all links but loopback.
    pub rx_bytes_per_s: f64,
    /// Bytes sent a second, over all links but loopback.
    pub tx_bytes_per_s: f64,
}

/// How hard one service works, over the time between two readings of its counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceLoad {
    /// Requests that arrived, a second, admitted or not.
    pub arrivals_per_s: f64,
    /// Requests at a replica: the time-weighted mean.
    pub in_flight: f64,
    /// Requests waiting for a replica: the time-weighted mean.
    pub queued: f64,
    /// Requests at a replica at the end of the interval.
    pub in_flight_now: u64,
    /// Requests waiting at the end of the interval.
    pub queued_now: u64,
    /// Requests that had come by the end and were not answered to the end, those whose body is still arriving included.
    pub unanswered_now: u64,
    /// Mean time at a replica of the requests that were answered, or waited for until their deadline, in the interval; `None` when none was.
    pub service_time: Option<Duration>,
    /// Whole request time, queue included; `None` when no request ended in the interval. The same for the next two.
    pub latency_p50: Option<Duration>,
    /// See `latency_p50`.
    pub latency_p95: Option<Duration>,
    /// See `latency_p50`.
    pub latency_p99: Option<Duration>,
    /// Requests answered well, a second.
    pub completed_per_s: f64,
    /// Requests that failed, were rejected or expired, a second. A client that went away is none of these.
    pub failed_per_s: f64,
    /// The service's custom metric; `None` where it has none, or nothing was heard of it lately.
    pub custom: Option<f64>,
}

impl ServiceLoad {
    /// The load between two readings of the same counters, `elapsed` apart. An empty interval has rates of zero and the
    /// present counts as its means, so that a first tick says what is there.
    #[must_use]
    pub fn between(
        previous: &CounterReading,
        next: &CounterReading,
        elapsed: Duration,
        latencies: &LatencyWindow,
    ) -> Self {
        let per_second = |before: u64, after: u64| ratio(after.saturating_sub(before), elapsed);
        let timed = next.service_time_count.saturating_sub(previous.service_time_count);
        let percentile = |value: Duration| (latencies.count > 0).then_some(value);
        Self {
            arrivals_per_s: per_second(previous.arrivals, next.arrivals),
            in_flight: mean(previous.in_flight_area, next.in_flight_area, elapsed, next.in_flight),
            queued: mean(previous.queued_area, next.queued_area, elapsed, next.queued),
            in_flight_now: next.in_flight,
            queued_now: next.queued,
            unanswered_now: next.unanswered(),
            service_time: mean_time(next.service_time_sum.saturating_sub(previous.service_time_sum), timed),
            latency_p50: percentile(latencies.p50),
            latency_p95: percentile(latencies.p95),
            latency_p99: percentile(latencies.p99),
            completed_per_s: per_second(previous.ok, next.ok),
            failed_per_s: per_second(previous.lost(), next.lost()),
            custom: None,
        }
    }
}

/// Events a second; zero for an empty interval.
#[allow(clippy::cast_precision_loss)] // Counts of one tick are far below 2^52.
fn ratio(events: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { events as f64 / elapsed.as_secs_f64() }
}

/// The mean count over an interval from the integral of the count at both ends.
#[allow(clippy::cast_precision_loss)] // As above.
fn mean(before: Duration, after: Duration, elapsed: Duration, now: u64) -> f64 {
    if elapsed.is_zero() { now as f64 } else { after.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64() }
}

#[allow(clippy::cast_precision_loss)] // As above.
fn mean_time(sum: Duration, count: u64) -> Option<Duration> {
    (count > 0).then(|| sum.div_f64(count as f64))
}

/// Everything one monitor tick measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadSample {
    /// When, as time since the process's epoch.
    pub at: Duration,
    /// The box.
    pub host: HostLoad,
    /// The services, by name.
    pub services: BTreeMap<String, ServiceLoad>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(arrivals: u64, ok: u64, area_s: u64) -> CounterReading {
        CounterReading { arrivals, ok, in_flight_area: Duration::from_secs(area_s), ..CounterReading::default() }
    }

    #[test]
    fn rates_and_means_are_over_the_interval_alone() {
        let load = ServiceLoad::between(
            &reading(100, 90, 50),
            &reading(140, 110, 56),
            Duration::from_secs(2),
            &LatencyWindow::default(),
        );
        assert_eq!(load.arrivals_per_s, 20.0);
        assert_eq!(load.completed_per_s, 10.0);
        assert_eq!(load.in_flight, 3.0);
        assert_eq!(load.latency_p95, None, "no request ended, so there is no percentile to tell");
    }

    #[test]
    fn an_empty_interval_says_what_is_there() {
        let next = CounterReading { in_flight: 3, queued: 2, ..CounterReading::default() };
        let load = ServiceLoad::between(&CounterReading::default(), &next, Duration::ZERO, &LatencyWindow::default());
        assert_eq!((load.arrivals_per_s, load.in_flight, load.queued), (0.0, 3.0, 2.0));
    }

    #[test]
    fn a_client_that_went_away_is_no_failure() {
        let next = CounterReading { failed: 1, rejected: 2, expired: 3, cancelled: 50, ..CounterReading::default() };
        let load =
            ServiceLoad::between(&CounterReading::default(), &next, Duration::from_secs(1), &LatencyWindow::default());
        assert_eq!(load.failed_per_s, 6.0);
    }

    #[test]
    fn service_time_is_the_mean_of_what_ended() {
        let next = CounterReading {
            service_time_sum: Duration::from_millis(30),
            service_time_count: 4,
            ..CounterReading::default()
        };
        let window = LatencyWindow { count: 4, p95: Duration::from_millis(9), ..LatencyWindow::default() };
        let load = ServiceLoad::between(&CounterReading::default(), &next, Duration::from_secs(1), &window);
        assert_eq!(load.service_time, Some(Duration::from_micros(7_500)));
        assert_eq!(load.latency_p95, Some(Duration::from_millis(9)));
    }
}
