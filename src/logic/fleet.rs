//! The life of each cloud instance that this node owns, from the intent to the confirmed end.
//!
//! A state machine without hands: [`Fleet::due`] says which operations to carry out now, the burst actor carries them
//! out and tells [`Fleet::done`] what came of it. Every instance has at most one operation under way, every state leads
//! to the end through `Ending`, and no failure leaves an instance without a next operation: that is why none leaks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod instance;
mod steps;

pub use instance::{Address, Instance, Stage, Timing};

/// Calls that start or look at instances, at one adapter at once: a provider has a rate limit, and a node few sockets.
const CALLS_AT_ONCE: usize = 16;
/// Calls that end instances, at one adapter at once, beside the others: each may take as long as a drain.
const ENDS_AT_ONCE: usize = 32;

/// One thing to do for one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Write the intent to the journal.
    Intend,
    /// Ask the provider to launch; may be repeated with the same launch id.
    Launch,
    /// Ask the provider how it is and how to reach it.
    Describe,
    /// Renew the lease at the instance; the answer tells whether it is ready.
    Renew,
    /// Write to the journal that it is to end.
    RecordEnding,
    /// Ask the provider to end it; may be repeated.
    Terminate,
    /// Close the journal's row.
    Close,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A journal write is on disk, or the provider accepted the end.
    Done,
    /// It may work later; the sentence says what happened.
    Failed(String),
    /// The provider is full, and started nothing.
    NoCapacity(String),
    /// It will not work before a person changes something.
    Misconfigured(String),
    /// The provider accepted a launch.
    Accepted,
    /// The provider's word on an instance.
    Seen(Seen),
    /// The instance's own answer to a renewal.
    Renewed {
        /// It can take requests.
        ready: bool,
        /// It is going, by its own decision.
        draining: bool,
    },
}

/// The provider's word on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Accepted, not running yet.
    Pending,
    /// Running.
    Running {
        /// Where it is reached.
        address: Address,
        /// The provider will take it away soon, for this reason.
        notice: Option<String>,
    },
    /// It ended by itself, for this reason.
    Ended(String),
    /// The provider does not know it.
    Unknown,
}

/// Something worth telling an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The intent is on disk; the provider is asked now.
    Started(String),
    /// It answered as ready, this long after it was wanted.
    Ready(String, Duration),
    /// It came to nothing, or ended before it was to.
    Failed {
        /// Launch id.
        launch: String,
        /// What happened.
        why: String,
        /// Whose failure it was.
        failure: Failure,
    },
    /// The provider takes it away: (launch, why).
    Preempted(String, String),
    /// Ending it fails again and again; it is tried on: (launch, why).
    Stuck(String, String),
    /// It is gone and its row is closed: (launch, why).
    Ended(String, String),
}

/// Whose failure it was, which says what to leave alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The intent could not be written.
    Journal,
    /// The provider's, or the instance never became ready.
    Provider,
    /// The provider is full.
    NoCapacity,
    /// The configuration's.
    Misconfigured,
    /// The instance's own, after it had been ready.
    Instance,
}

/// The instances of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    instances: BTreeMap<String, Instance>,
}

impl Fleet {
    /// All instances, by launch id.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// One instance.
    pub fn get(&self, launch: &str) -> Option<&Instance> {
        self.instances.get(launch)
    }

    /// Whether nothing is owned any more.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Wants a new instance. Its first operation is the intent.
    pub fn launch(&mut self, launch: &str, service: &str, adapter: &str, reason: &str, timing: Timing, now: Duration) {
        let instance = Instance::wanted(launch, service, adapter, reason, timing, now);
        self.instances.entry(launch.to_owned()).or_insert(instance);
    }

    /// Takes over an instance that a former run of this node launched and whose row is in the journal.
    pub fn adopt(&mut self, launch: &str, service: &str, adapter: &str, reason: &str, timing: Timing, now: Duration) {
        let mut instance = Instance::wanted(launch, service, adapter, reason, timing, now);
        instance.accepted_at = Some(now);
        instance.adopted = true;
        instance.enter(Stage::Starting, now);
        self.instances.entry(launch.to_owned()).or_insert(instance);
    }

    /// Notes where an instance is that was just taken over: with that it is renewed at once.
    pub fn reached_at(&mut self, launch: &str, address: Option<Address>) {
        if let Some(instance) = self.instances.get_mut(launch).filter(|instance| instance.stage == Stage::Starting) {
            instance.address = address.or(instance.address.take());
        }
    }

    /// Takes over an instance only to end it.
    pub fn adopt_to_end(
        &mut self,
        launch: &str,
        service: &str,
        adapter: &str,
        why: &str,
        timing: Timing,
        now: Duration,
    ) {
        self.adopt(launch, service, adapter, why, timing, now);
        self.end(launch, why, now);
    }

    /// Takes an instance out of the route; [`Fleet::release`] or the drain timeout ends it.
    pub fn drain(&mut self, launch: &str, reason: &str, now: Duration) {
        let Some(instance) = self.instances.get_mut(launch) else { return };
        match instance.stage {
            Stage::Ready => {
                instance.end_reason = Some(reason.to_owned());
                instance.enter(Stage::Draining, now);
            }
            stage if stage < Stage::Ready => instance.end(reason, now),
            _ => {}
        }
    }

    /// A draining instance has no request left.
    pub fn release(&mut self, launch: &str, now: Duration) {
        if let Some(instance) = self.instances.get_mut(launch)
            && instance.stage == Stage::Draining
        {
            instance.enter(Stage::Ending, now);
        }
    }

    /// Ends an instance without waiting for its requests.
    pub fn end(&mut self, launch: &str, reason: &str, now: Duration) {
        if let Some(instance) = self.instances.get_mut(launch)
            && instance.stage < Stage::Ending
        {
            instance.end(reason, now);
        }
    }

    /// The provider gave notice that it will take an instance away.
    pub fn notice(&mut self, launch: &str, why: &str, now: Duration) -> Vec<Event> {
        self.instances.get_mut(launch).map(|instance| steps::noticed(instance, why, now)).unwrap_or_default()
    }

    /// Applies the time limits of each stage. Names those that it takes out of the route.
    pub fn expire(&mut self, now: Duration) -> Vec<String> {
        let ended = |instance: &mut Instance| {
            let before = instance.stage;
            steps::expire(instance, now);
            let goes = before < Stage::Draining && instance.stage >= Stage::Draining;
            goes.then(|| instance.launch.clone())
        };
        self.instances.values_mut().filter_map(ended).collect()
    }

    /// The operations to carry out now. Each marks its instance busy until [`Fleet::done`].
    pub fn due(&mut self, now: Duration) -> Vec<(String, Operation)> {
        self.expire(now);
        let mut calls = Calls::under_way(self.instances());
        let mut due = Vec::new();
        for instance in self.instances.values_mut().filter(|i| i.busy.is_none() && now >= i.next_at) {
            if let Some(operation) = instance.operation()
                && calls.take(instance, operation)
            {
                instance.busy = Some(operation);
                due.push((instance.launch.clone(), operation));
            }
        }
        due
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
        let Some(instance) = self.instances.get_mut(launch) else { return Vec::new() };
        instance.busy = None;
        let given_up = given_up(instance);
        let mut events = match operation {
            Operation::Intend => steps::intended(instance, outcome, now),
            Operation::Launch => steps::launched(instance, outcome, now, random),
            Operation::Describe => steps::described(instance, outcome, now, random),
            Operation::Renew => steps::renewed(instance, outcome, now),
            Operation::RecordEnding => steps::ending_recorded(instance, now),
            Operation::Terminate => steps::terminated(instance, outcome, now, random),
            Operation::Close => steps::closed(instance, outcome, now, random),
        };
        events.splice(0..0, given_up);
        let gone = events.iter().any(|event| matches!(event, Event::Ended(..)));
        if gone || (operation == Operation::Intend && instance.stage == Stage::Intending) {
            self.instances.remove(launch);
        }
        self.check();
        events
    }

    /// Whether a list of this adapter is waited for: since when the one that waits longest does.
    pub fn confirming_since(&self, adapter: &str) -> Option<Duration> {
        let confirming = self.instances().filter(|i| i.stage == Stage::Confirming && i.adapter == adapter);
        confirming.map(|instance| instance.stage_since).min()
    }

    /// Takes in the launches that an adapter lists as not ended, by a call that began at `began`. A list that began
    /// before a termination was answered says nothing about it.
    pub fn listed(
        &mut self,
        adapter: &str,
        alive: &BTreeSet<&str>,
        began: Duration,
        now: Duration,
        random: f64,
    ) -> Vec<Event> {
        let told = |i: &&mut Instance| i.stage == Stage::Confirming && i.adapter == adapter && i.stage_since <= began;
        let confirming = self.instances.values_mut().filter(told);
        let events =
            confirming.flat_map(|i| steps::confirmed(i, alive.contains(i.launch.as_str()), now, random)).collect();
        self.check();
        events
    }

    /// What must hold at any time.
    fn check(&self) {
        for instance in self.instances.values() {
            debug_assert!(instance.stage < Stage::Ending || instance.end_reason.is_some(), "an end has a reason");
            debug_assert!(instance.stage != Stage::Ready || instance.ready_at.is_some(), "ready since some time");
            debug_assert!(!instance.is_routable() || instance.address.is_some(), "a route has an address");
        }
    }
}

/// The event of a limit that ran out since the last outcome.
fn given_up(instance: &mut Instance) -> Option<Event> {
    let (why, counts) = instance.untold.take()?;
    let failure = if counts { Failure::Provider } else { Failure::Instance };
    Some(Event::Failed { launch: instance.launch.clone(), why, failure })
}

/// The provider calls that are under way, by adapter.
struct Calls {
    starts: BTreeMap<String, usize>,
    ends: BTreeMap<String, usize>,
}

impl Calls {
    fn under_way<'a>(instances: impl Iterator<Item = &'a Instance>) -> Self {
        let mut calls = Self { starts: BTreeMap::new(), ends: BTreeMap::new() };
        instances.filter_map(|i| Some((i, i.busy?))).for_each(|(i, operation)| {
            calls.take(i, operation);
        });
        calls
    }

    /// Takes a place for a call; journal writes and renewals need none, nor does a look at a ready instance: its lease
    /// runs, and must not wait for calls that hang.
    fn take(&mut self, instance: &Instance, operation: Operation) -> bool {
        let adapter = instance.adapter.as_str();
        let (taken, most) = match operation {
            Operation::Describe if instance.stage == Stage::Ready => return true,
            Operation::Launch | Operation::Describe => (&mut self.starts, CALLS_AT_ONCE),
            Operation::Terminate => (&mut self.ends, ENDS_AT_ONCE),
            _ => return true,
        };
        if !taken.contains_key(adapter) {
            taken.insert(adapter.to_owned(), 0);
        }
        taken.get_mut(adapter).is_some_and(|taken| {
            let free = *taken < most;
            *taken += usize::from(free);
            free
        })
    }
}

#[cfg(test)]
mod tests;
