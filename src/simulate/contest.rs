//! Several rules against the same trace.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::baseline::{Foresight, Static};
use super::engine::{Outcome, Rule, World, play};
use super::optimum::{self, Plan};
use super::own::Own;
use super::trace::Trace;
use super::tune::{Tuned, planned};
use crate::logic::policy::Policy;
use crate::logic::policy::predictive::{self, Part};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The node's policy `predictive`.
    Predictive,
    /// The same without one of its parts, to see what that is worth.
    Without(Part),
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
    /// Somebody who saw no rise coming, but knew how long each lasts.
    Reactive,
    /// Somebody who knew the trace.
    Optimum,
}

impl Contender {
    /// What they are called, in the order in which they are documented.
    pub const NAMES: [&str; 12] = [
        "predictive",
        "without:PART",
        "concurrency",
        "threshold",
        "kpa",
        "hpa",
        "ray",
        "skyserve",
        "static:N",
        "best-static",
        "reactive",
        "optimum",
    ];
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predictive => f.write_str("predictive"),
            Self::Without(part) => write!(f, "without:{part}"),
            Self::Kpa => f.write_str("kpa"),
            Self::Threshold => f.write_str("threshold"),
            Self::Hpa => f.write_str("hpa"),
            Self::Ray => f.write_str("ray"),
            Self::SkyServe => f.write_str("skyserve"),
            Self::Static(count) => write!(f, "static:{count}"),
            Self::BestStatic => f.write_str("best-static"),
            Self::Reactive => f.write_str("reactive"),
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
            "reactive" => Self::Reactive,
            "optimum" => Self::Optimum,
            other => {
                if let Some(part) = other.strip_prefix("without:") {
                    return part_named(part).map(Self::Without);
                }
                let count = other.strip_prefix("static:").and_then(|count| count.parse().ok());
                let known = Self::NAMES.join(", ");
                Self::Static(count.ok_or_else(|| format!("there is no policy {other:?}; there are {known}"))?)
            }
        })
    }
}

fn part_named(name: &str) -> Result<Part, String> {
    let names = || Part::ALL.map(Part::as_str).join(", ");
    let found = Part::ALL.into_iter().find(|part| part.as_str() == name);
    found.ok_or_else(|| format!("the policy predictive has no part {name:?}; it has {}", names()))
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
        (Contender::Reactive, None) => {
            return best_plan(optimum::reactive_plans(trace, world, terms.late_price), trace, world, terms, progress);
        }
        (Contender::Optimum, None) => {
            return best_plan(optimum::plans(trace, world, terms.late_price), trace, world, terms, progress);
        }
        // All others have parameters.
        (Contender::Without(part), None) => Box::new(Own::new(predictive(world, terms, vec![part]), world)),
        (_, None) => Box::new(Own::new(predictive(world, terms, Vec::new()), world)),
    };
    play(trace, world, rule.as_mut(), progress)
}

/// The node's policy, which is told prices alone.
fn predictive(world: &World, terms: Terms, without: Vec<Part>) -> Policy {
    let config = predictive::Config::new(world.concurrency, world.slo_wait, Some(terms.late_price));
    Policy::Predictive(predictive::Config { without, ..config })
}

/// Tries one more after the other until even without a late request it would cost more than the best so far.
fn best_static(trace: &Trace, world: &World, terms: Terms, progress: &mut dyn FnMut(f64)) -> Outcome {
    let mut best: Option<(f64, Outcome)> = None;
    for count in world.local..=world.most_replicas() {
        let outcome = play(trace, world, &mut *planned(Static(count), world), progress);
        if best.as_ref().is_some_and(|(least, _)| paid(&outcome, world) > *least) {
            break;
        }
        let loss = loss(&outcome, world, terms.late_price);
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, outcome));
        }
    }
    best.map_or_else(Outcome::default, |(_, outcome)| outcome)
}

/// Plays each, and takes the one that cost least.
fn best_plan(plans: Vec<Plan>, trace: &Trace, world: &World, terms: Terms, progress: &mut dyn FnMut(f64)) -> Outcome {
    let share = 1.0 / f64::from(u32::try_from(plans.len()).unwrap_or(u32::MAX));
    let mut done = 0.0;
    let played = plans.into_iter().map(|plan| {
        let outcome = play(trace, world, &mut *planned(Foresight::new(plan), world), &mut |part| {
            progress(done + part * share);
        });
        done += share;
        outcome
    });
    let loss = |outcome: &Outcome| loss(outcome, world, terms.late_price);
    played.min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap_or_default()
}

/// What it came to, in seconds of the cheapest instance: what was spent, and late requests at their price.
pub fn loss(outcome: &Outcome, world: &World, late_price: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "requests are far fewer than 2^52")]
    let late = outcome.late as f64;
    paid(outcome, world) + late * late_price.as_secs_f64()
}

/// What was spent, in seconds of the cheapest instance.
fn paid(outcome: &Outcome, world: &World) -> f64 {
    let least = world.providers.iter().map(|provider| provider.price_per_hour).min_by(f64::total_cmp);
    least.filter(|price| *price > 0.0).map_or(0.0, |price| outcome.spend / price * 3600.0)
}

#[cfg(test)]
mod tests;
