//! The providers' bill, computed from when instances really lived: what the budget must never let exceed its caps.
//!
//! Checked where clocks run right: an hour of a clock that runs at half speed is two. Three things are beyond what the
//! ledger can know, and are left out of the sum: what a provider's list denied while it lived, what a launch that had
//! timed out began minutes later, and what lived on because its box was suspended. A charge falls due when the wrapper
//! begins and the ledger counts it from the intent, so the windows are shorter by the longest time between the two.

use std::time::Duration;

use crate::instance::Instance;
use crate::logic::budget::{Money, Terms, Window};
use crate::world::World;

impl World {
    /// The caps hold for what the providers charged in the window that ends now.
    pub(crate) fn check_bill(&mut self) {
        if self.scenario.skewed {
            return;
        }
        for window in Window::ALL {
            let Some(limit) = self.scenario.caps.limit(window) else { continue };
            let known = self.watch.longest_start();
            let from = self.now.checked_sub(window.length().saturating_sub(known));
            let bill = self.charged(from);
            if bill > limit {
                let window = window.as_str();
                return self.fail(format!("the providers charged {bill} within {window}, of {limit} allowed"));
            }
        }
    }

    fn charged(&self, from: Option<Duration>) -> Money {
        let adapters = self.scenario.adapters.iter();
        let instances =
            adapters.filter_map(|(name, adapter)| Some((adapter.settings.terms, self.providers.get(name)?)));
        let instances = instances.flat_map(|(terms, p)| p.instances.values().map(move |instance| (terms, instance)));
        let ours = instances.filter(|(_, instance)| !instance.label.foreign && instance.excuse.is_none());
        let charge = |(terms, instance): (Terms, &Instance)| {
            let before = from.map_or(Money::ZERO, |from| due(terms, instance, from));
            due(terms, instance, self.now).minus(before)
        };
        ours.map(charge).fold(Money::ZERO, Money::plus)
    }
}

/// What of an instance has been charged by then: a step when it begins, the rest when it ends.
fn due(terms: Terms, instance: &Instance, at: Duration) -> Money {
    let begun = instance.begins_at;
    match instance.ended_at {
        _ if at < begun => Money::ZERO,
        // It ended before its wrapper began: nothing ran.
        Some(end) if end <= begun => Money::ZERO,
        Some(end) if end <= at => charge(terms, (end - begun).as_nanos()),
        _ if terms.billing_step.is_zero() => charge(terms, (at - begun).as_nanos()),
        _ => charge(terms, (at - begun).as_nanos() + 1),
    }
}

/// What providers charge for so many nanoseconds: whole steps, at least the minimum, a part of a millionth as a whole one.
/// Computed here and not by the ledger's own arithmetic, which it is held against.
fn charge(terms: Terms, life: u128) -> Money {
    const HOUR: u128 = 3_600_000_000_000;
    let step = terms.billing_step.as_nanos().max(1);
    let billed = (life.div_ceil(step) * step).max(terms.minimum_billing.as_nanos());
    let price = u128::try_from(terms.price_per_hour.micros()).unwrap_or(0);
    let micros = (billed * price).div_ceil(HOUR);
    Money::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
