//! A provider on the command line.

use std::time::Duration;

use super::{not_negative, positive, share, spread, time};
use crate::simulate::engine::{ColdStart, Provider};

const WORDS: &str = "name, price, cold-start, spread, minimum-billing, failures and capacity";

/// Reads `name=spot,price=0.3,cold-start=90s`.
pub(super) fn parse(text: &str) -> Result<Provider, String> {
    let mut provider = Provider {
        name: String::new(),
        price_per_hour: 0.0,
        minimum_billing: Duration::ZERO,
        cold_start: ColdStart { median: Duration::from_secs(60), spread: 0.0 },
        failures: 0.0,
        capacity: u32::MAX,
    };
    for word in text.split(',') {
        let (key, value) =
            word.split_once('=').ok_or_else(|| format!("{word:?} is no key=value; there are {WORDS}"))?;
        let told = |problem: String| format!("{key}: {problem}");
        match key.trim() {
            "name" => provider.name = value.trim().to_owned(),
            "price" => provider.price_per_hour = positive(value).map_err(told)?,
            "cold-start" => provider.cold_start.median = time(value).map_err(told)?,
            "spread" => provider.cold_start.spread = spread(value).map_err(told)?,
            "minimum-billing" => provider.minimum_billing = time(value).map_err(told)?,
            "failures" => provider.failures = share(value).map_err(told)?,
            "capacity" => {
                let most = not_negative(value).map_err(told)?;
                provider.capacity = value.parse().map_err(|_| format!("capacity: {most} is no whole number"))?;
            }
            other => return Err(format!("{other:?} is not known; there are {WORDS}")),
        }
    }
    match (provider.name.is_empty(), provider.price_per_hour > 0.0) {
        (false, true) => Ok(provider),
        (true, _) => Err("a provider needs a name, as in name=spot,price=0.3".to_owned()),
        (_, false) => Err(format!("{} needs a price for an hour, as in price=0.3", provider.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_read_with_what_is_said_of_it() {
        let spot = parse("name=spot,price=0.3,cold-start=90s,spread=0.4,minimum-billing=1m,failures=0.05,capacity=4");
        let expected = Provider {
            name: "spot".to_owned(),
            price_per_hour: 0.3,
            minimum_billing: Duration::from_secs(60),
            cold_start: ColdStart { median: Duration::from_secs(90), spread: 0.4 },
            failures: 0.05,
            capacity: 4,
        };
        assert_eq!(spot, Ok(expected));
        assert_eq!(parse("name=x,price=1").map(|x| x.capacity), Ok(u32::MAX));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, said) in [
            ("", "is no key=value; there are name, price"),
            ("price=1", "a provider needs a name"),
            ("name=x", "x needs a price"),
            ("name=x,price=0", "price: it must be above 0"),
            ("name=x,price=NaN", "price: \"NaN\" is not a finite number"),
            ("name=x,price=1,capacity=2.5", "capacity: 2.5 is no whole number"),
            ("name=x,price=1,failures=7", "failures: it must be at most 1"),
            ("name=x,price=1,cold-start=soon", "cold-start: "),
            ("name=x,price=1,region=eu", "\"region\" is not known; there are name, price"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
