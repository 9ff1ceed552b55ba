//! Several rules against the same trace.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::baseline::{Foresight, Hpa, Planned, Ray, SkyServe, Static};
use super::engine::{Outcome, Rule, World, play};
use super::optimum;
use super::own::Own;
use super::trace::Trace;
use crate::logic::policy::{Metric, Policy, concurrency, predictive, threshold};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The node's policy `predictive`.
    Predictive,
    /// The node's policy `concurrency`, which is Knative's KPA.
    Kpa,
    /// The node's policy `threshold`.
    Threshold,
    /// Kubernetes' horizontal pod autoscaler.
    Hpa,
    /// Ray Serve.
    Ray,
    /// SkyServe.
    SkyServe,
    /// So many at all times, local ones included.
    Static(u32),
    /// The number that, at all times, would have cost least.
    BestStatic,
    /// Somebody who knew the trace.
    Optimum,
}

impl Contender {
    /// What they are called, in the order in which they are documented.
    pub const NAMES: [&str; 10] = [
        "predictive",
        "concurrency",
        "threshold",
        "kpa",
        "hpa",
        "ray",
        "skyserve",
        "static:N",
        "best-static",
        "optimum",
    ];
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predictive => f.write_str("predictive"),
            Self::Kpa => f.write_str("kpa"),
            Self::Threshold => f.write_str("threshold"),
            Self::Hpa => f.write_str("hpa"),
            Self::Ray => f.write_str("ray"),
            Self::SkyServe => f.write_str("skyserve"),
            Self::Static(count) => write!(f, "static:{count}"),
            Self::BestStatic => f.write_str("best-static"),
            Self::Optimum => f.write_str("optimum"),
        }
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "predictive" => Self::Predictive,
            "kpa" | "concurrency" => Self::Kpa,
            "threshold" => Self::Threshold,
            "hpa" => Self::Hpa,
            "ray" => Self::Ray,
            "skyserve" => Self::SkyServe,
            "best-static" => Self::BestStatic,
            "optimum" => Self::Optimum,
            other => {
                let count = other.strip_prefix("static:").and_then(|count| count.parse().ok());
                let known = Self::NAMES.join(", ");
                Self::Static(count.ok_or_else(|| format!("there is no policy {other:?}; there are {known}"))?)
            }
        })
    }
}

/// What the contenders are told beside the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What a late request costs, as the time of a replica that costs as much.
    pub late_price: Duration,
    /// Mean time that a request takes at a replica, for SkyServe, whose operator must know it.
    pub mean_work: Duration,
}

/// Plays one of them.
pub fn run(contender: Contender, trace: &Trace, world: &World, terms: Terms, progress: &mut dyn FnMut(f64)) -> Outcome {
    let mut rule: Box<dyn Rule> = match contender {
        Contender::BestStatic => return best_static(trace, world, terms, progress),
        Contender::Predictive | Contender::Kpa | Contender::Threshold => {
            Box::new(Own::new(policy(contender, world, terms), world))
        }
        Contender::Hpa => planned(Hpa::new(0.7 * f64::from(world.concurrency), Duration::from_secs(300)), world),
        Contender::Ray => planned(
            Ray::new(f64::from(world.concurrency.min(2)), Duration::from_secs(30), Duration::from_secs(600)),
            world,
        ),
        Contender::SkyServe => {
            let bears = 0.7 * f64::from(world.concurrency) / terms.mean_work.as_secs_f64().max(1e-6);
            planned(SkyServe::new(bears, Duration::from_secs(300), Duration::from_secs(1200)), world)
        }
        Contender::Static(count) => planned(Static(count), world),
        Contender::Optimum => planned(Foresight::new(optimum::plan(trace, world, terms.late_price)), world),
    };
    play(trace, world, rule.as_mut(), progress)
}

fn planned<W: super::baseline::Wish + 'static>(wish: W, world: &World) -> Box<dyn Rule> {
    Box::new(Planned::new(wish, world.local, world.max_replicas))
}

/// The node's policy with its defaults.
fn policy(contender: Contender, world: &World, terms: Terms) -> Policy {
    match contender {
        Contender::Predictive => Policy::Predictive(predictive::Config {
            concurrency: world.concurrency,
            late_after: world.slo_wait,
            late_price: Some(terms.late_price),
        }),
        Contender::Kpa => Policy::Concurrency(concurrency::Config::new(world.concurrency)),
        _ => Policy::Threshold(threshold::Config {
            metric: Metric::Utilisation,
            threshold: 0.80,
            scale_factor: 2.0,
            interval: Duration::from_secs(60),
            band: 0.10,
        }),
    }
}

/// Tries one more after the other until even without a late request it would cost more than the best so far.
fn best_static(trace: &Trace, world: &World, terms: Terms, progress: &mut dyn FnMut(f64)) -> Outcome {
    let mut best: Option<(f64, Outcome)> = None;
    for count in world.local..=world.max_replicas {
        let outcome = play(trace, world, &mut *planned(Static(count), world), progress);
        if best.as_ref().is_some_and(|(least, _)| outcome.cloud_time.as_secs_f64() > *least) {
            break;
        }
        let loss = loss(&outcome, terms.late_price);
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, outcome));
        }
    }
    best.map_or_else(Outcome::default, |(_, outcome)| outcome)
}

/// What it came to: time of instances in seconds, late requests at their price.
pub fn loss(outcome: &Outcome, late_price: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "requests are far fewer than 2^52")]
    let late = outcome.late as f64;
    outcome.cloud_time.as_secs_f64() + late * late_price.as_secs_f64()
}

#[cfg(test)]
mod tests;
