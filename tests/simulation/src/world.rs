//! Time, the queue of what happens next, and who gets it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use crate::chance::Chance;
use crate::coverage::Coverage;
use crate::invariants::{SCAN_EVERY, Watch};
use crate::journal::Disk;
use crate::node::{Node, NodeEvent};
use crate::provider::{InstanceEvent, Provider, ProviderEvent};
use crate::requests::Requests;
use crate::scenario::Scenario;
use crate::trace::{Detail, Trace};
use crate::weather::{Fault, PROVIDER_FAULTS};

/// Something that happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// In one run of the node; dropped when that run is over, late when it is paused.
    Node(u64, NodeEvent),
    /// At an instance of an adapter; late when it is paused.
    Instance(String, String, InstanceEvent),
    /// At a provider.
    Provider(String, ProviderEvent),
    /// That run of the node ends without a word.
    Crash(u64),
    /// The node starts.
    Restart,
    /// The node starts no more.
    Leave,
    /// Another box with a copy of the state directory launches.
    Clone,
    /// Something begins to go wrong.
    Fault,
    /// The node or an instance is suspended for a while.
    Pause,
    /// The node crashes, unless it is down.
    CrashSometime,
    /// Some instance dies.
    Death,
    /// Another count is wanted.
    Wish,
    /// Nothing goes wrong any more.
    Calm,
    /// Nothing is wanted any more.
    Empty,
    /// Invariants that need no event.
    Scan,
}

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of all that happened.
    pub hash: u64,
    /// How often what happened.
    pub coverage: Coverage,
    /// What should never happen, with its time, if it did.
    pub violation: Option<String>,
    /// The last lines of the trace, where wanted.
    pub lines: String,
}

/// A world.
pub struct World {
    pub(crate) now: Duration,
    pub(crate) chance: Chance,
    pub(crate) scenario: Scenario,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) node: Node,
    pub(crate) disk: Disk,
    pub(crate) providers: BTreeMap<String, Provider>,
    pub(crate) requests: Requests,
    pub(crate) watch: Watch,
    /// Instances that are wanted.
    pub(crate) wish: u32,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
}

/// Plays a seed to its end, or to the first violation.
pub fn play(seed: u64, detail: Detail) -> Report {
    let mut chance = Chance::new(seed);
    let scenario = Scenario::of(&mut chance);
    World::new(scenario, chance, detail).run()
}

impl World {
    /// Nothing happened yet.
    pub fn new(scenario: Scenario, chance: Chance, detail: Detail) -> Self {
        let providers = scenario.adapters.keys().map(|name| (name.clone(), Provider::default()));
        let mut world = Self {
            now: Duration::ZERO,
            providers: providers.collect(),
            chance,
            scenario,
            trace: Trace::new(detail),
            coverage: Coverage::default(),
            node: Node::default(),
            disk: Disk::new(),
            requests: Requests::default(),
            watch: Watch::default(),
            wish: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let scenario = self.scenario.clone();
        self.trace.say(Duration::ZERO, || format!("{scenario:#?}"));
        if scenario.skewed {
            self.coverage.count("seed with skewed clocks");
        }
        self.at(Duration::ZERO, Happening::Restart);
        self.at(scenario.calm_at, Happening::Calm);
        self.at(scenario.empty_at, Happening::Empty);
        scenario.leaves_at.into_iter().for_each(|at| self.at(at, Happening::Leave));
        scenario.clone_at.into_iter().for_each(|at| self.at(at, Happening::Clone));
        scenario.crash_at.into_iter().for_each(|at| self.at(at, Happening::CrashSometime));
        self.at(Duration::from_secs(5), Happening::Wish);
        self.at(SCAN_EVERY, Happening::Scan);
        self.again(scenario.trouble.fault_every, Happening::Fault);
        self.again(scenario.trouble.pause_every, Happening::Pause);
        self.again(scenario.trouble.crash_every, Happening::CrashSometime);
        self.again(scenario.trouble.death_every, Happening::Death);
    }

    /// Lets everything happen, up to the end or the first violation.
    pub fn run(mut self) -> Report {
        while let Some(Scheduled { at, happening, .. }) = self.queue.pop() {
            if at > self.scenario.ends_at || self.watch.violation.is_some() {
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        if self.watch.violation.is_none() {
            self.now = self.scenario.ends_at;
            self.check_end();
        }
        Report {
            hash: self.trace.hash(),
            violation: self.watch.violation.take(),
            lines: self.trace.lines(),
            coverage: self.coverage,
        }
    }

    /// Something happens at that time.
    pub(crate) fn at(&mut self, at: Duration, happening: Happening) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at: at.max(self.now), order: self.scheduled, happening });
    }

    /// Something happens in this run of the node.
    pub(crate) fn at_node(&mut self, at: Duration, event: NodeEvent) {
        self.at(at, Happening::Node(self.node.epoch, event));
    }

    /// Whether things may go wrong.
    pub(crate) fn is_troubled(&self) -> bool {
        self.now < self.scenario.calm_at
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Node(epoch, event) => self.at_the_node(epoch, event),
            Happening::Instance(adapter, launch, event) => self.at_an_instance(adapter, launch, event),
            Happening::Provider(adapter, event) => self.at_a_provider(&adapter, event),
            Happening::Crash(epoch) if epoch == self.node.epoch => self.crash(),
            Happening::Crash(_) => {}
            Happening::Restart => self.restart(),
            Happening::Leave => self.leave(),
            Happening::Clone => self.another_box_launches(),
            Happening::Fault => self.something_goes_wrong(),
            Happening::Pause => self.somebody_is_suspended(),
            Happening::CrashSometime => self.crash_sometime(),
            Happening::Death => self.somebody_dies(),
            Happening::Wish => self.another_wish(),
            Happening::Calm => self.calm(),
            Happening::Empty => self.empty(),
            Happening::Scan => self.scan(),
        }
    }

    fn at_the_node(&mut self, epoch: u64, event: NodeEvent) {
        if epoch != self.node.epoch {
            if matches!(event, NodeEvent::Written(..)) {
                self.coverage.count("journal write lost in a crash");
            }
            return;
        }
        if self.now < self.node.paused_until {
            return self.at(self.node.paused_until, Happening::Node(epoch, event));
        }
        self.node_event(event);
    }

    /// Schedules something that comes again and again, as long as there is trouble.
    fn again(&mut self, mean: f64, happening: Happening) {
        let at = self.now + self.chance.wait(mean);
        if at < self.scenario.calm_at {
            self.at(at, happening);
        }
    }

    fn something_goes_wrong(&mut self) {
        self.again(self.scenario.trouble.fault_every, Happening::Fault);
        let until = self.now + self.chance.spread(10.0, 300.0);
        let disk = self.chance.hits(0.15);
        if disk {
            let fault = self.chance.pick(&[Fault::DiskFull, Fault::DiskSlow]);
            self.trace.note(self.now, "disk fault", &format!("{fault:?}"), until.as_secs());
            return self.disk.weather.begin(fault, until);
        }
        let fault = self.chance.pick(PROVIDER_FAULTS);
        let names: Vec<String> = self.providers.keys().cloned().collect();
        let name = &names[usize::try_from(self.chance.below(names.len() as u64)).unwrap_or(0)];
        self.trace.note(self.now, "fault", &format!("{name} {fault:?}"), until.as_secs());
        if let Some(provider) = self.providers.get_mut(name) {
            provider.weather.begin(fault, until);
        }
    }

    fn somebody_is_suspended(&mut self) {
        self.again(self.scenario.trouble.pause_every, Happening::Pause);
        let until = self.now + self.chance.spread(1.0, 360.0);
        if self.chance.hits(0.5) {
            self.trace.note(self.now, "node pause", "", until.as_secs());
            self.coverage.count("node pause");
            self.node.paused_until = until.max(self.node.paused_until);
            return;
        }
        if let Some((adapter, launch)) = self.somebody()
            && let Some(instance) = self.instance_mut(&adapter, &launch)
        {
            instance.paused_until = until.max(instance.paused_until);
            instance.excuse = Some("it was suspended");
            self.trace.note(self.now, "instance pause", &launch, until.as_secs());
            self.coverage.count("instance pause");
        }
    }

    fn another_wish(&mut self) {
        if !self.is_troubled() {
            return;
        }
        let burst_max = self.scenario.burst_max;
        self.wish = if self.chance.hits(0.35) { 0 } else { self.chance.count(1, burst_max) };
        self.trace.note(self.now, "wish", "", u64::from(self.wish));
        let next = self.now + self.chance.wait(300.0);
        self.at(next, Happening::Wish);
    }

    fn somebody_dies(&mut self) {
        self.again(self.scenario.trouble.death_every, Happening::Death);
        let Some((adapter, launch)) = self.somebody() else { return };
        let spot = self.scenario.adapters.get(&adapter).is_some_and(|adapter| adapter.settings.spot);
        let event = if spot { ProviderEvent::Notice(launch) } else { ProviderEvent::Die(launch) };
        self.at(self.now, Happening::Provider(adapter, event));
    }

    /// Any instance of ours that lives.
    fn somebody(&mut self) -> Option<(String, String)> {
        let alive: Vec<(String, String)> = self.alive().map(|(a, i)| (a.clone(), i.label.launch.clone())).collect();
        let index = usize::try_from(self.chance.below(alive.len() as u64)).unwrap_or(0);
        alive.get(index).cloned()
    }
}

/// The next one first; what was scheduled first, first.
struct Scheduled {
    at: Duration,
    order: u64,
    happening: Happening,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}
