//! `[adapter.NAME]`: a place where instances are launched, and what they cost there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::name::AdapterName;
use crate::section::Section;
use crate::shape::{Choice, Count, Flag, Least, Number, Parsed, Span};

mod kinds;

pub(crate) use kinds::TEXT;
pub use kinds::{AdapterKind, Docker, Exec, Kubernetes, KubernetesReach, Process, Ssh, Toleration};

/// `[adapter.NAME]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Adapter {
    /// What launches the instances.
    pub kind: AdapterKind,
    /// What one instance costs an hour, in the budget's currency; 0 only where instances are said to be free.
    pub price_per_hour: f64,
    /// An instance costs at least this long. Default 0 s.
    pub minimum_billing: Duration,
    /// After that, time is billed in steps of this, rounded up. Default 1 s.
    pub billing_step: Duration,
    /// Most instances here at once, over all services; without it only the services' own limits hold.
    pub max_instances: Option<u32>,
    /// How long an instance lives on without hearing from its node; without it, three minutes, or as long as nearly every
    /// start there takes.
    pub lease_ttl: Option<Duration>,
    /// How long an instance may take to become ready before it is ended. Default 60 s.
    pub start_timeout: Duration,
    /// The provider may take instances away at short notice. Default false.
    pub spot: bool,
    /// The instances are at this node's site, so that services with `placement = "site"` may go there. Default: only those
    /// of kind `process` are.
    pub site: bool,
    /// Where the instances are, for services with a `residency`, such as `eu-central`.
    pub region: Option<String>,
}

impl Adapter {
    /// The lease that a launch has at least.
    pub fn shortest_lease(&self) -> Duration {
        self.lease_ttl.unwrap_or(DEFAULT_LEASE)
    }

    /// Whether a service may go there: `placement` lets instances leave the machine, and where to, and its `residency`
    /// names the regions. Instances on this machine are where the node is, which no residency forbids.
    pub fn is_allowed(&self, site_only: bool, residency: &[String]) -> bool {
        let is_here = matches!(self.kind, AdapterKind::Process(_));
        let resides = || self.region.as_ref().is_some_and(|region| residency.contains(region));
        (self.site || !site_only) && (is_here || residency.is_empty() || resides())
    }
}

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
    let kind = kinds::read(section);
    let is_process = matches!(kind, Some(AdapterKind::Process(_)) | None);
    let price_per_hour = read_price(section, is_process);
    let adapter = Adapter {
        price_per_hour,
        minimum_billing: section.get("minimum_billing", &MINIMUM_BILLING, Duration::ZERO),
        billing_step: section.get("billing_step", &BILLING_STEP, Duration::from_secs(1)),
        max_instances: section.optional("max_instances", &Count(1..=10_000)),
        lease_ttl: section.optional("lease_ttl", &LEASE_TTL),
        start_timeout: section.get("start_timeout", &START_TIMEOUT, Duration::from_secs(60)),
        spot: section.get("spot", &Flag, false),
        site: section.get("site", &Flag, is_process),
        region: section.optional("region", &REGION),
        kind: kind?,
    };
    Some(adapter)
}

/// A budget that counts nothing holds nothing back, so that instances cost nothing has to be said in a word of its own.
fn read_price(section: &mut Section<'_>, may_be_left_out: bool) -> f64 {
    let free = section.get("free", &Flag, false);
    if free {
        section.foreign("price_per_hour", "is for instances that cost something; remove it, or remove free = true");
        return 0.0;
    }
    let price = section.optional("price_per_hour", &PRICE);
    if price.is_none() && !may_be_left_out && !section.has("price_per_hour") {
        let advice = "is missing: what one instance costs an hour; where it costs nothing, say free = true";
        section.refuse("price_per_hour", advice);
    }
    price.unwrap_or(0.0)
}

const PRICE: Number = Number {
    least: Least::Above(0.0),
    to: 1e9,
    unit: "what one instance costs an hour (free = true instead, where it costs nothing),",
};

const DAY: Duration = Duration::from_secs(86_400);

/// No provider bills more than a day at once.
const MINIMUM_BILLING: Span = Span(Duration::ZERO..=DAY);
const BILLING_STEP: Span = Span(Duration::from_secs(1)..=DAY);

/// A lease is renewed at a third of its time; under 5 s one slow renewal would end an instance.
const LEASE_TTL: Span = Span(Duration::from_secs(5)..=DAY);
/// A node must be able to restart, and a link to come back, within a lease.
const DEFAULT_LEASE: Duration = Duration::from_secs(180);

/// Big models on cold machines take many minutes to load.
const START_TIMEOUT: Span = Span(Duration::from_secs(1)..=Duration::from_secs(3600));

/// A region's name, as providers write them.
pub(crate) const REGION: Parsed<String> = Parsed {
    allowed: "a region, as in \"eu-central\": 1 to 40 of a-z, 0-9 and -",
    parse: |text| match is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("must be a region, as in \"eu-central\": 1 to 40 of a-z, 0-9 and -".to_owned()),
    },
    show: String::clone,
    secret: false,
};

pub(crate) fn is_region(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The kinds that this build knows, and those that a later one will.
pub(crate) const KIND: Choice<kinds::Word> = Choice {
    words: &[
        ("process", kinds::Word::Process),
        ("docker", kinds::Word::Docker),
        ("ssh", kinds::Word::Ssh),
        ("exec", kinds::Word::Exec),
        ("kubernetes", kinds::Word::Kubernetes),
    ],
    later: &["slurm", "nomad", "ecs", "lepton"],
};
