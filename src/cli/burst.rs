//! `tidegate burst list|show|export`: each instance with its reason, times and cost.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::Value;

use super::ask::{Target, failed};
use super::service::{ListArgs, cell};
use super::terminal::say;

/// Instances of a running node.
#[derive(Debug, Subcommand)]
pub enum BurstCommand {
    /// List the instances, alive and lately ended, with reason, times and cost.
    ///
    /// Example: tidegate burst list --days 7
    List {
        #[command(flatten)]
        list: ListArgs,
        /// All that the journal knows of so many days.
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// Show one instance, member by member.
    ///
    /// Example: tidegate burst show gateway-7-3-09ab12cd
    Show {
        /// The launch id, or the beginning of it.
        launch: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Write every instance as a line of CSV (RFC 4180), for a spreadsheet or an invoice.
    ///
    /// Example: tidegate burst export --csv --days 31 > bursts.csv
    Export {
        /// Comma-separated values with a header; the one format that there is.
        #[arg(long, required = true)]
        csv: bool,
        /// How far back.
        #[arg(long, value_name = "N", default_value_t = WHOLE_JOURNAL_DAYS)]
        days: u32,
        #[command(flatten)]
        target: Target,
    },
}

/// As far back as a console goes.
const WHOLE_JOURNAL_DAYS: u32 = 3_653;

const LISTED: [&str; 8] = ["launch", "service", "adapter", "state", "started_at", "ended_at", "cost", "reason"];
const EXPORTED: [&str; 14] = [
    "launch",
    "node",
    "session",
    "service",
    "adapter",
    "state",
    "started_at",
    "ready_at",
    "ended_at",
    "price_per_hour",
    "cost",
    "currency",
    "reason",
    "end_reason",
];

impl BurstCommand {
    pub(super) fn run(self) -> ExitCode {
        let done = match self {
            Self::List { list, days } => {
                let path = days.map_or_else(|| "/api/v1/bursts".to_owned(), path);
                return list.run(&path, &LISTED);
            }
            Self::Show { launch, list } => show(&launch, &list),
            Self::Export { csv: _, days, target } => export(days, &target),
        };
        match done {
            Ok(text) => {
                say!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    }
}

/// Every instance that the node knows of so many days.
pub(super) fn history(target: &Target, days: u32) -> anyhow::Result<Vec<Value>> {
    target.get(&path(days))
}

fn path(days: u32) -> String {
    format!("/api/v1/bursts?days={days}")
}

fn show(launch: &str, list: &ListArgs) -> anyhow::Result<String> {
    let all = history(&list.target, WHOLE_JOURNAL_DAYS)?;
    let named = |burst: &&Value| burst["launch"].as_str().is_some_and(|id| id.starts_with(launch));
    let found: Vec<&Value> = all.iter().filter(named).collect();
    let exact = found.iter().find(|burst| burst["launch"] == launch);
    match (exact, found.as_slice()) {
        (Some(burst), _) | (None, [burst]) => Ok(shown(burst, list.json)),
        (None, []) => bail!("this node knows no instance {launch}; `tidegate burst list --days 30` lists them"),
        (None, several) => bail!("{} instances begin with {launch}; name one of them whole", several.len()),
    }
}

fn shown(burst: &Value, json: bool) -> String {
    if json {
        return burst.to_string();
    }
    let members = burst.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name:<18} {}", cell(value))).collect::<Vec<_>>().join("\n")
}

fn export(days: u32, target: &Target) -> anyhow::Result<String> {
    Ok(csv(&history(target, days)?))
}

fn csv(bursts: &[Value]) -> String {
    let line = |burst: &Value| EXPORTED.map(|column| field(&burst[column])).join(",");
    let lines = bursts.iter().map(line);
    std::iter::once(EXPORTED.join(",")).chain(lines).collect::<Vec<_>>().join("\r\n")
}

/// A field is quoted where it holds what separates fields. What a spreadsheet would take for a formula gets a quote before
/// it: reasons hold what providers said.
fn field(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => return other.to_string(),
    };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn burst() -> Value {
        json!({"launch": "gw-1", "node": "gw", "session": 3, "service": "digits", "adapter": "cloud", "state": "ended",
               "started_at": "2026-01-01T00:00:00.000Z", "ready_at": null, "ended_at": "2026-01-01T01:00:00.000Z",
               "price_per_hour": 0.4, "cost": 0.4, "currency": "EUR", "reason": "load", "end_reason": "no image \"x\", they said"})
    }

    #[test]
    fn a_csv_has_a_header_and_quotes_what_separates_fields() {
        let text = csv(&[burst()]);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], EXPORTED.join(","));
        assert_eq!(
            lines[1],
            "gw-1,gw,3,digits,cloud,ended,2026-01-01T00:00:00.000Z,,2026-01-01T01:00:00.000Z,0.4,0.4,EUR,\
             load,\"no image \"\"x\"\", they said\""
        );
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_only_text() {
        assert_eq!(field(&json!("=HYPERLINK(1)")), "'=HYPERLINK(1)");
        assert_eq!(field(&json!(-0.5)), "-0.5");
    }

    #[test]
    fn an_instance_is_a_line_of_the_list() {
        assert!(
            crate::cli::service::rows(&json!([burst()]), &LISTED)
                .lines()
                .nth(1)
                .unwrap()
                .starts_with("gw-1    digits   cloud    ended")
        );
    }
}
