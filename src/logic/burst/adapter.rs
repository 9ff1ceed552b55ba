//! One adapter as the engine knows it: its settings, what its failures hold back, and what its starts taught.

use std::collections::BTreeMap;
use std::time::Duration;

use super::StartTimes;
use crate::breaker::{self, Backoff, Circuit};
use crate::budget::Terms;
use crate::fleet::{Failure, Timing};

/// The shortest lease that is chosen where the configuration names none: a node must be able to restart, or a link to
/// come back, without losing what runs.
const LEASE_AT_LEAST: Duration = Duration::from_secs(180);
/// A lease counts from the launch, so it must outlast nearly every start.
const LEASE_OUTLASTS: f64 = 0.99;

/// What the configuration says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSettings {
    /// What an instance costs.
    pub terms: Terms,
    /// The lease; `None` for the longer of three minutes and what starts take there.
    pub lease_ttl: Option<Duration>,
    /// An instance that is not ready by then is given up.
    pub start_timeout: Duration,
    /// Requests in flight get this long when an instance goes.
    pub drain_timeout: Duration,
    /// Most instances.
    pub max: u32,
    /// The provider may take instances away at short notice.
    pub spot: bool,
    /// How the provider itself bounds an instance's life, where leases do not.
    pub max_life: Option<Duration>,
    /// How failures hold launches back.
    pub circuit: breaker::Config,
    /// How long a full provider is left alone.
    pub full: Backoff,
    /// How often its list is compared with what is known.
    pub list_every: Duration,
}

/// One adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub(super) settings: AdapterSettings,
    pub(super) circuit: Circuit,
    pub(super) starts: StartTimes,
    full_until: Duration,
    times_full: u32,
    /// Services whose launches there fail until a person changes something, with what the provider said.
    misconfigured: BTreeMap<String, String>,
    /// When the list under way began.
    pub(super) listing: Option<Duration>,
    pub(super) list_at: Duration,
    pub(super) failed_lists: u32,
    /// Why the last list could not be had.
    pub(super) list_error: Option<String>,
    /// It has been listed since the start, so that what a former run left there is known.
    pub(super) reconciled: bool,
}

impl Adapter {
    pub(super) fn new(settings: AdapterSettings) -> Self {
        Self {
            settings,
            circuit: Circuit::default(),
            starts: StartTimes::default(),
            full_until: Duration::ZERO,
            times_full: 0,
            misconfigured: BTreeMap::new(),
            listing: None,
            list_at: Duration::ZERO,
            failed_lists: 0,
            list_error: None,
            reconciled: false,
        }
    }

    /// Takes up other settings. Somebody has changed something, so launches that could not work are tried again.
    pub(super) fn reconfigure(&mut self, settings: AdapterSettings) {
        self.settings = settings;
        self.misconfigured.clear();
    }

    /// What it was made from.
    pub fn settings(&self) -> &AdapterSettings {
        &self.settings
    }

    /// What its starts taught.
    pub fn start_times(&self) -> &StartTimes {
        &self.starts
    }

    /// Why no launch of a service passes there now, in words; `None` when one does.
    pub fn held_back(&self, service: &str, now: Duration) -> Option<String> {
        if let Some(why) = self.misconfigured.get(service) {
            return Some(format!("a launch cannot work before somebody changes something: {why}"));
        }
        if !self.reconciled {
            let why = self.list_error.as_deref().unwrap_or("it has not been read since the start");
            return Some(format!("what runs there is not known: its list: {why}"));
        }
        if now < self.full_until {
            return Some(format!("it is full; asked again in {:.0?}", self.full_until.saturating_sub(now)));
        }
        let wait = self.circuit.retry_in(&self.settings.circuit, now);
        (!wait.is_zero()).then(|| format!("launches failed lately; tried again in {wait:.0?}"))
    }

    /// The services that it cannot launch before somebody changes something, with what the provider said.
    pub fn misconfigured(&self) -> &BTreeMap<String, String> {
        &self.misconfigured
    }

    /// Leases and limits of a launch now.
    pub fn timing(&self) -> Timing {
        let learned = || self.starts.quantile(LEASE_OUTLASTS).unwrap_or_default().max(LEASE_AT_LEAST);
        Timing {
            lease_ttl: self.settings.lease_ttl.unwrap_or_else(learned),
            start_timeout: self.settings.start_timeout,
            drain_timeout: self.settings.drain_timeout,
        }
    }

    /// The longest that an instance lives on when the node dies at this moment, `step` being the time between two looks.
    pub fn tail(&self, step: Duration) -> Duration {
        let Timing { lease_ttl, drain_timeout, .. } = self.timing();
        self.settings.max_life.unwrap_or(Duration::ZERO).max(lease_ttl + drain_timeout + step)
    }

    /// What the budget has to bear before a launch: its life without the node, and one renewal more. With less it would be
    /// drained as soon as it runs, and the next one launched in its place, each at its least billing and of no use.
    pub fn stay(&self, step: Duration) -> Duration {
        // Not of a lease that a slow start made long: what the configuration was checked for would not be enough for it.
        let renewed = self.tail(step).saturating_add(self.timing().lease_ttl.min(LEASE_AT_LEAST));
        self.settings.max_life.map_or(renewed, |bound| renewed.min(bound).max(self.tail(step)))
    }

    pub(super) fn became_ready(&mut self, took: Option<Duration>, now: Duration) {
        self.circuit.succeeded();
        self.times_full = 0;
        took.iter().for_each(|took| self.starts.observe(*took, now));
    }

    pub(super) fn failed(&mut self, service: &str, why: &str, failure: Failure, now: Duration, random: f64) {
        match failure {
            // An intent that cannot be written holds launches back like a provider that refuses them.
            Failure::Provider | Failure::Journal => self.circuit.failed(&self.settings.circuit, now, random),
            Failure::NoCapacity => {
                // Half of the ceiling at least: a provider that was full a moment ago is so now.
                let ceiling = self.settings.full.ceiling(self.times_full);
                self.full_until = now + ceiling.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
                self.times_full = self.times_full.saturating_add(1);
            }
            Failure::Misconfigured => {
                self.misconfigured.insert(service.to_owned(), why.to_owned());
            }
            Failure::Instance => {}
        }
    }
}
