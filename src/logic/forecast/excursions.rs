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
pub(super) struct Excursions {
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

    /// How long the load stays above each height, on the mean. No longer above a greater one than above a lesser one: a surge that is long
    /// above the greater one is at least as long above the lesser one, if blips that end before are many there.
    pub(super) fn lengths(&self) -> Lengths {
        let mut lengths = [ASSUMED; HEIGHTS];
        let mut longest: Option<f64> = None;
        for (length, above) in lengths.iter_mut().zip(&self.heights).rev().filter(|(_, above)| above.times > 0.0) {
            let mean = (f64::from(above.slots) * SLOT.as_secs_f64() + ASSUMED) / (f64::from(above.times) + 1.0);
            *length = longest.map_or(mean, |longest| longest.max(mean));
            longest = Some(*length);
        }
        // What was never reached is not assumed to last longer than what was.
        for height in 1..HEIGHTS {
            lengths[height] = lengths[height].min(lengths[height - 1]);
        }
        Lengths(lengths)
    }
}

/// How long the load stays above each height, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths([f64; HEIGHTS]);

impl Lengths {
    /// How long it stays above this load.
    pub fn above(&self, load: f64) -> f64 {
        let height = height(load).min(HEIGHTS - 2);
        #[expect(clippy::cast_precision_loss, reason = "heights are few")]
        let share = (2.0 * log(load) - height as f64).clamp(0.0, 1.0);
        self.0[height] * (1.0 - share) + self.0[height + 1] * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_long_load_stays_above_each_height() {
        let mut excursions = Excursions::default();
        assert!((excursions.lengths().above(10.0) - ASSUMED).abs() < 1e-9, "nothing was seen");
        // Two minutes at 20, ten at 3, for a day.
        for slot in 0..21_600 {
            excursions.learn(if slot % 180 < 30 { 20.0 } else { 3.0 });
        }
        let lengths = excursions.lengths();
        let burst = lengths.above(10.0);
        assert!((110.0..130.0).contains(&burst), "{burst} s");
        assert!(lengths.above(1.0) > 10_000.0, "it is always above this");
        assert!((lengths.above(100.0) - ASSUMED).abs() < 1e-9, "it never was above this");
        assert!((lengths.above(1e12) - ASSUMED).abs() < 1e-9);
    }

    #[test]
    fn a_load_stays_no_longer_above_more() {
        let mut excursions = Excursions::default();
        // For a day a blip of eight seconds in each minute, then five minutes far above it.
        (0..21_600).for_each(|slot| excursions.learn(if slot % 15 < 2 { 12.0 } else { 3.0 }));
        (0..75).for_each(|_| excursions.learn(60.0));
        let lengths: Vec<f64> = (0..200).map(|load| excursions.lengths().above(f64::from(load))).collect();
        assert!(lengths.is_sorted_by(|less, more| less >= more), "{lengths:?}");
        assert!(lengths[16] > 100.0, "{} s", lengths[16]);
    }

    #[test]
    fn what_was_never_reached_lasts_no_longer_than_what_was() {
        let mut excursions = Excursions::default();
        (0..21_600).for_each(|slot| excursions.learn(if slot % 15 < 2 { 12.0 } else { 0.0 }));
        let [seen, beyond] = [10.0, 40.0].map(|load| excursions.lengths().above(load));
        assert!((7.9..8.2).contains(&seen) && beyond <= seen, "{seen} s and {beyond} s");
    }

    #[test]
    fn a_gap_ends_one() {
        let mut excursions = Excursions::default();
        for _ in 0..10 {
            (0..30).for_each(|_| excursions.learn(20.0));
            excursions.interrupt();
        }
        let lasts = excursions.lengths().above(5.0);
        assert!((105.0..125.0).contains(&lasts), "{lasts} s");
    }
}
