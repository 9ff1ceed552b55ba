//! Several policies together.

use super::*;

const BOUNDS: Bounds = Bounds { min: 1, max: 20 };

fn by_threshold(metric: Metric, threshold: f64) -> Policy {
    Policy::Threshold(threshold::Config {
        metric,
        threshold,
        scale_factor: 60.0,
        interval: Duration::from_secs(2),
        band: 0.0,
    })
}

fn by_concurrency() -> Policy {
    Policy::Concurrency(concurrency::Config { target: 10.0, ..concurrency::Config::new(10) })
}

/// What each second of these wants, and why at its end.
fn play(policy: &Policy, alive: u32, seconds: impl IntoIterator<Item = Observation>) -> (Vec<u32>, String) {
    let mut state = policy.start(alive);
    let (mut wanted, mut why) = (Vec::new(), String::new());
    for (second, seen) in seconds.into_iter().enumerate() {
        let now = Duration::from_secs(2 * u64::try_from(second).unwrap());
        let ready = wanted.last().copied().unwrap_or(alive);
        let (next, decision) = policy.decide(state, &Observation { ready, ..seen }, BOUNDS, now);
        state = next;
        wanted.push(decision.wanted);
        why = decision.reason.to_string();
    }
    (wanted, why)
}

fn seen(cpu: Option<f64>, requests: f64) -> Observation {
    Observation {
        cpu,
        requests: Some(requests),
        requests_short: Some(requests),
        in_flight: 1,
        ..Observation::default()
    }
}

#[test]
fn the_largest_wish_wins_and_its_reason_is_kept() {
    let both = Policy::Largest(vec![by_threshold(Metric::Cpu, 0.8), by_concurrency()]);
    let (wanted, why) = play(&both, 1, [seen(Some(0.5), 45.0)]);
    assert_eq!(wanted, [5]);
    assert!(why.starts_with("requests 45.00"), "{why}");
    let (wanted, why) = play(&both, 1, [seen(Some(0.9), 5.0)]);
    assert_eq!(wanted, [3]);
    assert!(why.starts_with("cpu 0.90 is above the threshold 0.80"), "{why}");
}

#[test]
fn one_goes_on_from_where_the_other_has_brought_them() {
    let both = Policy::Largest(vec![by_threshold(Metric::Cpu, 0.8), by_concurrency()]);
    // Five by their requests; and still too hot, so two more on top of these.
    let (wanted, why) = play(&both, 1, [seen(Some(0.5), 45.0), seen(Some(0.9), 45.0)]);
    assert_eq!(wanted, [5, 7]);
    assert!(why.starts_with("cpu 0.90"), "{why}");
}

#[test]
fn none_is_taken_down_that_another_wants() {
    let both = Policy::Largest(vec![by_threshold(Metric::Cpu, 0.8), by_concurrency()]);
    let calm = || seen(Some(0.1), 45.0);
    let (wanted, _) = play(&both, 5, (0..60).map(|_| calm()));
    assert!(wanted.iter().all(|count| *count == 5), "{wanted:?}");
    let (wanted, _) = play(&both, 5, (0..60).map(|_| seen(Some(0.1), 5.0)));
    assert_eq!(wanted.last(), Some(&1), "and when neither does they go: {wanted:?}");
}

#[test]
fn who_knows_nothing_holds_and_lets_nothing_go() {
    let both = Policy::Largest(vec![by_threshold(Metric::Cpu, 0.8), by_concurrency()]);
    let (wanted, why) = play(&both, 5, (0..60).map(|_| seen(None, 5.0)));
    assert!(wanted.iter().all(|count| *count == 5), "{wanted:?}");
    assert!(why.contains("cpu has no value now"), "{why}");
    // But what the other calls for is had.
    let (wanted, _) = play(&both, 5, [seen(None, 95.0)]);
    assert_eq!(wanted, [10]);
}

#[test]
fn another_number_of_policies_begins_at_what_is_alive() {
    let two = Policy::Largest(vec![by_threshold(Metric::Cpu, 0.8), by_concurrency()]);
    let state = by_concurrency().start(7);
    let (state, decision) = two.decide(state, &seen(None, 5.0), BOUNDS, Duration::ZERO);
    assert_eq!((decision.wanted, state.wanted()), (7, 7));
}

#[test]
fn those_that_decide_at_different_times_come_down_together_all_the_same() {
    // One decides each two seconds, the other each minute, and neither at the second of the other.
    let slow = Policy::Threshold(threshold::Config {
        metric: Metric::Cpu,
        threshold: 0.8,
        scale_factor: 2.0,
        interval: Duration::from_secs(60),
        band: 0.1,
    });
    for phase in [0, 400, 700, 1_300] {
        let both = Policy::Largest(vec![by_concurrency(), slow.clone()]);
        let mut state = both.start(12);
        let (mut ready, mut counts) = (12, Vec::new());
        for second in 0..900_u64 {
            let now = Duration::from_millis(second * 1_000 + phase + second % 3);
            let (next, decision) = both.decide(state, &Observation { ready, ..seen(Some(0.1), 5.0) }, BOUNDS, now);
            state = next;
            ready = decision.wanted;
            counts.push(decision.wanted);
        }
        assert_eq!(counts.last(), Some(&1), "phase {phase}: {counts:?}");
        assert!(counts.windows(2).all(|pair| pair[0] >= pair[1]), "phase {phase}: {counts:?}");
    }
}

#[test]
fn what_was_learnt_goes_along_when_policies_are_added_or_change_places() {
    let forecast = Policy::Predictive(predictive::Config::new(2, Duration::from_secs(1), None));
    let load = |second| {
        let seen = Observation {
            arrivals_per_s: Some(4.0),
            service_time: Some(1.0),
            completed: 4.0,
            ready: 3,
            ..seen(Some(0.5), 5.0)
        };
        (seen, Duration::from_secs(second))
    };
    let slots = |state: &PolicyState| {
        let mut all = state.clone().singles();
        all.retain(|state| matches!(state, PolicyState::Predictive(_)));
        let Some(PolicyState::Predictive(state)) = all.first() else { panic!("no forecast in {all:?}") };
        state.forecast().known()
    };
    let mut state = forecast.start(3);
    for second in 0..120 {
        let (seen, now) = load(second);
        state = forecast.decide(state, &seen, BOUNDS, now).0;
    }
    let learnt = slots(&state);
    assert!(learnt > 20);
    let chains = [vec![forecast.clone(), by_concurrency()], vec![by_concurrency(), forecast.clone()], vec![forecast]];
    for policies in chains {
        let policy = if policies.len() == 1 { policies[0].clone() } else { Policy::Largest(policies) };
        let (seen, now) = load(121);
        let (next, decision) = policy.decide(state, &seen, BOUNDS, now);
        assert!(slots(&next) >= learnt, "{}", slots(&next));
        assert!(decision.wanted >= 3, "it begins at what is there: {decision:?}");
        state = next;
    }
}

#[test]
fn while_one_knows_nothing_what_all_had_stays_also_where_both_say_absolute_counts() {
    let forecast = Policy::Predictive(predictive::Config::new(10, Duration::from_secs(1), None));
    let both = Policy::Largest(vec![forecast, by_concurrency()]);
    let known = |second: u64, requests: f64| Observation {
        arrivals_per_s: (second < 60).then_some(1.0),
        service_time: Some(1.0),
        completed: 2.0,
        ready: 6,
        ..seen(None, requests)
    };
    let mut state = both.start(1);
    let mut held = Vec::new();
    for second in 0..240 {
        // Six by their requests at first, later one; and from the sixtieth second on nothing to forecast by.
        let requests = if second < 70 { 55.0 } else { 5.0 };
        let (next, decision) = both.decide(state, &known(second, requests), BOUNDS, Duration::from_secs(second));
        assert_eq!(decision.wanted, next.wanted());
        state = next;
        if second >= 60 {
            held.push(decision.wanted);
        }
    }
    assert!(held.iter().all(|wanted| *wanted == 6), "{held:?}");
}

#[test]
fn a_fall_is_told_as_one_whoever_has_the_largest_wish() {
    // The one stands at its minimum; the other comes down to it.
    let slow = Policy::Threshold(threshold::Config {
        metric: Metric::Cpu,
        threshold: 0.8,
        scale_factor: 60.0,
        interval: Duration::from_secs(2),
        band: 0.0,
    });
    let both = Policy::Largest(vec![by_concurrency(), slow]);
    let mut state = both.start(1);
    let mut told = Vec::new();
    for second in 0..20 {
        let cpu = if second < 4 { 0.9 } else { 0.1 };
        let before = state.wanted();
        let (next, decision) = both.decide(state, &seen(Some(cpu), 1.0), BOUNDS, Duration::from_secs(second));
        state = next;
        if decision.wanted < before {
            assert_eq!(decision.reason.change, Change::Removed(before - decision.wanted), "{}", decision.reason);
            told.push(decision.wanted);
        }
    }
    assert!(!told.is_empty() && state.wanted() == 1, "{told:?}");
}
