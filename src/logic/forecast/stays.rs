//! How long the load stays near one level, by how long it has been there: a pause that always lasts twenty minutes is expected to end when it is
//! that old, and not before.
//!
//! For each level and each age of a stay it is counted how often it ended (the hazard rate). Where that does not change with age, as where
//! bursts come at random, an age tells nothing; else it makes the odds that the load stays greater or smaller than they are at any age.

use super::log;
use crate::archive::archived;

/// The load stays while it is within so many doublings of 1 + load; further away it has gone to another level.
const NEAR: f64 = 1.0;
/// A level follows the load by this share a slot: what changes slowly does not leave it.
const FOLLOWS: f64 = 0.05;
/// Levels, a doubling each: up to 16,000 requests at a time.
const LEVELS: usize = 15;
/// Ages, a quarter of a doubling each: up to an hour, and all that are older.
const AGES: usize = 40;
/// What a slot weighs after the next one of the same level and age.
const KEEP: f32 = 0.9999;
/// Of each age as many ends are assumed as there would be at any age: at least so many, and at most where ages do not differ by more than chance.
const ASSUMED: [f64; 2] = [0.3, 1e4];
/// An age tells nothing before so many stays of a level have ended.
const FEW: f64 = 4.0;
/// What an age tells changes the odds by no more than so many times.
const MOST: f64 = 50.0;

/// Slots of one level and age, and how many of them ended a stay, older ones fading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    slots: f32,
    ends: f32,
}

/// What was seen of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stays {
    seen: Vec<[Seen; AGES]>,
    /// The level of now, as a logarithm.
    level: Option<f64>,
    /// For how many slots it has been; nobody knows of the first one.
    age: Option<u32>,
}

archived!(Seen { slots, ends });
archived!(Stays { seen, level, age });

impl Default for Stays {
    fn default() -> Self {
        Self { seen: vec![[Seen::default(); AGES]; LEVELS], level: None, age: None }
    }
}

impl Stays {
    /// Takes in the load of another slot.
    pub(super) fn learn(&mut self, load: f64) {
        let log = log(load);
        let Some(level) = self.level else { return self.level = Some(log) };
        let ends = (log - level).abs() >= NEAR;
        if let Some(age) = self.age {
            let seen = &mut self.seen[which(level)][class(age)];
            let ended = if ends { 1.0 } else { 0.0 };
            *seen = Seen { slots: seen.slots * KEEP + 1.0, ends: seen.ends * KEEP + ended };
        }
        if ends {
            (self.level, self.age) = (Some(log), Some(0));
        } else {
            self.level = Some(level + FOLLOWS * (log - level));
            self.age = self.age.map(|age| age.saturating_add(1));
        }
    }

    /// Nobody knows how that of now went on.
    pub(super) fn interrupt(&mut self) {
        (self.level, self.age) = (None, None);
    }

    /// The stay of now, where its age tells something.
    pub(super) fn stay(&self) -> Option<Stay> {
        let (level, age) = (self.level?, self.age?);
        let seen = &self.seen[which(level)];
        let slots: f64 = seen.iter().map(|seen| f64::from(seen.slots)).sum();
        let ends: f64 = seen.iter().map(|seen| f64::from(seen.ends)).sum();
        if ends < FEW {
            return None;
        }
        let rate = ends / slots;
        let assumed = assumed(seen, rate);
        let all: f64 = self.seen.iter().flatten().map(|seen| f64::from(seen.slots)).sum();
        Some(Stay {
            age,
            rates: seen.map(|seen| (f64::from(seen.ends) + assumed) / (f64::from(seen.slots) + assumed / rate)),
            rate,
            share: slots / all,
            away: ((all - slots) / ends).max(1.0),
            near: [level - NEAR, level + NEAR].map(|edge| edge.exp2() - 1.0),
        })
    }

    /// Whether what was read can be.
    pub(super) fn is_sound(&self) -> bool {
        let is_count = |count: f32| count.is_finite() && count >= 0.0;
        let counts = self.seen.iter().flatten().all(|seen| is_count(seen.slots) && is_count(seen.ends));
        self.seen.len() == LEVELS && counts && self.level.is_none_or(|level| (0.0..1e3).contains(&level))
    }
}

/// How many ends are to be assumed of each age (empirical Bayes): rates of ages are taken to be gamma distributed around the rate of all and ends to be
/// Poisson distributed around those; by its moments, that distribution is wider the more the ends differ from what chance would make of them.
fn assumed(seen: &[Seen; AGES], rate: f64) -> f64 {
    let (mut squares, mut beyond_chance) = (0.0, 0.0);
    for age in seen {
        let expected = f64::from(age.slots) * rate;
        squares += expected * expected;
        beyond_chance += (f64::from(age.ends) - expected).powi(2) - expected;
    }
    let [least, most] = ASSUMED;
    if beyond_chance > 0.0 { (squares / beyond_chance).clamp(least, most) } else { most }
}

/// A stay that goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stay {
    /// Slots since it began.
    age: u32,
    /// How many end in a slot, by age, and at any age.
    rates: [f64; AGES],
    rate: f64,
    /// The share of all time in which the load is at this level, and for how many slots it is away from it on the mean.
    share: f64,
    away: f64,
    /// The least and the greatest load of it.
    near: [f64; 2],
}

impl Stay {
    /// By how many times the odds that the load is near after so many slots are greater than if nobody knew for how long it has been.
    pub(super) fn odds(&self, slots: u16) -> f64 {
        let back = self.share * (1.0 - (-f64::from(slots) / self.away).exp());
        let odds = |ends: f64| {
            let stays = (-ends).exp();
            let near = stays + (1.0 - stays) * back;
            near / (1.0 - near).max(1e-6)
        };
        (odds(self.ends(slots)) / odds(self.rate * f64::from(slots))).clamp(1.0 / MOST, MOST)
    }

    /// How many ends are to be expected within so many slots (the cumulative hazard).
    fn ends(&self, slots: u16) -> f64 {
        let mut at = f64::from(self.age);
        let end = at + f64::from(slots);
        let mut ends = 0.0;
        for (class, rate) in self.rates.iter().enumerate().skip(class(self.age)) {
            let to = if class + 1 < AGES { first_age(class + 1).min(end) } else { end };
            ends += (to - at).max(0.0) * rate;
            at = at.max(to);
        }
        ends
    }

    /// Whether a load is of this level.
    pub(super) fn is_near(&self, load: f64) -> bool {
        (self.near[0]..=self.near[1]).contains(&load)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a logarithm of 1 + load is not below 0")]
fn which(level: f64) -> usize {
    (level.round() as usize).min(LEVELS - 1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a logarithm of at least 1 is not below 0")]
fn class(age: u32) -> usize {
    (((f64::from(age) + 1.0).log2() * 4.0) as usize).min(AGES - 1)
}

/// The age with which a class begins.
#[expect(clippy::cast_precision_loss, reason = "classes are few")]
fn first_age(class: usize) -> f64 {
    (class as f64 / 4.0).exp2() - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many slots of each load in turn, as often as told.
    fn seen(turns: &[(u32, f64)], times: u32) -> Stays {
        let mut stays = Stays::default();
        for _ in 0..times {
            turns.iter().for_each(|(slots, load)| (0..*slots).for_each(|_| stays.learn(*load)));
        }
        stays
    }

    /// By how many times the odds to be near a minute later are greater, after so many slots.
    fn odds(stays: &Stays, slots: u32, load: f64) -> f64 {
        let mut stays = stays.clone();
        (0..slots).for_each(|_| stays.learn(load));
        stays.stay().map_or(1.0, |stay| stay.odds(15))
    }

    #[test]
    fn a_pause_that_always_lasts_as_long_ends_when_it_is_that_old() {
        // Twenty minutes of one request at a time, ten of twenty.
        let stays = seen(&[(300, 1.0), (150, 20.0)], 20);
        let [young, middle, old] = [30, 150, 290].map(|slots| odds(&stays, slots, 1.0));
        assert!(young > 1.2 && middle > 2.0, "{young} and {middle}");
        assert!(old < 0.5, "{old}");
    }

    #[test]
    fn where_stays_end_at_any_age_their_age_tells_little() {
        let mut chance = fastrand::Rng::with_seed(3);
        let mut stays = Stays::default();
        for slot in 0..100_000 {
            // A burst each ten minutes or so.
            let load = if slot % 2 == 0 && chance.u32(..75) == 0 { 20.0 } else { 1.0 };
            stays.learn(load);
        }
        stays.learn(20.0);
        for slots in [10, 40, 100, 200] {
            let odds = odds(&stays, slots, 1.0);
            assert!((0.4..2.5).contains(&odds), "{odds} after {slots}");
        }
    }

    #[test]
    fn so_much_is_assumed_of_an_age_as_ages_are_alike() {
        let [least, most] = ASSUMED;
        let alike = [Seen { slots: 1000.0, ends: 10.0 }; AGES];
        assert_eq!(assumed(&alike, 0.01), most);
        let mut one = alike.map(|seen| Seen { ends: 0.0, ..seen });
        one[30].ends = 400.0;
        assert_eq!(assumed(&one, 0.01), least);
        // Ends are 10 or so, with a variance of 25, of which chance makes 10.
        let mut between = alike;
        between.iter_mut().enumerate().for_each(|(age, seen)| seen.ends = if age % 2 == 0 { 5.0 } else { 15.0 });
        let expected = 100.0 / (25.0 - 10.0);
        assert!((assumed(&between, 0.01) - expected).abs() < 1e-6, "{}", assumed(&between, 0.01));
    }

    #[test]
    fn nothing_is_told_of_a_stay_whose_beginning_nobody_saw() {
        let mut stays = seen(&[(300, 1.0), (150, 20.0)], 20);
        assert!(stays.stay().is_some());
        stays.interrupt();
        (0..100).for_each(|_| stays.learn(1.0));
        assert_eq!(stays.stay(), None);
        stays.learn(20.0);
        assert!(stays.stay().is_some_and(|stay| stay.is_near(20.0) && !stay.is_near(1.0)));
    }

    #[test]
    fn what_changes_slowly_stays() {
        let mut stays = Stays::default();
        // Up twentyfold in a day.
        (0..21_600).for_each(|slot| stays.learn(1.0 + f64::from(slot) / 1080.0));
        assert_eq!(stays.age, None);
    }

    #[test]
    fn a_hazard_is_added_up_over_the_ages_that_come() {
        let mut rates = [0.01; AGES];
        rates[class(31)] = 0.1;
        let stay = Stay { age: 15, rates, rate: 0.01, share: 0.5, away: 100.0, near: [0.0, 1.0] };
        let in_class = first_age(class(31) + 1) - first_age(class(31));
        let expected = 0.01 * (100.0 - in_class) + 0.1 * in_class;
        assert!((stay.ends(100) - expected).abs() < 1e-9, "{} and {expected}", stay.ends(100));
        assert!(stay.ends(u16::MAX).is_finite());
    }
}
