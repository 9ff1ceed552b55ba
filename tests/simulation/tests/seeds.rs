//! Many seeds, each a world of two hours: no invariant breaks, the same seed gives the same world, and no fault is left
//! out.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use burst_simulation::coverage::Coverage;
use burst_simulation::trace::Detail;
use burst_simulation::world::play;

/// Seeds of a default run, chosen to take about a minute on two cores. TIDEGATE_SEEDS sets another number, or a range like
/// `250001..500000` (both ends are played), so that many can be played in parts.
const SEEDS: u64 = 10_000;
/// What has been played is said each so many seeds: a long run that is cut off has shown that much.
const SAID_EVERY: u64 = 50_000;
/// One seed in so many is played twice.
const REPEATED: u64 = 100;
/// As many as the smallest box that this is developed on has cores.
const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not '{text}'")))
}

/// The seeds to play, by what TIDEGATE_SEEDS says.
fn wanted_seeds(text: Option<&str>) -> RangeInclusive<u64> {
    let Some(text) = text else { return 1..=SEEDS };
    let parsed = match text.split_once("..") {
        Some((first, last)) => first.parse().ok().zip(last.parse().ok()),
        None => text.parse().ok().map(|last| (1, last)),
    };
    match parsed {
        Some((first, last)) if first <= last => first..=last,
        _ => panic!("TIDEGATE_SEEDS is a number of seeds or a range like 250001..500000, not '{text}'"),
    }
}

#[derive(Default)]
struct Found {
    coverage: Coverage,
    broken: Vec<(u64, String)>,
    unsteady: Vec<u64>,
}

/// Plays seeds until there are none left or enough have failed.
fn work(next: &AtomicU64, last: u64, found: &Mutex<Found>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > last || found.lock().unwrap_or_else(PoisonError::into_inner).broken.len() >= 5 {
            return;
        }
        let report = std::panic::catch_unwind(|| play(seed, Detail::Hash));
        let repeated = seed.is_multiple_of(REPEATED) && report.is_ok();
        let again = repeated.then(|| play(seed, Detail::Hash).hash);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        let broken_before = found.broken.len();
        match report {
            Ok(report) => {
                found.coverage.add(&report.coverage);
                if again.is_some_and(|hash| hash != report.hash) {
                    found.unsteady.push(seed);
                }
                found.broken.extend(report.violation.map(|what| (seed, what)));
            }
            Err(_) => found.broken.push((seed, "a panic, said above".into())),
        }
        // At once: the rest of a million takes hours.
        found.broken[broken_before..].iter().for_each(|(seed, what)| println!("seed {seed} {what}"));
        if seed.is_multiple_of(SAID_EVERY) {
            println!("about {seed}: {} broken, {} unsteady", found.broken.len(), found.unsteady.len());
        }
    }
}

#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(seed) = number("TIDEGATE_SEED") {
        let report = play(seed, Detail::Print);
        println!("hash {:016x}\n{}", report.hash, report.coverage);
        assert_eq!(report.violation, None, "seed {seed}");
        return;
    }
    let wanted = wanted_seeds(std::env::var("TIDEGATE_SEEDS").ok().as_deref());
    let seeds = wanted.end() - wanted.start() + 1;
    let (next, found, started) = (AtomicU64::new(*wanted.start()), Mutex::new(Found::default()), Instant::now());
    std::thread::scope(|scope| {
        (0..THREADS).for_each(|_| {
            scope.spawn(|| work(&next, *wanted.end(), &found));
        });
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", found.coverage);
    println!(
        "seeds {} to {}: {seeds} in {seconds:.1} s: {:.0} a second",
        wanted.start(),
        wanted.end(),
        number_of(seeds) / seconds
    );
    for (seed, what) in &found.broken {
        let lines = std::panic::catch_unwind(|| play(*seed, Detail::Last).lines).unwrap_or_default();
        println!("{lines}seed {seed} {what}\n");
        println!("TIDEGATE_SEED={seed} cargo test -p burst-simulation --test seeds -- --nocapture\n");
    }
    assert!(found.broken.is_empty(), "{} seeds break an invariant; they are printed above", found.broken.len());
    assert_eq!(found.unsteady, [0; 0], "these seeds do not give the same world twice");
    let enough = seeds >= SEEDS;
    assert!(
        !enough || found.coverage.faults().is_empty(),
        "never happened, or unlisted: {:?}",
        found.coverage.faults()
    );
}

#[test]
fn seeds_are_asked_for_by_number_or_by_range() {
    assert_eq!(wanted_seeds(None), 1..=SEEDS);
    assert_eq!(wanted_seeds(Some("7")), 1..=7);
    assert_eq!(wanted_seeds(Some("8..20")), 8..=20);
    for wrong in ["", "0", "x", "9..8", "1..", "-3", "1..2..3"] {
        assert!(std::panic::catch_unwind(|| wanted_seeds(Some(wrong))).is_err(), "{wrong}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "for showing")]
fn number_of(seeds: u64) -> f64 {
    seeds as f64
}
