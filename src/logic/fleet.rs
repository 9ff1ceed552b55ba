//! The life of each cloud instance that this node owns, from the intent to the confirmed end.
//!
//! A state machine without hands: [`Fleet::due`] says which operations to carry out now, the burst actor carries them
//! out and tells [`Fleet::done`] what came of it. Every instance has at most one operation under way, every state leads
//! to the end through `Ending`, and no failure leaves an instance without a next operation: that is why none leaks.

use std::collections::BTreeMap;
use std::time::Duration;

/// The fleet's clock settings for one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// An instance ends itself this long after its last renewal.
    pub lease_ttl: Duration,
    /// An instance that is not ready by then is given up.
    pub start_timeout: Duration,
    /// Requests in flight get this long when an instance goes.
    pub drain_timeout: Duration,
}

/// A starting instance is asked this often whether it is ready: short against any cloud's start, cheap for a wrapper.
const POLL_STARTING: Duration = Duration::from_millis(100);
/// Ready instances are renewed at a third of the lease, and at least this often, so that a dead one is noticed.
const RENEW_AT_MOST: Duration = Duration::from_secs(5);
/// One lost renewal may be a hiccup of the network; the second takes the instance out of the route.
const UNREACHABLE_AFTER: u32 = 2;
/// How often a transient failure to launch is tried again before the planner may choose anew.
const LAUNCH_ATTEMPTS: u32 = 4;
/// First and longest pause between attempts of one operation.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its intent is being written to the journal; the provider knows nothing yet.
    Intending,
    /// The provider is being asked.
    Launching,
    /// Accepted, not ready.
    Starting,
    /// Ready: requests may go there while it is reachable.
    Ready,
    /// Out of the route; requests in flight finish.
    Draining,
    /// The decision to end it is being written to the journal.
    Ending,
    /// The provider is being asked to end it.
    Terminating,
    /// The provider's list is being read until the instance is gone.
    Confirming,
    /// Gone; its row is being closed with its cost.
    Closing,
}

impl Stage {
    /// The word in messages and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intending => "intending",
            Self::Launching => "launching",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Ending => "ending",
            Self::Terminating => "terminating",
            Self::Confirming => "confirming",
            Self::Closing => "closing",
        }
    }

    /// Whether the provider may be billing it.
    pub fn may_cost(self) -> bool {
        self != Self::Intending && self != Self::Closing
    }
}

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
    /// Read the provider's list.
    Confirm,
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
    /// It will not work however often it is tried.
    Refused(String),
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
    /// Whether the provider's list still has it alive.
    Listed(bool),
}

/// The provider's word on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Accepted, not running yet.
    Pending,
    /// Running, reachable at `host:port`.
    Running(String),
    /// It ended by itself, for this reason.
    Ended(String),
    /// The provider does not know it.
    Unknown,
}

/// One instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Launch id.
    pub launch: String,
    /// The service it serves.
    pub service: String,
    /// The adapter that owns it.
    pub adapter: String,
    /// Why it was launched, in words.
    pub reason: String,
    /// Where it stands.
    pub stage: Stage,
    /// `host:port`, once the provider told.
    pub authority: Option<String>,
    /// When it was wanted.
    pub intended_at: Duration,
    /// When the provider accepted it.
    pub accepted_at: Option<Duration>,
    /// When it first answered as ready.
    pub ready_at: Option<Duration>,
    /// Why it goes, once that is decided.
    pub end_reason: Option<String>,
    timing: Timing,
    stage_since: Duration,
    last_renewed: Option<Duration>,
    failed_renewals: u32,
    attempts: u32,
    next_at: Duration,
    busy: bool,
    /// A renewal failed: ask the provider before the next one.
    doubted: bool,
    /// A time limit ended it, and that was not told yet: why, and whether the adapter's circuit should count it.
    untold: Option<(String, bool)>,
}

impl Instance {
    /// Whether requests may be routed to it.
    pub fn is_routable(&self) -> bool {
        self.stage == Stage::Ready && self.authority.is_some() && self.failed_renewals < UNREACHABLE_AFTER
    }

    /// Whether it counts as capacity that is there or on its way.
    pub fn is_wanted(&self) -> bool {
        self.stage <= Stage::Ready
    }

    fn enter(&mut self, stage: Stage, now: Duration) {
        self.stage = stage;
        self.stage_since = now;
        self.attempts = 0;
        self.next_at = now;
    }

    fn end(&mut self, reason: impl Into<String>, now: Duration) {
        self.end_reason.get_or_insert_with(|| reason.into());
        self.enter(Stage::Ending, now);
    }

    /// Ends it for a limit that ran out; the next [`Fleet::done`] tells.
    fn give_up(&mut self, why: String, counts: bool, now: Duration) {
        self.end(why.clone(), now);
        self.untold = Some((why, counts));
    }

    fn retry(&mut self, now: Duration, random: f64) {
        let step = RETRY_FIRST.saturating_mul(1 << self.attempts.min(8)).min(RETRY_LONGEST);
        // Half the step and a random half: never at once, never all together.
        self.next_at = now + step.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        self.attempts += 1;
    }

    fn renew_every(&self) -> Duration {
        (self.timing.lease_ttl / 3).min(RENEW_AT_MOST)
    }

    fn operation(&self) -> Option<Operation> {
        match self.stage {
            Stage::Intending => Some(Operation::Intend),
            Stage::Launching => Some(Operation::Launch),
            Stage::Starting if self.authority.is_none() || self.doubted => Some(Operation::Describe),
            Stage::Ready if self.doubted => Some(Operation::Describe),
            Stage::Starting | Stage::Ready => Some(Operation::Renew),
            // What goes is not paid for any longer than its lease has: it is released, or its time ends.
            Stage::Draining => None,
            Stage::Ending => Some(Operation::RecordEnding),
            Stage::Terminating => Some(Operation::Terminate),
            Stage::Confirming => Some(Operation::Confirm),
            Stage::Closing => Some(Operation::Close),
        }
    }
}

/// Something worth telling an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The intent is on disk; the provider is asked now.
    Started(String),
    /// It answered as ready, this long after it was wanted.
    Ready(String, Duration),
    /// A launch came to nothing: (launch, why, whether the adapter's circuit should count it).
    Failed(String, String, bool),
    /// It is gone and its row is closed: (launch, why).
    Ended(String, String),
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
        let instance = new_instance(launch, service, adapter, reason, timing, now);
        self.instances.entry(launch.to_owned()).or_insert(instance);
    }

    /// Takes over an instance that a former run of this node launched and whose row is in the journal.
    pub fn adopt(&mut self, launch: &str, service: &str, adapter: &str, reason: &str, timing: Timing, now: Duration) {
        let mut instance = new_instance(launch, service, adapter, reason, timing, now);
        instance.accepted_at = Some(now);
        instance.enter(Stage::Starting, now);
        self.instances.entry(launch.to_owned()).or_insert(instance);
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

    /// The operations to carry out now. Each marks its instance busy until [`Fleet::done`].
    pub fn due(&mut self, now: Duration) -> Vec<(String, Operation)> {
        self.instances.values_mut().for_each(|instance| expire(instance, now));
        let ready = self.instances.values_mut().filter(|i| !i.busy && now >= i.next_at);
        let due = ready.filter_map(|instance| {
            let operation = instance.operation()?;
            instance.busy = true;
            Some((instance.launch.clone(), operation))
        });
        due.collect()
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
        instance.busy = false;
        let given_up = instance.untold.take().map(|(why, counts)| Event::Failed(launch.to_owned(), why, counts));
        let mut events = match operation {
            Operation::Intend => intended(instance, outcome, now),
            Operation::Launch => launched(instance, outcome, now, random),
            Operation::Describe => described(instance, outcome, now, random),
            Operation::Renew => renewed(instance, outcome, now),
            Operation::RecordEnding => ending_recorded(instance, now),
            Operation::Terminate => terminated(instance, outcome, now, random),
            Operation::Confirm => confirmed(instance, outcome, now, random),
            Operation::Close => closed(instance, outcome, now, random),
        };
        events.splice(0..0, given_up);
        let gone = events.iter().any(|event| matches!(event, Event::Ended(..)));
        if gone || (operation == Operation::Intend && instance.stage == Stage::Intending) {
            self.instances.remove(launch);
        }
        self.check();
        events
    }

    /// What must hold at any time.
    fn check(&self) {
        for instance in self.instances.values() {
            debug_assert!(instance.stage < Stage::Ending || instance.end_reason.is_some(), "an end has a reason");
            debug_assert!(instance.stage != Stage::Ready || instance.ready_at.is_some(), "ready since some time");
            debug_assert!(!instance.is_routable() || instance.authority.is_some(), "a route has an address");
        }
    }
}

fn new_instance(launch: &str, service: &str, adapter: &str, reason: &str, timing: Timing, now: Duration) -> Instance {
    Instance {
        launch: launch.to_owned(),
        service: service.to_owned(),
        adapter: adapter.to_owned(),
        reason: reason.to_owned(),
        stage: Stage::Intending,
        authority: None,
        intended_at: now,
        accepted_at: None,
        ready_at: None,
        end_reason: None,
        timing,
        stage_since: now,
        last_renewed: None,
        failed_renewals: 0,
        attempts: 0,
        next_at: now,
        busy: false,
        doubted: false,
        untold: None,
    }
}

/// Applies the time limits of each stage.
fn expire(instance: &mut Instance, now: Duration) {
    let in_stage = now.saturating_sub(instance.stage_since);
    let timing = instance.timing;
    match instance.stage {
        Stage::Launching | Stage::Starting if in_stage >= timing.start_timeout => {
            instance.give_up(format!("not ready within {:.0?}", timing.start_timeout), true, now);
        }
        Stage::Ready => {
            let renewed = instance.last_renewed.unwrap_or(instance.stage_since);
            if now.saturating_sub(renewed) >= timing.lease_ttl + timing.drain_timeout {
                instance.give_up("unreachable for longer than its lease".to_owned(), false, now);
            }
        }
        Stage::Draining if in_stage >= timing.drain_timeout => instance.enter(Stage::Ending, now),
        _ => {}
    }
}

fn intended(instance: &mut Instance, outcome: Outcome, now: Duration) -> Vec<Event> {
    let launch = instance.launch.clone();
    match outcome {
        // Drained while the intent was being written: the row exists now and is closed like any other.
        Outcome::Done if instance.stage != Stage::Intending => Vec::new(),
        Outcome::Done => {
            instance.enter(Stage::Launching, now);
            vec![Event::Started(launch)]
        }
        // Nothing was promised, nothing was asked: the wish is simply forgotten.
        Outcome::Failed(why) | Outcome::Refused(why) => {
            instance.stage = Stage::Intending;
            vec![Event::Failed(launch, why, false)]
        }
        _ => Vec::new(),
    }
}

fn launched(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    if instance.stage != Stage::Launching {
        // Given up meanwhile; `Ending` asks the provider to end whatever came of it.
        return Vec::new();
    }
    match outcome {
        // A transient failure that is tried again is no event: the last one tells.
        Outcome::Failed(_) if instance.attempts + 1 < LAUNCH_ATTEMPTS => {
            instance.retry(now, random);
            Vec::new()
        }
        Outcome::Failed(why) | Outcome::Refused(why) => {
            let event = Event::Failed(instance.launch.clone(), why.clone(), true);
            instance.end(why, now);
            vec![event]
        }
        _ => {
            instance.accepted_at = Some(now);
            instance.enter(Stage::Starting, now);
            Vec::new()
        }
    }
}

fn described(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    if instance.stage >= Stage::Ending {
        return Vec::new();
    }
    instance.doubted = false;
    match outcome {
        Outcome::Seen(Seen::Running(authority)) => {
            instance.authority = Some(authority);
            instance.attempts = 0;
            instance.next_at = now + if instance.failed_renewals > 0 { POLL_STARTING } else { Duration::ZERO };
            Vec::new()
        }
        Outcome::Seen(Seen::Pending) => {
            instance.next_at = now + POLL_STARTING;
            Vec::new()
        }
        Outcome::Seen(Seen::Ended(why)) => ended_by_itself(instance, &format!("ended by itself: {why}"), now),
        Outcome::Seen(Seen::Unknown) => ended_by_itself(instance, "the provider does not know it any more", now),
        _ => {
            instance.retry(now, random);
            Vec::new()
        }
    }
}

fn ended_by_itself(instance: &mut Instance, why: &str, now: Duration) -> Vec<Event> {
    let was_starting = instance.stage == Stage::Starting;
    instance.end(why, now);
    vec![Event::Failed(instance.launch.clone(), why.to_owned(), was_starting)]
}

fn renewed(instance: &mut Instance, outcome: Outcome, now: Duration) -> Vec<Event> {
    if instance.stage >= Stage::Ending {
        return Vec::new();
    }
    match outcome {
        Outcome::Renewed { draining: true, .. } if instance.stage != Stage::Draining => {
            ended_by_itself(instance, "the instance drains by its own decision", now)
        }
        Outcome::Renewed { ready, .. } => {
            instance.last_renewed = Some(now);
            instance.failed_renewals = 0;
            instance.next_at = now + instance.renew_every();
            match instance.stage {
                Stage::Starting if ready => became_ready(instance, now),
                Stage::Starting => {
                    instance.next_at = now + POLL_STARTING;
                    Vec::new()
                }
                _ => Vec::new(),
            }
        }
        _ => {
            instance.failed_renewals += 1;
            instance.doubted = true;
            instance.next_at = now + POLL_STARTING;
            Vec::new()
        }
    }
}

fn became_ready(instance: &mut Instance, now: Duration) -> Vec<Event> {
    instance.ready_at.get_or_insert(now);
    let next = instance.next_at;
    instance.enter(Stage::Ready, now);
    instance.next_at = next;
    vec![Event::Ready(instance.launch.clone(), now.saturating_sub(instance.intended_at))]
}

/// Whether or not the journal could be written: an end must not wait for a disk.
fn ending_recorded(instance: &mut Instance, now: Duration) -> Vec<Event> {
    instance.enter(Stage::Terminating, now);
    Vec::new()
}

fn terminated(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    match outcome {
        Outcome::Done => instance.enter(Stage::Confirming, now),
        _ => instance.retry(now, random),
    }
    Vec::new()
}

fn confirmed(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    match outcome {
        Outcome::Listed(false) => instance.enter(Stage::Closing, now),
        Outcome::Listed(true) => {
            // The provider said yes and did not: ask again, ever more slowly, until it is true.
            let attempts = instance.attempts;
            instance.stage = Stage::Terminating;
            instance.attempts = attempts;
            instance.retry(now, random);
        }
        _ => instance.retry(now, random),
    }
    Vec::new()
}

fn closed(instance: &mut Instance, outcome: Outcome, now: Duration, random: f64) -> Vec<Event> {
    if outcome != Outcome::Done {
        instance.retry(now, random);
        return Vec::new();
    }
    let why = instance.end_reason.clone().unwrap_or_default();
    vec![Event::Ended(instance.launch.clone(), why)]
}

#[cfg(test)]
mod tests;
