//! The burst engine as a decision: every instance of the node, what it costs, what holds an adapter back, and what the
//! providers' lists and the journal say, put together.
//!
//! [`Engine::due`] says what to do now, whoever drives it does that and tells [`Engine::done`] or [`Engine::listed`]. It
//! reads no clock and throws no dice, so the simulation plays months of it with crashes between any two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::breaker::Backoff;
use super::budget::{Caps, Ledger, Money, Refusal, Terms};
use super::fleet::{Event as FleetEvent, Failure, Fleet, Instance, Operation, Outcome, Seen, Stage, Timing};

mod adapter;
mod dates;
mod known;
mod reconcile;
mod start_times;
mod view;

pub use adapter::{Adapter, AdapterSettings};
pub use dates::Dates;
use known::Known;
pub use known::MOST_LAUNCHES;
pub use reconcile::{Listed, Record, Recorded};
pub use start_times::StartTimes;
pub use view::phase;

/// A renewal and its answer have to be through by then: it is one small call, and an instance that needs longer is as good
/// as gone for a request too.
pub const RENEWAL_DEADLINE: Duration = Duration::from_secs(2);
/// A record that no launch and no end needs is waited for no longer: a disk that hangs must not keep an instance alive.
pub const RECORD_DEADLINE: Duration = Duration::from_secs(5);
/// A list that failed is asked for again: soon, then ever more slowly.
const LIST_RETRY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// What it is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// This run's number.
    pub session: u64,
    /// The first session that the journal knows everything of: launches of earlier ones may be missing in it.
    pub journal_since: u64,
    /// The time between two looks at what is due, and what a renewal may take on its way: a lease counts from its receipt.
    pub step: Duration,
    /// The adapters, by name.
    pub adapters: BTreeMap<String, AdapterSettings>,
    /// The services that have something to run at a provider, each with the adapters that it may use.
    pub services: BTreeMap<String, BTreeSet<String>>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// For one instance.
    Instance(String, Operation),
    /// Read an adapter's list; answered by [`Engine::listed`].
    List(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To an instance; as it was before.
    Instance(Box<Instance>, FleetEvent),
    /// An instance is gone; what it cost, and what of that was not told before: one that was found alive after its end has
    /// a second one.
    Ended(Box<Instance>, String, Money, Money),
    /// An instance of a former run was taken over.
    Adopted(String),
    /// The journal lacks an instance that was taken over: a row has to be written.
    Unrecorded(String),
    /// The budget does not bear an instance any longer: it drains.
    OverBudget(String),
    /// A row whose adapter is not configured any more, with the end and the cost that are assumed.
    Abandoned(Record, Duration, Money),
    /// Another box runs under this node's id; nothing is launched any more.
    Duplicate(String),
}

/// Why nothing was launched.
#[derive(Clone, Debug, PartialEq)]
pub enum NotLaunched {
    /// The budget does not bear it.
    Budget(Refusal),
    /// The adapter, or the whole engine, is held back, for this reason.
    HeldBack(String),
}

/// One launch that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// A launch id that was never used.
    pub launch: String,
    /// For which service.
    pub service: String,
    /// At which adapter.
    pub adapter: String,
    /// Why, in words.
    pub reason: String,
}

/// The engine.
#[derive(Clone, Debug)]
pub struct Engine {
    settings: Settings,
    fleet: Fleet,
    ledger: Ledger,
    adapters: BTreeMap<String, Adapter>,
    known: Known,
    /// What ends have been told to cost, for as long as the budget counts them.
    told: BTreeMap<String, Money>,
    /// The ledger's count of what it forgot when `told` was last gone through.
    told_as_of: u64,
    /// Rows that were open at the start, until they are accounted for.
    open: BTreeMap<String, Record>,
    /// The journal was read, or is known to be unreadable.
    recovered: bool,
    /// Another live node speaks under our id: nothing new is launched.
    duplicate: Option<String>,
    /// No launch any more: the node stops.
    ending: bool,
}

impl Engine {
    /// Owns nothing, and launches nothing before [`Engine::recover`] and the first list of an adapter.
    pub fn new(settings: Settings, ledger: Ledger) -> Self {
        let adapters = settings.adapters.iter().map(|(name, adapter)| (name.clone(), Adapter::new(adapter.clone())));
        Self {
            adapters: adapters.collect(),
            known: Known::since(settings.journal_since),
            settings,
            fleet: Fleet::default(),
            ledger,
            told: BTreeMap::new(),
            told_as_of: 0,
            open: BTreeMap::new(),
            recovered: false,
            duplicate: None,
            ending: false,
        }
    }

    /// This run's number.
    pub fn session(&self) -> u64 {
        self.settings.session
    }

    /// The instances.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The money.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The adapters, by name.
    pub fn adapters(&self) -> &BTreeMap<String, Adapter> {
        &self.adapters
    }

    /// Why nothing is launched at all, in words; `None` while launches pass.
    pub fn held_back(&self) -> Option<String> {
        if self.ending {
            return Some("the node stops".to_owned());
        }
        if !self.recovered {
            return Some("the journal has not been read yet".to_owned());
        }
        self.duplicate.clone()
    }

    /// The adapters at which all that a former run left has been found.
    pub fn reconciled(&self) -> BTreeSet<String> {
        let known = self.adapters.iter().filter(|(_, adapter)| self.recovered && adapter.reconciled);
        known.map(|(name, _)| name.clone()).collect()
    }

    /// Whether all that a former run left has been found, at every adapter.
    pub fn is_reconciled(&self) -> bool {
        self.recovered && self.adapters.values().all(|adapter| adapter.reconciled)
    }

    /// How many more launches the budget bears at an adapter.
    pub fn affordable(&self, adapter: &str, now: Duration) -> u32 {
        let Some(adapter) = self.adapters.get(adapter) else { return 0 };
        self.ledger.affordable(now, adapter.settings.terms, adapter.stay(self.settings.step))
    }

    /// Wants one instance.
    pub fn launch(&mut self, order: &Order, now: Duration) -> Result<(), NotLaunched> {
        if let Some(why) = self.held_back() {
            return Err(NotLaunched::HeldBack(why));
        }
        let alive = self.alive(&order.adapter);
        let unknown = || NotLaunched::HeldBack(format!("there is no adapter {}", order.adapter));
        if let Some(why) = self.why_not(&order.adapter, &order.service) {
            return Err(NotLaunched::HeldBack(why.to_owned()));
        }
        let adapter = self.adapters.get_mut(&order.adapter).ok_or_else(unknown)?;
        if let Some(why) = adapter.held_back(&order.service, now) {
            return Err(NotLaunched::HeldBack(why));
        }
        let max = adapter.settings.max;
        if alive >= max {
            return Err(NotLaunched::HeldBack(format!("it is at its limit of {max} instances")));
        }
        let (tail, stay) = (adapter.tail(self.settings.step), adapter.stay(self.settings.step));
        self.ledger.admits(now, adapter.settings.terms, stay).map_err(NotLaunched::Budget)?;
        self.ledger.open(&order.launch, now, adapter.settings.terms, tail).map_err(NotLaunched::Budget)?;
        // The one probe of a half-open circuit is taken last, by a launch that nothing else stops.
        let passes = adapter.circuit.pass(&adapter.settings.circuit, now);
        debug_assert!(passes, "an adapter that holds nothing back lets a launch pass");
        self.known.insert(&order.launch, self.settings.session);
        self.fleet.launch(&order.launch, &order.service, &order.adapter, &order.reason, adapter.timing(), now);
        Ok(())
    }

    /// Takes up other settings of its adapters and services, and other caps. What runs keeps the lease and the price that it
    /// was launched with; what may not run where it does any more drains, and so does what the caps no longer bear. A new adapter
    /// is read before anything is launched there; one that is gone is read until its last instance is.
    pub fn reconfigure(
        &mut self,
        adapters: BTreeMap<String, AdapterSettings>,
        services: BTreeMap<String, BTreeSet<String>>,
        caps: Caps,
        now: Duration,
    ) {
        for (name, settings) in &adapters {
            match self.adapters.get_mut(name) {
                Some(adapter) => adapter.reconfigure(settings.clone()),
                None => drop(self.adapters.insert(name.clone(), Adapter::new(settings.clone()))),
            }
        }
        self.ledger.set_caps(caps);
        self.settings = Settings { adapters, services, ..self.settings.clone() };
        let unwanted = |instance: &Instance| {
            let why = self.why_not(&instance.adapter, &instance.service)?;
            Some((instance.launch.clone(), why))
        };
        let unwanted: Vec<_> = self.fleet.instances().filter_map(unwanted).collect();
        for (launch, why) in unwanted {
            self.drain(&launch, why, now);
        }
    }

    /// Takes an instance out of use; [`Engine::release`] follows when no request is left.
    pub fn drain(&mut self, launch: &str, reason: &str, now: Duration) {
        self.ledger.drain(launch);
        self.fleet.drain(launch, reason, now);
    }

    /// No request is left at a draining instance.
    pub fn release(&mut self, launch: &str, now: Duration) {
        self.fleet.release(launch, now);
    }

    /// Ends everything and launches nothing more.
    pub fn end_all(&mut self, reason: &str, now: Duration) {
        self.ending = true;
        let launches: Vec<_> = self.fleet.instances().map(|instance| instance.launch.clone()).collect();
        for launch in launches {
            self.ledger.drain(&launch);
            self.fleet.end(&launch, reason, now);
        }
    }

    /// What to do now, and what the budget did.
    pub fn due(&mut self, now: Duration) -> (Vec<Task>, Vec<Event>) {
        // What a time limit ends is not the budget's doing, and buys nothing any more.
        for launch in self.fleet.expire(now) {
            self.ledger.drain(&launch);
        }
        let over_budget = self.ledger.renew(now);
        if std::mem::replace(&mut self.told_as_of, self.ledger.forgotten()) != self.ledger.forgotten() {
            self.told.retain(|launch, _| self.ledger.entry(launch).is_some());
        }
        for launch in &over_budget {
            self.fleet.drain(launch, "the budget bears it no longer", now);
        }
        self.forget_gone_adapters();
        let lists = self.lists_due(now).into_iter().map(Task::List);
        let due = self.fleet.due(now).into_iter().map(|(launch, operation)| Task::Instance(launch, operation));
        (lists.chain(due).collect(), over_budget.into_iter().map(Event::OverBudget).collect())
    }

    fn forget_gone_adapters(&mut self) {
        let configured = &self.settings.adapters;
        if self.adapters.keys().all(|name| configured.contains_key(name)) {
            return;
        }
        let alive = self.fleet.instances().map(|instance| instance.adapter.as_str());
        // What a former run left there, and nobody has found yet.
        let open = self.open.values().map(|record| record.adapter.as_str());
        let used: BTreeSet<&str> = alive.chain(open).collect();
        self.adapters.retain(|name, _| configured.contains_key(name) || used.contains(name.as_str()));
    }

    /// Takes in what came of an operation. `random` in 0..1 spreads retries.
    pub fn done(
        &mut self,
        launch: &str,
        operation: Operation,
        outcome: Outcome,
        now: Duration,
        random: f64,
    ) -> Vec<Event> {
        let Some(before) = self.fleet.get(launch).cloned() else { return Vec::new() };
        if matches!(outcome, Outcome::Renewed { .. } | Outcome::Seen(Seen::Running { .. } | Seen::Pending)) {
            self.ledger.seen(launch, now);
        }
        let nothing_was_promised = operation == Operation::Intend && matches!(outcome, Outcome::Failed(_));
        let events = self.fleet.done(launch, operation, outcome, now, random);
        let refused = self.fleet.get(launch).is_some_and(|instance| instance.refused);
        if nothing_was_promised || refused {
            // Nothing is owed.
            self.ledger.void(launch);
        }
        self.took_place(&before, events, now, random)
    }

    /// Until when an instance costs: its end where that is known.
    pub fn costs_until(&self, instance: &Instance, now: Duration) -> Duration {
        self.ledger.entry(&instance.launch).and_then(|entry| entry.end).unwrap_or(now)
    }

    /// What an instance has cost until now.
    pub fn cost(&self, instance: &Instance, now: Duration) -> Money {
        let entry = self.ledger.entry(&instance.launch);
        entry.map_or(Money::ZERO, |entry| entry.terms.cost(entry.end.unwrap_or(now).saturating_sub(entry.start)))
    }

    /// Since when an instance costs: an adopted one since its first intent.
    pub fn since(&self, instance: &Instance) -> Duration {
        let entry = self.ledger.entry(&instance.launch);
        entry.map_or(instance.intended_at, |entry| entry.start.min(instance.intended_at))
    }

    /// How an adapter bills; nothing for one that is not configured.
    pub fn terms(&self, adapter: &str) -> Terms {
        let free = Terms { price_per_hour: Money::ZERO, minimum_billing: Duration::ZERO, billing_step: Duration::ZERO };
        self.adapters.get(adapter).map_or(free, |adapter| adapter.settings.terms)
    }

    /// What an instance is billed at: as it was launched, whatever its adapter's price is now.
    pub fn terms_of(&self, instance: &Instance) -> Terms {
        self.ledger.entry(&instance.launch).map_or_else(|| self.terms(&instance.adapter), |entry| entry.terms)
    }

    /// Draws the consequences of what happened to one instance.
    fn took_place(&mut self, before: &Instance, events: Vec<FleetEvent>, now: Duration, random: f64) -> Vec<Event> {
        let mut told = Vec::new();
        if self.fleet.get(&before.launch).is_some_and(|after| after.stage >= Stage::Draining) {
            // Whatever ends it, its time is bought no further.
            self.ledger.drain(&before.launch);
        }
        if self.fleet.get(&before.launch).is_some_and(|after| after.stage == Stage::Closing) {
            // It costs nothing from now on, however long its row takes to be closed.
            self.ledger.gone(&before.launch, now);
        }
        for event in events {
            let instance = Box::new(before.clone());
            match event {
                FleetEvent::Ended(_, why) => {
                    let cost = self.cost(before, now);
                    let known = self.told.insert(before.launch.clone(), cost).unwrap_or(Money::ZERO);
                    told.push(Event::Ended(instance, why, cost, cost.minus(known)));
                    continue;
                }
                FleetEvent::Ready(_, took) => self.became_ready(before, took, now),
                FleetEvent::Failed { ref why, failure, .. } => self.failed(before, why, failure, now, random),
                FleetEvent::Preempted(..) => self.ledger.drain(&before.launch),
                FleetEvent::Started(_) | FleetEvent::Stuck(..) => {}
            }
            told.push(Event::Instance(instance, event));
        }
        told
    }

    fn became_ready(&mut self, instance: &Instance, took: Duration, now: Duration) {
        if let Some(adapter) = self.adapters.get_mut(&instance.adapter) {
            // What was adopted had started long before.
            adapter.became_ready((!instance.adopted).then_some(took), now);
        }
    }

    fn failed(&mut self, instance: &Instance, why: &str, failure: Failure, now: Duration, random: f64) {
        if let Some(adapter) = self.adapters.get_mut(&instance.adapter) {
            adapter.failed(&instance.service, why, failure, now, random);
        }
    }

    fn timing(&self, adapter: &str) -> Timing {
        // An adapter that is not configured any more has no timing of its own.
        const UNKNOWN: Timing = Timing {
            lease_ttl: Duration::from_secs(180),
            start_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        };
        self.adapters.get(adapter).map_or(UNKNOWN, Adapter::timing)
    }
}

#[cfg(test)]
mod tests;
