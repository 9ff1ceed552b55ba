//! `[budget]`: what bursting may cost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::adapter::Adapter;
use crate::name::AdapterName;
use crate::section::Section;
use crate::shape::{Least, Number, Parsed};

/// `[budget]`: caps on rolling windows over all services and adapters.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Budget {
    /// ISO 4217 code that all prices are in. Default `EUR`.
    pub currency: String,
    /// Most that any 60 minutes may cost; without it there is no such cap.
    pub per_hour: Option<f64>,
    /// Most that any 24 hours may cost; without it there is no such cap.
    pub per_day: Option<f64>,
}

pub(crate) fn read(section: &mut Section<'_>) -> Budget {
    Budget {
        currency: section.get("currency", &CURRENCY, "EUR".to_owned()),
        per_hour: section.optional("per_hour", &AMOUNT),
        per_day: section.optional("per_day", &AMOUNT),
    }
}

/// Refuses a cap that does not hold one instance: every launch would be refused, and nobody would know why.
pub(crate) fn check(
    section: &mut Section<'_>,
    budget: &Budget,
    adapters: &BTreeMap<AdapterName, Adapter>,
    drain_timeout: Duration,
) {
    for (key, cap) in [("per_hour", budget.per_hour), ("per_day", budget.per_day)] {
        let Some(cap) = cap else { continue };
        let needs = |adapter: &Adapter| needed(adapter, drain_timeout);
        let cheapest = adapters.iter().map(|(name, adapter)| (name, needs(adapter)));
        let cheapest = cheapest.min_by(|(_, one), (_, other)| one.total_cmp(other));
        if let Some((name, needed)) = cheapest.filter(|(_, needed)| *needed > cap) {
            let (why, else_lower) = if stay(&adapters[name], drain_timeout) > adapters[name].minimum_billing {
                ("its price until its lease and drain would end it, and for one lease more", "lease_ttl")
            } else {
                ("the least that it is billed for", "minimum_billing, where the provider asks for less")
            };
            let advice = format!(
                "holds no instance of any adapter: one of {name} needs {needed:.4}, which is {why}; raise the cap, or lower \
                 adapter.{name}.{else_lower}"
            );
            section.refuse(key, advice);
        }
    }
}

/// What a renewal may take on its way to an instance, and a tick of the engine: a lease counts from its receipt.
const ON_ITS_WAY: Duration = Duration::from_secs(3);

/// What a launch needs: the price of the time that it may run without its node and of one lease more, rounded as it is billed.
fn needed(adapter: &Adapter, drain_timeout: Duration) -> f64 {
    let billed = stay(adapter, drain_timeout).max(adapter.minimum_billing).as_secs_f64();
    let step = adapter.billing_step.as_secs_f64();
    (billed / step).ceil() * step * adapter.price_per_hour / 3600.0
}

/// How long a launch must be able to stay.
fn stay(adapter: &Adapter, drain_timeout: Duration) -> Duration {
    adapter.shortest_lease() * 2 + drain_timeout / 2 + ON_ITS_WAY
}

/// A sum beyond a thousand million is a slip in any currency.
pub(crate) const AMOUNT: Number = Number { least: Least::From(0.0), to: 1e9, unit: "an amount of money" };

const CURRENCY: Parsed<String> = Parsed {
    allowed: "three capital letters, as in \"EUR\"",
    parse: |text| match text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => Ok(text.to_owned()),
        false => Err("must be three capital letters, as in \"EUR\"".to_owned()),
    },
    show: String::clone,
    secret: false,
};
