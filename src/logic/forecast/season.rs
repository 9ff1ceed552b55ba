//! A day of load, and the period at which it repeats.

use crate::archive::archived;

/// A day of slots.
pub(super) const DAY: usize = 21_600;
/// The period is sought in means of so many slots, half a minute.
const GRAIN: usize = 8;
/// It is sought again after so many slots, five minutes, where an hour or less is known; that takes four times as long where twice as much
/// is, so it is done half as often then.
const EVERY: u32 = 75;
const HOUR: usize = 900;
/// Fewer grains than this show no period.
const FEWEST: usize = 60;
/// Load that repeats is at least so much like itself one period ago.
const ALIKE: f64 = 0.5;
/// How many times shorter than the period it is by how much it comes early or late.
const BLUR: usize = 20;
/// Before a period is believed, the load must have been as unlike itself as this at a shorter distance.
const UNLIKE: f64 = 0.3;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Season {
    /// A ring; slot n is at n − 1 modulo its length. No number where nothing is known.
    loads: Vec<f32>,
    slots: usize,
    /// In slots; 0 while none is known.
    period: usize,
}

archived!(Season { loads, slots, period });

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

    /// So many slots of which nothing is known; after a day of them nothing is at all.
    pub(super) fn skip(&mut self, slots: u32) {
        let slots = slots as usize;
        if slots >= DAY {
            *self = Self { loads: vec![f32::NAN; DAY], slots: self.slots.saturating_add(slots), period: 0 };
            return;
        }
        (0..slots).for_each(|_| self.push(f64::NAN));
    }

    /// Whether it is as far as this, and as long as it has to be by then.
    pub(super) fn is_at(&self, slots: u32) -> bool {
        let slots = slots as usize;
        self.slots == slots && self.loads.len() == slots.min(DAY) && self.period <= DAY
    }

    pub(super) fn period(&self) -> Option<u32> {
        (self.period > 0).then(|| u32::try_from(self.period).unwrap_or(u32::MAX))
    }

    fn load(&self, index: usize) -> f64 {
        f64::from(self.loads[index % DAY])
    }

    pub(super) fn mean_of_last(&self, count: u32) -> f64 {
        let count = (count as usize).min(self.loads.len());
        mean((self.slots - count..self.slots).map(|index| self.load(index))).unwrap_or(0.0)
    }

    /// The load one period (or more) before a slot that is `ahead` of `origin`, the mean of up to three slots that end with it, as what comes is
    /// measured; `None` where no period is known, or nothing of that time.
    pub(super) fn at(&self, origin: u32, ahead: u32) -> Option<f64> {
        let (origin, ahead) = (origin as usize, ahead as usize);
        if self.period == 0 {
            return None;
        }
        let periods = ahead.div_ceil(self.period);
        let target = (origin + ahead).checked_sub(periods * self.period)?;
        if target + DAY < self.slots + 3 {
            return None;
        }
        // What repeats comes a little early or late.
        let around = self.period / BLUR;
        let last = (target + around).min(origin).max(target);
        mean((target.saturating_sub(ahead.min(3) + around)..last).map(|index| self.load(index)))
    }

    /// Seeks the period anew where it is time to: the first distance, beyond one at which the load is unlike itself, at which it is most
    /// like itself.
    pub(super) fn search(&mut self, slots: u32) {
        if !slots.is_multiple_of(EVERY) {
            return;
        }
        let known = self.loads.iter().filter(|load| load.is_finite()).count();
        if !slots.is_multiple_of(EVERY << (known / HOUR).max(1).ilog2()) {
            return;
        }
        let grains = self.grains();
        if grains.iter().filter(|grain| grain.is_finite()).count() < FEWEST {
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

    fn grains(&self) -> Vec<f64> {
        let count = self.slots.min(DAY) / GRAIN;
        let first = self.slots - count * GRAIN;
        let of_grain = |grain: usize| {
            let from = first + grain * GRAIN;
            mean((from..from + GRAIN).map(|index| self.load(index))).unwrap_or(f64::NAN)
        };
        (0..count).map(|grain| of_grain(grain).ln_1p()).collect()
    }
}

/// The mean of what is known; `None` where nothing is.
fn mean(loads: impl Iterator<Item = f64>) -> Option<f64> {
    let known = loads.filter(|load| load.is_finite());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), load| (sum + load, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Autocorrelation.
struct Likeness {
    grains: Vec<f64>,
    /// 1 where something is known, 0 where not; nothing where all is known.
    known: Vec<f64>,
    variance: f64,
}

impl Likeness {
    /// `None` where the load never changes.
    fn of(mut grains: Vec<f64>) -> Option<Self> {
        // Of nothing, before the first that is known, nothing follows.
        let first = grains.iter().position(|value| value.is_finite())?;
        grains.drain(..first);
        let usual = mean(grains.iter().copied())?;
        let variance = mean(grains.iter().map(|value| (value - usual) * (value - usual)))?;
        let is_whole = grains.iter().all(|value| value.is_finite());
        let known =
            if is_whole { Vec::new() } else { grains.iter().map(|v| f64::from(u8::from(v.is_finite()))).collect() };
        grains.iter_mut().for_each(|value| *value = if value.is_finite() { *value - usual } else { 0.0 });
        (variance > 1e-6).then_some(Self { grains, known, variance })
    }

    #[expect(clippy::cast_precision_loss, reason = "grains are few")]
    fn at(&self, lag: usize) -> f64 {
        let pairs = if self.known.is_empty() { (self.grains.len() - lag) as f64 } else { products(&self.known, lag) };
        // Few pairs, of those that lie across a gap, are alike by chance.
        if pairs * 4.0 < (self.grains.len() - lag) as f64 {
            return 0.0;
        }
        products(&self.grains, lag) / pairs.max(1.0) / self.variance
    }
}

/// The sum of the products of all values that lie so far apart.
fn products(values: &[f64], lag: usize) -> f64 {
    values.iter().zip(&values[lag..]).map(|(a, b)| a * b).sum()
}
