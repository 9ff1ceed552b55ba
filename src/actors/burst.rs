//! Carries out what the fleet's state machine says is due: journal, provider, lease; and tells what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient};
use cloud_adapters::CloudAdapter;

use super::publisher::{Identity, Publish, Report};
use super::{MAILBOX, tell};
use crate::host::clock::{Clock, unix_ms_now};
use crate::journal::{Journal, LaunchRow, Stage as Recorded};
use crate::logic::breaker::{self, Circuit};
use crate::logic::budget::{Ledger, Money, Terms};
use crate::logic::fleet::{Event, Fleet, Instance, Operation, Outcome, Stage, Timing};
use crate::logic::plan::{AdapterView, Phase};
use crate::wire::board::Board;
use crate::wire::{EventData, EventKind};

mod carry_out;
mod meters;
mod reconcile;
mod tell;

use carry_out::{Operator, Work};
pub use carry_out::{Workload, launch_token};

/// How often the state machine is asked what is due: fine enough for a start of a tenth of a second.
const STEP: Duration = Duration::from_millis(25);
/// How often the scheduler is told everything, changed or not.
const TELL: Duration = Duration::from_secs(1);
/// How often the providers' lists are compared with what we know.
const RECONCILE: Duration = Duration::from_secs(30);

/// One adapter with what the configuration says of it.
pub struct AdapterSlot {
    /// The provider's side.
    pub adapter: Arc<dyn CloudAdapter>,
    /// What an instance costs.
    pub terms: Terms,
    /// The price for showing and sorting, in currency units per hour.
    pub price_per_hour: f64,
    /// Leases and limits of a start.
    pub timing: Timing,
    /// Most instances.
    pub max: u32,
    /// Holds launches back after failures.
    pub circuit: Circuit,
    /// After how many failures, and for how long.
    pub circuit_config: breaker::Config,
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

/// All instances and adapters as they are now.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "()")]
pub struct Instances {
    /// Every instance that is not yet closed.
    pub instances: Vec<InstanceView>,
    /// The adapters.
    pub adapters: Vec<AdapterView>,
    /// The last order that these include.
    pub order: u64,
    /// What a former run left behind has been found.
    pub reconciled: bool,
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
    pub authority: Option<String>,
    /// What it asks of every caller.
    pub bearer: String,
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

/// The burst engine's envelope.
pub struct Burst {
    parts: BurstParts,
    operator: Arc<Operator>,
    fleet: Fleet,
    order: u64,
    unreconciled: BTreeSet<String>,
    /// Another live node speaks under our id: nothing new is launched.
    duplicate: bool,
    /// No launch any more: the node stops.
    ending: bool,
    /// Launches that the provider refused for certain: they cost nothing.
    free: BTreeSet<String>,
    published: BTreeMap<String, Stage>,
    waiting_for_none: Vec<tokio::sync::oneshot::Sender<()>>,
}

impl Burst {
    /// Owns nothing until the first reconciliation.
    pub fn new(parts: BurstParts) -> Self {
        let operator = Arc::new(Operator::new(&parts));
        let unreconciled = parts.adapters.keys().cloned().collect();
        Self {
            operator,
            parts,
            fleet: Fleet::default(),
            order: 0,
            unreconciled,
            duplicate: false,
            ending: false,
            free: BTreeSet::new(),
            published: BTreeMap::new(),
            waiting_for_none: Vec::new(),
        }
    }
}

impl Actor for Burst {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.run_interval(STEP, Self::step);
        // Circuits close and budgets free themselves with time, and a dropped snapshot is said again.
        context.run_interval(TELL, |burst, _| burst.tell_scheduler());
        context.run_interval(RECONCILE, |burst, context| burst.reconcile(context));
        self.reconcile(context);
        self.tell_scheduler();
    }
}

impl Handler<Launch> for Burst {
    type Result = ();

    fn handle(&mut self, launch: Launch, context: &mut Self::Context) {
        self.order = self.order.max(launch.order);
        if !self.ending {
            self.launch(&launch);
        }
        self.step(context);
        self.tell_scheduler();
    }
}

impl Handler<Drain> for Burst {
    type Result = ();

    fn handle(&mut self, Drain { launch, reason }: Drain, context: &mut Self::Context) {
        self.parts.ledger.drain(&launch);
        self.fleet.drain(&launch, &reason, self.parts.clock.now());
        self.step(context);
        self.tell_scheduler();
    }
}

impl Handler<Release> for Burst {
    type Result = ();

    fn handle(&mut self, Release { launch }: Release, context: &mut Self::Context) {
        self.fleet.release(&launch, self.parts.clock.now());
        self.step(context);
    }
}

impl Handler<EndAll> for Burst {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, EndAll { reason }: EndAll, context: &mut Self::Context) -> Self::Result {
        let (none_left, wait) = tokio::sync::oneshot::channel();
        self.ending = true;
        self.waiting_for_none.push(none_left);
        let launches: Vec<_> = self.fleet.instances().map(|instance| instance.launch.clone()).collect();
        let now = self.parts.clock.now();
        launches.iter().for_each(|launch| self.fleet.end(launch, &reason, now));
        self.step(context);
        Box::pin(async move {
            // The sender is dropped only with the actor.
            let _ = wait.await;
        })
    }
}

impl Burst {
    /// Asks the state machine what is due and starts it.
    fn step(&mut self, context: &mut Context<Self>) {
        let now = self.parts.clock.now();
        let over_budget = self.parts.ledger.renew(now);
        let must_tell = !over_budget.is_empty();
        for launch in over_budget {
            self.fleet.drain(&launch, "the budget bears it no longer", now);
            let data = EventData { reason: Some("the budget is used up".into()), ..self.about(&launch) };
            tell(&self.parts.events, Report { kind: EventKind::BudgetExhausted, data });
        }
        if must_tell {
            self.tell_scheduler();
        }
        for (launch, operation) in self.fleet.due(now) {
            let Some(work) = self.work(&launch, operation) else { continue };
            let operator = self.operator.clone();
            let carried_out = async move { operator.carry_out(work).await }.into_actor(self);
            context.spawn(carried_out.map(move |outcome, burst, context| {
                burst.done(&launch, operation, outcome);
                burst.step(context);
            }));
        }
        self.publish_changes();
        if self.fleet.is_empty() {
            self.waiting_for_none.drain(..).for_each(|waiting| waiting.send(()).unwrap_or_default());
        }
    }

    fn work(&self, launch: &str, operation: Operation) -> Option<Work> {
        let instance = self.fleet.get(launch)?.clone();
        let row = match operation {
            Operation::Intend => Some(self.row(&instance)),
            _ => None,
        };
        let cost = if operation == Operation::Close { self.cost(&instance) } else { Money::ZERO };
        Some(Work { operation, instance, row, cost })
    }

    fn done(&mut self, launch: &str, operation: Operation, outcome: Outcome) {
        let now = self.parts.clock.now();
        if operation == Operation::Launch && matches!(outcome, Outcome::Refused(_)) {
            self.free.insert(launch.to_owned());
            self.parts.ledger.void(launch);
        }
        if operation == Operation::Intend && matches!(outcome, Outcome::Failed(_) | Outcome::Refused(_)) {
            // Nothing was promised, so nothing is owed.
            self.parts.ledger.void(launch);
        }
        let instance = self.fleet.get(launch).cloned();
        let events = self.fleet.done(launch, operation, outcome, now, fastrand::f64());
        if operation == Operation::Confirm && self.fleet.get(launch).is_some_and(|i| i.stage == Stage::Closing) {
            // It costs nothing from now on, however long its row takes to be closed.
            self.parts.ledger.close(launch, now);
        }
        let changed = !events.is_empty() || self.fleet.get(launch) != instance.as_ref();
        for event in events {
            if let Some(instance) = &instance {
                self.happened(instance, event);
            }
        }
        if changed {
            self.tell_scheduler();
        }
    }

    fn launch(&mut self, order: &Launch) {
        let now = self.parts.clock.now();
        let Some(slot) = self.parts.adapters.get_mut(&order.adapter) else { return };
        if !slot.circuit.pass(&slot.circuit_config, now) {
            return;
        }
        let launch = new_launch_id(&self.parts.identity);
        let tail = slot.timing.lease_ttl + slot.timing.drain_timeout + STEP;
        if let Err(refusal) = self.parts.ledger.open(&launch, now, slot.terms, tail) {
            let data = EventData {
                service: Some(order.service.clone()),
                adapter: Some(order.adapter.clone()),
                reason: Some(refusal.to_string()),
                ..EventData::default()
            };
            tell(&self.parts.events, Report { kind: EventKind::BudgetExhausted, data });
            return;
        }
        self.fleet.launch(&launch, &order.service, &order.adapter, &order.reason, slot.timing, now);
    }

    fn happened(&mut self, instance: &Instance, event: Event) {
        let now = self.parts.clock.now();
        let about = self.about_instance(instance);
        let (kind, data) = match event {
            Event::Started(_) => (EventKind::BurstStarted, about),
            Event::Ready(launch, took) => {
                if let Some(slot) = self.parts.adapters.get_mut(&instance.adapter) {
                    slot.circuit.succeeded();
                }
                let operator = self.operator.clone();
                actix::spawn(async move { operator.record(&launch, Recorded::Ready).await });
                (EventKind::BurstReady, EventData { duration_s: Some(took.as_secs_f64()), ..about })
            }
            Event::Failed(_, why, counts) => {
                // An intent that cannot be written holds launches back like a provider that refuses them.
                let counts = counts || instance.stage == Stage::Intending;
                if let Some(slot) = self.parts.adapters.get_mut(&instance.adapter).filter(|_| counts) {
                    slot.circuit.failed(&slot.circuit_config, now, fastrand::f64());
                }
                (EventKind::BurstFailed, EventData { error: Some(why), ..about })
            }
            Event::Ended(launch, why) => {
                let cost = self.cost(instance).units();
                self.parts.ledger.close(&launch, now);
                self.free.remove(&launch);
                self.count_spend(instance, cost);
                self.publish_end(instance, cost);
                let currency = Some(self.parts.currency.clone());
                (EventKind::BurstEnded, EventData { reason: Some(why), cost: Some(cost), currency, ..about })
            }
        };
        tell(&self.parts.events, Report { kind, data });
    }

    fn timing(&self, adapter: &str) -> Timing {
        self.parts.adapters.get(adapter).map_or(
            Timing {
                lease_ttl: Duration::from_secs(180),
                start_timeout: Duration::from_secs(60),
                drain_timeout: Duration::from_secs(30),
            },
            |slot| slot.timing,
        )
    }

    fn cost(&self, instance: &Instance) -> Money {
        let slot = self.parts.adapters.get(&instance.adapter);
        let entry = self.parts.ledger.entries().find(|entry| entry.launch == instance.launch);
        let until = entry.and_then(|entry| entry.end).unwrap_or_else(|| self.parts.clock.now());
        let lived = until.saturating_sub(self.since(instance));
        slot.filter(|_| !self.free.contains(&instance.launch)).map_or(Money::ZERO, |slot| slot.terms.cost(lived))
    }

    /// Since when it costs: an adopted one since its first intent.
    fn since(&self, instance: &Instance) -> Duration {
        let entry = self.parts.ledger.entries().find(|entry| entry.launch == instance.launch);
        entry.map_or(instance.intended_at, |entry| entry.start.min(instance.intended_at))
    }

    fn row(&self, instance: &Instance) -> LaunchRow {
        let free = Terms { price_per_hour: Money::ZERO, minimum_billing: Duration::ZERO, billing_step: Duration::ZERO };
        let terms = self.parts.adapters.get(&instance.adapter).map_or(free, |slot| slot.terms);
        LaunchRow {
            launch: instance.launch.clone(),
            service: instance.service.clone(),
            adapter: instance.adapter.clone(),
            session: self.parts.identity.session,
            reason: instance.reason.clone(),
            stage: Recorded::Intended,
            intended_at_ms: unix_ms_now(),
            ready_at_ms: None,
            ended_at_ms: None,
            end_reason: None,
            price_per_hour_micro: terms.price_per_hour.micros(),
            minimum_billing_ms: in_millis(terms.minimum_billing),
            billing_step_ms: in_millis(terms.billing_step),
            cost_micro: None,
        }
    }
}

/// Unique over all runs of this node even if its state directory is lost: node, session, and 32 random bits. A provider's
/// name holds 63 characters, so a long node id is cut.
fn new_launch_id(identity: &Identity) -> String {
    let node = identity.node.get(..32).unwrap_or(&identity.node).trim_matches('-');
    format!("{node}-{}-{:08x}", identity.session, fastrand::u32(..))
}

fn count<T>(iterator: impl Iterator<Item = T>) -> u32 {
    u32::try_from(iterator.count()).unwrap_or(u32::MAX)
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn in_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
