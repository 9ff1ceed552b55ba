//! The last samples, bounded by age and by number.

use std::collections::VecDeque;
use std::time::Duration;

use super::LoadSample;

/// Five minutes at twenty samples a second, the shortest tick: a window takes no more memory than this many samples.
const MAX_SAMPLES: usize = 6_000;

/// A ring of samples, oldest first.
#[derive(Clone, Debug)]
pub struct Window {
    max_age: Duration,
    samples: VecDeque<LoadSample>,
}

impl Window {
    /// A window that keeps what is at most `max_age` older than the newest sample.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, samples: VecDeque::new() }
    }

    /// Adds the newest sample and lets go of what is too old. A sample that is not newer than the last is dropped: time
    /// does not run backwards, and a double tick would count twice.
    pub fn push(&mut self, sample: LoadSample) {
        if self.latest().is_some_and(|last| sample.at <= last.at) {
            return;
        }
        let oldest = sample.at.saturating_sub(self.max_age);
        self.samples.push_back(sample);
        while self.samples.len() > MAX_SAMPLES || self.samples.front().is_some_and(|first| first.at < oldest) {
            self.samples.pop_front();
        }
    }

    /// The newest sample.
    #[must_use]
    pub fn latest(&self) -> Option<&LoadSample> {
        self.samples.back()
    }

    /// The time that the newest sample tells of; zero for the first.
    #[must_use]
    pub fn last_interval(&self) -> Duration {
        let before = self.samples.len().checked_sub(2).and_then(|index| self.samples.get(index));
        self.latest().zip(before).map_or(Duration::ZERO, |(last, before)| last.at.saturating_sub(before.at))
    }

    /// How many samples are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The mean of a field over the samples of the last `span`, the newest always among them. Samples are a tick apart,
    /// so each has the same weight. `None` where no sample has the field.
    pub fn mean(&self, span: Duration, field: impl Fn(&LoadSample) -> Option<f64>) -> Option<f64> {
        let newest = self.latest()?.at;
        let (mut sum, mut count) = (0.0, 0.0);
        for value in self.samples.iter().rev().take_while(|sample| is_within(newest, sample.at, span)).filter_map(field)
        {
            sum += value;
            count += 1.0;
        }
        (count > 0.0).then(|| sum / count)
    }
}

/// A sample tells of the time before it, so the one exactly `span` old tells of what lies outside.
fn is_within(newest: Duration, at: Duration, span: Duration) -> bool {
    at == newest || newest.saturating_sub(at) < span
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::HostLoad;

    fn sample(second: u64, cpu: f64) -> LoadSample {
        let host = HostLoad { cpu: Some(cpu), ..HostLoad::default() };
        LoadSample { at: Duration::from_secs(second), host, ..LoadSample::default() }
    }

    fn filled() -> Window {
        let mut window = Window::new(Duration::from_secs(60));
        for second in 1..=100_u32 {
            window.push(sample(u64::from(second), f64::from(second)));
        }
        window
    }

    #[test]
    fn keeps_what_is_young_enough() {
        assert_eq!(filled().len(), 61);
    }

    #[test]
    fn short_and_long_means_look_back_as_far_as_asked() {
        let window = filled();
        let mean = |seconds| window.mean(Duration::from_secs(seconds), |sample| sample.host.cpu);
        assert_eq!(mean(0), Some(100.0));
        assert_eq!(mean(1), Some(100.0));
        assert_eq!(mean(3), Some(99.0));
        assert_eq!(mean(1_000), Some(70.0));
    }

    #[test]
    fn a_field_that_no_sample_has_has_no_mean() {
        assert_eq!(filled().mean(Duration::from_secs(5), |sample| sample.host.network), None);
        assert_eq!(Window::new(Duration::from_secs(5)).mean(Duration::from_secs(5), |s| s.host.cpu), None);
    }

    #[test]
    fn a_sample_from_the_past_is_dropped() {
        let mut window = filled();
        window.push(sample(50, 0.0));
        assert_eq!(window.latest().map(|last| last.at), Some(Duration::from_secs(100)));
    }

    #[test]
    fn a_fast_tick_cannot_fill_the_memory() {
        let mut window = Window::new(Duration::from_secs(1_000_000));
        for tick in 1..10_000 {
            window.push(sample(tick, 0.0));
        }
        assert_eq!(window.len(), MAX_SAMPLES);
    }
}
