use super::*;
use crate::load::HostLoad;
use crate::policy::{Metric, threshold};

fn settings() -> ServiceSettings {
    let policy = threshold::Config {
        metric: Metric::Utilisation,
        threshold: 0.80,
        scale_factor: 60.0,
        interval: Duration::from_secs(1),
        band: 0.10,
    };
    ServiceSettings {
        name: "digits".into(),
        policy: Policy::Threshold(policy),
        window: Duration::from_secs(1),
        custom_per_replica: false,
        bounds: Bounds { min: 1, max: 4 },
        concurrency: 1,
        local_max: 2,
        burst_max: 2,
        on_demand_floor: 0,
        cloud: Cloud::Allowed,
        adapters: ["cloud".to_owned()].into(),
        peers: None,
        guests: false,
    }
}

fn adapter() -> AdapterView {
    AdapterView {
        name: "cloud".into(),
        price_per_hour: 0.4,
        alive: 0,
        max: 8,
        spot: false,
        held_back: None,
        affordable: 8,
        start_time: None,
        minimum_billing: Duration::ZERO,
        billing_step: Duration::ZERO,
    }
}

fn replica(id: &str, placement: Placement, phase: Phase) -> ReplicaView {
    let adapter = (placement == Placement::Cloud).then(|| "cloud".to_owned());
    ReplicaView { id: id.into(), placement, adapter, phase, price_per_hour: 0.0, age: Duration::from_secs(9) }
}

fn window(at: u64, in_flight: f64, queued: f64, memory: f64) -> Window {
    let load = ServiceLoad { in_flight, queued, in_flight_now: 1, ..ServiceLoad::default() };
    let host = HostLoad { memory: Some(memory), ..HostLoad::default() };
    let mut window = Window::new(Duration::from_secs(60));
    window.push(LoadSample { at: Duration::from_secs(at), host, services: [("digits".to_owned(), load)].into() });
    window
}

fn step(scaling: &mut ServiceScaling, at: u64, load: f64, replicas: &[ReplicaView], local_works: bool) -> Step {
    let situation = Situation {
        replicas: replicas.to_vec(),
        adapters: &[adapter()],
        local_broken: (!local_works).then(|| "it broke".to_owned()),
        peer_slots: 0,
    };
    scaling.step(&window(at, load, 0.0, 0.5), situation, Duration::from_secs(at))
}

fn ends(step: &Step) -> usize {
    let is_end = |action: &&Action| matches!(action, Action::Drain { .. } | Action::StopLocal { .. });
    step.plan.actions.iter().filter(is_end).count()
}

#[test]
fn local_fills_first_then_the_cloud_takes_the_overflow_and_the_way_back_is_the_reverse() {
    let mut scaling = ServiceScaling::new(settings());
    let one = [replica("a", Placement::Local, Phase::Ready)];
    let up = step(&mut scaling, 10, 3.0, &one, true);
    assert_eq!(up.plan.actions, [Action::StartLocal { count: 1 }], "{}", up.decision.reason);
    let two = [one[0].clone(), replica("b", Placement::Local, Phase::Ready)];
    let over = step(&mut scaling, 12, 6.0, &two, true);
    assert_eq!(over.plan.actions, [Action::Launch { adapter: "cloud".into() }]);
    let three = [two[0].clone(), two[1].clone(), replica("c", Placement::Cloud, Phase::Ready)];
    let down = step(&mut scaling, 14, 0.3, &three, true);
    assert_eq!(down.plan.actions, [Action::Drain { replica: "c".into() }]);
    assert!(scaling.draining().contains_key("c"));
}

#[test]
fn a_replica_on_its_way_out_is_not_asked_twice_and_forgotten_when_gone() {
    let mut scaling = ServiceScaling::new(settings());
    let both = [replica("a", Placement::Local, Phase::Ready), replica("c", Placement::Cloud, Phase::Ready)];
    let _ = step(&mut scaling, 10, 1.6, &both, true);
    let down = step(&mut scaling, 12, 0.1, &both, true);
    assert_eq!(down.plan.actions, [Action::Drain { replica: "c".into() }]);
    let again = step(&mut scaling, 13, 0.1, &both, true);
    assert_eq!(again.plan.actions, []);
    scaling.forget_gone(&["a".to_owned()].into());
    assert!(scaling.draining().is_empty());
}

#[test]
fn a_restart_in_mid_burst_ends_nothing() {
    let mut scaling = ServiceScaling::new(settings());
    let adopted = [
        replica("a", Placement::Local, Phase::Starting),
        replica("c", Placement::Cloud, Phase::Starting),
        replica("d", Placement::Cloud, Phase::Ready),
    ];
    let first = step(&mut scaling, 10, 0.0, &adopted, true);
    assert_eq!((first.decision.wanted, ends(&first)), (3, 0), "{}", first.decision.reason);
}

#[test]
fn instances_that_are_found_late_are_no_surplus() {
    let mut scaling = ServiceScaling::new(settings());
    let one = [replica("a", Placement::Local, Phase::Ready)];
    let _ = step(&mut scaling, 10, 0.5, &one, true);
    let found = [one[0].clone(), replica("c", Placement::Cloud, Phase::Starting)];
    scaling.begin_at_what_is_alive();
    let after = step(&mut scaling, 12, 0.5, &found, true);
    assert_eq!((after.decision.wanted, ends(&after)), (2, 0), "{}", after.decision.reason);
}

#[test]
fn a_box_that_cannot_run_it_bursts_instead() {
    let mut scaling = ServiceScaling::new(settings());
    let broken = step(&mut scaling, 10, 1.0, &[], false);
    assert_eq!(broken.plan.actions, [Action::Launch { adapter: "cloud".into() }]);
}

#[test]
fn a_box_short_of_memory_starts_no_further_local_replica() {
    let mut scaling = ServiceScaling::new(settings());
    let one = [replica("a", Placement::Local, Phase::Ready)];
    let situation = Situation { replicas: one.to_vec(), adapters: &[adapter()], local_broken: None, peer_slots: 0 };
    let full = scaling.step(&window(10, 3.0, 0.0, 0.95), situation, Duration::from_secs(10));
    assert_eq!(full.plan.actions, [Action::Launch { adapter: "cloud".into() }]);
}

fn with_peers(scaling: &mut ServiceScaling, at: u64, load: f64, replicas: &[ReplicaView], peer_slots: u32) -> Step {
    let situation = Situation { replicas: replicas.to_vec(), adapters: &[adapter()], local_broken: None, peer_slots };
    scaling.step(&window(at, load, 0.0, 0.5), situation, Duration::from_secs(at))
}

#[test]
fn local_replicas_come_before_peers_and_peers_before_money() {
    let mut scaling = ServiceScaling::new(settings());
    let one = [replica("a", Placement::Local, Phase::Ready)];
    let local_first = with_peers(&mut scaling, 10, 2.0, &one, 8);
    assert_eq!(local_first.plan.actions, [Action::StartLocal { count: 1 }], "{}", local_first.decision.reason);

    let two = [one[0].clone(), replica("b", Placement::Local, Phase::Ready)];
    let lent = with_peers(&mut scaling, 12, 5.0, &two, 8);
    assert_eq!((lent.plan.actions.as_slice(), lent.decision.wanted), ([].as_slice(), 2));
    assert_eq!(lent.decision.reason.change, Change::LeftToPeers);
    assert!(lent.decision.reason.to_string().contains("other nodes have room"), "{}", lent.decision.reason);

    let nearly_full = with_peers(&mut scaling, 14, 8.0, &two, 8);
    assert_eq!(nearly_full.plan.actions, [Action::Launch { adapter: "cloud".into() }], "8 of 10 is the threshold");
}

#[test]
fn peers_that_go_are_replaced_and_peers_that_come_end_no_instance() {
    let mut scaling = ServiceScaling::new(settings());
    let two = [replica("a", Placement::Local, Phase::Ready), replica("b", Placement::Local, Phase::Ready)];
    let _ = with_peers(&mut scaling, 10, 5.0, &two, 8);
    let gone = with_peers(&mut scaling, 12, 5.0, &two, 0);
    assert_eq!(gone.plan.actions, [Action::Launch { adapter: "cloud".into() }]);
    let three = [two[0].clone(), two[1].clone(), replica("c", Placement::Cloud, Phase::Ready)];
    let back = with_peers(&mut scaling, 14, 3.0, &three, 8);
    assert_eq!((ends(&back), back.decision.wanted), (0, 3), "{}", back.decision.reason);
}

#[test]
fn what_waits_although_others_have_room_cannot_go_there_and_is_launched_for() {
    let mut scaling = ServiceScaling::new(settings());
    let two = [replica("a", Placement::Local, Phase::Ready), replica("b", Placement::Local, Phase::Ready)];
    let situation = Situation { replicas: two.to_vec(), adapters: &[adapter()], local_broken: None, peer_slots: 80 };
    let step = scaling.step(&window(10, 2.0, 3.0, 0.5), situation, Duration::from_secs(10));
    assert_eq!(step.plan.actions, [Action::Launch { adapter: "cloud".into() }], "{}", step.decision.reason);
}

#[test]
fn a_service_that_goes_keeps_its_replicas_while_anybody_waits_and_no_longer_than_the_patience() {
    let second = Duration::from_secs;
    let replicas =
        [replica("local", Placement::Local, Phase::Ready), replica("launch", Placement::Cloud, Phase::Starting)];
    let all = [Action::StopLocal { replica: "local".into() }, Action::Drain { replica: "launch".into() }];
    let with = |load: ServiceLoad| {
        let mut window = Window::new(second(60));
        window.push(LoadSample {
            at: second(1),
            host: HostLoad::default(),
            services: [("digits".to_owned(), load)].into(),
        });
        window
    };
    let idle = with(ServiceLoad::default());
    let mut scaling = ServiceScaling::new(settings());
    scaling.retire(second(1));
    assert!(scaling.is_retired());
    let busy = with(ServiceLoad { unanswered_now: 1, ..ServiceLoad::default() });
    assert_eq!(scaling.leave(&busy, &replicas, second(10), second(10)), []);
    let mut impatient = scaling.clone();
    assert_eq!(impatient.leave(&busy, &replicas, second(10), second(11)), all);
    assert_eq!(scaling.leave(&idle, &replicas, second(10), second(2)), all);
    assert_eq!(scaling.leave(&idle, &replicas, second(10), second(3)), [], "each once");
    assert_eq!(scaling.draining().get("launch"), Some(&second(2)));
    assert!(scaling.may_go(&idle, second(10), second(2)) && !scaling.may_go(&busy, second(10), second(2)));
    scaling.reconfigure(settings());
    assert!(!scaling.is_retired(), "it came again");
}

fn two_at_most() -> ServiceScaling {
    let mut scaling = ServiceScaling::new(ServiceSettings { bounds: Bounds { min: 2, max: 2 }, ..settings() });
    scaling.outdate(["old-1".to_owned(), "old-2".to_owned()]);
    scaling
}

fn local(id: &str, phase: Phase) -> ReplicaView {
    replica(id, Placement::Local, phase)
}

#[test]
fn what_is_outdated_is_replaced_one_after_the_other_each_once_the_others_are_ready() {
    let mut scaling = two_at_most();
    let old = [local("old-1", Phase::Ready), local("old-2", Phase::Ready)];
    let first = step(&mut scaling, 1, 1.0, &old, true);
    assert_eq!(first.replaced, Some(Action::StopLocal { replica: "old-1".into() }));
    let waits = step(&mut scaling, 2, 9.0, &old, true);
    assert_eq!(
        (waits.replaced, waits.decision.wanted),
        (None, 2),
        "that the other has more to do is no reason to grow"
    );
    let starting = [local("old-2", Phase::Ready), local("new-1", Phase::Starting)];
    assert_eq!(step(&mut scaling, 3, 1.0, &starting, true).replaced, None);
    let ready = [local("old-2", Phase::Ready), local("new-1", Phase::Ready)];
    assert_eq!(step(&mut scaling, 4, 1.0, &ready, true).replaced, Some(Action::StopLocal { replica: "old-2".into() }));
    scaling.forget_gone(&["new-1".to_owned(), "new-2".to_owned()].into());
    let new = [local("new-1", Phase::Ready), local("new-2", Phase::Ready)];
    assert_eq!(step(&mut scaling, 5, 1.0, &new, true).replaced, None);
}

#[test]
fn what_is_outdated_stays_where_nothing_could_be_started_in_its_place() {
    let old = [local("old-2", Phase::Ready)];
    assert_eq!(step(&mut two_at_most(), 1, 1.0, &old, false).replaced, None, "the new program does not start");
    let mut away = ServiceScaling::new(ServiceSettings { local_max: 0, ..settings() });
    away.outdate(["launch".to_owned()]);
    let launch = [replica("launch", Placement::Cloud, Phase::Ready)];
    let adapters = [AdapterView { held_back: Some("no such image".into()), ..adapter() }];
    let situation = Situation { replicas: launch.to_vec(), adapters: &adapters, local_broken: None, peer_slots: 0 };
    for at in 1..5 {
        let step = away.step(&window(at, 1.0, 0.0, 0.1), situation.clone(), Duration::from_secs(at));
        assert_eq!((step.replaced, step.plan.actions), (None, Vec::new()));
    }
}

#[test]
fn where_there_is_a_place_the_new_one_comes_first() {
    let mut scaling = ServiceScaling::new(ServiceSettings { bounds: Bounds { min: 1, max: 1 }, ..settings() });
    scaling.outdate(["old".to_owned()]);
    let old = local("old", Phase::Ready);
    assert_eq!(step(&mut scaling, 1, 0.5, std::slice::from_ref(&old), true).replaced, None);
    let surge = step(&mut scaling, 2, 0.5, std::slice::from_ref(&old), true);
    assert_eq!((surge.replaced, surge.plan.actions), (None, vec![Action::StartLocal { count: 1 }]));
    let starting = step(&mut scaling, 3, 0.5, &[old.clone(), local("new", Phase::Starting)], true);
    assert_eq!((starting.replaced, starting.plan.actions), (None, Vec::new()));
    // It fails, again and again: the old one goes on.
    let broken = step(&mut scaling, 4, 0.5, std::slice::from_ref(&old), false);
    assert_eq!((broken.replaced, broken.plan.actions), (None, Vec::new()));
    let again = [5, 6].map(|at| step(&mut scaling, at, 0.5, std::slice::from_ref(&old), true).plan.actions);
    assert_eq!(again, [Vec::new(), vec![Action::StartLocal { count: 1 }]]);
    let both = step(&mut scaling, 7, 0.5, &[old.clone(), local("new", Phase::Ready)], true);
    assert_eq!(both.replaced, Some(Action::StopLocal { replica: "old".into() }));
    let after = step(&mut scaling, 8, 0.5, &[old, local("new", Phase::Ready)], true);
    assert_eq!((after.replaced, after.plan.actions), (None, Vec::new()));
}

#[test]
fn what_is_paid_ahead_is_told_in_the_order_in_which_instances_go_the_floor_last() {
    let hourly = |name: &str, spot: bool, price: f64| AdapterView {
        name: name.to_owned(),
        spot,
        price_per_hour: price,
        billing_step: Duration::from_secs(3600),
        ..adapter()
    };
    let adapters = [hourly("steady", false, 2.0), hourly("spot", true, 1.0)];
    let instance = |name: &str, price: f64, age: u64| ReplicaView {
        adapter: Some(name.to_owned()),
        price_per_hour: price,
        age: Duration::from_secs(age),
        ..replica(name, Placement::Cloud, Phase::Ready)
    };
    let replicas = [instance("steady", 2.0, 600), instance("spot", 1.0, 3000)];
    let paid_ahead = |on_demand_floor: u32, allowed: &[&str]| {
        let adapters_allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        let scaling =
            ServiceScaling::new(ServiceSettings { on_demand_floor, adapters: adapters_allowed, ..settings() });
        let situation =
            Situation { replicas: replicas.to_vec(), adapters: &adapters, local_broken: None, peer_slots: 0 };
        scaling.observe(&window(10, 0.0, 0.0, 0.1), &situation).paid_ahead
    };
    let [steady, spot] = [3000, 600].map(Duration::from_secs);
    assert_eq!(paid_ahead(0, &["steady", "spot"]), [steady, spot], "the dearest goes first");
    assert_eq!(paid_ahead(1, &["steady", "spot"]), [spot, steady], "the floor goes last");
    // What may not be launched any more is of no kind that is known, to the planner too.
    assert_eq!(paid_ahead(1, &["steady"]), [steady, Duration::ZERO]);
}
