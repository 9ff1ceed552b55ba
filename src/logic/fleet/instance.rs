//! One instance: where it stands, how it is reached, and which operation is due for it.

use std::time::Duration;

use super::Operation;
use crate::breaker::Backoff;
use crate::route::Transport;

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
pub(super) const POLL_STARTING: Duration = Duration::from_millis(100);
/// Ready instances are renewed at a third of the lease, and at least this often, so that a dead one is noticed.
const RENEW_AT_MOST: Duration = Duration::from_secs(5);
/// One lost renewal may be a hiccup of the network; the second takes the instance out of the route.
const UNREACHABLE_AFTER: u32 = 2;
/// Pauses between attempts of one operation: full jitter under a ceiling that doubles.
const RETRY: Backoff = Backoff { base: Duration::from_millis(400), cap: Duration::from_secs(30) };

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

/// Where an instance is reached, and how the way there is secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub authority: String,
    /// How the connection is secured.
    pub transport: Transport,
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
    /// Where it is reached, once the provider told.
    pub address: Option<Address>,
    /// When it was wanted.
    pub intended_at: Duration,
    /// When the provider accepted it.
    pub accepted_at: Option<Duration>,
    /// When it first answered as ready.
    pub ready_at: Option<Duration>,
    /// Why it goes, once that is decided.
    pub end_reason: Option<String>,
    /// The provider said that it started nothing: it takes no place and costs nothing.
    pub refused: bool,
    /// A former run launched it, so its start is not this run's to measure.
    pub adopted: bool,
    pub(super) timing: Timing,
    pub(super) stage_since: Duration,
    pub(super) last_renewed: Option<Duration>,
    pub(super) failed_renewals: u32,
    pub(super) attempts: u32,
    pub(super) next_at: Duration,
    pub(super) busy: Option<Operation>,
    /// A renewal failed: ask the provider before the next one.
    pub(super) doubted: bool,
    /// A time limit ended it, and that was not told yet: why, and whether the adapter's circuit should count it.
    pub(super) untold: Option<(String, bool)>,
}

impl Instance {
    pub(super) fn wanted(
        launch: &str,
        service: &str,
        adapter: &str,
        reason: &str,
        timing: Timing,
        now: Duration,
    ) -> Self {
        Self {
            launch: launch.to_owned(),
            service: service.to_owned(),
            adapter: adapter.to_owned(),
            reason: reason.to_owned(),
            stage: Stage::Intending,
            address: None,
            intended_at: now,
            accepted_at: None,
            ready_at: None,
            end_reason: None,
            refused: false,
            adopted: false,
            timing,
            stage_since: now,
            last_renewed: None,
            failed_renewals: 0,
            attempts: 0,
            next_at: now,
            busy: None,
            doubted: false,
            untold: None,
        }
    }

    /// Whether requests may be routed to it.
    pub fn is_routable(&self) -> bool {
        self.stage == Stage::Ready && self.address.is_some() && self.failed_renewals < UNREACHABLE_AFTER
    }

    /// Whether it counts as capacity that is there or on its way.
    pub fn is_wanted(&self) -> bool {
        self.stage <= Stage::Ready
    }

    /// How long it would live on if it heard nothing more; `None` before it was renewed.
    pub fn lease_left(&self, now: Duration) -> Option<Duration> {
        let renewed = self.last_renewed.filter(|_| self.stage <= Stage::Draining)?;
        Some((renewed + self.timing.lease_ttl).saturating_sub(now))
    }

    /// How long its lease is.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    pub(super) fn enter(&mut self, stage: Stage, now: Duration) {
        self.stage = stage;
        self.stage_since = now;
        self.attempts = 0;
        self.next_at = now;
    }

    pub(super) fn end(&mut self, reason: impl Into<String>, now: Duration) {
        self.end_reason.get_or_insert_with(|| reason.into());
        self.enter(Stage::Ending, now);
    }

    /// Ends it for a limit that ran out; the next [`super::Fleet::done`] tells.
    pub(super) fn give_up(&mut self, why: String, counts: bool, now: Duration) {
        self.end(why.clone(), now);
        self.untold = Some((why, counts));
    }

    pub(super) fn retry(&mut self, now: Duration, random: f64) {
        self.next_at = now + RETRY.delay(self.attempts, random).max(POLL_STARTING);
        self.attempts = self.attempts.saturating_add(1);
    }

    pub(super) fn renew_every(&self) -> Duration {
        (self.timing.lease_ttl / 3).min(RENEW_AT_MOST)
    }

    /// What is due for it alone. A draining one is not renewed: what goes is not paid for any longer than its lease has.
    /// A confirming one waits for its adapter's next list, which tells of all of them at once.
    pub(super) fn operation(&self) -> Option<Operation> {
        match self.stage {
            Stage::Intending => Some(Operation::Intend),
            Stage::Launching => Some(Operation::Launch),
            Stage::Starting if self.address.is_none() || self.doubted => Some(Operation::Describe),
            Stage::Ready if self.doubted => Some(Operation::Describe),
            Stage::Starting | Stage::Ready => Some(Operation::Renew),
            Stage::Ending => Some(Operation::RecordEnding),
            Stage::Terminating => Some(Operation::Terminate),
            Stage::Closing => Some(Operation::Close),
            Stage::Draining | Stage::Confirming => None,
        }
    }
}
