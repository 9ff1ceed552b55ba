//! Carries out what the burst engine says is due: journal, provider, lease; and tells what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle};
use cloud_adapters::CloudAdapter;

use super::hearing::Duplicated;
use super::publisher::{Identity, Publish, Report};
use super::{MAILBOX, tell};
use crate::host::clock::Clock;
use crate::journal::{Journal, Stage as Recorded};
use crate::logic::budget::{Caps, Ledger, Window};
use crate::logic::burst::{AdapterSettings, Engine, Event, NotLaunched, Order, RENEWAL_DEADLINE, Settings, Task};
use crate::logic::fleet::{Address, Event as FleetEvent, Instance, Operation, Stage};
use crate::logic::plan::{AdapterView, Phase};
use crate::logic::route::Bearer;
use crate::tls::Dialer;
use crate::wire::board::Board;
use crate::wire::{EventData, EventKind};

mod carry_out;
mod meters;
mod rows;
mod tell;
pub mod trial;

pub use carry_out::Workload;
use carry_out::{Operator, Work};
pub use rows::status as status_of_row;

/// How often the state machine is asked what is due: fine enough for a start of a tenth of a second.
pub const STEP: Duration = Duration::from_millis(25);
/// The same while there are none: lists are due every few seconds, and a launch looks at once.
const STEP_WITHOUT_INSTANCES: Duration = Duration::from_millis(500);
/// How often the scheduler is told everything, changed or not.
const TELL: Duration = Duration::from_secs(1);

/// How often the status of a live instance is said anew, with what it has cost until then.
const RESTATE: Duration = Duration::from_secs(60);

/// One adapter with what the configuration says of it.
pub struct AdapterSlot {
    /// The provider's side.
    pub adapter: Arc<dyn CloudAdapter>,
    /// What the engine knows of it.
    pub settings: AdapterSettings,
}

/// Launches one instance. Orders carry a number so that the sender knows which snapshots include them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Launch {
    /// For which service.
    pub service: String,
    /// At which adapter.
    pub adapter: String,
    /// Why, in words.
    pub reason: String,
    /// The order's number.
    pub order: u64,
}

/// Takes an instance out of use; [`Release`] follows when no request is left.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain {
    /// Which.
    pub launch: String,
    /// Why, in words.
    pub reason: String,
}

/// No request is left at a draining instance.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Release {
    /// Which.
    pub launch: String,
}

/// Ends every instance; answered once the providers confirmed that none is left.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndAll {
    /// Why, in words.
    pub reason: String,
}

/// Takes up what a changed configuration says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reconfigure {
    /// Its adapters, by name.
    pub adapters: BTreeMap<String, AdapterSettings>,
    /// The providers' side of those that are new.
    pub providers: BTreeMap<String, Arc<dyn CloudAdapter>>,
    /// The adapters that each service may use.
    pub services: BTreeMap<String, BTreeSet<String>>,
    /// What instances run, by service.
    pub workloads: BTreeMap<String, Workload>,
    /// The budget's.
    pub caps: Caps,
}

/// All instances and adapters as they are now.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "()")]
pub struct Instances {
    /// Every instance that is not yet closed.
    pub instances: Vec<InstanceView>,
    /// The adapters as they are for each service.
    pub adapters: BTreeMap<String, Vec<AdapterView>>,
    /// The last order that these include.
    pub order: u64,
    /// What a former run left behind has been found.
    pub reconciled: bool,
    /// The adapters at which it has been.
    pub reconciled_at: BTreeSet<String>,
}

/// One instance as the scheduler needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// Launch id.
    pub launch: String,
    /// The service it serves.
    pub service: String,
    /// The adapter that owns it.
    pub adapter: String,
    /// Where it stands.
    pub phase: Phase,
    /// Where requests may go now.
    pub address: Option<Address>,
    /// What it asks of every caller.
    pub bearer: Bearer,
    /// Its price.
    pub price_per_hour: f64,
    /// When it was wanted.
    pub since: Duration,
}

/// The parts, made by the node.
pub struct BurstParts {
    /// Who owns the instances.
    pub identity: Identity,
    /// The only clock.
    pub clock: Clock,
    /// Where intents are written.
    pub journal: Arc<Journal>,
    /// From which launch tokens derive.
    pub secret: Vec<u8>,
    /// By name.
    pub adapters: BTreeMap<String, AdapterSlot>,
    /// What instances run, by service.
    pub workloads: BTreeMap<String, Workload>,
    /// The adapters that each service may use.
    pub services: BTreeMap<String, BTreeSet<String>>,
    /// Secures the calls to instances.
    pub dialer: Dialer,
    /// What is spent and committed.
    pub ledger: Ledger,
    /// The budget's currency.
    pub currency: String,
    /// Gets a snapshot after each change.
    pub scheduler: Recipient<Instances>,
    /// Gets statuses.
    pub publisher: Recipient<Publish>,
    /// Gets events.
    pub events: Recipient<Report>,
    /// Shows the spend to the console.
    pub board: Arc<Board>,
}

/// What of the parts is still needed once the engine and the operator are made.
struct Surroundings {
    identity: Identity,
    clock: Clock,
    journal: Arc<Journal>,
    secret: Vec<u8>,
    currency: String,
    scheduler: Recipient<Instances>,
    publisher: Recipient<Publish>,
    events: Recipient<Report>,
    board: Arc<Board>,
}

/// The burst engine's envelope.
pub struct Burst {
    parts: Surroundings,
    operator: Arc<Operator>,
    engine: Engine,
    order: u64,
    /// Services that may be gone: their counts come to zero.
    former: BTreeSet<String>,
    former_adapters: BTreeSet<String>,
    published: BTreeMap<String, Stage>,
    waiting_for_none: Vec<tokio::sync::oneshot::Sender<()>>,
    /// A [`Burst::catch_up`] is on its way.
    is_catching_up: bool,
    /// The scheduler has to hear of something that came of an operation.
    has_news: bool,
    /// The timer of the steps, and the time between two.
    pace: Option<(SpawnHandle, Duration)>,
}

impl Burst {
    /// Owns nothing until the journal and the providers' lists are read.
    pub fn new(parts: BurstParts) -> Self {
        let adapters = parts.adapters.iter().map(|(name, slot)| (name.clone(), slot.settings.clone())).collect();
        let settings = settings(&parts.identity, &parts.journal, adapters, parts.services);
        let slots = parts.adapters.iter();
        let operator = Arc::new(Operator::new(
            &parts.identity,
            parts.journal.clone(),
            parts.secret.clone(),
            slots.map(|(name, slot)| (name.clone(), slot.adapter.clone())).collect(),
            parts.workloads.clone(),
            parts.dialer,
        ));
        let engine = Engine::new(settings, parts.ledger);
        let parts = Surroundings {
            identity: parts.identity,
            clock: parts.clock,
            journal: parts.journal,
            secret: parts.secret,
            currency: parts.currency,
            scheduler: parts.scheduler,
            publisher: parts.publisher,
            events: parts.events,
            board: parts.board,
        };
        Self {
            parts,
            operator,
            engine,
            order: 0,
            former: BTreeSet::new(),
            former_adapters: BTreeSet::new(),
            published: BTreeMap::new(),
            waiting_for_none: Vec::new(),
            is_catching_up: false,
            has_news: false,
            pace: None,
        }
    }
}

impl Actor for Burst {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        self.recover(context);
        self.keep_pace(context);
        // Circuits close and budgets free themselves with time, and a dropped snapshot is said again.
        context.run_interval(TELL, |burst, _| burst.tell_scheduler());
        // What a live instance costs grows; its status says so anew.
        context.run_interval(RESTATE, |burst, _| {
            burst.published.clear();
            burst.note_the_calendar();
        });
        self.tell_scheduler();
    }
}

impl Handler<Launch> for Burst {
    type Result = ();

    fn handle(&mut self, launch: Launch, context: &mut Self::Context) {
        self.order = self.order.max(launch.order);
        self.launch(launch);
        self.step(context);
        self.tell_scheduler();
    }
}

impl Handler<Drain> for Burst {
    type Result = ();

    fn handle(&mut self, Drain { launch, reason }: Drain, context: &mut Self::Context) {
        self.engine.drain(&launch, &reason, self.parts.clock.now());
        self.step(context);
        self.tell_scheduler();
    }
}

impl Handler<Release> for Burst {
    type Result = ();

    fn handle(&mut self, Release { launch }: Release, context: &mut Self::Context) {
        self.engine.release(&launch, self.parts.clock.now());
        self.step(context);
    }
}

impl Handler<Reconfigure> for Burst {
    type Result = ();

    fn handle(&mut self, changed: Reconfigure, context: &mut Self::Context) {
        let Reconfigure { adapters, providers, services, workloads, caps } = changed;
        self.former.extend(self.operator.services());
        self.former_adapters.extend(self.engine.adapters().keys().cloned());
        self.operator.reconfigure(providers, workloads);
        let before = self.engine.ledger().caps();
        let is_lifted = |window: &Window| before.limit(*window).is_some() && caps.limit(*window).is_none();
        Window::ALL.into_iter().filter(is_lifted).for_each(|window| self.lift(window));
        self.engine.reconfigure(adapters, services, caps, self.parts.clock.now());
        self.step(context);
        self.tell_scheduler();
    }
}

impl Handler<Duplicated> for Burst {
    type Result = ();

    fn handle(&mut self, Duplicated { why }: Duplicated, _: &mut Self::Context) {
        let events = self.engine.seen_elsewhere(why);
        self.tell_events(events);
        self.tell_scheduler();
    }
}

impl Handler<EndAll> for Burst {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, EndAll { reason }: EndAll, context: &mut Self::Context) -> Self::Result {
        let (none_left, wait) = tokio::sync::oneshot::channel();
        self.waiting_for_none.push(none_left);
        self.engine.end_all(&reason, self.parts.clock.now());
        self.step(context);
        Box::pin(async move {
            // The sender is dropped only with the actor.
            let _ = wait.await;
        })
    }
}

impl Burst {
    /// A step that no write comes after would be lost with the power.
    fn note_the_calendar(&self) {
        let journal = self.parts.journal.clone();
        actix::spawn(async move {
            if let Err(error) = journal.keep_up().await {
                tracing::debug!(%error, "the calendar was not noted");
            }
        });
    }

    /// Reads the journal, once. Nothing is launched and no list is compared before.
    fn recover(&mut self, context: &mut Context<Self>) {
        let journal = self.parts.journal.clone();
        let read = async move { rows::read(&journal).await }.into_actor(self);
        context.spawn(read.map(|read, burst, context| {
            match read {
                Ok((rows, known)) => burst.recovered(&rows, known),
                Err(error) => {
                    rows::tell_unreadable(&error);
                    burst.engine.recover_blind(burst.parts.clock.now());
                }
            }
            burst.step(context);
        }));
    }

    fn recovered(&mut self, rows: &[crate::journal::LaunchRow], known: Vec<(String, u64)>) {
        let clock = self.parts.clock;
        for row in rows.iter().filter(|row| row.stage == Recorded::Closed) {
            self.parts.board.remember_burst(rows::status(row, &self.parts.identity.node));
        }
        let records = rows::records(rows, clock);
        let events = self.engine.recover(records, known, clock.now());
        self.tell_events(events);
    }

    /// Asks the engine what is due and starts it.
    fn step(&mut self, context: &mut Context<Self>) {
        let (tasks, events) = self.engine.due(self.parts.clock.now());
        self.tell_events(events);
        for task in tasks {
            match task {
                Task::List(adapter) => self.list(adapter, context),
                Task::Instance(launch, operation) => self.carry_out(launch, operation, context),
            }
        }
        self.publish_changes();
        self.keep_pace(context);
        if self.engine.nothing_is_left() {
            self.waiting_for_none.drain(..).for_each(|waiting| waiting.send(()).unwrap_or_default());
        }
    }

    /// Looks often while there are instances, and seldom while there are none: most of what an idle node uses of its processor
    /// would be this.
    fn keep_pace(&mut self, context: &mut Context<Self>) {
        let every = if self.engine.fleet().is_empty() { STEP_WITHOUT_INSTANCES } else { STEP };
        if self.pace.is_some_and(|(_, now)| now == every) {
            return;
        }
        if let Some((handle, _)) = self.pace.take() {
            context.cancel_future(handle);
        }
        self.pace = Some((context.run_interval(every, Self::step), every));
    }

    fn list(&mut self, adapter: String, context: &mut Context<Self>) {
        let (operator, name) = (self.operator.clone(), adapter.clone());
        let listed = async move { operator.list(&name).await }.into_actor(self);
        context.spawn(listed.map(move |listed, burst, context| {
            let now = burst.parts.clock.now();
            let was_reconciled = burst.engine.is_reconciled();
            let listed = listed.map(|listed| burst.operator.as_listed(listed, burst.engine.fleet()));
            let events = burst.engine.listed(&adapter, listed, now, fastrand::f64());
            let must_tell = !events.is_empty() || was_reconciled != burst.engine.is_reconciled();
            burst.tell_events(events);
            burst.catch_up_soon(must_tell, context);
        }));
    }

    fn carry_out(&mut self, launch: String, operation: Operation, context: &mut Context<Self>) {
        let Some(work) = self.work(&launch, operation) else { return };
        let operator = self.operator.clone();
        let carried_out = async move { operator.carry_out(work).await }.into_actor(self);
        context.spawn(carried_out.map(move |outcome, burst, context| {
            let before = burst.engine.fleet().get(&launch).cloned();
            let events = burst.engine.done(&launch, operation, outcome, burst.parts.clock.now(), fastrand::f64());
            let seen = |instance: &Instance| (instance.stage, instance.is_routable(), instance.refused);
            let after = burst.engine.fleet().get(&launch);
            let changed = !events.is_empty() || after.map(seen) != before.as_ref().map(seen);
            burst.tell_events(events);
            burst.catch_up_soon(changed, context);
        }));
    }

    /// Once for all operations that came to their end at this moment: a step looks at every instance, and so does the
    /// scheduler.
    fn catch_up_soon(&mut self, has_news: bool, context: &mut Context<Self>) {
        self.has_news |= has_news;
        if !std::mem::replace(&mut self.is_catching_up, true) {
            context.spawn(actix::fut::ready(()).map(|(), burst: &mut Self, context| burst.catch_up(context)));
        }
    }

    fn catch_up(&mut self, context: &mut Context<Self>) {
        self.is_catching_up = false;
        self.step(context);
        if std::mem::take(&mut self.has_news) {
            self.tell_scheduler();
        }
    }

    fn work(&self, launch: &str, operation: Operation) -> Option<Work> {
        let instance = self.engine.fleet().get(launch)?.clone();
        let row = (operation == Operation::Intend).then(|| self.row(&instance));
        let now = self.parts.clock.now();
        let cost = self.engine.cost(&instance, now);
        let ended_at_ms = self.parts.clock.to_unix_ms(self.engine.costs_until(&instance, now));
        Some(Work { operation, instance, row, cost, ended_at_ms })
    }

    fn launch(&mut self, launch: Launch) {
        let id = new_launch_id(&self.parts.identity);
        let Launch { service, adapter, reason, .. } = launch;
        let order = Order { launch: id, service, adapter, reason };
        match self.engine.launch(&order, self.parts.clock.now()) {
            Ok(()) => {}
            Err(NotLaunched::Budget(refusal)) => {
                let data = EventData {
                    service: Some(order.service),
                    adapter: Some(order.adapter),
                    reason: Some(refusal.to_string()),
                    ..EventData::default()
                };
                tell(&self.parts.events, Report { kind: EventKind::BudgetExhausted, data });
            }
            // The snapshot says so too, and the next plan looks elsewhere.
            Err(NotLaunched::HeldBack(why)) => tracing::debug!(adapter = order.adapter, why, "a launch was held back"),
        }
    }

    fn tell_events(&mut self, events: Vec<Event>) {
        for event in events {
            self.tell_event(event);
        }
    }

    fn tell_event(&mut self, event: Event) {
        let (kind, data) = match event {
            Event::Instance(instance, event) => match self.about_event(&instance, event) {
                Some(told) => told,
                None => return,
            },
            Event::Ended(instance, why, cost, news) => {
                self.count_spend(&instance, news.units());
                self.publish_end(&instance, cost.units());
                let about = self.about_instance(&instance);
                let currency = Some(self.parts.currency.clone());
                let cost = Some(cost.units());
                (EventKind::BurstEnded, EventData { reason: Some(why), cost, currency, ..about })
            }
            Event::Adopted(launch) => {
                let reason = Some("adopted from a former run".into());
                (EventKind::BurstAdopted, EventData { reason, ..self.about(&launch) })
            }
            Event::OverBudget(launch) => {
                let reason = Some("the budget is used up".into());
                (EventKind::BudgetExhausted, EventData { reason, ..self.about(&launch) })
            }
            Event::Duplicate(why) => {
                tracing::error!("{why}");
                (EventKind::NodeDuplicate, EventData { error: Some(why), ..EventData::default() })
            }
            Event::Unrecorded(launch) => return self.record_found(&launch),
            Event::Abandoned(record, end, cost) => return self.close_abandoned(&record, end, cost),
        };
        tell(&self.parts.events, Report { kind, data });
    }

    fn about_event(&self, instance: &Instance, event: FleetEvent) -> Option<(EventKind, EventData)> {
        let about = self.about_instance(instance);
        Some(match event {
            FleetEvent::Started(_) => (EventKind::BurstStarted, about),
            FleetEvent::Ready(launch, took) => {
                let operator = self.operator.clone();
                actix::spawn(async move { operator.record(&launch, Recorded::Ready).await });
                (EventKind::BurstReady, EventData { duration_s: Some(took.as_secs_f64()), ..about })
            }
            FleetEvent::Failed { why, .. } => (EventKind::BurstFailed, EventData { error: Some(why), ..about }),
            FleetEvent::Preempted(_, why) => (EventKind::BurstPreempted, EventData { error: Some(why), ..about }),
            FleetEvent::Stuck(_, why) => {
                let error = format!("it does not end, and is asked to again and again: {why}");
                (EventKind::BurstStuck, EventData { error: Some(error), ..about })
            }
            // Told with its cost by the engine.
            FleetEvent::Ended(..) => return None,
        })
    }
}

/// Unique over all runs of this node even if its state directory is lost: node, session, and 32 random bits. A provider's
/// name holds 63 characters, so a long node id is cut.
fn new_launch_id(identity: &Identity) -> String {
    let node = identity.node.get(..32).unwrap_or(&identity.node).trim_matches('-');
    format!("{node}-{}-{:08x}", identity.session, fastrand::u32(..))
}

/// What an engine that is driven every [`STEP`] is made from.
fn settings(
    identity: &Identity,
    journal: &Journal,
    adapters: BTreeMap<String, AdapterSettings>,
    services: BTreeMap<String, BTreeSet<String>>,
) -> Settings {
    let (session, journal_since) = (identity.session, journal.first_session());
    Settings { session, journal_since, step: STEP + RENEWAL_DEADLINE, adapters, services }
}

fn count<T>(iterator: impl Iterator<Item = T>) -> u32 {
    u32::try_from(iterator.count()).unwrap_or(u32::MAX)
}
