//! Where time comes from: one monotonic clock for decisions, the calendar only for what people read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock that starts near zero, long enough after it that something from yesterday has a time too.
///
/// Decisions compare [`Clock::now`] only, so a gateway that boots in 1970 and learns the date later decides the same.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

/// What lies before the start of the process on its clock: the longest budget window and some room.
const BEFORE_START: Duration = Duration::from_secs(48 * 3600);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// The moment that [`Clock::now`] counts from, for parts that count by themselves.
    pub fn epoch(self) -> std::time::Instant {
        self.epoch.into_std().checked_sub(BEFORE_START).unwrap_or_else(|| self.epoch.into_std())
    }

    /// Monotonic time.
    pub fn now(self) -> Duration {
        BEFORE_START + self.epoch.elapsed()
    }

    /// Since the start of the process.
    pub fn uptime(self) -> Duration {
        self.epoch.elapsed()
    }

    /// The monotonic time of a moment given in Unix milliseconds; what is older than the clock, or in the future of a
    /// calendar that was set back, is clamped.
    pub fn from_unix_ms(self, unix_ms: i64) -> Duration {
        let ago = u64::try_from(unix_ms_now().saturating_sub(unix_ms)).unwrap_or(0);
        self.now().saturating_sub(Duration::from_millis(ago))
    }

    /// The calendar time of a monotonic moment, in Unix milliseconds.
    pub fn to_unix_ms(self, at: Duration) -> i64 {
        let ago = i64::try_from(self.now().saturating_sub(at).as_millis()).unwrap_or(i64::MAX);
        unix_ms_now().saturating_sub(ago)
    }
}

/// The calendar, in seconds since 1970 UTC.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The calendar, in milliseconds since 1970 UTC.
pub fn unix_ms_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with milliseconds, as every message has it.
pub fn rfc3339(unix_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// The same of whole seconds, as certificates have them.
pub fn rfc3339_s(unix_s: u64) -> String {
    rfc3339(i64::try_from(unix_s.saturating_mul(1_000)).unwrap_or(i64::MAX))
}

/// The calendar now, as messages have it.
pub fn rfc3339_now() -> String {
    rfc3339(unix_ms_now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn monotonic_and_calendar_time_convert_both_ways() {
        let clock = Clock::start();
        let an_hour_ago = unix_ms_now() - 3_600_000;
        let at = clock.from_unix_ms(an_hour_ago);
        let behind = clock.now() - at;
        assert!(behind >= Duration::from_secs(3_600) && behind < Duration::from_secs(3_601), "{behind:?}");
        assert!((clock.to_unix_ms(at) - an_hour_ago).abs() < 1_000);
    }

    #[test]
    fn a_moment_in_the_future_counts_as_now() {
        let clock = Clock::start();
        assert!(clock.from_unix_ms(unix_ms_now() + 1_000_000) <= clock.now());
    }

    #[test]
    fn dates_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
    }
}
