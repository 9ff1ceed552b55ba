//! How long the load stays above a height, once it is: its excursions.

use super::{HEIGHTS, SLOT, height, log};
use crate::archive::archived;

/// The load here is the mean of so many slots: the chance of one slot is no excursion.
pub(super) const WIDTH: u32 = 3;
/// One of so many seconds is assumed at each height before any was seen.
const ASSUMED: f64 = 15.0;
/// What a slot weighs after the next one of the same height.
const KEEP: f32 = 0.9999;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Above {
    /// How many slots the load was above it, and in how many excursions, older ones fading.
    slots: f32,
    times: f32,
    is_now: bool,
}

/// What was seen of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excursions {
    heights: [Above; HEIGHTS],
}

archived!(Above { slots, times, is_now });
archived!(Excursions { heights });

impl Excursions {
    /// Takes in the load of another slot.
    pub(super) fn learn(&mut self, load: f64) {
        let height = height(load);
        for (at, above) in self.heights.iter_mut().enumerate() {
            if at <= height {
                let began = if above.is_now { 0.0 } else { 1.0 };
                (above.slots, above.times) = (above.slots * KEEP + 1.0, above.times * KEEP + began);
            }
            above.is_now = at <= height;
        }
    }

    /// Nobody knows how those of now went on.
    pub(super) fn interrupt(&mut self) {
        self.heights.iter_mut().for_each(|above| above.is_now = false);
    }

    /// How many seconds the load stays above this one, on the mean.
    pub fn last_above(&self, load: f64) -> f64 {
        let mean = |height: usize| {
            let Above { slots, times, .. } = self.heights[height];
            (f64::from(slots) * SLOT.as_secs_f64() + ASSUMED) / (f64::from(times) + 1.0)
        };
        let height = height(load).min(HEIGHTS - 2);
        #[expect(clippy::cast_precision_loss, reason = "heights are few")]
        let share = (2.0 * log(load) - height as f64).clamp(0.0, 1.0);
        mean(height) * (1.0 - share) + mean(height + 1) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_long_load_stays_above_each_height() {
        let mut excursions = Excursions::default();
        assert!((excursions.last_above(10.0) - ASSUMED).abs() < 1e-9, "nothing was seen");
        // Two minutes at 20, ten at 3, for a day.
        for slot in 0..21_600 {
            excursions.learn(if slot % 180 < 30 { 20.0 } else { 3.0 });
        }
        let burst = excursions.last_above(10.0);
        assert!((110.0..130.0).contains(&burst), "{burst} s");
        assert!(excursions.last_above(1.0) > 10_000.0, "it is always above this");
        assert!((excursions.last_above(100.0) - ASSUMED).abs() < 1e-9, "it never was above this");
        assert!((excursions.last_above(1e12) - ASSUMED).abs() < 1e-9);
    }

    #[test]
    fn a_gap_ends_one() {
        let mut excursions = Excursions::default();
        for _ in 0..10 {
            (0..30).for_each(|_| excursions.learn(20.0));
            excursions.interrupt();
        }
        let lasts = excursions.last_above(5.0);
        assert!((105.0..125.0).contains(&lasts), "{lasts} s");
    }
}
