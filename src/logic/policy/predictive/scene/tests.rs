//! What is looked at no further than needed, beside the same looked at to the end.

use super::*;

/// As `more_by` decides, each count looked at.
fn more_of_all(scene: &Scene, alive: u32, most: u32, launch: &Launch, backlog: f64) -> u32 {
    let here = scene.cost(alive, 0);
    let load = scene.later(launch).mean;
    let (mut best, mut saved) = (alive, 0.0);
    for count in counts_above(alive).take_while(|count| *count <= most) {
        let gain = difference(&here, &scene.cost(count, 0));
        let (mut value, lasts) = scene.best_sum(gain.iter().copied(), launch.then);
        value += scene.relief(count, alive, backlog, load, lasts);
        value -= (scene.hire(count) - scene.hire(alive)) * launch.paid_for_nothing(lasts);
        if (backlog > 0.0 || gain[launch.then] > 0.0) && value > saved {
            (best, saved) = (count, value);
        }
    }
    best
}

/// As `fewer` decides, each count looked at.
fn fewer_of_all(scene: &Scene) -> u32 {
    let load = scene.later(scene.launch(scene.alive)).mean;
    let (mut best, mut most) = (scene.alive, 0.0);
    for count in counts_below(scene.alive) {
        let mut gain = difference(&scene.cost(count, 0), &scene.here);
        scene.add_what_is_paid(&mut gain, scene.alive - count);
        let extra = scene.hire(scene.alive) - scene.hire(count);
        let (gained, lasts) = scene.best_sum(gain.iter().copied(), 0);
        let keep = gained + scene.relief(scene.alive, count, scene.backlog, load, lasts);
        let (again, is_at_once) = scene.launching_again(&gain, extra, scene.launch_again());
        let saved = -(gain[0] + gain[1]);
        if keep <= again && !is_at_once && saved > most {
            (best, most) = (count, saved);
        }
    }
    best
}

#[test]
fn what_is_not_looked_at_could_not_have_been_best() {
    let mut chance = fastrand::Rng::with_seed(4);
    let mut changes = [0, 0];
    for _ in 0..60 {
        let mut forecast = Forecast::default();
        let (high, low) = (chance.f64() * 60.0, chance.f64() * 5.0);
        for slot in 0..chance.u32(1..600) {
            let load = if slot / 40 % 3 == 0 { high } else { low };
            forecast.learn(load * (0.7 + 0.6 * chance.f64()));
        }
        for _ in 0..20 {
            let seconds = |chance: &mut fastrand::Rng, most: f64| Duration::from_secs_f64(chance.f64() * most);
            let price = [0.0, 1.0, 20.0, 1e5][chance.usize(..4)];
            let config = Config::new(chance.u32(1..5), seconds(&mut chance, 3.0), Some(Duration::from_secs_f64(price)));
            let (ready, starting) = (chance.u32(..40), chance.usize(..4));
            let seen = Observation {
                ready,
                starting: u32::try_from(starting).unwrap(),
                starting_for: (0..starting).map(|_| seconds(&mut chance, 60.0)).collect(),
                queued: if chance.bool() { 0 } else { chance.u64(..200) },
                start_time: Some(seconds(&mut chance, 200.0)),
                minimum_billing: if chance.bool() { Duration::ZERO } else { seconds(&mut chance, 600.0) },
                paid_ahead: (0..chance.usize(..5)).map(|_| seconds(&mut chance, 3600.0)).collect(),
                local: chance.u32(..4),
                ..Observation::default()
            };
            let scene = Scene::new(&config, &forecast, 0.05 + chance.f64() * 3.0, &seen);
            let alive = scene.alive;
            for (launch, most) in [(&scene.local, scene.free), (&scene.cloud, u32::MAX)] {
                let backlog = scene.backlog_then(launch, scene.alive, 0);
                let more = scene.more_by(alive, most, launch, backlog);
                assert_eq!(more, more_of_all(&scene, alive, most, launch, backlog), "{config:?} {seen:?}");
                changes[0] += u32::from(more > alive);
            }
            let fewer = scene.fewer();
            assert_eq!(fewer, fewer_of_all(&scene), "{config:?} {seen:?}");
            changes[1] += u32::from(fewer < alive);
        }
    }
    assert!(changes.iter().all(|count| *count > 100), "{changes:?}");
}

#[test]
fn odds_of_a_wait_are_read_off_a_table_that_falls_and_is_near_the_formula() {
    let mut last = 1.1;
    for step in 0..=4_000 {
        let spare = f64::from(step) / 1_000.0;
        let density = (-spare * spare / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let formula = 1.0 / (1.0 + spare * normal_distribution(spare, density) / density);
        let odds = odds_of_waiting(spare);
        assert!((odds - formula).abs() < 1e-4 && odds < last, "{odds} and {formula} at {spare}");
        last = odds;
    }
}
