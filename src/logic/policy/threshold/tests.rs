use super::super::{Policy, PolicyState};
use super::*;

const BOUNDS: Bounds = Bounds { min: 1, max: 8 };

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn config(scale_factor: f64, interval: f64, band: f64) -> Config {
    Config { metric: Metric::Utilisation, threshold: 0.80, scale_factor, interval: secs(interval), band }
}

fn at(utilisation: f64) -> Observation {
    Observation { utilisation: Some(utilisation), ready: 1, ..Observation::default() }
}

/// A policy, its state, and the bounds it is asked with.
struct Run {
    policy: Policy,
    state: PolicyState,
    bounds: Bounds,
}

impl Run {
    fn new(config: Config, alive: u32) -> Self {
        let policy = Policy::Threshold(config);
        let state = policy.start(alive);
        Self { policy, state, bounds: BOUNDS }
    }

    fn see(&mut self, seconds: f64, seen: &Observation) -> Decision {
        let (state, decision) = self.policy.decide(self.state.clone(), seen, self.bounds, secs(seconds));
        self.state = state;
        decision
    }

    fn wanted(&mut self, seconds: f64, utilisation: f64) -> u32 {
        self.see(seconds, &at(utilisation)).wanted
    }
}

#[test]
fn at_85_percent_two_start_and_at_75_percent_two_stop() {
    for band in [0.0, 0.10] {
        let mut run = Run::new(config(2.0, 60.0, band), 4);
        assert_eq!(run.wanted(0.0, 0.80), 4, "band {band}");
        let decision = run.see(1.0, &at(0.85));
        assert_eq!((decision.wanted, decision.reason.change), (6, Change::Added(2)), "band {band}");

        let mut run = Run::new(config(2.0, 60.0, band), 4);
        assert_eq!(run.wanted(0.0, 0.80), 4, "band {band}");
        let decision = run.see(60.0, &at(0.75));
        assert_eq!((decision.wanted, decision.reason.change), (2, Change::Removed(2)), "band {band}");
    }
}

#[test]
fn one_clock_paces_both_directions() {
    let mut run = Run::new(config(2.0, 60.0, 0.0), 2);
    assert_eq!(run.wanted(0.0, 0.9), 4);
    assert_eq!(run.wanted(59.999, 0.9), 4);
    assert_eq!(run.wanted(59.999, 0.1), 4);
    assert_eq!(run.wanted(60.0, 0.1), 2);
    assert_eq!(run.wanted(61.0, 0.9), 2);
    assert_eq!(run.wanted(120.0, 0.9), 4);
}

#[test]
fn between_the_edges_nothing_moves_and_the_edges_themselves_act() {
    for (value, wanted) in [(0.849, 4), (0.751, 4), (0.80, 4), (0.85 - 1e-10, 6), (0.75 + 1e-10, 2)] {
        let mut run = Run::new(config(2.0, 60.0, 0.10), 4);
        assert_eq!(run.wanted(0.0, 0.80), 4);
        assert_eq!(run.wanted(60.0, value), wanted, "at {value}");
    }
}

#[test]
fn without_a_band_the_formula_holds_literally() {
    for (value, wanted) in [(0.80, 4), (0.800_001, 6), (0.799_999, 2)] {
        let mut run = Run::new(config(2.0, 60.0, 0.0), 4);
        assert_eq!(run.wanted(0.0, 0.80), 4);
        assert_eq!(run.wanted(60.0, value), wanted, "at {value}");
    }
}

#[test]
fn fractions_carry_over_in_one_direction_and_are_dropped_when_it_turns() {
    let mut run = Run::new(config(1.5, 60.0, 0.0), 1);
    let adding: Vec<u32> = (0..3).map(|minute| run.wanted(f64::from(minute) * 60.0, 0.9)).collect();
    assert_eq!(adding, [2, 4, 5], "1.5 a minute: one, two, one");
    let removing: Vec<u32> = (3..6).map(|minute| run.wanted(f64::from(minute) * 60.0, 0.1)).collect();
    assert_eq!(removing, [4, 2, 1], "the half that was left of adding does not speed up removing");
}

#[test]
fn a_fraction_survives_a_hold() {
    let mut run = Run::new(config(1.5, 60.0, 0.0), 1);
    assert_eq!(run.wanted(0.0, 0.9), 2);
    assert_eq!(run.wanted(60.0, 0.80), 2);
    assert_eq!(run.wanted(600.0, 0.9), 4);
}

#[test]
fn a_fast_interval_acts_at_once_and_keeps_the_pace_of_s() {
    let mut run = Run::new(config(1.0, 15.0, 0.0), 1);
    let trace: Vec<u32> = (0..9).map(|quarter| run.wanted(f64::from(quarter) * 15.0, 0.9)).collect();
    assert_eq!(trace, [2, 2, 2, 2, 3, 3, 3, 3, 4], "one at once, then one a minute");
}

#[test]
fn a_load_that_swings_cannot_change_the_fleet_faster_than_s() {
    let mut run = Run::new(config(1.0, 15.0, 0.0), 3);
    let mut changes = 0;
    let mut last = 3;
    for quarter in 0..240 {
        let wanted = run.wanted(f64::from(quarter) * 15.0, if quarter % 2 == 0 { 0.9 } else { 0.1 });
        changes += wanted.abs_diff(last);
        last = wanted;
    }
    assert!(changes <= 61, "{changes} changes in an hour at one a minute");
    assert!(changes >= 40, "{changes} changes: it should still follow");
}

#[test]
fn a_tenth_ten_times_is_one() {
    let mut run = Run::new(config(1.0, 6.0, 0.0), 1);
    let trace: Vec<u32> = (0..=20).map(|step| run.wanted(f64::from(step) * 6.0, 0.9)).collect();
    assert_eq!((trace[0], trace[9], trace[10], trace[19], trace[20]), (2, 2, 3, 3, 4));
}

#[test]
fn nothing_winds_up_at_a_limit() {
    let mut run = Run::new(config(2.5, 60.0, 0.0), 7);
    for minute in 0..50 {
        assert_eq!(run.wanted(f64::from(minute) * 60.0, 2.0), 8);
    }
    assert_eq!(run.wanted(3000.0, 0.1), 6, "the way back begins at the maximum, not beyond it");
    for minute in 51..60 {
        run.wanted(f64::from(minute) * 60.0, 0.1);
    }
    assert_eq!(run.see(3600.0, &at(0.1)).reason.change, Change::AtMinimum);
    assert_eq!(run.wanted(3600.0, 0.9), 3);
}

#[test]
fn missing_data_holds_and_says_so() {
    for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        let mut run = Run::new(config(2.0, 60.0, 0.10), 3);
        let decision = run.see(0.0, &Observation { utilisation: value, ready: 3, ..Observation::default() });
        assert_eq!((decision.wanted, decision.reason.change, decision.reason.value), (3, Change::NoData, None));
        assert_eq!(decision.reason.to_string(), "utilisation has no value now: the last decision holds, 3 wanted");
    }
}

#[test]
fn demand_wakes_one_from_zero_at_once_and_a_heavy_load_goes_on_at_once() {
    let mut run = Run::new(config(2.0, 60.0, 0.0), 0);
    run.bounds.min = 0;
    assert_eq!(run.see(0.0, &Observation::default()).wanted, 0, "nobody came");
    let waiting = Observation { queued: 3, ..Observation::default() };
    let decision = run.see(0.25, &waiting);
    assert_eq!((decision.wanted, decision.reason.change), (1, Change::Woken));
    assert_eq!(run.see(0.5, &waiting).wanted, 1, "once is enough while it starts");
    assert_eq!(run.wanted(2.0, 3.0), 3, "and the wake did not use up the interval");
}

#[test]
fn a_woken_replica_stays_for_an_interval_and_while_it_has_work() {
    let mut run = Run::new(config(2.0, 60.0, 0.0), 0);
    run.bounds.min = 0;
    assert_eq!(run.see(0.0, &Observation::default()).wanted, 0);
    assert_eq!(run.see(100.0, &Observation { in_flight: 1, ..Observation::default() }).wanted, 1);
    let idle = at(0.0);
    assert!(matches!(run.see(159.0, &idle).reason.change, Change::Waiting { side: Side::Below, .. }));
    let light = Observation { request_rate: Some(0.2), ..at(0.05) };
    assert_eq!(run.see(160.0, &light).reason.change, Change::LastInUse);
    assert_eq!(run.see(161.0, &idle).wanted, 0);
}

#[test]
fn two_with_work_go_to_one_not_to_zero() {
    let mut run = Run::new(config(2.0, 60.0, 0.0), 2);
    run.bounds.min = 0;
    let busy = Observation { in_flight: 1, ..at(0.3) };
    assert_eq!(run.see(0.0, &busy).wanted, 2);
    assert_eq!(run.see(60.0, &busy).reason.change, Change::Removed(1));
}

#[test]
fn a_maximum_of_zero_bars_the_wake() {
    let mut run = Run::new(config(2.0, 60.0, 0.0), 0);
    run.bounds = Bounds { min: 0, max: 0 };
    let decision = run.see(0.0, &Observation { queued: 1, ..Observation::default() });
    assert_eq!((decision.wanted, decision.reason.change), (0, Change::WakeBarred));
}

#[test]
fn a_restart_removes_nothing_for_an_interval_and_adds_at_once() {
    let mut run = Run::new(config(2.0, 60.0, 0.0), 6);
    assert_eq!(run.wanted(1000.0, 0.0), 6);
    assert_eq!(run.wanted(1059.0, 0.0), 6);
    assert_eq!(run.wanted(1060.0, 0.0), 4);
    let mut run = Run::new(config(2.0, 60.0, 0.0), 6);
    assert_eq!(run.wanted(1000.0, 0.9), 8);
}

#[test]
fn bounds_that_move_pull_the_wish_along_and_are_the_reason() {
    let mut run = Run::new(config(2.0, 60.0, 0.10), 3);
    assert_eq!(run.wanted(0.0, 0.80), 3);
    run.bounds = Bounds { min: 5, max: 8 };
    assert_eq!(run.see(1.0, &at(0.80)).reason.change, Change::RaisedToMinimum);
    run.bounds = Bounds { min: 0, max: 2 };
    let decision = run.see(2.0, &at(0.90));
    assert_eq!(decision.reason.to_string(), "the maximum is now 2: 2 wanted");
    run.bounds = Bounds { min: 5, max: 2 };
    assert_eq!(run.wanted(3.0, 0.80), 2, "a contradiction is settled by the maximum");
}

#[test]
fn a_scale_factor_of_zero_changes_nothing() {
    let mut run = Run::new(config(0.0, 60.0, 0.0), 3);
    assert!((0..10).all(|minute| run.wanted(f64::from(minute) * 60.0, 5.0) == 3));
}

#[test]
fn an_absurd_scale_factor_saturates() {
    let mut run = Run::new(config(1e300, 60.0, 0.0), 3);
    assert_eq!(run.wanted(0.0, 0.9), 8);
    assert_eq!(run.wanted(60.0, 0.1), 1);
}

#[test]
fn the_reason_is_a_sentence_with_the_edge_that_acted() {
    let mut run = Run::new(config(2.0, 60.0, 0.10), 2);
    let sentence = run.see(0.0, &at(0.85)).reason.to_string();
    assert_eq!(sentence, "utilisation 0.85 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 4 wanted");
    let mut run = Run::new(Config { metric: Metric::LatencyP95, threshold: 0.2, ..config(2.0, 60.0, 0.0) }, 2);
    let slow = Observation { latency_p95: Some(0.346), ..Observation::default() };
    assert_eq!(
        run.see(0.0, &slow).reason.to_string(),
        "latency_p95 0.346 s is above the threshold 0.20: 2 more, 4 wanted"
    );
}

#[test]
fn each_metric_is_read_from_its_own_field() {
    for metric in Metric::ALL {
        let mut seen = Observation::default();
        match metric {
            Metric::Requests | Metric::OfferedLoad => unreachable!("of other policies"),
            Metric::Utilisation => seen.utilisation = Some(0.9),
            Metric::Cpu => seen.cpu = Some(0.9),
            Metric::Memory => seen.memory = Some(0.9),
            Metric::Network => seen.network = Some(0.9),
            Metric::RequestRate => seen.request_rate = Some(0.9),
            Metric::LatencyP95 => seen.latency_p95 = Some(0.9),
            Metric::Custom => seen.custom = Some(0.9),
        }
        let mut run = Run::new(Config { metric, ..config(2.0, 60.0, 0.0) }, 2);
        assert_eq!(run.see(0.0, &seen).wanted, 4, "{metric}");
        let mut run = Run::new(Config { metric, ..config(2.0, 60.0, 0.0) }, 2);
        assert_eq!(run.see(0.0, &Observation::default()).reason.change, Change::NoData, "{metric}");
    }
}

#[test]
fn utilisation_counts_the_queue_and_has_no_value_without_replicas() {
    assert_eq!(super::super::utilisation(6.0, 2.0, 2, 4), Some(1.0));
    assert_eq!(super::super::utilisation(6.0, 2.0, 0, 4), None);
}

#[test]
fn latency_of_nobody_is_none_and_no_reason_to_keep_anything() {
    let by_latency = Config { metric: Metric::LatencyP95, threshold: 0.5, ..config(2.0, 10.0, 0.0) };
    let mut run = Run::new(by_latency, 6);
    let busy =
        Observation { latency_p95: Some(0.6), request_rate: Some(5.0), in_flight: 3, ready: 6, ..Default::default() };
    assert_eq!(run.see(0.0, &busy).wanted, 7);
    // What is answered late is not known yet; of nobody there is nothing to know.
    let waiting = Observation { latency_p95: None, ..busy.clone() };
    assert_eq!(run.see(20.0, &waiting).reason.change, Change::NoData);
    let unknown = Observation { request_rate: None, in_flight: 0, ..waiting.clone() };
    assert_eq!(run.see(30.0, &unknown).reason.change, Change::NoData);
    let idle = Observation { request_rate: Some(0.0), in_flight: 0, ..waiting };
    let course: Vec<u32> = (4..60).map(|step| run.see(f64::from(step) * 10.0, &idle).wanted).collect();
    assert!(course.is_sorted_by(|before, after| before >= after) && course.ends_with(&[1, 1]), "{course:?}");
}
