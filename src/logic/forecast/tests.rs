//! What is expected of loads whose future is known.

use super::*;

fn learnt(slots: u32, mut load: impl FnMut(u32) -> f64) -> Forecast {
    let mut forecast = Forecast::default();
    (0..slots).for_each(|slot| forecast.learn(load(slot)));
    forecast
}

/// The horizon of 80 seconds.
const SOON: usize = 4;

#[test]
fn a_steady_load_is_expected_to_stay_and_hardly_anything_else() {
    let outlook = learnt(500, |_| 5.0).outlook(SOON);
    assert!((outlook.value - 5.0).abs() < 0.05, "{outlook:?}");
    let near: f64 = outlook.outcomes.iter().filter(|(load, _)| (4.0..6.0).contains(load)).map(|(_, odds)| odds).sum();
    assert!(near > 0.95, "{near}");
    assert!(learnt(500, |_| 5.0).error(SOON).is_some_and(|error| error < 0.05));
    let sum: f64 = outlook.outcomes.iter().map(|(_, odds)| odds).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
}

#[test]
fn a_ramp_is_followed_by_its_trend() {
    let forecast = learnt(600, |slot| f64::from(slot) * 0.1);
    let outlook = forecast.outlook(SOON);
    assert!((outlook.value - 62.0).abs() < 2.0, "{} in 20 slots, and it is at {}", outlook.value, forecast.last());
}

#[test]
fn a_load_that_repeats_is_known_by_its_period() {
    // Ten minutes on, ten off.
    let forecast = learnt(4200, |slot| if slot % 300 < 150 { 1.0 } else { 20.0 });
    let period = forecast.period().unwrap().as_secs_f64();
    assert!((period - 1200.0).abs() <= 4.0, "{period}");
    // It has just begun to be off; in ten minutes and forty seconds it is on.
    let outlook = forecast.outlook(7);
    assert!(outlook.mean > 12.0, "{outlook:?}");
}

#[test]
fn a_rare_burst_is_expected_as_often_as_it_came() {
    // Bursts of five slots at any time, a twentieth of it in all.
    let mut chance = fastrand::Rng::with_seed(5);
    let mut left = 0;
    let forecast = learnt(4000, |_| {
        left = if left == 0 && chance.u32(..92) == 0 { 5_u32 } else { left.saturating_sub(1) };
        if left > 0 { 40.0 } else { 2.0 }
    });
    let outlook = forecast.outlook(SOON);
    let high: f64 = outlook.outcomes.iter().filter(|(load, _)| *load > 10.0).map(|(_, odds)| odds).sum();
    assert!((0.005..0.35).contains(&high), "{high} of the time, and it was so in a twentieth");
}

#[test]
fn a_surprise_leads_to_the_load_that_was_seen_and_not_to_as_many_times_more() {
    // Pauses and work at random; on the way up all between them is forecast too, and followed by twenty all the same.
    let mut chance = fastrand::Rng::with_seed(7);
    let mut at = 1.0;
    let forecast = learnt(8000, |_| {
        at = if chance.u32(..40) == 0 { if at > 10.0 { 1.0 } else { 20.0 } } else { at };
        at
    });
    for horizon in [2, SOON, 6] {
        let outlook = forecast.outlook(horizon);
        let beyond: f64 = outlook.outcomes.iter().filter(|(load, _)| *load > 40.0).map(|(_, odds)| odds).sum();
        assert!(beyond < 0.001, "{beyond} of the time above 40 is expected, and it never was above 20: {outlook:?}");
    }
}

#[test]
fn what_lies_across_a_gap_is_not_judged() {
    let mut forecast = learnt(400, |_| 5.0);
    let before = forecast.records[SOON].seen;
    forecast.skip(10);
    (0..10).for_each(|_| forecast.learn(80.0));
    assert_eq!(forecast.records[SOON].seen, before, "no origin before the gap says anything of what came after");
    assert_eq!(forecast.error(SOON), None, "nothing was judged at that height");
}

#[test]
fn what_is_no_load_is_left_out() {
    let mut forecast = learnt(100, |_| 5.0);
    for wrong in [f64::NAN, f64::INFINITY, -1.0] {
        forecast.learn(wrong);
    }
    assert_eq!(forecast.slots(), 103, "time goes on");
    assert!(forecast.outlook(SOON).value.is_finite());
}

#[test]
fn days_of_load_stay_finite_and_bounded() {
    let forecast = learnt(22_000, |slot| 5.0 + 4.0 * (f64::from(slot) / 300.0).sin());
    for horizon in 0..HORIZONS {
        let outlook = forecast.outlook(horizon);
        assert!(outlook.value.is_finite() && outlook.mean.is_finite() && outlook.mean < 50.0, "{outlook:?}");
    }
}

#[test]
fn a_season_goes_on_through_a_gap() {
    let on_off = |slot: u32| if slot % 300 < 150 { 1.0 } else { 20.0 };
    let mut forecast = learnt(4200, on_off);
    // A gap of seven minutes, then again what would have come.
    forecast.skip(105);
    (4305..4700).for_each(|slot| forecast.learn(on_off(slot)));
    let period = forecast.period().unwrap().as_secs_f64();
    assert!((period - 1200.0).abs() <= 8.0, "{period}");
    // At slot 4,700 it is on for 100 slots more; 160 ahead it is off.
    let (on, off) = (forecast.outlook(6), forecast.outlook(7));
    assert!(on.mean > 9.0 && off.mean < 3.0, "{} in 80 slots, {} in 160", on.mean, off.mean);
}

#[test]
fn after_a_long_gap_the_means_begin_at_what_is_then() {
    let mut forecast = learnt(4000, |_| 100.0);
    forecast.skip(10_000);
    forecast.learn(3.0);
    let means = [forecast.now.last, forecast.now.middle, forecast.now.slow, forecast.now.level];
    assert!(means.iter().all(|mean| (mean - 3.0).abs() < 0.1), "{means:?}");
    // A short one takes little away.
    let mut forecast = learnt(4000, |_| 100.0);
    forecast.skip(5);
    forecast.learn(3.0);
    assert!(forecast.now.slow > 90.0, "{}", forecast.now.slow);
}

#[test]
fn after_days_without_anything_known_nothing_is_remembered_of_the_season() {
    let mut forecast = learnt(4200, |slot| if slot % 300 < 150 { 1.0 } else { 20.0 });
    assert!(forecast.period().is_some());
    forecast.skip(50_000);
    assert!(forecast.period().is_none());
    (0..5000).for_each(|_| forecast.learn(5.0));
    assert!((forecast.outlook(SOON).value - 5.0).abs() < 0.1);
}

#[test]
fn odds_sum_to_one() {
    let forecast = learnt(6000, |slot| f64::from(slot * 7919 % 31));
    for horizon in 0..HORIZONS {
        let sum: f64 = forecast.outlook(horizon).outcomes.iter().map(|(_, odds)| odds).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
}

#[test]
fn a_forecaster_that_is_left_out_takes_no_part() {
    // Ten minutes of much, ten of little: a period for who knows it.
    let wave = |slot: u32| if (slot / 150).is_multiple_of(2) { 20.0 } else { 2.0 };
    let learnt_without = |without: &[Forecaster]| {
        let mut forecast = Forecast::default();
        (0..4000).for_each(|slot| forecast.learn_without(wave(slot), without));
        let bests = forecast.bests(without);
        (
            forecast.period(),
            (0..HORIZONS).map(|horizon| forecast.view(&bests, AHEAD[horizon].into()).by).collect::<Vec<_>>(),
        )
    };
    let (period, by) = learnt_without(&[]);
    assert!(period.is_some() && by.contains(&Forecaster::Season), "{period:?} {by:?}");
    let (period, by) = learnt_without(&[Forecaster::Season]);
    assert!(period.is_none() && !by.contains(&Forecaster::Season), "{period:?} {by:?}");
    let (period, by) = learnt_without(&[Forecaster::Season, Forecaster::LeastSquares, Forecaster::Trend]);
    let simple = [Forecaster::Last, Forecaster::Middle, Forecaster::Slow];
    assert!(period.is_none() && by.iter().all(|by| simple.contains(by)), "{by:?}");
}

#[test]
fn after_a_time_away_that_nobody_knows_a_period_is_found_as_soon_as_at_first() {
    let repeats = |slot: u32| if slot % 150 < 75 { 1.0 } else { 20.0 };
    let slots_until_found = |mut forecast: Forecast| {
        (1..5000_u32).find(|slot| {
            forecast.learn(repeats(*slot));
            forecast.period().is_some()
        })
    };
    let at_first = slots_until_found(Forecast::default()).unwrap();
    let mut after_a_day = learnt(22_000, repeats);
    after_a_day.resume(None);
    let again = slots_until_found(after_a_day).unwrap();
    assert!(again <= at_first + 75, "{again} slots, and {at_first} at first");
}
