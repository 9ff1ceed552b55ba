//! What the policy wants of loads whose right answer is known.

use super::scene::odds_of_waiting;
use super::*;
use crate::archive;
use crate::policy::PolicyState;

const BOUNDS: Bounds = Bounds { min: 1, max: 100 };

fn config(late_price: u64) -> Config {
    Config::new(2, Duration::from_secs(1), Some(Duration::from_secs(late_price)))
}

/// A service whose requests take a second, answered by as many replicas as it wants.
struct Play {
    config: Config,
    state: State,
    bounds: Bounds,
    second: u64,
    wanted: u32,
    reason: String,
}

impl Play {
    fn new(config: Config) -> Self {
        Self { config, state: State::start(1), bounds: BOUNDS, second: 0, wanted: 1, reason: String::new() }
    }

    fn seen(&self, rate: Option<f64>) -> Observation {
        Observation {
            arrivals_per_s: rate,
            service_time: Some(1.0),
            completed: rate.unwrap_or_default(),
            ready: self.wanted,
            in_flight: u64::from(rate.is_some_and(|rate| rate > 0.0)),
            start_time: Some(Duration::from_secs(30)),
            local: 1,
            ..Observation::default()
        }
    }

    /// So many seconds of a rate; what is wanted at their end.
    fn run(&mut self, seconds: u64, rate: f64) -> u32 {
        for _ in 0..seconds {
            self.step(Some(rate));
        }
        self.wanted
    }

    fn step(&mut self, rate: Option<f64>) -> Change {
        self.second += 1;
        let seen = self.seen(rate);
        let (state, decision) =
            self.config.decide(self.state.clone(), &seen, self.bounds, Duration::from_secs(self.second));
        self.state = state;
        self.wanted = decision.wanted;
        self.reason = decision.reason.to_string();
        decision.reason.change
    }
}

#[test]
fn a_steady_load_gets_what_it_needs_and_a_margin_that_its_price_pays() {
    let mut cheap = Play::new(config(2));
    let mut dear = Play::new(config(60));
    let (few, many) = (cheap.run(600, 10.0), dear.run(600, 10.0));
    assert!((5..=7).contains(&few), "10 at a time need 5 replicas of 2 places, and {few} are wanted");
    assert!((few..=9).contains(&many) && many >= 6, "{many}");
    assert!(
        cheap.reason.starts_with("offered_load 10.") || cheap.reason.starts_with("offered_load 9."),
        "{}",
        cheap.reason
    );
    assert!(cheap.reason.contains("is expected in 34 s ("), "{}", cheap.reason);
}

#[test]
fn it_falls_when_the_load_does_and_keeps_the_last_one_while_it_has_work() {
    let mut play = Play::new(config(10));
    assert!(play.run(300, 20.0) >= 10);
    assert_eq!(play.run(1200, 0.1), 1);
    assert_eq!(play.run(1200, 0.0), 1, "the minimum");
}

#[test]
fn what_comes_every_ten_minutes_is_expected_when_being_late_is_dear() {
    let mut play = Play::new(config(36));
    for _ in 0..8 {
        play.run(300, 1.0);
        play.run(300, 20.0);
    }
    assert!(play.run(296, 1.0) >= 10, "{} are there just before it comes again: {}", play.wanted, play.reason);
    assert!(play.state.forecast().period().is_some());
}

#[test]
fn short_bursts_are_let_be_late_when_that_is_cheap() {
    let mut play = Play::new(config(1));
    for _ in 0..8 {
        play.run(590, 1.0);
        play.run(10, 30.0);
    }
    assert!(play.run(300, 1.0) <= 2, "{}", play.reason);
}

#[test]
fn without_data_it_holds_and_says_so() {
    let mut play = Play::new(config(10));
    let before = play.run(300, 20.0);
    assert_eq!(play.step(None), Change::NoData);
    assert_eq!(play.step(Some(f64::NAN)), Change::NoData);
    assert_eq!(play.wanted, before);
    assert!(play.reason.contains("has no value now: the last decision holds"), "{}", play.reason);
}

#[test]
fn a_clock_that_jumps_is_a_gap_and_no_load() {
    let mut play = Play::new(config(10));
    let before = play.run(300, 20.0);
    play.second += 100_000;
    play.step(Some(20.0));
    assert_eq!(play.wanted, before, "{}", play.reason);
    let after = play.run(60, 20.0);
    assert!(after.abs_diff(before) <= 2, "{after} after the jump, {before} before");
}

#[test]
fn a_backlog_calls_for_more_than_the_load_does() {
    let mut play = Play::new(config(10));
    let steady = play.run(600, 10.0);
    let seen = Observation { queued: 400, ..play.seen(Some(10.0)) };
    let mut most = steady;
    for _ in 0..8 {
        play.second += 1;
        let (state, decision) = play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
        play.state = state;
        most = most.max(decision.wanted);
    }
    assert!(most > steady, "{most} with 400 waiting, {steady} without");
}

#[test]
fn without_load_it_goes_to_none_where_that_is_allowed_and_wakes_by_one() {
    let mut play = Play::new(config(10));
    play.bounds.min = 0;
    assert!(play.run(300, 4.0) >= 2);
    assert_eq!(play.run(7200, 0.0), 0, "{}", play.reason);
    let seen = Observation { queued: 1, ready: 0, ..play.seen(Some(0.1)) };
    let (_, decision) =
        play.config.decide(play.state.clone(), &seen, play.bounds, Duration::from_secs(play.second + 1));
    assert_eq!((decision.wanted, decision.reason.change), (1, Change::Woken));
}

#[test]
fn a_restart_in_mid_burst_ends_nothing_before_the_load_is_known() {
    let mut state = State::start(10);
    // A minute of long requests, of which none is answered yet.
    for second in 1..=60 {
        let seen = Observation {
            arrivals_per_s: Some(0.2),
            ready: 10,
            in_flight: 10,
            start_time: Some(Duration::from_secs(60)),
            ..Observation::default()
        };
        let (next, decision) = config(20).decide(state, &seen, BOUNDS, Duration::from_secs(second));
        assert_eq!((decision.wanted, decision.reason.change), (10, Change::NoData));
        state = next;
    }
}

#[test]
fn a_slow_tick_is_no_silence() {
    let mut state = State::start(1);
    state.service_time = Some(1.0);
    for tick in 0..100 {
        state.take_in(5.0, &Observation::default(), Duration::from_secs(60 * tick), &[]);
    }
    assert!(state.forecast.slots() > 1400, "{}", state.forecast.slots());
}

#[test]
fn a_tick_that_is_no_part_of_a_slot_loses_no_time() {
    let mut state = State::start(1);
    state.service_time = Some(1.0);
    for tick in 0..=400 {
        state.take_in(5.0, &Observation::default(), Duration::from_secs(3 * tick), &[]);
    }
    assert_eq!(state.forecast.slots(), 300, "1,200 seconds in slots of four");
    assert!((state.forecast.last() - 5.0).abs() < 1e-6);
}

#[test]
fn the_bounds_hold() {
    let narrow = Bounds { min: 2, max: 4 };
    let mut play = Play::new(config(10));
    for second in 1..=400 {
        let seen = play.seen(Some(50.0));
        let (state, decision) = play.config.decide(play.state.clone(), &seen, narrow, Duration::from_secs(second));
        assert!((2..=4).contains(&decision.wanted));
        play.state = state;
        play.wanted = decision.wanted;
        play.reason = decision.reason.to_string();
    }
    assert_eq!(play.wanted, 4);
    let contradictory = Bounds { min: 5, max: 3 };
    let (_, decision) =
        play.config.decide(play.state.clone(), &play.seen(Some(1.0)), contradictory, Duration::from_secs(500));
    assert_eq!(decision.wanted, 3, "the maximum protects the purse");
}

#[test]
fn the_odds_of_waiting_agree_with_erlangs_formula() {
    // M/M/c by hand: c = 10, a = 8: C = 0.409; c = 20, a = 15: C = 0.160.
    for (places, load, exact) in [(10.0_f64, 8.0, 0.409), (20.0, 15.0, 0.160), (2.0, 1.0, 0.333)] {
        let odds = odds_of_waiting((places - load) / places.sqrt());
        assert!((odds - exact).abs() < 0.07, "{odds} for {load} at {places}, and {exact} is right");
    }
    assert!((odds_of_waiting(0.0) - 1.0).abs() < 1e-12 && odds_of_waiting(0.0) > odds_of_waiting(0.01));
    for beyond in [4.0, 9.9, f64::INFINITY] {
        assert!(odds_of_waiting(beyond) < 1e-4);
    }
}

#[test]
fn requests_that_last_a_minute_are_no_load_that_comes_and_goes_with_each() {
    let mut play = Play::new(config(1200));
    // One in ten seconds, a minute each: six at a time.
    let mut changes = 0;
    for second in 0..7200_u32 {
        let before = play.wanted;
        play.second += 1;
        let seen = Observation {
            arrivals_per_s: Some(if second % 10 == 0 { 1.0 } else { 0.0 }),
            service_time: Some(60.0),
            completed: 0.1,
            in_flight: 6,
            ..play.seen(None)
        };
        let (state, decision) = play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
        play.state = state;
        play.wanted = decision.wanted;
        changes += u32::from(second > 1800 && play.wanted != before);
    }
    assert!(changes <= 4, "{changes} changes of the count in an hour and a half of the same load");
    assert!((3..=8).contains(&play.wanted), "{} replicas of two places for six requests at a time", play.wanted);
}

#[test]
fn nor_do_they_at_other_prices_and_rates() {
    let prices = [100, 300, 600, 900, 1000, 1100, 1200, 1300, 1400, 1500, 2000, 3000];
    let all = prices.into_iter().flat_map(|price| [7, 9, 10, 11, 13].map(|every| (price, every)));
    for (price, every) in all {
        let mut play = Play::new(config(price));
        // A minute each, four to nine at a time.
        let places = 60 / every;
        let mut changes = 0;
        for second in 0..4800_u32 {
            let before = play.wanted;
            play.second += 1;
            let seen = Observation {
                arrivals_per_s: Some(if second % every == 0 { 1.0 } else { 0.0 }),
                service_time: Some(60.0),
                completed: 1.0 / f64::from(every),
                in_flight: u64::from(places),
                ..play.seen(None)
            };
            let (state, decision) =
                play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
            play.state = state;
            play.wanted = decision.wanted;
            changes += u32::from(second > 1800 && play.wanted != before);
        }
        assert!(changes <= 4, "{changes} changes of the count in fifty minutes of one in {every} s at {price} s");
        assert!(
            (places.div_ceil(2)..=places + 2).contains(&play.wanted),
            "{} replicas of two places for {places}",
            play.wanted
        );
    }
}

#[test]
fn a_late_request_is_as_late_for_short_requests_as_for_long_ones() {
    // A load of ten in the mean that is at twenty for one minute of four, any one; what counts is how long the queue is in seconds.
    let wanted = [0.05, 5.0].map(|service_time| {
        let mut play =
            Play::new(Config::new(2, Duration::from_secs(1), Some(Duration::from_secs_f64(20.0 * service_time))));
        let mut least = u32::MAX;
        let mut chance = fastrand::Rng::with_seed(2);
        let mut load = 6.7;
        for second in 0..7200_u32 {
            play.second += 1;
            if second % 60 == 0 {
                load = if chance.u32(..4) == 0 { 20.0 } else { 6.7 };
            }
            let seen = Observation {
                arrivals_per_s: Some(load / service_time),
                service_time: Some(service_time),
                completed: load / service_time,
                ..play.seen(None)
            };
            let (state, decision) =
                play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
            (play.state, play.wanted) = (state, decision.wanted);
            least = if second > 3600 { least.min(play.wanted) } else { least };
        }
        least
    });
    // What takes five seconds is at a replica for more than a slot, so its load is told a little more smoothly.
    assert!(wanted[0].abs_diff(wanted[1]) <= 1, "{wanted:?}");
}

#[test]
fn where_the_box_bears_no_further_replica_the_next_one_is_paid_for_and_takes_as_long_as_an_instance() {
    let more = |local: u32| {
        let mut play = Play::new(config(1));
        for _ in 0..600 {
            play.second += 1;
            let seen = Observation { local, ..play.seen(Some(3.8)) };
            let (state, decision) =
                play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
            (play.state, play.wanted) = (state, decision.wanted);
            play.reason = decision.reason.to_string();
        }
        (play.wanted, play.reason)
    };
    let (free, reason) = more(8);
    assert!(free > 2, "local ones cost next to nothing: {free}");
    assert!(reason.contains("is expected in 9 s"), "{reason}");
    let (paid, reason) = more(1);
    assert!(paid < free, "{paid} where they are paid for, {free} where they are not");
    assert!(reason.contains("is expected in 34 s"), "{reason}");
}

#[test]
fn between_two_decisions_it_says_what_the_last_one_did() {
    let mut play = Play::new(config(36));
    play.bounds.max = 4;
    play.run(600, 40.0);
    for _ in 0..12 {
        assert_eq!(play.step(Some(40.0)), Change::AtMaximum, "{}", play.reason);
    }
    play.bounds.max = 3;
    assert_eq!(play.step(Some(40.0)), Change::LoweredToMaximum, "{}", play.reason);
    play.bounds = Bounds { min: 6, max: 9 };
    assert_eq!(play.step(Some(40.0)), Change::RaisedToMinimum, "{}", play.reason);
}

#[test]
fn what_was_learnt_outlives_the_process_to_the_bit() {
    let mut play = Play::new(config(36));
    for _ in 0..8 {
        play.run(300, 1.0);
        play.run(300, 20.0);
    }
    let bytes = archive::to_bytes(&PolicyState::Predictive(Box::new(play.state.clone())));
    assert!(bytes.len() < 300_000, "{}", bytes.len());
    let Some(PolicyState::Predictive(state)) = PolicyState::from_bytes(&bytes) else { panic!("not readable") };
    assert!(archive::to_bytes(&PolicyState::Predictive(state.clone())) == bytes, "the same again");
    let mut again = Play { state: *state, reason: String::new(), ..Play::new(config(36)) };
    (again.second, again.wanted) = (play.second, play.wanted);
    for second in 0..600 {
        let rate = Some(f64::from(second % 40));
        assert_eq!((again.step(rate), again.wanted), (play.step(rate), play.wanted), "second {second}");
        assert_eq!(again.reason, play.reason);
    }
}

#[test]
fn after_a_restart_the_period_is_known_where_it_is_known_how_long_that_took() {
    let mut play = Play::new(config(36));
    for _ in 0..8 {
        play.run(300, 1.0);
        play.run(300, 20.0);
    }
    // Two minutes of the quiet part were missed, and two and a half more were seen: in half a minute it comes again.
    let resumed = |away: Option<Duration>| {
        let mut state = play.state.clone().begin_at(1);
        state.resume(away);
        let mut play = Play { state, second: 1_000_000, ..Play::new(config(36)) };
        play.run(150, 1.0);
        (play.wanted, play.state.forecast().period().is_some())
    };
    let (wanted, is_known) = resumed(Some(Duration::from_secs(120)));
    assert!(wanted >= 8 && is_known, "{wanted}");
    assert!(!resumed(None).1, "nobody knows where in its period it is");
}

#[test]
fn a_state_that_was_tampered_with_is_not_read() {
    let mut play = Play::new(config(10));
    play.run(600, 5.0);
    let sound = PolicyState::Predictive(Box::new(play.state.clone()));
    assert!(PolicyState::from_bytes(&archive::to_bytes(&sound)).is_some());
    for service_time in [Some(f64::NAN), Some(0.0), Some(-1.0)] {
        let state = PolicyState::Predictive(Box::new(State { service_time, ..play.state.clone() }));
        assert!(PolicyState::from_bytes(&archive::to_bytes(&state)).is_none(), "{service_time:?}");
    }
}

#[test]
fn what_is_paid_for_already_is_kept_until_then() {
    // Ten instances more than are needed, each paid for ten minutes more.
    let mut play = Play::new(config(10));
    play.run(900, 20.0);
    let before = play.wanted;
    let mut fell_after = None;
    for second in 0..900_u64 {
        play.second += 1;
        let paid_ahead = vec![Duration::from_secs(600_u64.saturating_sub(second)); before as usize - 1];
        let seen = Observation { paid_ahead, minimum_billing: Duration::from_secs(600), ..play.seen(Some(0.5)) };
        let (state, decision) = play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
        (play.state, play.wanted) = (state, decision.wanted);
        if play.wanted < before {
            fell_after.get_or_insert(second);
        }
    }
    let fell_after = fell_after.expect("it lets them go at last");
    assert!((560..=640).contains(&fell_after), "after {fell_after} s");
    assert!(play.wanted <= 2, "{}", play.wanted);
}

#[test]
fn a_long_least_payment_makes_a_short_use_too_dear() {
    let most_wanted = |minimum_billing: u64| {
        let mut play = Play::new(config(4));
        // Bursts of two minutes that were seen often enough to be known.
        let mut most = 0;
        for second in 0..7_200_u64 {
            play.second += 1;
            let rate = if second % 900 < 120 { 6.0 } else { 1.0 };
            let minimum_billing = Duration::from_secs(minimum_billing);
            let seen = Observation { minimum_billing, ..play.seen(Some(rate)) };
            let (state, decision) =
                play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
            (play.state, play.wanted) = (state, decision.wanted);
            if second > 3_600 {
                most = most.max(play.wanted);
            }
        }
        most
    };
    let (free_to_end, paid_by_the_day) = (most_wanted(0), most_wanted(86_400));
    assert!(paid_by_the_day < free_to_end, "{paid_by_the_day} where a day is paid, {free_to_end} where a second is");
}

#[test]
fn an_idle_instance_that_is_billed_by_the_hour_is_ended_before_its_next_hour_whatever_a_start_takes() {
    for (start, asked_at) in [(10, 0), (60, 7), (90, 1), (300, 3)] {
        let mut play = Play::new(config(10));
        play.run(900, 4.0);
        let before = play.wanted;
        assert!(before >= 3, "{before}");
        let mut ended_with = None;
        for second in 0..7_200_u64 {
            play.second += 1;
            let ahead = 3_600 - (second + asked_at) % 3_600;
            let seen = Observation {
                paid_ahead: vec![Duration::from_secs(ahead); before as usize - 1],
                start_time: Some(Duration::from_secs(start)),
                ..play.seen(Some(0.2))
            };
            let (state, decision) =
                play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(play.second));
            (play.state, play.wanted) = (state, decision.wanted);
            if play.wanted < before {
                ended_with = Some(ahead);
                break;
            }
        }
        let ahead = ended_with.unwrap_or_else(|| panic!("with a start of {start} s it is never ended"));
        assert!((8..=120).contains(&ahead), "with a start of {start} s it is ended {ahead} s before it is paid again");
    }
}

#[test]
fn an_overload_of_many_times_what_is_there_is_answered_with_as_many() {
    // The first ones of fifty help nobody: each queue grows as long as the load stays.
    let mut play = Play::new(Config::new(4, Duration::from_secs(1), None));
    for _ in 0..3 {
        play.run(1800, 0.2);
        play.run(1800, 200.0);
    }
    play.run(1800, 0.2);
    assert!(play.run(120, 200.0) >= 50, "{}", play.reason);
    // Half of them are lost at once.
    for left in [1, 5, 20] {
        play.wanted = left;
        assert!(play.run(30, 200.0) >= 50, "of {left}: {}", play.reason);
    }
}

#[test]
fn what_cannot_be_had_is_no_reason_to_have_less() {
    let mut play = Play::new(Config::new(4, Duration::from_secs(1), None));
    play.bounds.max = 5;
    for _ in 0..3 {
        play.run(1800, 0.2);
        assert_eq!(play.run(1800, 100.0), 5, "{}", play.reason);
    }
}

#[test]
fn where_the_box_alone_helps_nobody_instances_are_launched() {
    let mut play = Play::new(Config::new(1, Duration::from_secs(1), None));
    play.run(4 * 3600, 10.0);
    let few = Observation { local: 2, ready: 1, ..play.seen(Some(10.0)) };
    let now = Duration::from_secs(play.second + 4);
    play.state.wanted = 1;
    let (_, decision) = play.config.decide(play.state.clone(), &few, BOUNDS, now);
    assert!(decision.wanted >= 10, "{}", decision.reason);
}

#[test]
fn a_cold_first_answer_weighs_no_more_than_any_other() {
    let mut play = Play::new(config(20));
    let mut most = 0;
    for second in 0..60 {
        let service_time = Some(if second == 0 { 30.0 } else { 0.1 });
        let completed = if second == 0 { 1.0 } else { 10.0 };
        let seen = Observation { service_time, completed, ..play.seen(Some(10.0)) };
        let (state, decision) = play.config.decide(play.state.clone(), &seen, BOUNDS, Duration::from_secs(second));
        (play.state, play.wanted, most) = (state, decision.wanted, most.max(decision.wanted));
    }
    let time = play.state.service_time.unwrap();
    assert!(time < 0.3, "{time} s after some six hundred answers");
    assert!(most <= 30, "{most}");
}

#[test]
fn who_was_never_asked_or_whose_only_caller_gave_up_ends() {
    let mut state = State::start(0);
    let bounds = Bounds { min: 0, max: 5 };
    let nobody = Observation { arrivals_per_s: Some(0.0), request_rate: Some(0.0), ..Observation::default() };
    let asked = Observation { arrivals_per_s: Some(1.0), queued: 1, ..nobody.clone() };
    let mut step = |seen: &Observation, second| {
        let (next, decision) = config(20).decide(state.clone(), seen, bounds, Duration::from_secs(second));
        state = next;
        decision.wanted
    };
    assert!((0..100).all(|second| step(&nobody, second) == 0));
    assert_eq!(step(&asked, 100), 1, "it wakes");
    let starting = Observation { starting: 1, ..nobody.clone() };
    assert!((101..400).all(|second| step(&starting, second) == 1), "not before its start is over");
    let there = Observation { ready: 1, ..nobody };
    assert!((400..460).all(|second| step(&there, second) == 1), "not at once");
    assert_eq!(step(&there, 461), 0);
}

#[test]
fn what_is_here_tells_of_requests_that_last_for_minutes_after_a_restart() {
    // One a minute, each of ten minutes: ten are here at a time.
    let seen = |arrivals: f64, here: u64| Observation {
        arrivals_per_s: Some(arrivals),
        service_time: Some(600.0),
        completed: 0.01,
        ready: 10,
        in_flight: here,
        start_time: Some(Duration::from_secs(30)),
        local: 1,
        ..Observation::default()
    };
    for first in [0.0, 0.25] {
        let mut state = State::start(10);
        let most = (0..30).map(|slot| {
            let arrivals = if slot == 1 { first } else { 1.0 / 60.0 };
            let (next, decision) = config(20).decide(state.clone(), &seen(arrivals, 10), BOUNDS, SLOT * slot);
            state = next;
            decision.wanted
        });
        assert!(most.max() <= Some(20), "{first}");
        assert!((5.0..20.0).contains(&state.forecast().last()), "{}", state.forecast().last());
    }
}

#[test]
fn a_load_of_long_requests_goes_on_after_a_short_restart_and_is_not_that_of_yesterday_after_a_long_one() {
    for (away, goes_on) in [(Some(60), true), (Some(86_400), false), (None, false)] {
        let mut play = Play::new(config(20));
        let long =
            |play: &Play, rate| Observation { service_time: Some(600.0), completed: 0.1, ..play.seen(Some(rate)) };
        for _ in 0..7200 {
            play.second += 1;
            let seen = long(&play, 0.1);
            play.state = play.config.decide(play.state, &seen, BOUNDS, Duration::from_secs(play.second)).0;
        }
        let mut state = play.state.clone().begin_at(1);
        state.resume(away.map(Duration::from_secs));
        for second in 0..8 {
            let seen = Observation { in_flight: 0, ..long(&play, 0.0) };
            state = play.config.decide(state, &seen, BOUNDS, Duration::from_secs(second)).0;
        }
        let load = state.forecast().last();
        assert_eq!(load > 30.0, goes_on, "{load} after {away:?} s");
    }
}

#[test]
fn no_instance_is_launched_for_what_the_box_works_off_before_it_is_ready() {
    let config = config(20);
    let mut forecast = Forecast::default();
    (0..900).for_each(|_| forecast.learn(5.0));
    for queued in [0, 5, 20] {
        let start_time = Some(Duration::from_secs(60));
        let seen = Observation { ready: 1, queued, start_time, local: 4, ..Default::default() };
        let more = Scene::new(&config, &forecast, 1.0, &seen).more(1);
        assert!((3..=4).contains(&more), "{more} with {queued} waiting");
    }
}

#[test]
fn a_queue_never_calls_for_less() {
    for (time, price) in [(600, 300), (600, 12_000), (60, 1200), (10, 200)] {
        let config = Config::new(1, Duration::from_secs(1), Some(Duration::from_secs(price)));
        let mut forecast = Forecast::default();
        (0..900).for_each(|_| forecast.learn(3.0));
        let wanted = |queued| {
            let seen =
                Observation { ready: 2, queued, start_time: Some(Duration::from_secs(30)), ..Default::default() };
            Scene::new(&config, &forecast, Duration::from_secs(time).as_secs_f64(), &seen).more(2)
        };
        let counts: Vec<u32> = [0, 1, 5, 20, 100, 500].map(wanted).to_vec();
        assert!(counts[0] >= 3 && counts.iter().all(|count| *count >= counts[0]), "{time} s: {counts:?}");
    }
}

#[test]
fn two_ticks_at_once_after_a_slow_one_are_no_silence_afterwards() {
    let mut play = Play::new(config(20));
    let mut now = 0.0;
    for tick in 0..40 {
        now += if tick == 10 { 1e-5 } else { 40.0 };
        let seen = play.seen(Some(10.0));
        play.state = play.config.decide(play.state, &seen, BOUNDS, Duration::from_secs_f64(now)).0;
    }
    assert!(play.state.forecast().known() > 300, "{} slots are known", play.state.forecast().known());
}

#[test]
fn instances_are_kept_through_a_pause_shorter_than_a_start_also_beside_several_local_replicas() {
    for (local, low) in [(0, 0.0), (1, 0.0), (2, 1.0), (4, 1.0), (4, 4.0)] {
        let mut play = Play::new(config(20));
        play.bounds.min = 0;
        let step = |play: &mut Play, rate: f64| {
            play.second += 1;
            let seen = Observation { local, start_time: Some(Duration::from_secs(180)), ..play.seen(Some(rate)) };
            let (state, decision) =
                play.config.decide(play.state.clone(), &seen, play.bounds, Duration::from_secs(play.second));
            (play.state, play.wanted) = (state, decision.wanted);
        };
        for _ in 0..20 {
            (0..300).for_each(|_| step(&mut play, 20.0));
            (0..150).for_each(|_| step(&mut play, low));
        }
        (0..300).for_each(|_| step(&mut play, 20.0));
        let there = play.wanted;
        for second in 0..150 {
            step(&mut play, low);
            assert!(play.wanted * 2 >= there, "{} of {there} after {second} s of {low} beside {local}", play.wanted);
        }
    }
}
