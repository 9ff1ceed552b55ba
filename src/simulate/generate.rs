//! Traces made by rule, for what no recorded trace shows. The same seed gives the same trace.
//!
//! Arrivals are a Poisson process whose rate changes as the shape says; the work of a request is log-normal, as sizes of
//! requests and answers are where they were measured.

use std::f64::consts::TAU;
use std::time::Duration;

use fastrand::Rng;

use super::trace::{Request, Trace};

/// How the rate of arrivals changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Always the same.
    Constant,
    /// A sine over the day, from a fifth of the mean to nine fifths.
    Diurnal,
    /// A quiet base, and now and then ten times as much for less than a minute.
    Burst,
    /// A quiet base; every few hours a step to ten times as much within half a minute, which fades over half an hour.
    FlashCrowd,
    /// Up for four hours and down for four, in straight lines.
    Ramp,
    /// Ten minutes of load, twenty of almost none, a little irregular.
    OnOff,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Constant, Self::Diurnal, Self::Burst, Self::FlashCrowd, Self::Ramp, Self::OnOff];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Diurnal => "diurnal",
            Self::Burst => "burst",
            Self::FlashCrowd => "flash-crowd",
            Self::Ramp => "ramp",
            Self::OnOff => "on-off",
        }
    }
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// How the rate changes.
    pub shape: Shape,
    /// Requests a second, in the mean over a long time.
    pub rate: f64,
    /// How long.
    pub length: Duration,
    /// Mean time that a request takes at a replica.
    pub work: Duration,
    /// Standard deviation of the logarithm of that time; 0 makes all the same.
    pub work_spread: f64,
    /// Chooses one of all the traces of this recipe.
    pub seed: u64,
}

/// A stretch of time with a peak in it.
struct Episode {
    from: f64,
    to: f64,
}

const DAY: f64 = 86_400.0;

impl Recipe {
    /// The trace.
    pub fn make(&self) -> Trace {
        let mut chance = Rng::with_seed(self.seed ^ 0x7469_6465_6761_7465);
        let length = self.length.as_secs_f64();
        let episodes = self.episodes(&mut chance, length);
        let most = self.rate * self.peak();
        let mut requests = Vec::new();
        let (mut at, mut near) = (0.0, 0);
        if most <= 0.0 {
            return Trace::new(requests, self.length);
        }
        loop {
            at += -(1.0 - chance.f64()).ln() / most;
            if at >= length {
                return Trace::new(requests, self.length);
            }
            while episodes.get(near).is_some_and(|episode| episode.to <= at) {
                near += 1;
            }
            // Of all that could come at the highest rate, as many are kept as the rate of the moment is of that.
            if chance.f64() * most < self.rate * self.level(at, episodes.get(near)) {
                let work = self.work(&mut chance);
                requests.push(Request { at: Duration::from_secs_f64(at), work });
            }
        }
    }

    /// The highest rate, over the mean.
    fn peak(&self) -> f64 {
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Diurnal | Shape::Ramp => 1.8,
            Shape::Burst => 7.0,
            Shape::FlashCrowd => 6.0,
            Shape::OnOff => 2.8,
        }
    }

    /// The rate at a moment, over the mean.
    fn level(&self, at: f64, episode: Option<&Episode>) -> f64 {
        let inside = episode.filter(|episode| episode.from <= at);
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Diurnal => 1.0 - 0.8 * (TAU * at / DAY).cos(),
            Shape::Burst => inside.map_or(0.7, |_| 7.0),
            Shape::FlashCrowd => inside.map_or(0.6, |crowd| {
                let since = at - crowd.from;
                0.6 + 5.4 * (since / 30.0).min(1.0) * (-(since - 30.0).max(0.0) / 900.0).exp()
            }),
            Shape::Ramp => {
                let place = (at / (4.0 * 3600.0)) % 2.0;
                0.2 + 1.6 * if place < 1.0 { place } else { 2.0 - place }
            }
            Shape::OnOff => inside.map_or(0.1, |_| 2.8),
        }
    }

    fn episodes(&self, chance: &mut Rng, length: f64) -> Vec<Episode> {
        let mut exponential = |mean: f64| -> f64 { -(1.0 - chance.f64()).ln() * mean };
        let mut episodes = Vec::new();
        let mut at = 0.0;
        while at < length {
            let (wait, lasts) = match self.shape {
                Shape::Burst => (exponential(570.0), exponential(30.0)),
                Shape::FlashCrowd => (3600.0 + exponential(3.0 * 3600.0), 3600.0),
                // A tenth early or late.
                Shape::OnOff => {
                    let early_or_late = exponential(120.0).min(240.0);
                    (1200.0 - 120.0 + early_or_late, 600.0)
                }
                Shape::Constant | Shape::Diurnal | Shape::Ramp => return episodes,
            };
            episodes.push(Episode { from: at + wait, to: at + wait + lasts });
            at += wait + lasts;
        }
        episodes
    }

    fn work(&self, chance: &mut Rng) -> Duration {
        let spread = self.work_spread;
        // Box and Muller's normal variate; less half the variance, so that the mean is the one that was asked for.
        let normal = (-2.0 * (1.0 - chance.f64()).ln()).sqrt() * (TAU * chance.f64()).cos();
        self.work.mul_f64((spread * normal - spread * spread / 2.0).exp())
    }
}
