//! `[budget]`: what bursting may cost.

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
