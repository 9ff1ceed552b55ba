//! A day of load, and the period at which it repeats.

/// A day of slots.
const DAY: usize = 21_600;
/// The period is sought in means of so many slots, half a minute.
const GRAIN: usize = 8;
/// It is sought again after so many slots, five minutes.
const EVERY: u32 = 75;
/// Fewer grains than this show no period.
const FEWEST: usize = 60;
/// Load that repeats is at least so much like itself one period ago.
const ALIKE: f64 = 0.5;
/// Before a period is believed, the load must have been as unlike itself as this at a shorter distance.
const UNLIKE: f64 = 0.3;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Season {
    /// A ring; slot n is at n − 1 modulo its length.
    loads: Vec<f32>,
    slots: usize,
    /// In slots; 0 while none is known.
    period: usize,
}

impl Season {
    #[expect(clippy::cast_possible_truncation, reason = "a float of less precision is enough")]
    pub(super) fn push(&mut self, load: f64) {
        // Grows with what is known, up to a day: most services are forgotten before.
        if self.loads.len() < DAY {
            self.loads.push(load as f32);
        } else {
            self.loads[self.slots % DAY] = load as f32;
        }
        self.slots += 1;
    }

    pub(super) fn period(&self) -> Option<u32> {
        (self.period > 0).then(|| u32::try_from(self.period).unwrap_or(u32::MAX))
    }

    fn load(&self, index: usize) -> f64 {
        f64::from(self.loads[index % DAY])
    }

    #[expect(clippy::cast_precision_loss, reason = "slots are few")]
    pub(super) fn mean_of_last(&self, count: u32) -> f64 {
        let count = (count as usize).clamp(1, self.slots.max(1)).min(self.loads.len());
        (self.slots - count..self.slots).map(|index| self.load(index)).sum::<f64>() / count.max(1) as f64
    }

    /// The load one period (or more) before a slot that is `ahead` of `origin`, the mean of three slots around it; `None` where no
    /// period is known, or nothing of that time.
    pub(super) fn at(&self, origin: u32, ahead: u32) -> Option<f64> {
        let (origin, ahead) = (origin as usize, ahead as usize);
        if self.period == 0 {
            return None;
        }
        let periods = (ahead + 1).div_ceil(self.period).max(1);
        let target = (origin + ahead).checked_sub(periods * self.period)?;
        if target + DAY < self.slots + 3 {
            return None;
        }
        let known = |index: &usize| *index < origin && *index < self.slots;
        let (sum, count) = (target.saturating_sub(1)..=target + 1)
            .filter(known)
            .fold((0.0, 0.0), |(sum, count), index| (sum + self.load(index), count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// Seeks the period anew where it is time to: the first distance, beyond one at which the load is unlike itself, at which it is most
    /// like itself.
    pub(super) fn search(&mut self, slots: u32) {
        if !slots.is_multiple_of(EVERY) {
            return;
        }
        let grains = self.grains();
        if grains.len() < FEWEST {
            return;
        }
        let Some(likeness) = Likeness::of(grains) else {
            self.period = 0;
            return;
        };
        let (mut best, mut most, mut was_unlike, mut lag) = (0, ALIKE, false, 4);
        while lag <= likeness.grains.len() / 2 {
            let alike = likeness.at(lag);
            was_unlike |= alike < UNLIKE;
            if was_unlike && alike > most + 0.02 {
                (best, most) = (lag, alike);
            }
            // Longer distances more coarsely: a day costs no more than a few hundred looks.
            lag += 1 + lag / 64;
        }
        self.period = if best == 0 { 0 } else { self.to_the_slot(best * GRAIN) };
    }

    /// Grains are coarse beside a short period: of the periods near one, the one at which the slots are most alike.
    fn to_the_slot(&self, period: usize) -> usize {
        let first = self.slots - self.slots.min(DAY);
        let slots = (first..self.slots).map(|index| self.load(index).ln_1p()).collect();
        let Some(likeness) = Likeness::of(slots) else { return period };
        let near = period - GRAIN + 1..=(period + GRAIN - 1).min(likeness.grains.len() - 1);
        near.max_by(|a, b| likeness.at(*a).total_cmp(&likeness.at(*b))).unwrap_or(period)
    }

    #[expect(clippy::cast_precision_loss, reason = "grains are few")]
    fn grains(&self) -> Vec<f64> {
        let count = self.slots.min(DAY) / GRAIN;
        let first = self.slots - count * GRAIN;
        let mean = |grain: usize| {
            let from = first + grain * GRAIN;
            (from..from + GRAIN).map(|index| self.load(index)).sum::<f64>() / GRAIN as f64
        };
        (0..count).map(|grain| mean(grain).ln_1p()).collect()
    }
}

/// Autocorrelation.
struct Likeness {
    grains: Vec<f64>,
    variance: f64,
}

impl Likeness {
    /// `None` where the load never changes.
    #[expect(clippy::cast_precision_loss, reason = "grains are few")]
    fn of(mut grains: Vec<f64>) -> Option<Self> {
        let count = grains.len() as f64;
        let mean = grains.iter().sum::<f64>() / count;
        grains.iter_mut().for_each(|value| *value -= mean);
        let variance = grains.iter().map(|value| value * value).sum::<f64>() / count;
        (variance > 1e-6).then_some(Self { grains, variance })
    }

    #[expect(clippy::cast_precision_loss, reason = "grains are few")]
    fn at(&self, lag: usize) -> f64 {
        let pairs = self.grains.iter().zip(&self.grains[lag..]);
        pairs.map(|(a, b)| a * b).sum::<f64>() / (self.grains.len() - lag) as f64 / self.variance
    }
}
