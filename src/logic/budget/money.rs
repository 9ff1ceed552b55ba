//! Amounts, and how a provider bills.

use std::fmt;
use std::time::Duration;

/// Millionths in one unit of the currency.
const MICROS: i64 = 1_000_000;

/// Nanoseconds in the hour that prices are for.
const HOUR_NANOS: u64 = 3_600_000_000_000;

/// An amount of the configured currency, in millionths of its unit; never negative. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From millionths; what is negative becomes nothing.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.max(0))
    }

    /// From units, to the nearest millionth. `None` for what is negative, no number, or beyond nine million million.
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within range by the check")]
    pub fn from_units(units: f64) -> Option<Self> {
        let micros = (units * 1e6).round();
        (0.0..9e18).contains(&micros).then_some(Self(micros as i64))
    }

    /// In millionths.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// In units, for showing and comparing; not for sums.
    #[expect(clippy::cast_precision_loss, reason = "for showing")]
    pub fn units(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or nothing.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// How many times a price fits into the amount.
    pub fn holds(self, price: Self) -> u32 {
        match self.0.checked_div(price.0) {
            Some(times) => u32::try_from(times).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }
}

impl fmt::Display for Money {
    /// Two decimals, more where there are more: 2.00, 0.4125.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / MICROS, self.0 % MICROS);
        let cents = text.len() - 4;
        let shown = cents + text[cents..].trim_end_matches('0').len();
        f.write_str(&text[..shown])
    }
}

/// Nanoseconds; what is longer than five centuries counts as that.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How a provider bills an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The price.
    pub price_per_hour: Money,
    /// Billed at least, from the start.
    pub minimum_billing: Duration,
    /// Billed in whole steps of this; zero for exactly what was used.
    pub billing_step: Duration,
}

impl Terms {
    /// What an instance costs that has ended after `life`.
    pub fn cost(&self, life: Duration) -> Money {
        let (used, step) = (nanos(life), nanos(self.billing_step));
        self.price(if step == 0 { used } else { used.div_ceil(step).saturating_mul(step) })
    }

    /// How long an instance lived that has cost so much, which was counted by a better clock than the dates that say `life`.
    pub fn life(&self, life: Duration, cost: Money) -> Duration {
        if self.price_per_hour <= Money::ZERO {
            return life;
        }
        let paid_nanos = i128::from(cost.0) * i128::from(HOUR_NANOS) / i128::from(self.price_per_hour.0);
        let paid = Duration::from_nanos(u64::try_from(paid_nanos).unwrap_or(u64::MAX));
        if life > paid || self.cost(life) < cost { paid } else { life }
    }

    /// What has fallen due of an instance that has run for `elapsed` and goes on: a step counts when it begins.
    pub(super) fn due(&self, elapsed: Duration) -> Money {
        let (used, step) = (nanos(elapsed), nanos(self.billing_step));
        self.price(used.checked_div(step).map_or(used, |over| over.saturating_add(1).saturating_mul(step)))
    }

    /// The price of billed nanoseconds, rounded up. Each look at the budget asks this several times an instance, and
    /// nearly every product fits into 64 bits, whose division is many times faster.
    fn price(&self, billed: u64) -> Money {
        let billed = billed.max(nanos(self.minimum_billing));
        let product = u128::from(billed) * u128::from(self.price_per_hour.0.unsigned_abs());
        let micros = u64::try_from(product)
            .map_or_else(|_| product.div_ceil(u128::from(HOUR_NANOS)), |product| product.div_ceil(HOUR_NANOS).into());
        Money(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}
