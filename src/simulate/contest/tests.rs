//! Whole plays, by rules whose outcome is known or bounded.

use super::*;
use crate::simulate::engine::{ColdStart, Provider};
use crate::simulate::generate::{Recipe, Shape};
use crate::simulate::trace::Request;

const TERMS: Terms = Terms { late_price: Duration::from_secs(20), mean_work: Duration::from_secs(1) };

fn world() -> World {
    World {
        tick: Duration::from_secs(2),
        local: 1,
        concurrency: 2,
        max_replicas: 100,
        slo_wait: Duration::from_secs(1),
        warmup: Duration::ZERO,
        providers: vec![Provider {
            name: "cloud".to_owned(),
            price_per_hour: 2.0,
            minimum_billing: Duration::ZERO,
            cold_start: ColdStart { median: Duration::from_secs(30), spread: 0.0 },
            failures: 0.0,
            capacity: u32::MAX,
        }],
        seed: 1,
    }
}

fn made(shape: Shape, hours: u64) -> Trace {
    Recipe {
        shape,
        rate: 5.0,
        length: Duration::from_secs(hours * 3600),
        work: Duration::from_secs(1),
        work_spread: 0.5,
        seed: 7,
    }
    .make()
}

fn play_of(contender: Contender, trace: &Trace, world: &World) -> Outcome {
    run(contender, trace, world, TERMS, &mut |_| {})
}

#[test]
fn a_fixed_number_costs_what_it_costs_and_waits_as_the_line_says() {
    // Three at once at one replica of two places: two begin at once, the third when they end.
    let request = |at: u64| Request { at: Duration::from_secs(at), work: Duration::from_secs(4) };
    let trace = Trace::new(vec![request(0), request(0), request(0)], Duration::from_secs(3600));
    let alone = play_of(Contender::Static(1), &trace, &world());
    assert_eq!((alone.requests, alone.late, alone.launches), (3, 1, 0));
    assert_eq!((alone.wait_p99, alone.cloud_time), (Duration::from_secs(4), Duration::ZERO));
    // With nobody to answer it waits to the end: it is played on for an hour.
    let nobody = play_of(Contender::Static(0), &trace, &World { local: 0, ..world() });
    assert_eq!((nobody.late, nobody.wait_p99), (3, Duration::from_secs(7200)));
    let two = play_of(Contender::Static(2), &trace, &world());
    assert_eq!((two.launches, two.peak_replicas), (1, 2));
    // Launched on the first tick, and paid for to the end.
    assert_eq!(two.cloud_time, Duration::from_secs(3598));
    assert!((two.spend - 3598.0 / 3600.0 * 2.0).abs() < 1e-9);
}

#[test]
fn the_same_seed_plays_the_same_and_another_does_not() {
    let mut unsteady = world();
    unsteady.providers[0].cold_start.spread = 0.5;
    unsteady.providers[0].failures = 0.1;
    let trace = made(Shape::Burst, 2);
    let first = play_of(Contender::Predictive, &trace, &unsteady);
    assert_eq!(first, play_of(Contender::Predictive, &trace, &unsteady));
    unsteady.seed = 2;
    assert_ne!(first, play_of(Contender::Predictive, &trace, &unsteady));
}

#[test]
fn every_request_is_answered_and_limits_hold() {
    let mut scarce = world();
    scarce.providers[0].capacity = 3;
    let trace = made(Shape::FlashCrowd, 3);
    for contender in [Contender::Predictive, Contender::Kpa, Contender::Threshold, Contender::Hpa, Contender::Ray] {
        let outcome = play_of(contender, &trace, &scarce);
        assert_eq!(outcome.requests, trace.requests().len() as u64, "{contender}");
        assert!(outcome.peak_replicas <= 4, "{contender}: {}", outcome.peak_replicas);
    }
}

#[test]
fn who_knew_the_trace_loses_least_and_the_best_fixed_number_is_the_best() {
    let trace = made(Shape::OnOff, 3);
    let of = |contender| loss(&play_of(contender, &trace, &world()), &world(), TERMS.late_price);
    let optimum = of(Contender::Optimum);
    let fixed = of(Contender::BestStatic);
    for count in [1, 4, 8, 12] {
        assert!(fixed <= of(Contender::Static(count)), "{count}");
    }
    for contender in [
        Contender::Predictive,
        Contender::Kpa,
        Contender::Hpa,
        Contender::Ray,
        Contender::SkyServe,
        Contender::BestStatic,
    ] {
        assert!(optimum <= of(contender), "{contender}");
    }
}

/// All cells are measured by `benches/run scaling`; this is one of them.
#[test]
fn the_forecast_pays() {
    let trace = made(Shape::OnOff, 4);
    let mut world = world();
    world.warmup = Duration::from_secs(3600);
    let of = |contender| loss(&play_of(contender, &trace, &world), &world, TERMS.late_price);
    let own = of(Contender::Predictive);
    for contender in [Contender::Kpa, Contender::Hpa, Contender::Ray, Contender::SkyServe] {
        assert!(own < 0.9 * of(contender), "{contender}: {own} and {}", of(contender));
    }
}

#[test]
fn names_are_read_as_they_are_written_and_others_refused() {
    for contender in [Contender::Predictive, Contender::Static(7), Contender::BestStatic, Contender::Optimum] {
        assert_eq!(contender.to_string().parse(), Ok(contender));
    }
    for wrong in ["", "static", "static:-1", "knative"] {
        assert!(wrong.parse::<Contender>().unwrap_err().contains("there are predictive"), "{wrong:?}");
    }
}

#[test]
fn made_traces_have_the_rate_that_was_asked_for() {
    for shape in Shape::ALL {
        let trace = made(shape, 24);
        #[expect(clippy::cast_precision_loss, reason = "a count of a test")]
        let rate = trace.requests().len() as f64 / 86_400.0;
        assert!((rate - 5.0).abs() < 1.0, "{}: {rate}", shape.as_str());
        assert!(trace.requests().is_sorted_by_key(|request| request.at));
    }
}

#[test]
fn a_request_that_nobody_can_answer_is_late() {
    let mut nothing = world();
    nothing.local = 0;
    nothing.providers[0].capacity = 0;
    let trace = made(Shape::Constant, 1);
    let outcome = play_of(Contender::Predictive, &trace, &nothing);
    assert_eq!((outcome.late, outcome.requests), (outcome.requests, trace.requests().len() as u64));
}

#[test]
fn who_knows_the_trace_does_best_with_requests_of_a_tenth_of_a_second_too() {
    let work = Duration::from_millis(100);
    let terms = Terms { late_price: work * 5, mean_work: work };
    let length = Duration::from_secs(5400);
    let trace = Recipe { shape: Shape::Ramp, rate: 50.0, length, work, work_spread: 0.5, seed: 7 }.make();
    let world = World { warmup: Duration::from_secs(1800), ..world() };
    let loss_of = |contender| loss(&run(contender, &trace, &world, terms, &mut |_| {}), &world, terms.late_price);
    let optimum = loss_of(Contender::Optimum);
    for other in [Contender::Predictive, Contender::Reactive, Contender::Kpa] {
        assert!(optimum <= loss_of(other), "{other}: {} beside {optimum}", loss_of(other));
    }
}

#[test]
fn a_part_that_is_left_out_is_missed() {
    let missed = [
        (Part::Horizon, Shape::OnOff, 8),
        (Part::Spread, Shape::Diurnal, 2),
        (Part::Keeping, Shape::OnOff, 2),
        (Part::Backlog, Shape::OnOff, 2),
        (Part::Age, Shape::OnOff, 8),
    ];
    for (part, shape, hours) in missed {
        let trace = made(shape, hours);
        let loss_of = |contender| loss(&play_of(contender, &trace, &world()), &world(), TERMS.late_price);
        let times = loss_of(Contender::Without(part)) / loss_of(Contender::Predictive);
        assert!(times > 1.1, "{part}: {times}");
    }
}

#[test]
fn parts_are_left_out_by_name() {
    for part in Part::ALL {
        let name = format!("without:{part}");
        assert_eq!(name.parse(), Ok(Contender::Without(part)));
        assert_eq!(Contender::Without(part).to_string(), name);
    }
    let problem = "without:luck".parse::<Contender>().unwrap_err();
    assert!(problem.contains("season") && problem.contains("backlog"), "{problem}");
}

#[test]
fn who_sees_no_rise_coming_does_worse_than_who_does() {
    for shape in [Shape::Burst, Shape::OnOff] {
        let trace = made(shape, 2);
        let lost = |contender| loss(&play_of(contender, &trace, &world()), &world(), TERMS.late_price);
        let (optimum, reactive) = (lost(Contender::Optimum), lost(Contender::Reactive));
        assert!(optimum * 1.2 < reactive, "{}: {optimum} and {reactive}", shape.as_str());
    }
}

#[test]
fn who_sees_no_rise_coming_launches_also_what_helps_only_together() {
    let work = Duration::from_millis(100);
    let length = Duration::from_secs(5400);
    let trace = Recipe { shape: Shape::FlashCrowd, rate: 50.0, length, work, work_spread: 0.5, seed: 7 }.make();
    let outcome = play_of(Contender::Reactive, &trace, &World { local: 0, ..world() });
    assert!(outcome.late < outcome.requests / 4, "{} of {} late", outcome.late, outcome.requests);
}

#[test]
fn what_was_launched_for_a_rise_that_comes_is_not_ended_and_launched_again() {
    let trace = made(Shape::OnOff, 8);
    let mut world = World { warmup: Duration::from_secs(4 * 3600), ..world() };
    world.providers[0].cold_start.median = Duration::from_secs(180);
    let terms = Terms { late_price: Duration::from_secs(4), ..TERMS };
    let of = |contender| run(contender, &trace, &world, terms, &mut |_| {});
    let (own, optimum) = (of(Contender::Predictive), of(Contender::Optimum));
    assert!(own.launches < 2 * optimum.launches, "{} beside {}", own.launches, optimum.launches);
}

#[test]
fn the_best_fixed_number_is_the_one_that_costs_least_money() {
    let mut dear = world();
    let provider = dear.providers[0].clone();
    dear.providers = vec![
        Provider { name: "a".to_owned(), price_per_hour: 0.1, capacity: 2, ..provider.clone() },
        Provider { name: "b".to_owned(), price_per_hour: 20.0, ..provider },
    ];
    let trace = made(Shape::OnOff, 2);
    let of = |contender| loss(&play_of(contender, &trace, &dear), &dear, TERMS.late_price);
    let best = of(Contender::BestStatic);
    for count in 1..8 {
        assert!(best <= of(Contender::Static(count)), "{count}: {best}");
    }
}

#[test]
fn who_knows_the_trace_does_best_with_requests_of_half_a_minute_too() {
    let work = Duration::from_secs(30);
    let terms = Terms { late_price: work * 20, mean_work: work };
    let length = Duration::from_secs(6 * 3600);
    let trace = Recipe { shape: Shape::Diurnal, rate: 1.0, length, work, work_spread: 0.5, seed: 7 }.make();
    let world = World { warmup: Duration::from_secs(3600), ..world() };
    let loss_of = |contender| loss(&run(contender, &trace, &world, terms, &mut |_| {}), &world, terms.late_price);
    let optimum = loss_of(Contender::Optimum);
    for other in [Contender::Predictive, Contender::Reactive, Contender::Kpa, Contender::BestStatic] {
        assert!(optimum <= loss_of(other), "{other}: {} beside {optimum}", loss_of(other));
    }
}

#[test]
fn one_in_a_hundred_may_wait_longer_than_what_99_of_100_waited() {
    let request = |at: u64| Request { at: Duration::from_secs(at), work: Duration::from_secs(5) };
    let mut requests: Vec<_> = (0..97).map(|n| request(n * 10)).collect();
    requests.extend([request(1000); 3]);
    let outcome = play_of(Contender::Static(1), &Trace::new(requests, Duration::from_secs(1100)), &world());
    assert_eq!((outcome.requests, outcome.late, outcome.wait_p99), (100, 1, Duration::ZERO));
}
