//! The envelope around the engine, as the burst actor is in production: it looks what is due, has it carried out, plans
//! towards the wish, and releases what has no request left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::journal::Write;
use crate::logic::burst::{Engine, Event, Listed, NotLaunched, Order, Task, phase};
use crate::logic::fleet::{Event as FleetEvent, Instance, Operation, Outcome, Stage};
use crate::logic::plan::{Action, Cloud, PlanInput, ReplicaView, plan};
use crate::logic::route::Placement;
use crate::provider::SERVICE;
use crate::scenario::STEP;
use crate::world::World;

/// What the node's clock shows at the beginning of the world: yesterday has a time too.
const EPOCH: Duration = Duration::from_secs(200_000);
/// Looks while nothing is owned: nothing is renewed then, so nothing needs the fine step.
const IDLE_STEP: Duration = Duration::from_secs(4);
/// Plans are made each so many looks.
const PLAN_EVERY: u64 = 4;

/// The node, running or not.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Counts runs and ends of runs: what was on its way to a former run is dropped.
    pub(crate) epoch: u64,
    pub(crate) session: u64,
    pub(crate) run: Option<Run>,
    pub(crate) paused_until: Duration,
    pub(crate) is_gone: bool,
    /// What was ready and wanted when it last crashed, and when that was.
    pub(crate) had: BTreeSet<String>,
    pub(crate) crashed_at: Duration,
    launches: u64,
}

/// One run of it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) engine: Engine,
    pub(crate) since: Duration,
    pub(crate) sequence: u64,
    pub(crate) looks: u64,
    /// By the node's clock.
    pub(crate) drains_since: BTreeMap<String, Duration>,
    pub(crate) in_flight: BTreeMap<String, u64>,
    /// Ends that the plan or the budget asked for.
    pub(crate) asked_to_end: BTreeSet<String>,
    pub(crate) is_duplicate: bool,
}

/// Something that happens in one run of the node.
#[derive(Clone, Debug)]
pub(crate) enum NodeEvent {
    /// The journal has been read.
    Recovered,
    /// Time to look.
    Look,
    /// An operation is over.
    Finished(String, Operation, Outcome),
    /// The provider accepted a launch; that is written down next.
    Accepted(String),
    /// A list, or why there is none.
    Listed(String, Result<Vec<Listed>, String>),
    /// A write is on the disk, for an operation or for nobody.
    Written(Write, Option<(String, Operation)>),
    /// A request came back from an instance: whether it was answered.
    Back(u64, bool),
}

impl Run {
    pub(crate) fn new(engine: Engine, since: Duration) -> Self {
        Self {
            engine,
            since,
            sequence: 0,
            looks: 0,
            drains_since: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            asked_to_end: BTreeSet::new(),
            is_duplicate: false,
        }
    }

    pub(crate) fn instance(&self, launch: &str) -> Option<&Instance> {
        self.engine.fleet().get(launch)
    }

    pub(crate) fn is_idle(&self, launch: &str) -> bool {
        self.in_flight.get(launch).is_none_or(|count| *count == 0)
    }
}

impl World {
    /// The node's clock.
    pub(crate) fn node_now(&self) -> Duration {
        EPOCH + self.now.mul_f64(self.scenario.node_rate)
    }

    /// A span of the node's clock in true time.
    pub(crate) fn of_node(&self, span: Duration) -> Duration {
        span.div_f64(self.scenario.node_rate)
    }

    pub(crate) fn node_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Recovered => self.recovered(),
            NodeEvent::Look => self.look(),
            NodeEvent::Finished(launch, operation, outcome) => self.finished(&launch, operation, outcome),
            NodeEvent::Accepted(launch) => self.record_launched(launch),
            NodeEvent::Listed(adapter, listed) => self.listed(&adapter, listed),
            NodeEvent::Written(write, operation) => self.written(write, operation),
            NodeEvent::Back(request, answered) => self.request_is_back(request, answered),
        }
    }

    fn look(&mut self) {
        let Some(run) = &mut self.node.run else { return };
        run.looks += 1;
        let (looks, idle) = (run.looks, run.engine.fleet().is_empty());
        let next = self.now + self.of_node(if idle { IDLE_STEP } else { STEP });
        self.at_node(next, NodeEvent::Look);
        self.finish_drains();
        if looks.is_multiple_of(PLAN_EVERY) || idle {
            self.plan();
        }
        self.send_requests();
        self.step();
    }

    /// Asks the engine what is due and starts it.
    pub(crate) fn step(&mut self) {
        let now = self.node_now();
        let Some(run) = &mut self.node.run else { return };
        let (tasks, events) = run.engine.due(now);
        self.hear(events);
        self.check_budget();
        for task in tasks {
            match task {
                Task::List(adapter) => self.carry_out_list(&adapter),
                Task::Instance(launch, operation) => self.carry_out(&launch, operation),
            }
        }
    }

    fn finished(&mut self, launch: &str, operation: Operation, outcome: Outcome) {
        let (now, random) = (self.node_now(), self.chance.unit());
        self.trace.note(self.now, name(operation), launch, told(&outcome));
        self.trace.say(self.now, || format!("  {outcome:?}"));
        if outcome == Outcome::Accepted {
            self.watch.accepted(launch);
        }
        let Some(run) = &mut self.node.run else { return };
        let events = run.engine.done(launch, operation, outcome, now, random);
        self.hear(events);
        self.step();
    }

    fn listed(&mut self, adapter: &str, listed: Result<Vec<Listed>, String>) {
        let (now, random) = (self.node_now(), self.chance.unit());
        self.trace.note(self.now, "listed", adapter, listed.as_ref().map_or(u64::MAX, |listed| listed.len() as u64));
        self.trace.say(self.now, || format!("  {listed:?}"));
        let Some(run) = &mut self.node.run else { return };
        let events = run.engine.listed(adapter, listed, now, random);
        self.watch.budget.found = true;
        self.hear(events);
        self.check_closed(adapter);
        self.step();
    }

    /// Takes in what the engine tells.
    pub(crate) fn hear(&mut self, events: Vec<Event>) {
        for event in events {
            self.trace.say(self.now, || format!("  {event:?}"));
            match event {
                Event::Instance(instance, FleetEvent::Ready(launch, _)) => {
                    self.record_ready(&launch, &instance.adapter)
                }
                Event::Instance(_, FleetEvent::Failed { why, .. }) if why.starts_with("unreachable") => {
                    self.coverage.count("unreachable");
                }
                Event::Instance(_, FleetEvent::Preempted(launch, _)) => self.drains(&launch),
                Event::Instance(..) | Event::Ended(..) | Event::Abandoned(..) => {}
                Event::Adopted(_) => self.coverage.count("instance adopted"),
                Event::Unrecorded(launch) => self.record_found(&launch),
                Event::OverBudget(launch) => {
                    self.coverage.count("budget drain");
                    self.watch.budget.drained_at = self.now;
                    self.drains(&launch);
                    self.ask_to_end(launch);
                }
                Event::Duplicate(_) => {
                    self.coverage.count("clone seen");
                    self.check_duplicate();
                }
            }
        }
    }

    fn ask_to_end(&mut self, launch: String) {
        if let Some(run) = &mut self.node.run {
            run.asked_to_end.insert(launch);
        }
    }

    fn drains(&mut self, launch: &str) {
        let now = self.node_now();
        if let Some(run) = &mut self.node.run {
            run.drains_since.entry(launch.to_owned()).or_insert(now);
        }
    }

    /// Plans towards the wish, once what a former run left is known.
    fn plan(&mut self) {
        let Some(input) = self.plan_input() else { return };
        let now = self.node_now();
        for action in plan(&input).actions {
            match action {
                Action::Launch { adapter } => self.order(adapter),
                Action::Drain { replica } => {
                    self.trace.note(self.now, "scale in", &replica, 0);
                    self.coverage.count("scale in");
                    self.drains(&replica);
                    self.ask_to_end(replica.clone());
                    if let Some(run) = &mut self.node.run {
                        run.engine.drain(&replica, "scaled in", now);
                    }
                }
                Action::StartLocal { .. } | Action::StopLocal { .. } => {}
            }
        }
    }

    fn order(&mut self, adapter: String) {
        let now = self.node_now();
        self.node.launches += 1;
        let launch = format!("n-{}-{:04}", self.node.session, self.node.launches);
        let order = Order { launch, service: SERVICE.into(), adapter, reason: "load".into() };
        let Some(run) = &mut self.node.run else { return };
        let is_duplicate = run.is_duplicate;
        match run.engine.launch(&order, now) {
            Ok(()) if is_duplicate => self.fail("a launch although another box runs under our id".into()),
            Ok(()) => {
                self.trace.note(self.now, "wanted", &order.launch, 0);
                self.watch.wanted(&order.launch, self.now);
            }
            Err(NotLaunched::Budget(_)) => self.coverage.count("budget refusal"),
            Err(NotLaunched::HeldBack(_)) => {}
        }
        self.check_budget();
        self.step();
    }

    fn plan_input(&mut self) -> Option<PlanInput> {
        let now = self.node_now();
        let run = self.node.run.as_ref().filter(|run| run.engine.is_reconciled())?;
        let replicas = run.engine.fleet().instances().map(|instance| ReplicaView {
            id: instance.launch.clone(),
            placement: Placement::Cloud,
            adapter: Some(instance.adapter.clone()),
            phase: phase(instance),
            price_per_hour: run.engine.terms(&instance.adapter).price_per_hour.units(),
            age: now.saturating_sub(instance.intended_at),
        });
        let adapters = run.engine.adapters_for(SERVICE, now);
        let refused = adapters.iter().any(|adapter| adapter.affordable == 0);
        let input = PlanInput {
            wanted: self.wish,
            local_max: 0,
            local_obstacle: None,
            burst_max: self.scenario.burst_max,
            on_demand_floor: 0,
            cloud: Cloud::Allowed,
            replicas: replicas.collect(),
            adapters,
        };
        if refused && self.wish > 0 {
            self.coverage.count("budget refusal");
        }
        Some(input)
    }

    /// Ends the drains whose last request was answered, a look after they began at the earliest.
    fn finish_drains(&mut self) {
        let now = self.node_now();
        let Some(run) = &mut self.node.run else { return };
        let draining: Vec<(String, Duration)> = run
            .engine
            .fleet()
            .instances()
            .filter(|instance| instance.stage == Stage::Draining)
            .map(|instance| (instance.launch.clone(), *run.drains_since.get(&instance.launch).unwrap_or(&now)))
            .collect();
        for (launch, since) in &draining {
            run.drains_since.insert(launch.clone(), *since);
            if *since < now && run.is_idle(launch) {
                run.engine.release(launch, now);
                self.coverage.count("drain finished its requests");
            }
        }
    }
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Intend => "intended",
        Operation::Launch => "launched",
        Operation::Describe => "described",
        Operation::Renew => "renewed",
        Operation::RecordEnding => "ending recorded",
        Operation::Terminate => "terminated",
        Operation::Close => "closed",
    }
}

fn told(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Done => 0,
        Outcome::Failed(_) => 1,
        Outcome::NoCapacity(_) => 2,
        Outcome::Misconfigured(_) => 3,
        Outcome::Accepted => 4,
        Outcome::Seen(_) => 5,
        Outcome::Renewed { ready, draining } => 6 + u64::from(*ready) + 2 * u64::from(*draining),
    }
}
