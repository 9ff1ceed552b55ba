use super::*;
use crate::route::Transport;

const TIMING: Timing = Timing {
    lease_ttl: Duration::from_secs(20),
    start_timeout: Duration::from_secs(60),
    drain_timeout: Duration::from_secs(10),
};
const READY: Outcome = Outcome::Renewed { ready: true, draining: false };

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Carries out what is due with `answer` until nothing is due any more or `until` has come; returns what was done.
fn play(fleet: &mut Fleet, from: f64, until: f64, mut answer: impl FnMut(Operation, f64) -> Outcome) -> Vec<Operation> {
    let (mut now, mut seen) = (from, Vec::new());
    while now < until {
        for (launch, operation) in fleet.due(at(now)) {
            seen.push(operation);
            fleet.done(&launch, operation, answer(operation, now), at(now), 0.5);
        }
        if fleet.confirming_since("cloud").is_some() {
            fleet.listed("cloud", &BTreeSet::new(), at(now), at(now), 0.5);
        }
        now += 0.05;
    }
    seen
}

fn healthy(operation: Operation, _now: f64) -> Outcome {
    match operation {
        Operation::Launch => Outcome::Accepted,
        Operation::Describe => Outcome::Seen(running(None)),
        Operation::Renew => READY,
        Operation::Intend | Operation::RecordEnding | Operation::Terminate | Operation::Close => Outcome::Done,
    }
}

fn running(notice: Option<&str>) -> Seen {
    let address = Address { authority: "127.0.0.1:9".into(), transport: Transport::Plain };
    Seen::Running { address, notice: notice.map(ToOwned::to_owned) }
}

fn ready_fleet() -> Fleet {
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    play(&mut fleet, 0.0, 1.0, healthy);
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Ready);
    fleet
}

#[test]
fn the_intent_comes_before_the_launch_and_the_whole_life_is_in_order() {
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    let mut seen = play(&mut fleet, 0.0, 1.0, healthy);
    fleet.drain("l1", "scaled in", at(1.0));
    fleet.release("l1", at(1.1));
    seen.extend(play(&mut fleet, 1.1, 2.0, healthy));
    use Operation::{Close, Describe, Intend, Launch, RecordEnding, Renew, Terminate};
    assert_eq!(seen, [Intend, Launch, Describe, Renew, RecordEnding, Terminate, Close]);
    assert!(fleet.is_empty());
}

#[test]
fn an_intent_that_cannot_be_written_asks_no_provider() {
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    let seen = play(&mut fleet, 0.0, 5.0, |_, _| Outcome::Failed("disk full".into()));
    assert_eq!(seen, [Operation::Intend]);
    assert!(fleet.is_empty());
}

#[test]
fn a_full_disk_does_not_keep_an_instance_alive() {
    let mut fleet = ready_fleet();
    fleet.end("l1", "shutdown", at(2.0));
    let disk_full = |operation, now| match operation {
        Operation::RecordEnding => Outcome::Failed("disk full".into()),
        other => healthy(other, now),
    };
    assert!(play(&mut fleet, 2.0, 3.0, disk_full).contains(&Operation::Terminate));
}

#[test]
fn a_transient_failure_is_tried_again_with_the_same_id_and_a_refusal_is_not() {
    let mut failures = 0;
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    play(&mut fleet, 0.0, 5.0, |operation, now| match operation {
        Operation::Launch if failures < 2 => {
            failures += 1;
            Outcome::Failed("timeout".into())
        }
        other => healthy(other, now),
    });
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Ready);

    let mut refused = Fleet::default();
    refused.launch("l2", "digits", "cloud", "load", TIMING, at(0.0));
    let seen = play(&mut refused, 0.0, 5.0, |operation, now| match operation {
        Operation::Launch => Outcome::Misconfigured("bad image".into()),
        other => healthy(other, now),
    });
    assert_eq!(seen.iter().filter(|o| **o == Operation::Launch).count(), 1);
    // Even a refusal is ended and confirmed at the provider: an answer may lie.
    assert!(seen.contains(&Operation::Terminate));
    assert!(refused.is_empty());
}

#[test]
fn an_instance_that_never_becomes_ready_is_ended_after_the_start_timeout() {
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    let never = |operation, now| match operation {
        Operation::Renew => Outcome::Renewed { ready: false, draining: false },
        other => healthy(other, now),
    };
    play(&mut fleet, 0.0, 59.0, never);
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Starting);
    play(&mut fleet, 59.0, 62.0, never);
    assert!(fleet.is_empty());
}

/// Who never gets ready must trip the circuit: otherwise launch follows launch, each at the minimum billing.
#[test]
fn an_instance_that_never_becomes_ready_is_a_failure_that_the_circuit_counts() {
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    let (mut events, mut now) = (Vec::new(), 0.0);
    while !fleet.is_empty() {
        assert!(now < 70.0, "it is not ended: {:?}", fleet.get("l1"));
        for (launch, operation) in fleet.due(at(now)) {
            let outcome = match operation {
                Operation::Renew => Outcome::Renewed { ready: false, draining: false },
                other => healthy(other, now),
            };
            events.extend(fleet.done(&launch, operation, outcome, at(now), 0.5));
        }
        fleet.listed("cloud", &BTreeSet::new(), at(now), at(now), 0.5);
        now += 0.05;
    }
    let why = "not ready within 60s".to_owned();
    let expected =
        [Event::Started("l1".into()), failed(why.clone(), Failure::Provider), Event::Ended("l1".into(), why)];
    assert_eq!(events, expected);
}

#[test]
fn two_lost_renewals_take_it_out_of_the_route_and_an_answer_puts_it_back() {
    let mut fleet = ready_fleet();
    let lost = |operation, now| match operation {
        Operation::Renew => Outcome::Failed("timeout".into()),
        other => healthy(other, now),
    };
    play(&mut fleet, 1.0, 7.0, lost);
    let instance = fleet.get("l1").unwrap();
    assert_eq!((instance.stage, instance.is_routable()), (Stage::Ready, false));
    play(&mut fleet, 7.0, 9.0, healthy);
    assert!(fleet.get("l1").unwrap().is_routable());
}

#[test]
fn an_instance_out_of_reach_is_ended_once_its_lease_and_drain_have_passed() {
    let mut fleet = ready_fleet();
    let lost = |operation, now| match operation {
        Operation::Renew => Outcome::Failed("timeout".into()),
        other => healthy(other, now),
    };
    play(&mut fleet, 1.0, 29.0, lost);
    assert!(!fleet.is_empty());
    play(&mut fleet, 29.0, 34.0, lost);
    assert!(fleet.is_empty());
}

#[test]
fn an_instance_that_died_is_noticed_and_closed() {
    let mut fleet = ready_fleet();
    let died = |operation, now| match operation {
        Operation::Renew => Outcome::Failed("connection refused".into()),
        Operation::Describe => Outcome::Seen(Seen::Ended("killed".into())),
        other => healthy(other, now),
    };
    play(&mut fleet, 1.0, 9.0, died);
    assert!(fleet.is_empty());
}

fn failed(why: String, failure: Failure) -> Event {
    Event::Failed { launch: "l1".into(), why, failure }
}

#[test]
fn a_provider_that_says_gone_but_lists_it_is_asked_again_until_it_is_true() {
    let mut fleet = ready_fleet();
    fleet.end("l1", "scaled in", at(2.0));
    let (mut terminations, mut now, mut events) = (0, 2.0, Vec::new());
    while !fleet.is_empty() {
        assert!(now < 300.0, "it is not ended: {:?}", fleet.get("l1"));
        for (launch, operation) in fleet.due(at(now)) {
            terminations += u32::from(operation == Operation::Terminate);
            fleet.done(&launch, operation, healthy(operation, now), at(now), 0.99);
        }
        let lies = if terminations < 7 { BTreeSet::from(["l1"]) } else { BTreeSet::new() };
        events.extend(fleet.listed("cloud", &lies, at(now), at(now), 0.99));
        now += 0.05;
    }
    assert_eq!(terminations, 7);
    assert!(matches!(&events[..], [Event::Stuck(launch, _)] if launch == "l1"), "told once: {events:?}");
}

#[test]
fn a_list_that_began_before_the_termination_was_answered_confirms_nothing() {
    let mut fleet = ready_fleet();
    fleet.end("l1", "scaled in", at(2.0));
    for _ in 0..2 {
        for (launch, operation) in fleet.due(at(2.0)) {
            fleet.done(&launch, operation, Outcome::Done, at(2.0), 0.5);
        }
    }
    assert_eq!(fleet.confirming_since("cloud"), Some(at(2.0)));
    fleet.listed("cloud", &BTreeSet::new(), at(1.9), at(2.1), 0.5);
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Confirming);
    fleet.listed("another", &BTreeSet::new(), at(2.0), at(2.2), 0.5);
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Confirming);
    fleet.listed("cloud", &BTreeSet::new(), at(2.0), at(2.2), 0.5);
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Closing);
}

#[test]
fn a_notice_drains_a_ready_instance_and_ends_a_starting_one() {
    let mut fleet = ready_fleet();
    let events = fleet.notice("l1", "spot capacity is needed", at(2.0));
    assert!(matches!(&events[..], [Event::Preempted(..)]), "{events:?}");
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Draining);
    assert_eq!(fleet.notice("l1", "again", at(2.1)), [], "told once");
    let mut starting = Fleet::default();
    starting.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    let noticed = |operation, now| match operation {
        Operation::Describe => Outcome::Seen(running(Some("spot"))),
        other => healthy(other, now),
    };
    let seen = play(&mut starting, 0.0, 2.0, noticed);
    assert!(!seen.contains(&Operation::Renew) && starting.is_empty(), "{seen:?}");
}

#[test]
fn a_provider_that_is_full_started_nothing_unless_an_attempt_before_may_have() {
    for attempts_before in [0, 1] {
        let mut fleet = Fleet::default();
        fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
        let (mut failures, mut now) = (0, 0.0);
        while fleet.get("l1").is_some_and(|instance| instance.is_wanted()) {
            for (launch, operation) in fleet.due(at(now)) {
                let outcome = match operation {
                    Operation::Launch if failures < attempts_before => {
                        failures += 1;
                        Outcome::Failed("timeout".into())
                    }
                    Operation::Launch => Outcome::NoCapacity("full".into()),
                    other => healthy(other, now),
                };
                fleet.done(&launch, operation, outcome, at(now), 0.5);
            }
            now += 0.05;
        }
        assert_eq!(fleet.get("l1").unwrap().refused, attempts_before == 0);
    }
}

#[test]
fn a_provider_is_asked_no_more_than_so_much_at_once() {
    let mut fleet = Fleet::default();
    for n in 0..100 {
        fleet.adopt_to_end(&format!("l{n}"), "digits", "cloud", "orphan", TIMING, at(0.0));
    }
    let recorded = fleet.due(at(0.0));
    assert_eq!(recorded.len(), 100, "the journal is no provider");
    recorded.iter().for_each(|(launch, operation)| {
        fleet.done(launch, *operation, Outcome::Done, at(0.0), 0.5);
    });
    let first = fleet.due(at(0.1));
    assert_eq!(first.len(), ENDS_AT_ONCE);
    assert_eq!(fleet.due(at(0.2)), []);
    fleet.done(&first[0].0, first[0].1, Outcome::Done, at(0.3), 0.5);
    assert_eq!(fleet.due(at(0.3)).len(), 1);
}

#[test]
fn a_drain_that_nobody_releases_ends_after_its_timeout() {
    let mut fleet = ready_fleet();
    fleet.drain("l1", "scaled in", at(2.0));
    play(&mut fleet, 2.0, 11.0, healthy);
    assert_eq!(fleet.get("l1").unwrap().stage, Stage::Draining);
    assert!(!fleet.get("l1").unwrap().is_routable());
    play(&mut fleet, 11.0, 14.0, healthy);
    assert!(fleet.is_empty());
}

#[test]
fn a_launch_given_up_while_the_provider_is_asked_is_still_ended_there() {
    let mut fleet = Fleet::default();
    fleet.launch("l1", "digits", "cloud", "load", TIMING, at(0.0));
    let intend = fleet.due(at(0.0));
    fleet.done("l1", intend[0].1, Outcome::Done, at(0.0), 0.0);
    let launch = fleet.due(at(0.1));
    assert_eq!(launch[0].1, Operation::Launch);
    fleet.end("l1", "shutdown", at(0.2));
    assert!(fleet.due(at(0.3)).is_empty(), "one operation at a time");
    fleet.done("l1", Operation::Launch, Outcome::Accepted, at(0.4), 0.0);
    let seen = play(&mut fleet, 0.4, 1.0, healthy);
    assert_eq!(seen[..2], [Operation::RecordEnding, Operation::Terminate]);
    assert!(fleet.is_empty());
}

/// Whatever answers come, in whatever order: once everything is to end and the provider obeys, nothing is left.
#[test]
fn no_sequence_of_answers_leaves_an_instance_behind() {
    for seed in 1..=500_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = move |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        let mut fleet = Fleet::default();
        for n in 0..4 {
            fleet.launch(&format!("l{n}"), "digits", "cloud", "load", TIMING, at(0.0));
        }
        play(&mut fleet, 0.0, 20.0, |operation, now| match random(8) {
            0 => Outcome::Failed("failed".into()),
            1 => Outcome::NoCapacity("full".into()),
            2 => Outcome::Seen(Seen::Unknown),
            3 => Outcome::Seen(running(Some("spot"))),
            4 => Outcome::Renewed { ready: false, draining: true },
            _ => healthy(operation, now),
        });
        for launch in ["l0", "l1", "l2", "l3"] {
            fleet.end(launch, "shutdown", at(20.0));
        }
        play(&mut fleet, 20.0, 60.0, healthy);
        assert!(fleet.is_empty(), "seed {seed}: {fleet:?}");
    }
}
