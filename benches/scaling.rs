//! The node's policy and what others do, on made traces: `benches/run scaling` runs it and judges; prints one JSON object.
//!
//! The baselines' parameters were chosen on other seeds and rates than those that are scored, by the same measure over all cells at once, and
//! stand here; with `TIDEGATE_BENCH_TUNE` set the search is done anew and its result printed to standard error.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate::logic::policy::Policy;
use tidegate::logic::policy::predictive::{self, Part};
use tidegate::simulate::contest::{self, Contender, Terms};
use tidegate::simulate::engine::{ColdStart, Outcome, Provider, World, play};
use tidegate::simulate::generate::{Recipe, Shape};
use tidegate::simulate::trace::Trace;
use tidegate::simulate::tune::Tuned;

const COLD_STARTS: [u64; 3] = [10, 60, 180];
/// What a late request costs, in replica-hours.
const PENALTIES: [f64; 4] = [0.0003, 0.001, 0.003, 0.01];
const RATE: f64 = 5.0;
const TUNING_RATES: [f64; 2] = [3.0, 8.0];
const TUNING_SEEDS: [u64; 1] = [101];
/// What a part is worth shows on fewer seeds.
const PART_SEEDS: usize = 2;

/// Who takes part.
#[derive(Clone, Copy, Debug)]
enum Entrant {
    Tuned(Tuned),
    /// The node's policy, `best-static` or `optimum`.
    As(Contender),
}

/// Chosen by the search; see above.
const TUNED: [(&str, Tuned); 4] = [
    ("hpa", Tuned::Hpa(0.7, 60)),
    ("kpa", Tuned::Kpa(0.7, 60, 0)),
    ("ray", Tuned::Ray(0.7, 0, 60)),
    ("skyserve", Tuned::SkyServe(0.7, 20, 300)),
];
/// As documented.
const DEFAULTS: [(&str, Tuned); 4] = [
    ("hpa, defaults", Tuned::Hpa(0.7, 300)),
    ("kpa, defaults", Tuned::Kpa(0.7, 60, 0)),
    ("ray, defaults", Tuned::Ray(1.0, 30, 600)),
    ("skyserve, defaults", Tuned::SkyServe(0.7, 300, 1200)),
];

/// Loss, hours and late requests of each cell: shape, cold start, penalty.
type Cells = BTreeMap<(usize, usize, usize), (f64, f64, f64)>;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn world(cold_start: u64) -> World {
    World {
        tick: seconds(2),
        local: 1,
        concurrency: 2,
        max_replicas: 200,
        slo_wait: seconds(1),
        warmup: seconds(7200),
        providers: vec![Provider {
            name: "cloud".to_owned(),
            price_per_hour: 1.0,
            minimum_billing: Duration::ZERO,
            cold_start: ColdStart { median: seconds(cold_start), spread: 0.0 },
            failures: 0.0,
            capacity: u32::MAX,
        }],
        seed: 1,
    }
}

fn made(shape: Shape, rate: f64, seed: u64) -> Trace {
    Recipe { shape, rate, length: seconds(86_400), work: seconds(1), work_spread: 0.5, seed }.make()
}

fn late_price(penalty: f64) -> Duration {
    Duration::from_secs_f64(penalty * 3600.0)
}

impl Entrant {
    fn outcome(self, trace: &Trace, world: &World, penalty: f64) -> Outcome {
        let terms = Terms { late_price: late_price(penalty), mean_work: seconds(1) };
        match self {
            Self::Tuned(tuned) => play(trace, world, tuned.rule(world, terms).as_mut(), &mut |_| {}),
            Self::As(contender) => contest::run(contender, trace, world, terms, &mut |_| {}),
        }
    }

    /// Those that are not told what a late request costs do the same at each penalty.
    fn knows_the_penalty(self) -> bool {
        matches!(self, Self::As(_))
    }
}

/// The cells of one entrant; says on standard error how long they took.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn evaluate(entrant: Entrant, rate: f64, seeds: &[u64]) -> Cells {
    let began = Instant::now();
    let jobs: Vec<_> = (0..Shape::ALL.len()).flat_map(|shape| seeds.iter().map(move |seed| (shape, *seed))).collect();
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Cells::new()));
    let work = || {
        while let Some((shape, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let trace = made(Shape::ALL[*shape], rate, *seed);
            for (cold, cold_start) in COLD_STARTS.into_iter().enumerate() {
                let mut last = None;
                for (which, penalty) in PENALTIES.into_iter().enumerate() {
                    let known = last.take().filter(|_| !entrant.knows_the_penalty());
                    let outcome = known.unwrap_or_else(|| entrant.outcome(&trace, &world(cold_start), penalty));
                    let hours = outcome.cloud_time.as_secs_f64() / 3600.0;
                    let late = outcome.late as f64;
                    let mut cells = cells.lock().expect("nobody panics with it");
                    let cell = cells.entry((*shape, cold, which)).or_default();
                    cell.0 += (hours + late * penalty) / seeds.len() as f64;
                    cell.1 += hours / seeds.len() as f64;
                    cell.2 += late / seeds.len() as f64;
                    last = Some(outcome);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    eprintln!("... {entrant:?}: {} s", began.elapsed().as_secs());
    cells.into_inner().expect("nobody panics with it")
}

#[expect(clippy::cast_precision_loss, reason = "cells are few")]
fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = values.map(f64::ln).collect();
    (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp()
}

fn ratio(ours: &Cells, theirs: &Cells) -> f64 {
    geometric_mean(ours.iter().map(|(cell, (loss, ..))| loss / theirs[cell].0))
}

fn search() {
    for contender in [Contender::Hpa, Contender::Kpa, Contender::Ray, Contender::SkyServe] {
        let score = |tuned: &Tuned| {
            geometric_mean(TUNING_RATES.into_iter().flat_map(|rate| {
                let cells = evaluate(Entrant::Tuned(*tuned), rate, &TUNING_SEEDS);
                cells.into_values().map(|(loss, ..)| loss).collect::<Vec<_>>()
            }))
        };
        let grid = Tuned::grid(contender);
        let scored: Vec<_> = grid.iter().map(|tuned| (score(tuned), tuned)).collect();
        let best = scored.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        eprintln!("{contender}: {best:?}");
    }
}

/// A decision of the policy for each of a hundred services with ten replicas each, in the mean of many; the arrivals a second are up to so many
/// more and less than sixteen.
fn decision_us(varies: f64) -> f64 {
    const SERVICES: u32 = 100;
    const ROUNDS: u32 = 50;
    let policy = Policy::Predictive(predictive::Config::new(2, seconds(1), Some(seconds(20))));
    let bounds = tidegate::logic::policy::Bounds { min: 1, max: 100 };
    let seen = tidegate::logic::policy::Observation {
        arrivals_per_s: Some(16.0),
        service_time: Some(1.0),
        completed: 64.0,
        ready: 10,
        start_time: Some(seconds(60)),
        local: 1,
        ..Default::default()
    };
    let mut states: Vec<_> = (0..SERVICES).map(|_| policy.start(10)).collect();
    let mut now = Duration::ZERO;
    let mut chance = fastrand::Rng::with_seed(1);
    let mut round = |states: &mut Vec<_>| {
        now += seconds(4);
        let arrivals_per_s = Some(16.0 + varies * (2.0 * chance.f64() - 1.0));
        let seen = tidegate::logic::policy::Observation { arrivals_per_s, ..seen.clone() };
        let all = std::mem::take(states);
        *states = all.into_iter().map(|state| policy.decide(state, &seen, bounds, now).0).collect();
    };
    // An hour of load first.
    (0..900).for_each(|_| round(&mut states));
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| round(&mut states));
    began.elapsed().as_secs_f64() / f64::from(ROUNDS) * 1e6
}

fn million_s() -> f64 {
    let trace = made(Shape::Diurnal, 1e6 / 86_400.0, 1);
    let began = Instant::now();
    Entrant::As(Contender::Predictive).outcome(&trace, &world(60), 0.003);
    began.elapsed().as_secs_f64()
}

fn main() {
    if std::env::var_os("TIDEGATE_BENCH_TUNE").is_some() {
        search();
    }
    let count: u64 = std::env::var("TIDEGATE_BENCH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seeds: Vec<u64> = (1..=count).collect();
    let ours = evaluate(Entrant::As(Contender::Predictive), RATE, &seeds);
    let bounds =
        [("best-static", Contender::BestStatic), ("reactive", Contender::Reactive), ("optimum", Contender::Optimum)]
            .map(|(name, contender)| (name, evaluate(Entrant::As(contender), RATE, &seeds)));
    let mut best = Cells::new();
    let (mut ratios, mut of_bounds) = (BTreeMap::new(), BTreeMap::<_, BTreeMap<_, _>>::new());
    for (name, cells) in &bounds {
        ratios.insert(*name, ratio(&ours, cells));
    }
    for (name, tuned) in TUNED.into_iter().chain(DEFAULTS) {
        let theirs = evaluate(Entrant::Tuned(tuned), RATE, &seeds);
        ratios.insert(name, ratio(&ours, &theirs));
        for (bound, cells) in &bounds {
            of_bounds.entry(*bound).or_default().insert(name, ratio(cells, &theirs));
        }
        if !name.contains("defaults") {
            for (cell, loss) in theirs {
                let least = best.entry(cell).or_insert(loss);
                *least = if loss.0 < least.0 { loss } else { *least };
            }
        }
    }
    let few: Vec<u64> = seeds.iter().copied().take(PART_SEEDS).collect();
    let whole = evaluate(Entrant::As(Contender::Predictive), RATE, &few);
    let without = |part: Part| ratio(&evaluate(Entrant::As(Contender::Without(part)), RATE, &few), &whole);
    let parts: BTreeMap<_, _> = Part::ALL.into_iter().map(|part| (part.as_str(), without(part))).collect();
    let cells: Vec<_> = ours
        .iter()
        .map(|((shape, cold, which), (loss, hours, late))| {
            json!({
                "shape": Shape::ALL[*shape].as_str(), "cold_start_s": COLD_STARTS[*cold], "penalty": PENALTIES[*which],
                "loss": loss, "hours": hours, "late": late, "ratio": loss / best[&(*shape, *cold, *which)].0,
            })
        })
        .collect();
    let found = json!({
        "seeds": count, "ratios": ratios, "best": ratio(&ours, &best), "cells": cells, "without": parts,
        "bounds": of_bounds,
        "decision_us": decision_us(0.0), "varying_decision_us": decision_us(6.0), "million_s": million_s(),
    });
    println!("{found}");
}
