use super::*;

/// A small seeded generator (xorshift64*), so that a failing run can be repeated.
pub(crate) struct XorShift(u64);

impl XorShift {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        u32::try_from(high % u64::from(bound)).expect("below a u32")
    }

    pub(crate) fn one_in(&mut self, chances: u32) -> bool {
        self.below(chances) == 0
    }
}

fn adapter(name: &str, price_per_hour: f64) -> AdapterView {
    AdapterView {
        name: name.into(),
        price_per_hour,
        alive: 0,
        max: 10,
        spot: false,
        held_back: None,
        affordable: u32::MAX,
        start_time: None,
        minimum_billing: Duration::ZERO,
        billing_step: Duration::ZERO,
    }
}

fn held() -> Option<String> {
    Some("launches failed lately".to_owned())
}

fn replica(id: &str, placement: Placement, phase: Phase) -> ReplicaView {
    let price_per_hour = if placement == Placement::Cloud { 0.40 } else { 0.0 };
    let adapter = (placement == Placement::Cloud).then(|| "a".to_owned());
    ReplicaView { id: id.into(), placement, adapter, phase, price_per_hour, age: Duration::from_secs(60) }
}

fn local(id: &str, phase: Phase) -> ReplicaView {
    replica(id, Placement::Local, phase)
}

fn cloud(id: &str, phase: Phase) -> ReplicaView {
    replica(id, Placement::Cloud, phase)
}

fn input(wanted: u32, replicas: Vec<ReplicaView>) -> PlanInput {
    PlanInput {
        wanted,
        local_max: 2,
        local_obstacle: None,
        burst_max: 4,
        on_demand_floor: 0,
        cloud: Cloud::Allowed,
        replicas,
        adapters: vec![adapter("a", 0.40)],
    }
}

fn spot(name: &str, price_per_hour: f64) -> AdapterView {
    AdapterView { spot: true, ..adapter(name, price_per_hour) }
}

#[test]
fn the_floor_is_bought_where_nobody_takes_it_away_and_the_rest_where_it_is_cheap() {
    let adapters = vec![spot("cheap", 0.10), adapter("steady", 0.40)];
    let wish = PlanInput {
        on_demand_floor: 1,
        adapters,
        ..input(5, vec![local("l1", Phase::Ready), local("l2", Phase::Ready)])
    };
    assert_eq!(told(&wish), "launch at steady; launch at cheap; launch at cheap");
    let mut without = wish.clone();
    without.adapters[1].held_back = held();
    assert_eq!(told(&without), "launch at cheap; launch at cheap; launch at cheap", "better than nothing");
}

#[test]
fn what_fills_the_floor_goes_last_although_it_is_dearer() {
    let of = |id: &str, adapter: &str, price| ReplicaView {
        adapter: Some(adapter.to_owned()),
        price_per_hour: price,
        ..cloud(id, Phase::Ready)
    };
    let instances = vec![of("s1", "steady", 0.40), of("s2", "steady", 0.40), of("c1", "cheap", 0.10)];
    let adapters = vec![spot("cheap", 0.10), adapter("steady", 0.40)];
    let drained = |wanted, floor| {
        let wish = PlanInput {
            local_max: 0,
            on_demand_floor: floor,
            adapters: adapters.clone(),
            ..input(wanted, instances.clone())
        };
        told(&wish)
    };
    assert_eq!(drained(1, 0), "drain s1; drain s2");
    assert_eq!(drained(1, 1), "drain s1; drain c1");
    assert_eq!(drained(2, 2), "drain c1");
}

/// The actions as text, in one line.
fn told(input: &PlanInput) -> String {
    let plan = plan(input);
    let mut parts: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    parts.extend(plan.shortfall.map(|shortfall| shortfall.to_string()));
    parts.join("; ")
}

#[test]
fn local_first_then_the_cloud() {
    assert_eq!(told(&input(0, vec![])), "");
    assert_eq!(told(&input(2, vec![])), "start 2 local");
    assert_eq!(told(&input(4, vec![])), "start 2 local; launch at a; launch at a");
}

#[test]
fn what_is_on_its_way_is_not_asked_for_twice() {
    let replicas = vec![local("l1", Phase::Ready), local("l2", Phase::Starting), cloud("c1", Phase::Starting)];
    assert_eq!(told(&input(3, replicas)), "");
}

#[test]
fn draining_and_failed_replicas_are_no_capacity() {
    let replicas = vec![local("l1", Phase::Failed), cloud("c1", Phase::Draining), cloud("c2", Phase::Failed)];
    assert_eq!(told(&input(3, replicas)), "start 2 local; launch at a");
}

#[test]
fn a_draining_replica_keeps_its_place_until_it_is_gone() {
    let mut tight = input(3, vec![local("l1", Phase::Ready), local("l2", Phase::Draining)]);
    assert_eq!(told(&tight), "launch at a; 1 replica short: waiting for a draining replica to leave its place");
    tight.replicas = vec![local("l1", Phase::Ready), local("l2", Phase::Ready), cloud("c1", Phase::Draining)];
    tight.burst_max = 1;
    assert_eq!(told(&tight), "1 replica short: waiting for a draining replica to leave its place");
}

#[test]
fn without_headroom_the_cloud_takes_what_the_host_cannot() {
    let mut crowded = input(3, vec![local("l1", Phase::Ready)]);
    crowded.local_obstacle = Some("memory is at 95 %".to_owned());
    assert_eq!(told(&crowded), "launch at a; launch at a");
}

#[test]
fn the_cheapest_adapter_that_can_is_taken_and_ties_go_by_name() {
    let mut market = input(8, vec![]);
    market.burst_max = 6;
    market.adapters = vec![
        AdapterView { max: 1, ..adapter("d", 0.50) },
        AdapterView { max: 2, ..adapter("c", 0.20) },
        AdapterView { held_back: held(), ..adapter("free", 0.0) },
        AdapterView { alive: 9, ..adapter("b", 0.20) },
        AdapterView { affordable: 0, ..adapter("0", 0.10) },
    ];
    let whole = "start 2 local; launch at b; launch at c; launch at c; launch at d; \
                 2 replicas short: the budget bears no further instance at 0";
    assert_eq!(told(&market), whole);
    market.adapters.reverse();
    assert_eq!(told(&market), whole, "the order of the input does not matter");
}

#[test]
fn launches_at_several_adapters_draw_on_one_purse() {
    let mut market = input(8, vec![]);
    market.burst_max = 6;
    market.adapters = vec![
        AdapterView { max: 2, affordable: 4, ..adapter("a", 0.20) },
        AdapterView { affordable: 2, ..adapter("b", 0.40) },
    ];
    let told = told(&market);
    assert!(told.starts_with("start 2 local; launch at a; launch at a; launch at b; 3 replicas short: the budget"));
}

#[test]
fn what_is_affordable_three_times_is_launched_three_times() {
    let mut market = input(8, vec![]);
    market.adapters = vec![AdapterView { affordable: 3, ..adapter("a", 0.20) }];
    assert_eq!(plan(&market).actions.len(), 1 + 3);
}

#[test]
fn each_obstacle_is_told_in_words() {
    let short = |change: &dyn Fn(&mut PlanInput)| {
        let mut input = input(3, vec![local("l1", Phase::Ready), local("l2", Phase::Ready)]);
        change(&mut input);
        plan(&input).shortfall.expect("one is missing").to_string()
    };
    let limit = "local replicas are at their limit, and";
    for (told, sentence) in [
        (short(&|i| i.adapters.clear()), format!("1 replica short: {limit} the service has no adapter")),
        (short(&|i| i.burst_max = 0), "1 replica short: the service is at its limit of 0 instances".into()),
        (
            short(&|i| i.cloud = Cloud::Forbidden("TIDEGATE_NO_CLOUD is set".into())),
            format!("1 replica short: {limit} bursting is forbidden: TIDEGATE_NO_CLOUD is set"),
        ),
        (
            short(&|i| i.adapters[0].held_back = held()),
            "1 replica short: launches at a are held back: launches failed lately".into(),
        ),
        (
            short(&|i| {
                (i.local_max, i.local_obstacle) = (3, Some("memory is at 95 %".into()));
                i.adapters.clear();
            }),
            "1 replica short: memory is at 95 %, and the service has no adapter".into(),
        ),
        (short(&|i| i.adapters[0].alive = 10), "1 replica short: a is at its limit of 10 instances".into()),
        (short(&|i| i.adapters[0].affordable = 0), "1 replica short: the budget bears no further instance at a".into()),
    ] {
        assert_eq!(told, sentence);
    }
}

#[test]
fn scale_in_ends_the_dearest_first_then_starting_ones_then_the_youngest() {
    let aged = |id: &str, phase, seconds, price_per_hour| ReplicaView {
        age: Duration::from_secs(seconds),
        price_per_hour,
        ..cloud(id, phase)
    };
    let mut fleet = vec![
        local("l1", Phase::Ready),
        local("l2", Phase::Ready),
        aged("old", Phase::Ready, 90, 0.40),
        aged("young", Phase::Ready, 30, 0.40),
        aged("dear", Phase::Ready, 95, 0.80),
        aged("starting", Phase::Starting, 99, 0.40),
    ];
    for (wanted, ends) in [
        (6, ""),
        (5, ""),
        (4, "drain dear; drain starting"),
        (3, "drain dear; drain starting; drain young"),
        (2, "drain dear; drain starting; drain young; drain old"),
        (1, "drain dear; drain starting; drain young; drain old; stop local l1"),
    ] {
        assert_eq!(told(&input(wanted, fleet.clone())), ends, "wanted {wanted}");
        fleet.rotate_left(1);
    }
}

#[test]
fn a_ready_replica_stays_until_its_successor_is_ready() {
    let dear = ReplicaView { price_per_hour: 0.80, ..cloud("dear", Phase::Ready) };
    let mut fleet = vec![local("l1", Phase::Ready), local("l2", Phase::Ready), dear, cloud("next", Phase::Starting)];
    assert_eq!(told(&input(3, fleet.clone())), "", "ending the dear one now would leave two ready");
    fleet[3].phase = Phase::Ready;
    assert_eq!(told(&input(3, fleet)), "drain dear");
}

#[test]
fn work_moves_back_to_the_host_without_a_dip() {
    let clouds = [cloud("c1", Phase::Ready), cloud("c2", Phase::Ready), cloud("c3", Phase::Ready)];
    let with = |locals: &[ReplicaView]| input(3, [&clouds[..], locals].concat());
    assert_eq!(told(&with(&[])), "start 2 local");
    assert_eq!(told(&with(&[local("l1", Phase::Starting), local("l2", Phase::Starting)])), "");
    assert_eq!(told(&with(&[local("l1", Phase::Ready), local("l2", Phase::Starting)])), "drain c1");
    assert_eq!(told(&with(&[local("l1", Phase::Ready), local("l2", Phase::Ready)])), "drain c1; drain c2");
}

#[test]
fn an_instance_that_starts_is_not_given_up_for_a_local_replica_that_only_starts() {
    let locals = [local("l1", Phase::Starting), local("l2", Phase::Starting)];
    let clouds = [cloud("c1", Phase::Starting), cloud("c2", Phase::Starting)];
    assert_eq!(told(&input(2, [&locals[..], &clouds[..]].concat())), "");
    let fewer = told(&input(1, [&locals[..], &clouds[..]].concat()));
    assert_eq!(fewer, "drain c1; stop local l1");
}

#[test]
fn lowered_limits_are_obeyed_at_once() {
    let fleet = vec![
        local("l1", Phase::Ready),
        local("l2", Phase::Ready),
        cloud("c1", Phase::Ready),
        cloud("c2", Phase::Ready),
    ];
    let mut lowered = input(4, fleet);
    lowered.burst_max = 1;
    assert_eq!(told(&lowered), "drain c1; 1 replica short: the service is at its limit of 1 instances");
    lowered.local_max = 1;
    assert_eq!(told(&lowered), "drain c1; stop local l1; 2 replicas short: the service is at its limit of 1 instances");
}

#[test]
fn a_forbidden_cloud_is_left_at_once() {
    let mut banned = input(2, vec![local("l1", Phase::Ready), cloud("c1", Phase::Ready)]);
    banned.cloud = Cloud::Forbidden("placement is local".into());
    assert_eq!(told(&banned), "start 1 local; drain c1");
}

#[test]
fn replicas_of_peers_are_left_alone() {
    assert_eq!(told(&input(1, vec![replica("p1", Placement::Peer, Phase::Ready)])), "start 1 local");
}

#[test]
fn the_contract_notices_a_plan_that_breaks_it() {
    let input = input(2, vec![local("l1", Phase::Ready), local("l2", Phase::Ready)]);
    let census = Census::of(&input);
    let stop = Plan { actions: vec![Action::StopLocal { replica: "l1".into() }], shortfall: None };
    assert!(check(&input, &census, &stop).is_err());
    let launch = Action::Launch { adapter: "a".into() };
    assert!(check(&input, &census, &Plan { actions: vec![launch; 5], shortfall: None }).is_err());
}

/// A fleet in which asked-for things happen, or fail, at random times.
struct Sim {
    random: XorShift,
    input: PlanInput,
    others: Vec<u32>,
    born: u32,
    calm: bool,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut random = XorShift::new(seed);
        let mut input = input(0, vec![]);
        input.local_max = random.below(4);
        input.burst_max = random.below(7);
        let count = random.below(4);
        input.adapters = ["a", "b", "c"][..count as usize]
            .iter()
            .map(|name| AdapterView { max: random.below(5), ..adapter(name, f64::from(random.below(4)) / 10.0) })
            .collect();
        let others = (0..count).map(|_| random.below(2)).collect();
        Self { random, input, others, born: 0, calm: false }
    }

    /// The world between two ticks: wishes change, replicas become ready, end or fail.
    fn live(&mut self) {
        if !self.calm {
            if self.random.one_in(5) {
                self.input.wanted = self.random.below(9);
            }
            self.input.local_obstacle = self.random.one_in(4).then(|| "memory is at 95 %".to_owned());
            for adapter in &mut self.input.adapters {
                adapter.held_back = self.random.one_in(4).then(|| "failed lately".to_owned());
                adapter.spot = self.random.one_in(2);
                adapter.affordable = if self.random.one_in(2) { u32::MAX } else { self.random.below(4) };
            }
        }
        for replica in &mut self.input.replicas {
            replica.age += Duration::from_secs(1);
            replica.phase = match replica.phase {
                Phase::Starting if self.random.one_in(3) => Phase::Ready,
                Phase::Starting | Phase::Ready if !self.calm && self.random.one_in(30) => Phase::Failed,
                Phase::Draining if self.random.one_in(3) => Phase::Failed,
                phase => phase,
            };
        }
        let random = &mut self.random;
        self.input.replicas.retain(|replica| replica.phase != Phase::Failed || !random.one_in(2));
        for (adapter, others) in self.input.adapters.iter_mut().zip(&self.others) {
            let ours = self.input.replicas.iter().filter(|replica| replica.adapter.as_deref() == Some(&adapter.name));
            adapter.alive = u32::try_from(ours.count()).expect("few") + others;
        }
    }

    fn act(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::StartLocal { count } => (0..*count).for_each(|_| self.bear(Placement::Local, None)),
                Action::Launch { adapter } => self.bear(Placement::Cloud, Some(adapter)),
                Action::StopLocal { replica } | Action::Drain { replica } => self.drain(replica),
            }
        }
    }

    fn bear(&mut self, placement: Placement, at: Option<&String>) {
        self.born += 1;
        let priced = self.input.adapters.iter().find(|adapter| Some(&adapter.name) == at);
        self.input.replicas.push(ReplicaView {
            id: format!("r{}", self.born),
            adapter: at.cloned(),
            price_per_hour: priced.map_or(0.0, |adapter| adapter.price_per_hour),
            age: Duration::ZERO,
            ..replica("", placement, Phase::Starting)
        });
    }

    fn drain(&mut self, id: &str) {
        let replica = self.input.replicas.iter_mut().find(|replica| replica.id == id).expect("a known replica");
        assert!(matches!(replica.phase, Phase::Starting | Phase::Ready), "{id} is ended twice");
        replica.phase = Phase::Draining;
    }

    fn count(&self, wanted: impl Fn(&ReplicaView) -> bool) -> u32 {
        u32::try_from(self.input.replicas.iter().filter(|replica| wanted(replica)).count()).expect("few")
    }

    fn ready(&self) -> u32 {
        self.count(|replica| replica.phase == Phase::Ready)
    }

    /// One tick, and what must hold after it.
    fn tick(&mut self, context: &str) -> Plan {
        self.live();
        let ready = self.ready();
        let plan = plan(&self.input);
        self.act(&plan.actions);
        assert!(self.ready() >= ready.min(self.input.wanted), "{context}: a dip");
        let there = |placement| self.count(|r| r.placement == placement && r.phase != Phase::Failed);
        assert!(there(Placement::Local) <= self.input.local_max, "{context}: too many local");
        assert!(there(Placement::Cloud) <= self.input.burst_max, "{context}: too many instances");
        for adapter in &self.input.adapters {
            let launch = Action::Launch { adapter: adapter.name.clone() };
            let launched = u32::try_from(plan.actions.iter().filter(|action| **action == launch).count()).expect("few");
            let room = if adapter.held_back.is_none() { adapter.max.saturating_sub(adapter.alive) } else { 0 };
            assert!(launched <= room.min(adapter.affordable), "{context}: {launched} launches at {adapter:?}");
        }
        plan
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.input.local_obstacle = None;
        self.input.adapters.iter_mut().for_each(|adapter| {
            adapter.held_back = None;
            adapter.affordable = u32::MAX;
        });
    }
}

#[test]
fn any_fleet_converges_to_what_is_wanted_within_its_limits() {
    for seed in 0..400 {
        let mut sim = Sim::new(seed);
        for round in 0..3 {
            sim.calm = false;
            for tick in 0..60 {
                let _ = sim.tick(&format!("seed {seed} round {round} tick {tick}"));
            }
            sim.calm_down();
            for tick in 0..80 {
                let _ = sim.tick(&format!("seed {seed} round {round} calm tick {tick}"));
            }
            let context = format!("seed {seed} round {round}: {:?}", sim.input);
            let last = sim.tick(&context);
            assert_eq!(last.actions, [], "{context}");
            let missing = last.shortfall.map_or(0, |shortfall| shortfall.missing);
            assert_eq!(sim.ready() + missing, sim.input.wanted, "{context}");
            let local = sim.count(|replica| replica.placement == Placement::Local);
            assert_eq!(local, sim.input.wanted.min(sim.input.local_max), "{context}");
            let clouds = sim.count(|replica| replica.placement == Placement::Cloud);
            let full = sim.input.adapters.iter().all(|adapter| adapter.alive >= adapter.max);
            assert!(missing == 0 || clouds == sim.input.burst_max || full, "{context}: short without need");
        }
    }
}
