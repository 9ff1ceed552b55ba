//! `tidegate spend`: what was spent, what the budget leaves, and who it went to.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::ask::failed;
use super::burst;
use super::service::{ListArgs, rows};
use super::terminal::say;

/// Show what was spent, and what the budget leaves.
///
/// Example: tidegate spend --by service,adapter,day --days 31
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    list: ListArgs,
    /// Sum up the instances by these, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KEYS")]
    by: Vec<Key>,
    /// How far back the sums go.
    #[arg(long, value_name = "N", default_value_t = 31, requires = "by")]
    days: u32,
}

/// What instances may be summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Key {
    Service,
    Adapter,
    /// The day (UTC) on which it was asked for.
    Day,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Adapter => "adapter",
            Self::Day => "day",
        }
    }

    fn of(self, burst: &Value) -> String {
        let member = |name: &str| burst[name].as_str().unwrap_or_default().to_owned();
        match self {
            Self::Service | Self::Adapter => member(self.name()),
            Self::Day => member("started_at").chars().take(10).collect(),
        }
    }
}

const SPEND: [&str; 6] = ["currency", "hour", "limit_hour", "day", "limit_day", "committed"];

impl Args {
    pub(super) fn run(self) -> ExitCode {
        if self.by.is_empty() {
            return self.list.run("/api/v1/spend", &SPEND);
        }
        match burst::history(&self.list.target, self.days) {
            Ok(bursts) => {
                let sums = sums(&bursts, &self.by);
                let columns: Vec<&str> =
                    self.by.iter().map(|key| key.name()).chain(["instances", "hours", "cost", "currency"]).collect();
                say!("{}", if self.list.json { sums.to_string() } else { rows(&sums, &columns) });
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    }
}

/// One object for each combination, in order; amounts of different currencies are never added up.
fn sums(bursts: &[Value], by: &[Key]) -> Value {
    let mut groups: BTreeMap<(Vec<String>, String), (u64, f64, f64)> = BTreeMap::new();
    for burst in bursts {
        let keys = by.iter().map(|key| key.of(burst)).collect();
        let currency = burst["currency"].as_str().unwrap_or_default().to_owned();
        let group = groups.entry((keys, currency)).or_default();
        group.0 += 1;
        group.1 += hours(burst);
        group.2 += burst["cost"].as_f64().unwrap_or_default();
    }
    let object = |((keys, currency), (instances, hours, cost)): ((Vec<String>, String), (u64, f64, f64))| {
        let mut object: Map<String, Value> =
            by.iter().map(|key| key.name().to_owned()).zip(keys.into_iter().map(Value::from)).collect();
        object.extend([
            ("instances".to_owned(), json!(instances)),
            ("hours".to_owned(), json!(hours)),
            ("cost".to_owned(), json!(cost)),
            ("currency".to_owned(), json!(currency)),
        ]);
        Value::Object(object)
    };
    Value::Array(groups.into_iter().map(object).collect())
}

/// How long it lived, until now if it still does.
fn hours(burst: &Value) -> f64 {
    let time = |name: &str| burst[name].as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
    let Some(started) = time("started_at") else { return 0.0 };
    let ended = time("ended_at").unwrap_or_else(std::time::SystemTime::now);
    ended.duration_since(started).unwrap_or_default().as_secs_f64() / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(service: &str, day: u32, cost: f64, currency: &str) -> Value {
        json!({"service": service, "adapter": "cloud", "cost": cost, "currency": currency,
               "started_at": format!("2026-01-{day:02}T10:00:00Z"), "ended_at": format!("2026-01-{day:02}T11:30:00Z")})
    }

    #[test]
    fn instances_are_summed_up_by_what_is_asked_for() {
        let bursts = [burst("a", 1, 0.5, "EUR"), burst("a", 2, 0.25, "EUR"), burst("b", 1, 1.0, "EUR")];
        let by_service = sums(&bursts, &[Key::Service]);
        assert_eq!(
            by_service[0],
            json!({"service": "a", "instances": 2, "hours": 3.0, "cost": 0.75, "currency": "EUR"})
        );
        assert_eq!(by_service[1]["cost"], 1.0);
        let by_both = sums(&bursts, &[Key::Day, Key::Service]);
        let order: Vec<_> = by_both.as_array().unwrap().iter().map(|sum| (&sum["day"], &sum["service"])).collect();
        assert_eq!(
            order,
            [
                (&json!("2026-01-01"), &json!("a")),
                (&json!("2026-01-01"), &json!("b")),
                (&json!("2026-01-02"), &json!("a"))
            ]
        );
    }

    #[test]
    fn currencies_are_not_added_up() {
        let bursts = [burst("a", 1, 0.5, "EUR"), burst("a", 1, 0.5, "USD")];
        assert_eq!(sums(&bursts, &[Key::Service]).as_array().unwrap().len(), 2);
    }
}
