//! Plays a trace against a rule in virtual time.
//!
//! Requests wait in one line, first come first served, for a place at a replica that is ready, local ones first. On each
//! tick the rule sees what a node's monitor would have measured, and says how many replicas it wants; what to start and what
//! to end is decided by the planner of the node. What a provider does (how long a start takes, which launch fails, when
//! nothing can be had) is drawn from the seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use fastrand::Rng;

use super::course::{Course, Point};
use super::trace::Trace;
use crate::logic::burst::StartTimes;
use crate::logic::load::{HostLoad, LoadSample, ServiceLoad};
use crate::logic::plan::{Action, AdapterView, Phase, ReplicaView};
use crate::logic::route::Placement;

/// The name of the one service of a simulation.
pub const SERVICE: &str = "simulated";

/// How long an instance takes from its launch until it is ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColdStart {
    /// The median.
    pub median: Duration,
    /// Standard deviation of the logarithm; 0 makes all starts take the same time.
    pub spread: f64,
}

/// A provider of instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Price of an instance.
    pub price_per_hour: f64,
    /// An instance costs at least as much as this time does.
    pub minimum_billing: Duration,
    /// How long a start takes.
    pub cold_start: ColdStart,
    /// The share of launches, 0 to 1, that end without ever getting ready, after a whole start.
    pub failures: f64,
    /// Instances that it has at a time.
    pub capacity: u32,
}

/// What a trace is played in.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Between two samples.
    pub tick: Duration,
    /// Local replicas, which cost nothing and are always there.
    pub local: u32,
    /// Requests that a replica takes at once.
    pub concurrency: u32,
    /// Most replicas, local ones included.
    pub max_replicas: u32,
    /// A request that waits longer for a replica is late.
    pub slo_wait: Duration,
    /// What happens before this is not scored.
    pub warmup: Duration,
    /// Cheapest first or not.
    pub providers: Vec<Provider>,
    /// Draws start times and failures.
    pub seed: u64,
}

impl World {
    /// The most replicas that can be had.
    pub fn most_replicas(&self) -> u32 {
        let instances = self.providers.iter().fold(0, |all: u32, provider| all.saturating_add(provider.capacity));
        self.max_replicas.min(self.local.saturating_add(instances)).max(self.local)
    }
}

/// What a rule sees on a tick.
pub struct Seen<'a> {
    /// What the monitor measured since the last tick.
    pub sample: &'a LoadSample,
    /// The same, of the service.
    pub load: &'a ServiceLoad,
    /// All replicas.
    pub replicas: &'a [ReplicaView],
    /// The providers as the planner sees them.
    pub adapters: &'a [AdapterView],
    /// Replicas that are ready.
    pub ready: u32,
    /// Replicas on their way.
    pub starting: u32,
}

/// A rule that scales.
pub trait Rule {
    /// What to start and to end.
    fn step(&mut self, seen: &Seen<'_>) -> Vec<Action>;
}

/// What came of it, after the warm-up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Requests that came.
    pub requests: u64,
    /// Those of them that waited longer than the objective allows.
    pub late: u64,
    /// What 99 of 100 waited at most.
    pub wait_p99: Duration,
    /// Time that instances were paid for, together.
    pub cloud_time: Duration,
    /// What they cost.
    pub spend: f64,
    /// Most replicas at a time, those on their way included.
    pub peak_replicas: u32,
    /// Instances launched.
    pub launches: u64,
    /// How often the number of replicas began to fall after it had grown, or to grow after it had fallen.
    pub reversals: u64,
    /// How it went over time, from the beginning.
    pub course: Course,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Starting { fails: bool },
    Ready,
    Draining,
}

struct Replica {
    id: u64,
    provider: Option<usize>,
    life: Life,
    in_flight: u32,
    launched_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request ends at a replica.
    Answered { replica: u64, work: u64 },
    /// A start is over.
    Started { replica: u64 },
}

struct Play<'a> {
    world: &'a World,
    trace: &'a Trace,
    replicas: Vec<Replica>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    waiting: VecDeque<usize>,
    next_id: u64,
    chance: Rng,
    now: u64,
    tally: Tally,
    waits: Vec<u32>,
    outcome: Outcome,
    direction: i8,
    last_alive: u32,
    scored_from: u64,
    scored_to: u64,
    /// What instances cost until now, for the course.
    spent: f64,
    /// How long instances of each provider took to start, as a node learns it.
    starts: Vec<StartTimes>,
}

/// What the monitor counts between two ticks.
#[derive(Default)]
struct Tally {
    arrivals: u64,
    arrived_work: u64,
    done: u64,
    work: u64,
    in_flight: u64,
    in_flight_area: u128,
    queued_area: u128,
    touched: u64,
    latencies: Vec<u64>,
}

const SECOND: f64 = 1e6;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Plays the whole trace. `progress` is told the part that is done, now and then.
pub fn play(trace: &Trace, world: &World, rule: &mut dyn Rule, progress: &mut dyn FnMut(f64)) -> Outcome {
    let mut play = Play::new(trace, world);
    play.run(rule, progress);
    play.finish()
}

impl<'a> Play<'a> {
    fn new(trace: &'a Trace, world: &'a World) -> Self {
        let mut play = Self {
            world,
            trace,
            replicas: Vec::new(),
            events: BinaryHeap::new(),
            waiting: VecDeque::new(),
            next_id: 0,
            chance: Rng::with_seed(world.seed),
            now: 0,
            tally: Tally::default(),
            waits: Vec::new(),
            outcome: Outcome::default(),
            direction: 0,
            last_alive: world.local,
            scored_from: micros(world.warmup),
            scored_to: micros(trace.length()),
            spent: 0.0,
            starts: vec![StartTimes::default(); world.providers.len()],
        };
        for _ in 0..world.local {
            play.add(None, Life::Ready);
        }
        play
    }

    fn add(&mut self, provider: Option<usize>, life: Life) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.replicas.push(Replica { id, provider, life, in_flight: 0, launched_at: self.now });
        id
    }

    fn run(&mut self, rule: &mut dyn Rule, progress: &mut dyn FnMut(f64)) {
        let requests = self.trace.requests();
        let tick = micros(self.world.tick).max(1);
        let (mut next, mut next_tick) = (0, tick);
        // What still waits at the end is answered by the replicas that there are then, an hour long at most.
        let patience = self.scored_to + 3_600_000_000;
        let mut told = 0;
        loop {
            let arrival = requests.get(next).map_or(u64::MAX, |request| micros(request.at));
            let event = self.events.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            let at = arrival.min(event).min(next_tick);
            if at > self.scored_to && (next >= requests.len() && self.waiting.is_empty() || at > patience) {
                break;
            }
            self.advance(at);
            if event == at {
                self.handle();
            } else if arrival == at {
                self.arrive(next);
                next += 1;
            } else {
                next_tick += tick;
                self.tick(rule, tick);
                told += 1;
                if told % 1024 == 0 {
                    progress(at as f64 / self.scored_to.max(1) as f64);
                }
            }
        }
        for index in std::mem::take(&mut self.waiting) {
            let at = micros(self.trace.requests()[index].at);
            if at >= self.scored_from {
                // Nobody has begun with it: its wait is at least this.
                self.outcome.late += 1;
                self.waits.push(u32::try_from(self.now.saturating_sub(at) / 1000).unwrap_or(u32::MAX));
            }
        }
    }

    fn advance(&mut self, to: u64) {
        let span = u128::from(to - self.tally.touched);
        self.tally.in_flight_area += span * u128::from(self.tally.in_flight);
        self.tally.queued_area += span * self.waiting.len() as u128;
        self.tally.touched = to;
        self.now = to;
    }

    fn arrive(&mut self, index: usize) {
        self.tally.arrivals += 1;
        self.tally.arrived_work += micros(self.trace.requests()[index].work);
        if self.waiting.is_empty()
            && let Some(place) = self.free_place()
        {
            return self.begin(index, place);
        }
        self.waiting.push_back(index);
    }

    /// The ready replica with the most room, local ones and older ones first.
    fn free_place(&self) -> Option<usize> {
        let concurrency = self.world.concurrency;
        let open = self.replicas.iter().enumerate().filter(|(_, replica)| replica.life == Life::Ready);
        let free = open.filter(|(_, replica)| replica.in_flight < concurrency);
        free.min_by_key(|(_, replica)| (replica.provider.is_some(), replica.in_flight)).map(|(place, _)| place)
    }

    fn begin(&mut self, index: usize, place: usize) {
        let request = self.trace.requests()[index];
        let wait = self.now - micros(request.at);
        let work = micros(request.work);
        let replica = &mut self.replicas[place];
        replica.in_flight += 1;
        self.tally.in_flight += 1;
        self.tally.latencies.push(wait + work);
        self.events.push(Reverse((self.now + work, Event::Answered { replica: replica.id, work })));
        if micros(request.at) >= self.scored_from {
            self.outcome.late += u64::from(wait > micros(self.world.slo_wait));
            self.waits.push(u32::try_from(wait / 1000).unwrap_or(u32::MAX));
        }
    }

    fn serve(&mut self) {
        while let Some(index) = self.waiting.front().copied() {
            let Some(place) = self.free_place() else { return };
            self.waiting.pop_front();
            self.begin(index, place);
        }
    }

    fn place(&self, id: u64) -> Option<usize> {
        self.replicas.binary_search_by_key(&id, |replica| replica.id).ok()
    }

    fn handle(&mut self) {
        let Some(Reverse((_, event))) = self.events.pop() else { return };
        match event {
            Event::Answered { replica, work } => {
                self.tally.in_flight -= 1;
                self.tally.done += 1;
                self.tally.work += work;
                let Some(place) = self.place(replica) else { return };
                self.replicas[place].in_flight -= 1;
                if self.replicas[place].life == Life::Draining && self.replicas[place].in_flight == 0 {
                    self.end(place);
                }
            }
            Event::Started { replica } => {
                let Some(place) = self.place(replica) else { return };
                match self.replicas[place].life {
                    Life::Starting { fails: true } => self.end(place),
                    Life::Starting { fails: false } => {
                        self.replicas[place].life = Life::Ready;
                        let took = Duration::from_micros(self.now - self.replicas[place].launched_at);
                        if let Some(provider) = self.replicas[place].provider {
                            self.starts[provider].observe(took, Duration::from_micros(self.now));
                        }
                    }
                    Life::Ready | Life::Draining => {}
                }
            }
        }
        self.serve();
    }

    fn end(&mut self, place: usize) {
        let replica = self.replicas.remove(place);
        self.pay(&replica, self.now);
    }

    /// An instance costs from its launch to its end, what lies outside the scored time left out.
    fn pay(&mut self, replica: &Replica, end: u64) {
        let Some(provider) = replica.provider.map(|index| &self.world.providers[index]) else { return };
        let end = end.max(replica.launched_at + micros(provider.minimum_billing));
        let (from, to) = (replica.launched_at.max(self.scored_from), end.min(self.scored_to));
        let paid = Duration::from_micros(to.saturating_sub(from));
        self.outcome.cloud_time += paid;
        self.outcome.spend += paid.as_secs_f64() / 3600.0 * provider.price_per_hour;
    }

    fn tick(&mut self, rule: &mut dyn Rule, tick: u64) {
        self.note_course(tick);
        let sample = self.sample(tick);
        let load = sample.services[SERVICE].clone();
        let replicas: Vec<_> = self.replicas.iter().map(|replica| self.view(replica)).collect();
        let adapters: Vec<_> = (0..self.world.providers.len()).map(|index| self.adapter(index)).collect();
        let count = |wanted: fn(Life) -> bool| {
            u32::try_from(self.replicas.iter().filter(|replica| wanted(replica.life)).count()).unwrap_or(u32::MAX)
        };
        let ready = count(|life| life == Life::Ready);
        let starting = count(|life| matches!(life, Life::Starting { .. }));
        let seen = Seen { sample: &sample, load: &load, replicas: &replicas, adapters: &adapters, ready, starting };
        let actions = rule.step(&seen);
        for action in actions {
            self.carry_out(&action);
        }
        self.note();
    }

    fn sample(&mut self, tick: u64) -> LoadSample {
        let seconds = tick as f64 / SECOND;
        let tally = &mut self.tally;
        let percentile = |latencies: &mut Vec<u64>, percent: usize| {
            let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            (!latencies.is_empty()).then(|| Duration::from_micros(*latencies.select_nth_unstable(place).1))
        };
        let load = ServiceLoad {
            arrivals_per_s: tally.arrivals as f64 / seconds,
            in_flight: tally.in_flight_area as f64 / SECOND / seconds,
            queued: tally.queued_area as f64 / SECOND / seconds,
            in_flight_now: tally.in_flight,
            queued_now: self.waiting.len() as u64,
            unanswered_now: tally.in_flight + self.waiting.len() as u64,
            service_time: (tally.done > 0).then(|| Duration::from_micros(tally.work / tally.done)),
            latency_p50: percentile(&mut tally.latencies, 50),
            latency_p95: percentile(&mut tally.latencies, 95),
            latency_p99: percentile(&mut tally.latencies, 99),
            completed_per_s: tally.done as f64 / seconds,
            failed_per_s: 0.0,
            custom: None,
        };
        let (in_flight, touched) = (tally.in_flight, tally.touched);
        let mut latencies = std::mem::take(&mut tally.latencies);
        latencies.clear();
        *tally = Tally { in_flight, touched, latencies, ..Tally::default() };
        LoadSample {
            at: Duration::from_micros(self.now),
            host: HostLoad::default(),
            services: [(SERVICE.to_owned(), load)].into(),
        }
    }

    fn view(&self, replica: &Replica) -> ReplicaView {
        let provider = replica.provider.map(|index| &self.world.providers[index]);
        ReplicaView {
            id: replica.id.to_string(),
            placement: if provider.is_some() { Placement::Cloud } else { Placement::Local },
            adapter: provider.map(|provider| provider.name.clone()),
            phase: match replica.life {
                Life::Starting { .. } => Phase::Starting,
                Life::Ready => Phase::Ready,
                Life::Draining => Phase::Draining,
            },
            price_per_hour: provider.map_or(0.0, |provider| provider.price_per_hour),
            age: Duration::from_micros(self.now - replica.launched_at),
        }
    }

    fn adapter(&self, index: usize) -> AdapterView {
        let provider = &self.world.providers[index];
        let alive = self.replicas.iter().filter(|replica| replica.provider == Some(index)).count();
        AdapterView {
            name: provider.name.clone(),
            price_per_hour: provider.price_per_hour,
            alive: u32::try_from(alive).unwrap_or(u32::MAX),
            max: provider.capacity,
            spot: false,
            held_back: None,
            affordable: u32::MAX,
            start_time: self.starts[index].quantile(0.5),
            minimum_billing: provider.minimum_billing,
            billing_step: Duration::ZERO,
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Launch { adapter } => self.launch(adapter),
            Action::Drain { replica } => {
                let Some(place) = replica.parse().ok().and_then(|id| self.place(id)) else { return };
                if self.replicas[place].in_flight == 0 {
                    self.end(place);
                } else {
                    self.replicas[place].life = Life::Draining;
                }
            }
            // The local replicas are always there.
            Action::StartLocal { .. } | Action::StopLocal { .. } => {}
        }
    }

    fn launch(&mut self, adapter: &str) {
        let Some(index) = self.world.providers.iter().position(|provider| provider.name == adapter) else { return };
        let provider = &self.world.providers[index];
        let normal = {
            let radius = (-2.0 * (1.0 - self.chance.f64()).ln()).sqrt();
            radius * (std::f64::consts::TAU * self.chance.f64()).cos()
        };
        let takes = provider.cold_start.median.mul_f64((provider.cold_start.spread * normal).exp());
        let fails = self.chance.f64() < provider.failures;
        let id = self.add(Some(index), Life::Starting { fails });
        self.events.push(Reverse((self.now + micros(takes), Event::Started { replica: id })));
        if (self.scored_from..=self.scored_to).contains(&self.now) {
            self.outcome.launches += 1;
        }
    }

    fn note_course(&mut self, tick: u64) {
        if self.now > self.scored_to {
            return;
        }
        let prices = self.replicas.iter().filter_map(|replica| replica.provider);
        let price: f64 = prices.map(|provider| self.world.providers[provider].price_per_hour).sum();
        self.spent += price * tick as f64 / SECOND / 3600.0;
        let ready = self.replicas.iter().filter(|replica| replica.life == Life::Ready).count();
        self.outcome.course.push(Point {
            at: Duration::from_micros(self.now - tick),
            load: self.tally.arrived_work as f64 / tick as f64,
            places: ready as f64 * f64::from(self.world.concurrency),
            queued: self.waiting.len() as f64,
            spend: self.spent,
        });
    }

    fn note(&mut self) {
        let alive = self.replicas.iter().filter(|replica| replica.life != Life::Draining).count();
        let alive = u32::try_from(alive).unwrap_or(u32::MAX);
        let direction = match alive.cmp(&self.last_alive) {
            std::cmp::Ordering::Less => -1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => 1,
        };
        if self.now >= self.scored_from && self.now <= self.scored_to {
            self.outcome.peak_replicas = self.outcome.peak_replicas.max(alive);
            self.outcome.reversals += u64::from(direction != 0 && direction == -self.direction);
        }
        if direction != 0 {
            self.direction = direction;
        }
        self.last_alive = alive;
    }

    fn finish(mut self) -> Outcome {
        let left = std::mem::take(&mut self.replicas);
        for replica in &left {
            self.pay(replica, self.now.min(self.scored_to));
        }
        self.outcome.requests = self.waits.len() as u64;
        if !self.waits.is_empty() {
            let place = (self.waits.len() * 99).div_ceil(100) - 1;
            self.outcome.wait_p99 = Duration::from_millis(u64::from(*self.waits.select_nth_unstable(place).1));
        }
        self.outcome
    }
}
