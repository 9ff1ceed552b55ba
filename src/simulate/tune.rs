//! Policies with their parameters, and the search for the best ones.

use std::fmt;
use std::time::Duration;

use super::baseline::{Hpa, Planned, Ray, SkyServe, Wish};
use super::contest::{Contender, Terms, loss};
use super::engine::{Rule, World, play};
use super::own::Own;
use super::trace::Trace;
use crate::logic::policy::{Metric, Policy, concurrency, threshold};

/// A policy that has parameters, with a choice of them. Targets are shares of what a replica takes at once, times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tuned {
    /// The threshold, and replicas a minute.
    Threshold(f64, f64),
    /// Knative: target, stable window, scale-down delay.
    Kpa(f64, u64, u64),
    /// Kubernetes: target, stabilisation window of the way down.
    Hpa(f64, u64),
    /// Ray Serve: target, delays of the way up and of the way down.
    Ray(f64, u64, u64),
    /// SkyServe: target, delays of the way up and of the way down.
    SkyServe(f64, u64, u64),
}

const TARGETS: [f64; 5] = [0.4, 0.55, 0.7, 0.85, 1.0];

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threshold(target, factor) => write!(f, "threshold {target}, {factor} a minute"),
            Self::Kpa(target, window, delay) => write!(f, "target {target}, window {window} s, delay {delay} s"),
            Self::Hpa(target, down) => write!(f, "target {target}, down after {down} s"),
            Self::Ray(target, up, down) | Self::SkyServe(target, up, down) => {
                write!(f, "target {target}, up after {up} s, down after {down} s")
            }
        }
    }
}

impl Tuned {
    /// As documented; `None` for who has no parameters.
    pub fn defaults(contender: Contender, world: &World) -> Option<Self> {
        let slots = f64::from(world.concurrency);
        Some(match contender {
            Contender::Threshold => Self::Threshold(0.80, 2.0),
            Contender::Kpa => Self::Kpa(0.7, 60, 0),
            Contender::Hpa => Self::Hpa(0.7, 300),
            Contender::Ray => Self::Ray(slots.min(2.0) / slots, 30, 600),
            Contender::SkyServe => Self::SkyServe(0.7, 300, 1200),
            Contender::Predictive
            | Contender::Without(_)
            | Contender::Static(_)
            | Contender::BestStatic
            | Contender::Reactive
            | Contender::Optimum => return None,
        })
    }

    /// What the search tries; nothing for who has no parameters.
    pub fn grid(contender: Contender) -> Vec<Self> {
        match contender {
            Contender::Threshold => {
                pairs([1.0, 2.0, 6.0, 20.0]).map(|(t, factor)| Self::Threshold(t, factor)).collect()
            }
            Contender::Kpa => triples([30, 60, 180], [0, 300, 900]).map(|(t, a, b)| Self::Kpa(t, a, b)).collect(),
            Contender::Hpa => pairs([0, 60, 300, 900]).map(|(t, down)| Self::Hpa(t, down)).collect(),
            Contender::Ray => triples([0, 10, 30], [60, 300, 600]).map(|(t, a, b)| Self::Ray(t, a, b)).collect(),
            Contender::SkyServe => {
                triples([20, 60, 300], [60, 300, 1200]).map(|(t, a, b)| Self::SkyServe(t, a, b)).collect()
            }
            Contender::Predictive
            | Contender::Without(_)
            | Contender::Static(_)
            | Contender::BestStatic
            | Contender::Reactive
            | Contender::Optimum => Vec::new(),
        }
    }

    /// Whoever decides so.
    pub fn rule(self, world: &World, terms: Terms) -> Box<dyn Rule> {
        let slots = f64::from(world.concurrency);
        let seconds = Duration::from_secs;
        match self {
            Self::Threshold(threshold, scale_factor) => {
                let (metric, interval, band) = (Metric::Utilisation, seconds(60), threshold / 8.0);
                let config = threshold::Config { metric, threshold, scale_factor, interval, band };
                Box::new(Own::new(Policy::Threshold(config), world))
            }
            Self::Kpa(target, window, delay) => {
                let config = concurrency::Config {
                    target: target * slots,
                    stable_window: seconds(window),
                    // A tenth, as Knative has it.
                    panic_window: seconds((window / 10).max(2)),
                    scale_down_delay: seconds(delay),
                    ..concurrency::Config::new(world.concurrency)
                };
                Box::new(Own::new(Policy::Concurrency(config), world))
            }
            Self::Hpa(target, down) => planned(Hpa::new(target * slots, seconds(down)), world),
            Self::Ray(target, up, down) => planned(Ray::new(target * slots, seconds(up), seconds(down)), world),
            Self::SkyServe(target, up, down) => {
                let bears = target * slots / terms.mean_work.as_secs_f64().max(1e-6);
                planned(SkyServe::new(bears, seconds(up), seconds(down)), world)
            }
        }
    }
}

fn pairs<T: Copy + 'static>(others: [T; 4]) -> impl Iterator<Item = (f64, T)> {
    TARGETS.into_iter().flat_map(move |target| others.into_iter().map(move |other| (target, other)))
}

fn triples(first: [u64; 3], second: [u64; 3]) -> impl Iterator<Item = (f64, u64, u64)> {
    let both = move || first.into_iter().flat_map(move |a| second.into_iter().map(move |b| (a, b)));
    TARGETS.into_iter().flat_map(move |target| both().map(move |(a, b)| (target, a, b)))
}

pub(super) fn planned<W: Wish + 'static>(wish: W, world: &World) -> Box<dyn Rule> {
    Box::new(Planned::new(wish, world.local, world.max_replicas))
}

/// The parameters that would have lost least on a trace; `None` for who has none.
pub fn best(
    contender: Contender,
    trace: &Trace,
    world: &World,
    terms: Terms,
    progress: &mut dyn FnMut(f64),
) -> Option<Tuned> {
    let grid = Tuned::grid(contender);
    let all = grid.len().max(1);
    let mut best: Option<(f64, Tuned)> = None;
    for (tried, tuned) in grid.into_iter().enumerate() {
        let outcome = play(trace, world, tuned.rule(world, terms).as_mut(), &mut |_| {});
        let loss = loss(&outcome, world, terms.late_price);
        if best.is_none_or(|(least, _)| loss < least) {
            best = Some((loss, tuned));
        }
        #[expect(clippy::cast_precision_loss, reason = "a grid has some dozens")]
        progress((tried + 1) as f64 / all as f64);
    }
    best.map(|(_, tuned)| tuned)
}
