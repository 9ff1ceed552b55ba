//! Several rules against the same trace.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::baseline::{Foresight, Static};
use super::engine::{Outcome, Rule, World, play};
use super::optimum;
use super::own::Own;
use super::trace::Trace;
use super::tune::{Tuned, planned};
use crate::logic::policy::{Policy, predictive};

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

/// Plays one of them, with its defaults.
pub fn run(contender: Contender, trace: &Trace, world: &World, terms: Terms, progress: &mut dyn FnMut(f64)) -> Outcome {
    let tuned = Tuned::defaults(contender, world);
    run_with(contender, tuned, trace, world, terms, progress)
}

/// Plays one of them, with these parameters where it has any.
pub fn run_with(
    contender: Contender,
    tuned: Option<Tuned>,
    trace: &Trace,
    world: &World,
    terms: Terms,
    progress: &mut dyn FnMut(f64),
) -> Outcome {
    let mut rule: Box<dyn Rule> = match (contender, tuned) {
        (_, Some(tuned)) => tuned.rule(world, terms),
        (Contender::BestStatic, None) => return best_static(trace, world, terms, progress),
        (Contender::Static(count), None) => planned(Static(count), world),
        (Contender::Optimum, None) => planned(Foresight::new(optimum::plan(trace, world, terms.late_price)), world),
        // All others have parameters.
        (_, None) => Box::new(Own::new(predictive(world, terms), world)),
    };
    play(trace, world, rule.as_mut(), progress)
}

/// The node's policy, which is told prices alone.
fn predictive(world: &World, terms: Terms) -> Policy {
    Policy::Predictive(predictive::Config {
        concurrency: world.concurrency,
        late_after: world.slo_wait,
        late_price: Some(terms.late_price),
    })
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
