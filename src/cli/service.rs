//! `tidegate service list|why`, and the tables that other commands print too.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::ask::{Target, failed};
use super::terminal::{say, table};

mod why;

/// Services of a running node.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List the services with their replicas and the reason of the last decision.
    ///
    /// Example: tidegate service list
    List(ListArgs),
    /// Explain the decision that is in force, or the last one before a time that changed something: of the node's last 200 events, and of what it
    /// has recorded on its disk before.
    ///
    /// Example: tidegate service why digits 03:12
    Why(why::Args),
}

/// Whom to ask, and how to answer.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// The node's JSON as it is.
    #[arg(long)]
    pub(super) json: bool,
}

const SERVICES: [&str; 6] = ["name", "wanted", "ready_local", "ready_cloud", "in_flight", "reason"];
impl ServiceCommand {
    pub(super) fn run(self) -> ExitCode {
        match self {
            Self::List(list) => list.run("/api/v1/services", &SERVICES),
            Self::Why(why) => why.run(),
        }
    }
}

impl ListArgs {
    pub(super) fn run(&self, path: &str, columns: &[&str]) -> ExitCode {
        match self.target.get::<Value>(path) {
            Ok(answer) if self.json => say!("{answer}"),
            Ok(answer) => say!("{}", rows(&answer, columns)),
            Err(error) => return failed(&error),
        }
        ExitCode::SUCCESS
    }
}

pub(super) fn rows(answer: &Value, columns: &[&str]) -> String {
    let objects = answer.as_array().map_or(std::slice::from_ref(answer), Vec::as_slice);
    let rows: Vec<Vec<String>> =
        objects.iter().map(|object| columns.iter().map(|column| cell(&object[*column])).collect()).collect();
    let header: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
    table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.4}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}
