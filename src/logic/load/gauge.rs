//! A number that is measured elsewhere and scaled by: what a machine publishes, or what each replica says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How such a number is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaugeRule {
    /// What was heard longer ago than this is not known any more.
    pub max_age: Duration,
    /// It only grows, as a count of calls does: what is scaled by is its growth a second.
    pub is_counter: bool,
}

/// Two readings of a counter that are compared are at least so far apart, or a quarter of what counts.
const LEAST_APART: Duration = Duration::from_secs(1);

/// One number of a service, of one source or of several.
#[derive(Debug)]
pub struct Gauge {
    rule: GaugeRule,
    sources: Mutex<BTreeMap<String, Reading>>,
    /// Who has to be heard of.
    expected: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Duration,
    /// As it was told.
    told: f64,
    /// What it means; of a counter nothing before the second reading.
    means: Option<f64>,
}

impl Gauge {
    /// One that has heard nothing yet.
    #[must_use]
    pub fn new(rule: GaugeRule) -> Self {
        Self { rule, sources: Mutex::default(), expected: Mutex::default() }
    }

    /// Takes in what a source says now. What is no finite number is not heard.
    pub fn hear(&self, source: &str, told: f64, now: Duration) {
        if !told.is_finite() {
            return;
        }
        let mut sources = self.sources();
        let before = sources.get(source).copied().filter(|before| now.saturating_sub(before.at) <= self.rule.max_age);
        let means = match (self.rule.is_counter, before) {
            (false, _) => Some(told),
            (true, None) => None,
            // Two that come at once, since one was late, tell no rate.
            (true, Some(before)) if now.saturating_sub(before.at) < (self.rule.max_age / 4).min(LEAST_APART) => return,
            (true, Some(before)) => {
                // One that is less than it was began anew, with its program.
                let growth = if told < before.told { told } else { told - before.told };
                Some(growth / (now - before.at).as_secs_f64())
            }
        };
        sources.insert(source.to_owned(), Reading { at: now, told, means });
    }

    /// While one of these has not been heard lately, nothing is known: those that are too busy to answer must not be left out of a mean.
    pub fn expect(&self, sources: BTreeSet<String>) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    /// The mean over all sources that were heard lately; `None` where none was, or one is missing.
    pub fn read(&self, now: Duration) -> Option<f64> {
        let mut sources = self.sources();
        sources.retain(|_, reading| now.saturating_sub(reading.at) <= self.rule.max_age);
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if !expected.is_empty() {
            sources.retain(|source, _| expected.contains(source));
            if expected.iter().any(|source| !sources.contains_key(source)) {
                return None;
            }
        }
        let (sum, count) = sources
            .values()
            .filter_map(|reading| reading.means)
            .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<String, Reading>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn gauge(is_counter: bool) -> Gauge {
        Gauge::new(GaugeRule { max_age: secs(10), is_counter })
    }

    #[test]
    fn what_was_heard_counts_until_it_is_too_old() {
        let gauge = gauge(false);
        assert_eq!(gauge.read(secs(0)), None);
        gauge.hear("", 7.0, secs(1));
        assert_eq!((gauge.read(secs(11)), gauge.read(secs(12))), (Some(7.0), None));
    }

    #[test]
    fn several_sources_are_averaged_and_one_that_falls_silent_is_left_out() {
        let gauge = gauge(false);
        gauge.hear("a", 10.0, secs(1));
        gauge.hear("b", 30.0, secs(8));
        assert_eq!((gauge.read(secs(8)), gauge.read(secs(13))), (Some(20.0), Some(30.0)));
    }

    #[test]
    fn who_is_too_busy_to_answer_is_not_left_out() {
        let gauge = gauge(false);
        gauge.expect(["a", "b"].map(str::to_owned).into());
        gauge.hear("a", 0.0, secs(1));
        assert_eq!(gauge.read(secs(1)), None, "b has not answered");
        gauge.hear("b", 30.0, secs(2));
        gauge.hear("gone", 900.0, secs(2));
        assert_eq!(gauge.read(secs(2)), Some(15.0));
    }

    #[test]
    fn a_counter_means_its_growth_a_second_and_may_begin_anew() {
        let gauge = gauge(true);
        gauge.hear("a", 100.0, secs(1));
        assert_eq!(gauge.read(secs(1)), None, "one reading tells no growth");
        gauge.hear("a", 120.0, secs(5));
        assert_eq!(gauge.read(secs(5)), Some(5.0));
        gauge.hear("a", 8.0, secs(9));
        assert_eq!(gauge.read(secs(9)), Some(2.0), "the program was started again");
        gauge.hear("a", 8.0, secs(9));
        assert_eq!(gauge.read(secs(9)), Some(2.0), "the same moment twice tells nothing");
        // Beyond a silence nothing is known of when it grew.
        gauge.hear("a", 4000.0, secs(60));
        assert_eq!(gauge.read(secs(60)), None);
    }

    #[test]
    fn what_is_no_number_is_not_heard() {
        let gauge = gauge(false);
        gauge.hear("a", 3.0, secs(1));
        gauge.hear("a", f64::NAN, secs(2));
        gauge.hear("a", f64::INFINITY, secs(2));
        assert_eq!(gauge.read(secs(2)), Some(3.0));
    }
}
