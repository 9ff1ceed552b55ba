//! The exact integral of a count over time, without sampling: how many request-seconds were spent in flight, or queued.
//!
//! Each stay from `a` to `b` adds `b - a`. What is still there adds `now - a` for each, which is `count * now` less the
//! sum of the starts; so three numbers hold the integral at any time, and the difference of two readings over the time
//! between them is the exact mean. A burst of a hundred requests between two ticks is seen; a sampled gauge misses it.

use std::time::Duration;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Stays in progress and ended. Times are those since the process's epoch; entries and exits may be told out of order,
/// as threads do, because each stay carries its own two times.
#[derive(Debug, Default)]
pub(super) struct Integral {
    count: u64,
    starts_ns: i128,
    ended_ns: i128,
}

impl Integral {
    /// One more is there since `at`.
    pub(super) fn enter(&mut self, at: Duration) {
        self.count += 1;
        self.starts_ns += nanos(at);
    }

    /// One that came at `entered_at` left at `now`. Its stay is returned.
    pub(super) fn leave(&mut self, entered_at: Duration, now: Duration) -> Duration {
        debug_assert!(self.count > 0, "what leaves has entered");
        let stay = now.saturating_sub(entered_at);
        self.count = self.count.saturating_sub(1);
        self.starts_ns -= nanos(entered_at);
        self.ended_ns += nanos(stay);
        stay
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The integral until `now`, in request-seconds.
    pub(super) fn area(&self, now: Duration) -> Duration {
        let ns = self.ended_ns + i128::from(self.count) * nanos(now) - self.starts_ns;
        duration(ns)
    }
}

#[allow(clippy::cast_possible_wrap)] // 10^38 nanoseconds are longer than any uptime.
fn nanos(time: Duration) -> i128 {
    time.as_nanos() as i128
}

/// Negative when a thread's start is later than the reader's clock by a moment: then nothing has accrued yet.
fn duration(ns: i128) -> Duration {
    let ns = ns.max(0);
    let seconds = u64::try_from(ns / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(ns % NANOS_PER_SECOND).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn two_at_once_for_a_second_are_two_request_seconds() {
        let mut stays = Integral::default();
        stays.enter(ms(0));
        stays.enter(ms(500));
        assert_eq!(stays.area(ms(1000)), ms(1500));
        stays.leave(ms(0), ms(1000));
        assert_eq!(stays.area(ms(2000)), ms(2500));
        assert_eq!(stays.count(), 1);
    }

    #[test]
    fn a_start_after_the_reading_counts_nothing() {
        let mut stays = Integral::default();
        stays.enter(ms(10));
        assert_eq!(stays.area(ms(5)), Duration::ZERO);
    }

    /// For many random histories: the integral equals the sum of the overlaps of every stay with the time until then,
    /// which is what it means.
    #[test]
    fn equals_the_overlaps_of_every_stay() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let stays: Vec<(u64, u64)> = (0..random.usize(1..40))
                .map(|_| {
                    let start = random.u64(0..1000);
                    (start, start + random.u64(0..400))
                })
                .collect();
            let now = random.u64(0..1500);
            assert_eq!(replay(&stays, now).area(ms(now)), ms(overlaps(&stays, now)), "{stays:?} at {now}");
        }
    }

    fn replay(stays: &[(u64, u64)], now: u64) -> Integral {
        let mut integral = Integral::default();
        for &(start, _) in stays.iter().filter(|stay| stay.0 <= now) {
            integral.enter(ms(start));
        }
        for &(start, end) in stays.iter().filter(|stay| stay.1 <= now) {
            integral.leave(ms(start), ms(end));
        }
        integral
    }

    fn overlaps(stays: &[(u64, u64)], now: u64) -> u64 {
        stays.iter().map(|&(start, end)| end.min(now).saturating_sub(start)).sum()
    }
}
