//! Vectors worked out by hand from what Knative documents of its autoscaler. Ten requests to each replica, so that tens are replicas.

use super::*;

const STABLE: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config { target: 10.0, ..Config::new(1) }
}

fn seen(stable: f64, panic: f64, ready: u32) -> Observation {
    Observation { requests: Some(stable), requests_short: Some(panic), ready, in_flight: 1, ..Observation::default() }
}

/// Plays (second, stable, panic, ready) and gives the wishes.
fn play(config: &Config, alive: u32, steps: &[(u64, f64, f64, u32)]) -> Vec<u32> {
    let bounds = Bounds { min: 0, max: 10_000 };
    let mut state = State::start(alive);
    steps
        .iter()
        .map(|(second, stable, panic, ready)| {
            let (next, decision) =
                config.decide(state.clone(), &seen(*stable, *panic, *ready), bounds, Duration::from_secs(*second));
            state = next;
            decision.wanted
        })
        .collect()
}

#[test]
fn the_long_window_over_the_target_is_the_wish() {
    assert_eq!(play(&config(), 1, &[(0, 15.0, 15.0, 2), (2, 10.0, 10.0, 2), (4, 10.1, 10.1, 2)]), [2, 1, 2]);
}

#[test]
fn twice_what_is_ready_in_the_short_window_begins_panic_and_the_wish_only_rises() {
    // 2 replicas called for by the long window, 4 by the short one; 4 over 2 ready is 200 %.
    assert_eq!(play(&config(), 0, &[(0, 20.0, 40.0, 2)]), [4]);
    // 190 % is none.
    assert_eq!(play(&config(), 0, &[(0, 100.0, 190.0, 10)]), [10]);
    // In panic a lower short window takes nothing down, and a higher one adds.
    assert_eq!(play(&config(), 0, &[(0, 20.0, 40.0, 2), (2, 20.0, 10.0, 4), (4, 20.0, 60.0, 4)]), [4, 4, 6]);
}

#[test]
fn panic_is_over_when_a_stable_window_has_passed_without_it() {
    let calm = 20.0;
    let steps = [(0, calm, 40.0, 2), (60, calm, calm, 4), (62, calm, calm, 4)];
    assert_eq!(play(&config(), 0, &steps), [4, 4, 2], "at exactly the window it lasts still");
    // Each crossing begins the window anew.
    let steps = [(0, calm, 40.0, 2), (30, calm, 80.0, 4), (62, calm, calm, 4), (92, calm, calm, 8)];
    assert_eq!(play(&config(), 0, &steps), [4, 8, 8, 4], "and then it falls no faster than by half");
}

#[test]
fn no_decision_falls_below_half_of_what_is_ready_or_rises_beyond_the_rate() {
    assert_eq!(play(&config(), 1, &[(0, 1.0, 1.0, 9)]), [4], "9 over 2, rounded down");
    let slow = Config { max_scale_up_rate: 1.1, ..config() };
    assert_eq!(play(&slow, 1, &[(0, 100.0, 15.0, 2)]), [3], "1.1 times 2, rounded up, so that it grows at all");
}

#[test]
fn the_greatest_wish_of_the_delay_counts() {
    let delayed = Config { scale_down_delay: Duration::from_secs(10), ..config() };
    let steps = [(0, 30.0, 30.0, 3), (2, 20.0, 20.0, 3), (8, 20.0, 20.0, 3), (10, 20.0, 20.0, 3), (12, 10.0, 10.0, 2)];
    assert_eq!(play(&delayed, 1, &steps), [3, 3, 3, 2, 2]);
}

#[test]
fn a_restart_begins_in_panic_at_what_is_alive() {
    let steps = [(0, 0.0, 0.0, 6), (30, 10.0, 10.0, 6), (61, 10.0, 10.0, 6), (120, 10.0, 10.0, 3)];
    assert_eq!(play(&config(), 6, &steps), [6, 6, 3, 1]);
    assert_eq!(play(&config(), 1, &[(0, 0.0, 0.0, 1)]), [1], "one is no reason for panic; it has work");
}

#[test]
fn without_requests_it_goes_to_zero_and_wakes_by_one() {
    let bounds = Bounds { min: 0, max: 5 };
    let idle = Observation { requests: Some(0.0), requests_short: Some(0.0), ready: 1, ..Observation::default() };
    let (state, decision) = config().decide(State::start(1), &idle, bounds, Duration::ZERO);
    assert_eq!(decision.wanted, 0);
    let waiting = Observation { queued: 1, ready: 0, ..idle };
    let (_, decision) = config().decide(state, &waiting, bounds, Duration::from_secs(2));
    assert_eq!((decision.wanted, decision.reason.change), (1, Change::Woken));
}

#[test]
fn it_decides_every_two_seconds_and_holds_without_data() {
    assert_eq!(play(&config(), 1, &[(0, 20.0, 20.0, 2), (1, 50.0, 50.0, 2), (2, 50.0, 50.0, 2)]), [2, 2, 5]);
    let bounds = Bounds { min: 0, max: 100 };
    let blind = Observation { ready: 3, ..Observation::default() };
    let (_, decision) = config().decide(State::start(3), &blind, bounds, STABLE);
    assert_eq!((decision.wanted, decision.reason.change), (3, Change::NoData));
    let (_, decision) = config().decide(State::start(3), &seen(f64::NAN, 1.0, 3), bounds, STABLE);
    assert_eq!(decision.reason.change, Change::NoData);
}

#[test]
fn the_reason_names_the_window_that_counted() {
    let bounds = Bounds { min: 0, max: 100 };
    let (_, decision) = config().decide(State::start(0), &seen(20.0, 40.0, 2), bounds, Duration::ZERO);
    assert_eq!(
        decision.reason.to_string(),
        "requests 40.00 (short window, as far more is called for than is ready), 10.00 to each replica: 4 more, 4 wanted"
    );
}

#[test]
fn with_samples_each_second_that_come_a_little_early_it_still_decides_every_other_second() {
    let config = config();
    let bounds = Bounds { min: 1, max: 100 };
    let mut state = State::start(1);
    let mut wishes = Vec::new();
    for tick in 0..20_u64 {
        // Each calls for one more.
        let now = Duration::from_millis((tick * 1000).saturating_sub(tick.min(1)));
        let requests = 10.0 * (1.0 + f64::from(u32::try_from(tick).unwrap()));
        let (next, decision) =
            config.decide(state, &seen(requests, requests, 1 + u32::try_from(tick).unwrap()), bounds, now);
        state = next;
        wishes.push(decision.wanted);
    }
    let decided = wishes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((8..=10).contains(&decided), "{decided} changes in twenty seconds: {wishes:?}");
}

#[test]
fn at_a_bound_it_says_so_between_two_decisions_too() {
    let config = config();
    let bounds = Bounds { min: 1, max: 2 };
    let mut state = State::start(2);
    let mut changes = Vec::new();
    for second in 0..6 {
        let (next, decision) = config.decide(state, &seen(90.0, 90.0, 2), bounds, Duration::from_secs(second));
        state = next;
        changes.push(decision.reason.change);
    }
    assert_eq!(changes, [Change::AtMaximum; 6]);
    let raised = Bounds { min: 4, max: 4 };
    let (_, decision) = config.decide(state, &seen(90.0, 90.0, 2), raised, Duration::from_secs(7));
    assert_eq!(decision.reason.change, Change::RaisedToMinimum);
}
