//! One instance launched, made ready and ended, outside of a running node: the same engine and the same calls, driven by
//! a loop instead of an actor. For `tidegate adapter check --launch`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::carry_out::{Operator, Work};
use super::{AdapterSlot, STEP, Workload, new_launch_id, rows};
use crate::actors::publisher::Identity;
use crate::host::clock::Clock;
use crate::journal::{Journal, LaunchRow, Stage as Recorded};
use crate::logic::budget::{Caps, Ledger, Money};
use crate::logic::burst::{Engine, Event, NotLaunched, Order, Task};
use crate::logic::fleet::{Address, Event as FleetEvent, Instance, Operation};
use crate::tls::Dialer;

/// A provider whose list cannot be had for so long is not tried at all.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// Longer than the default lease with its drain: what does not end within this is out of our hands.
const END_PATIENCE: Duration = Duration::from_secs(240);

/// What a trial is made from. The identity is one of its own, so that no running node meets its instance.
pub struct TrialParts {
    /// Who owns the instance.
    pub identity: Identity,
    /// The only clock.
    pub clock: Clock,
    /// Where its intent is written.
    pub journal: Arc<Journal>,
    /// From which its token derives.
    pub secret: Vec<u8>,
    /// The adapter, by name.
    pub adapter: (String, AdapterSlot),
    /// The service, by name.
    pub service: (String, Workload),
    /// What trials may cost, those before this one included.
    pub caps: Caps,
    /// The budget's currency.
    pub currency: String,
    /// Secures the calls to the instance.
    pub dialer: Dialer,
    /// How long it is kept once it is ready, its lease renewed, before it is ended.
    pub keep: Duration,
}

/// Where a trial stands; told before what it names begins, so that whoever listens is never behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its intent is written next, and then the provider is asked.
    Launching {
        /// Launch id.
        launch: String,
    },
    /// It answered as ready; that is written next.
    Ready {
        /// Launch id.
        launch: String,
        /// Where it takes requests.
        address: Address,
    },
    /// That it is ready was written, where the journal takes writes.
    Registered {
        /// Launch id.
        launch: String,
    },
    /// It was ready, takes no new request from here on, and is ended next.
    Draining {
        /// Launch id.
        launch: String,
    },
    /// It never became ready or went before its time, and is ended next.
    GivenUp {
        /// Launch id.
        launch: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launching { launch } => write!(f, "launching {launch}"),
            Self::Ready { address, .. } => write!(f, "ready at {}", address.authority),
            Self::Registered { .. } => f.write_str("its start is in the journal"),
            Self::Draining { .. } => f.write_str("ending it"),
            Self::GivenUp { .. } => f.write_str("it is given up; ending it"),
        }
    }
}

/// How a trial went.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Launch id.
    pub launch: String,
    /// From the intent to ready.
    pub ready_after: Duration,
    /// From the intent to the confirmed end.
    pub lived: Duration,
    /// What it cost.
    pub cost: Money,
    /// In this currency.
    pub currency: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { launch, ready_after, lived, cost, currency } = self;
        write!(f, "{launch} was ready after {ready_after:.2?}, is gone after {lived:.2?}, and cost {cost} {currency}")
    }
}

/// Launches, waits until it is ready, ends it, and confirms. Whatever a trial before it left behind is ended first.
///
/// # Errors
/// In words, what went wrong; the instance is ended all the same.
pub async fn run(parts: TrialParts, mut say: impl FnMut(&Step)) -> Result<Report, String> {
    let keep = parts.keep;
    let mut trial = Trial::begin(parts).await;
    trial.reconcile().await?;
    let (launch, began) = (new_launch_id(&trial.identity), trial.clock.now());
    trial.order(&launch).map_err(|refused| format!("nothing was launched: {refused}"))?;
    say(&Step::Launching { launch: launch.clone() });
    let watch = trial.watch_for_ctrl_c();
    let ready_at = trial.live(&launch, keep, &mut say).await;
    let ending = launch.clone();
    say(&if ready_at.is_ok() { Step::Draining { launch: ending } } else { Step::GivenUp { launch: ending } });
    trial.engine.end_all("the trial is over", trial.clock.now());
    trial.until_empty().await?;
    watch.abort();
    let ready_after = ready_at?.saturating_sub(began);
    let lived = trial.clock.now() - began;
    Ok(Report { launch, ready_after, lived, cost: trial.cost, currency: trial.currency })
}

struct Trial {
    engine: Engine,
    operator: Operator,
    journal: Arc<Journal>,
    clock: Clock,
    identity: Identity,
    adapter: String,
    service: String,
    currency: String,
    ready_at: Option<Duration>,
    failure: Option<String>,
    cost: Money,
    /// The operator pressed Ctrl-C: what was launched is ended as at any other end.
    interrupted: Arc<AtomicBool>,
}

impl Trial {
    async fn begin(parts: TrialParts) -> Self {
        let (adapter, slot) = parts.adapter;
        let (service, workload) = parts.service;
        let adapters = BTreeMap::from([(adapter.clone(), slot.settings)]);
        let services = BTreeMap::from([(service.clone(), BTreeSet::from([adapter.clone()]))]);
        let settings = super::settings(&parts.identity, &parts.journal, adapters, services);
        let adapters = BTreeMap::from([(adapter.clone(), slot.adapter)]);
        let workloads = BTreeMap::from([(service.clone(), workload)]);
        let read = rows::read(&parts.journal).await.inspect_err(rows::tell_unreadable);
        let journal = parts.journal;
        let operator = Operator::new(&parts.identity, journal.clone(), parts.secret, adapters, workloads, parts.dialer);
        let mut engine = Engine::new(settings, Ledger::new(parts.caps));
        match read {
            Ok((rows, known)) => {
                let records = rows::records(&rows, parts.clock);
                let _former = engine.recover(records, known, parts.clock.now());
            }
            Err(_) => engine.recover_blind(parts.clock.now()),
        }
        Self {
            engine,
            operator,
            journal,
            clock: parts.clock,
            identity: parts.identity,
            adapter,
            service,
            currency: parts.currency,
            ready_at: None,
            failure: None,
            cost: Money::ZERO,
            interrupted: Arc::default(),
        }
    }

    /// Ends whatever a trial before this one left behind.
    async fn reconcile(&mut self) -> Result<(), String> {
        let began = self.clock.now();
        while !self.engine.is_reconciled() {
            self.step().await;
            if self.clock.now() - began > LIST_PATIENCE {
                let advice = "`adapter check` without --launch says more";
                return Err(format!("the provider does not list instances; {advice}"));
            }
        }
        self.end_all_found();
        self.until_empty().await
    }

    fn watch_for_ctrl_c(&self) -> tokio::task::JoinHandle<()> {
        let interrupted = self.interrupted.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupted.store(true, Ordering::Relaxed);
            }
        })
    }

    fn order(&mut self, launch: &str) -> Result<(), String> {
        let order = Order {
            launch: launch.to_owned(),
            service: self.service.clone(),
            adapter: self.adapter.clone(),
            reason: "a trial by an operator".to_owned(),
        };
        self.engine.launch(&order, self.clock.now()).map_err(|refused| match refused {
            NotLaunched::Budget(refusal) => refusal.to_string(),
            NotLaunched::HeldBack(why) => why,
        })
    }

    fn end_all_found(&mut self) {
        let found: Vec<String> = self.engine.fleet().instances().map(|instance| instance.launch.clone()).collect();
        for launch in found {
            self.engine.drain(&launch, "left by a trial before", self.clock.now());
            self.engine.release(&launch, self.clock.now());
        }
    }

    /// Until it is ready, and for `keep` from then on; when it became ready.
    async fn live(&mut self, launch: &str, keep: Duration, say: &mut impl FnMut(&Step)) -> Result<Duration, String> {
        let at = self.until_ready(launch).await?;
        let launch = launch.to_owned();
        if let Some(address) = self.engine.fleet().get(&launch).and_then(|instance| instance.address.clone()) {
            say(&Step::Ready { launch: launch.clone(), address });
        }
        self.operator.record(&launch, Recorded::Ready).await;
        say(&Step::Registered { launch: launch.clone() });
        while self.clock.now() - at < keep && !self.interrupted.load(Ordering::Relaxed) {
            self.step().await;
            if !self.is_on_its_way(&launch) {
                let why = self.failure.take().unwrap_or_else(|| "the budget bears it no longer".to_owned());
                return Err(format!("it was ready, but did not stay: {why}"));
            }
        }
        Ok(at)
    }

    fn is_on_its_way(&self, launch: &str) -> bool {
        self.engine.fleet().get(launch).is_some_and(|instance| instance.is_wanted())
    }

    async fn until_ready(&mut self, launch: &str) -> Result<Duration, String> {
        loop {
            self.step().await;
            if let Some(at) = self.ready_at {
                return Ok(at);
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            if !self.is_on_its_way(launch) {
                return Err(self.failure.take().unwrap_or_else(|| "the budget bears it no longer".to_owned()));
            }
        }
    }

    /// Waits until the provider confirmed every end, but not for ever: the lease ends it too, and the next trial looks.
    async fn until_empty(&mut self) -> Result<(), String> {
        let began = self.clock.now();
        while !self.engine.fleet().is_empty() {
            self.step().await;
            if self.clock.now() - began > END_PATIENCE {
                let left: Vec<&str> = self.engine.fleet().instances().map(|i| i.launch.as_str()).collect();
                return Err(format!(
                    "{} does not end within {END_PATIENCE:?}: its lease ends it, and the next trial looks for it; see {}",
                    left.join(", "),
                    self.adapter
                ));
            }
        }
        Ok(())
    }

    /// Does what is due, one after the other, and waits a little.
    async fn step(&mut self) {
        let (tasks, _over_budget) = self.engine.due(self.clock.now());
        for task in tasks {
            let events = match task {
                Task::List(adapter) => {
                    let listed = self.operator.list(&adapter).await;
                    let listed = listed.map(|listed| self.operator.as_listed(listed, self.engine.fleet()));
                    self.engine.listed(&adapter, listed, self.clock.now(), fastrand::f64())
                }
                Task::Instance(launch, operation) => self.carry_out(&launch, operation).await,
            };
            for event in events {
                self.take_in(event).await;
            }
        }
        tokio::time::sleep(STEP).await;
    }

    async fn carry_out(&mut self, launch: &str, operation: Operation) -> Vec<Event> {
        let Some(instance) = self.engine.fleet().get(launch).cloned() else { return Vec::new() };
        let row = (operation == Operation::Intend).then(|| self.row(&instance));
        let now = self.clock.now();
        let cost = self.engine.cost(&instance, now);
        let ended_at_ms = self.clock.to_unix_ms(self.engine.costs_until(&instance, now));
        let outcome = self.operator.carry_out(Work { operation, instance, row, cost, ended_at_ms }).await;
        self.engine.done(launch, operation, outcome, self.clock.now(), fastrand::f64())
    }

    async fn take_in(&mut self, event: Event) {
        match event {
            Event::Instance(_, FleetEvent::Ready(..)) => self.ready_at = Some(self.clock.now()),
            Event::Instance(_, FleetEvent::Failed { why, .. }) => self.failure = Some(why),
            Event::Ended(_, _, cost, _) => self.cost = cost,
            Event::Unrecorded(launch) => self.record_found(&launch).await,
            _ => {}
        }
    }

    /// An instance that was found gets the row that a lost journal does not have.
    async fn record_found(&mut self, launch: &str) {
        let Some(row) = self.engine.fleet().get(launch).map(|instance| self.row(instance)) else { return };
        rows::record_found(&self.journal, row).await;
    }

    fn row(&self, instance: &Instance) -> LaunchRow {
        rows::intent(&self.engine, instance, self.clock, &self.currency)
    }
}
