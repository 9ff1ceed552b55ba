//! `[adapter.NAME]`: a place where instances are launched, and what they cost there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget::AMOUNT;
use crate::name::AdapterName;
use crate::section::Section;
use crate::shape::{Choice, Count, Cpus, Span};

/// `[adapter.NAME]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Adapter {
    /// What launches the instances.
    pub kind: AdapterKind,
    /// What one instance costs an hour, in the budget's currency. Default 0: processes on this machine are free.
    pub price_per_hour: f64,
    /// An instance costs at least this long. Default 0 s.
    pub minimum_billing: Duration,
    /// After that, time is billed in steps of this, rounded up. Default 1 s.
    pub billing_step: Duration,
    /// Most instances here at once, over all services; without it only the services' own limits hold.
    pub max_instances: Option<u32>,
    /// How long an instance lives on without hearing from its node. Default 180 s.
    pub lease_ttl: Duration,
    /// How long an instance may take to become ready before it is ended. Default 60 s.
    pub start_timeout: Duration,
    /// CPUs that instances are held to (kind `process`), sorted; without it, any.
    pub cpus: Option<Vec<usize>>,
}

/// What launches instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterKind {
    /// Processes on this machine, each with an identity and a lease of its own.
    Process,
}

const KIND: Choice<AdapterKind> = Choice {
    words: &[("process", AdapterKind::Process)],
    later: &["docker", "ssh", "exec", "kubernetes", "slurm", "nomad", "ecs", "lepton"],
};

/// Reads every adapter; the names of those that are there, right or wrong, come too.
pub(crate) fn read_all<'a>(section: &Section<'a>) -> (BTreeMap<AdapterName, Adapter>, Vec<&'a str>) {
    let mut adapters = BTreeMap::new();
    let mut names = Vec::new();
    for (name, mut adapter) in section.named() {
        names.push(name);
        let valid = AdapterName::new(name).map_err(|error| adapter.refuse_table(format!("as a name {error}")));
        if let (Ok(name), Some(read)) = (valid, read(&mut adapter)) {
            adapters.insert(name, read);
        }
        adapter.finish();
    }
    (adapters, names)
}

fn read(section: &mut Section<'_>) -> Option<Adapter> {
    let kind = section.required("kind", &KIND);
    let price_per_hour = section.get("price_per_hour", &AMOUNT, 0.0);
    let minimum_billing = section.get("minimum_billing", &MINIMUM_BILLING, Duration::ZERO);
    let billing_step = section.get("billing_step", &BILLING_STEP, Duration::from_secs(1));
    let max_instances = section.optional("max_instances", &Count(1..=10_000));
    let lease_ttl = section.get("lease_ttl", &LEASE_TTL, Duration::from_secs(180));
    let start_timeout = section.get("start_timeout", &START_TIMEOUT, Duration::from_secs(60));
    let cpus = section.optional("cpus", &Cpus);
    let kind = kind?;
    Some(Adapter { kind, price_per_hour, minimum_billing, billing_step, max_instances, lease_ttl, start_timeout, cpus })
}

const DAY: Duration = Duration::from_secs(86_400);

/// No provider bills more than a day at once.
const MINIMUM_BILLING: Span = Span(Duration::ZERO..=DAY);
const BILLING_STEP: Span = Span(Duration::from_secs(1)..=DAY);

/// A lease is renewed at a third of its time; under 5 s one slow renewal would end an instance.
const LEASE_TTL: Span = Span(Duration::from_secs(5)..=DAY);

/// Big models on cold machines take many minutes to load.
const START_TIMEOUT: Span = Span(Duration::from_secs(1)..=Duration::from_secs(3600));
