//! `tidegate status`: how a node is, in five lines.

use std::process::ExitCode;

use serde_json::Value;

use super::ask::{Target, failed};
use super::terminal::say;

/// Say in five lines how a running node is.
///
/// Example: tidegate status --console http://127.0.0.1:8081
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// One JSON object with all that the lines are made from.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        match self.answer() {
            Ok(text) => {
                say!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    }

    fn answer(&self) -> anyhow::Result<String> {
        let node: Value = self.target.get("/api/v1/node")?;
        let services: Vec<Value> = self.target.get("/api/v1/services")?;
        let spend: Value = self.target.get("/api/v1/spend")?;
        if self.json {
            return Ok(serde_json::json!({ "node": node, "services": services, "spend": spend }).to_string());
        }
        let lines = [about(&node), reach(&node), load(&node), scaling(&services), money(&node, &spend)];
        Ok(lines.into_iter().chain(not_taken_up(&node)).collect::<Vec<_>>().join("\n"))
    }
}

fn about(node: &Value) -> String {
    let ready = if flag(node, "ready") { "ready" } else { "not ready" };
    let uptime = std::time::Duration::from_secs(node["uptime_s"].as_u64().unwrap_or(0));
    format!(
        "node     {} of fleet {}, session {}, version {}: {ready}, up {}, credential until {}",
        text(node, "node"),
        text(node, "fleet"),
        node["session"],
        text(node, "version"),
        humantime::format_duration(uptime),
        text(node, "credential_ends_at").split('T').next().unwrap_or_default()
    )
}

/// Only where somebody has changed the configuration, and in vain.
fn not_taken_up(node: &Value) -> Option<String> {
    let problems = node["config"]["problems"].as_array().filter(|problems| !problems.is_empty())?;
    let told: Vec<&str> = problems.iter().filter_map(Value::as_str).collect();
    Some(format!("config   NOT taken up, the former stays in force: {}", told.join("; ")))
}

fn reach(node: &Value) -> String {
    // The embedded broker's is an address, that of one elsewhere has its scheme already.
    let scheme = |address: &str| if address.contains("://") { "" } else { "mqtt://" };
    let broker = node["mqtt"].as_str().map(|address| format!("{}{address}", scheme(address)));
    let broker = match (broker, flag(node, "broker_connected")) {
        (None, _) => "off".to_owned(),
        (Some(broker), true) => format!("{broker} connected"),
        (Some(broker), false) => format!("{broker} NOT connected (serving goes on): {}", unreached(node)),
    };
    let (gateway, console) = (text(node, "gateway"), text(node, "console"));
    format!("reach    gateway http://{gateway}, console http://{console}, {broker}{}", uplink(node))
}

/// The fleet's broker, where one is named.
fn uplink(node: &Value) -> String {
    let links = node["telemetry"]["links"].as_array();
    let Some(link) = links.and_then(|links| links.iter().find(|link| link["link"] == "uplink")) else {
        return String::new();
    };
    match flag(link, "connected") {
        true => format!(", uplink {} connected", text(link, "broker")),
        false => format!(", uplink NOT connected: {}", link["last_error"].as_str().unwrap_or("not reached yet")),
    }
}

/// Why, and what waits on disk.
fn unreached(node: &Value) -> String {
    let telemetry = &node["telemetry"];
    let why = telemetry["links"][0]["last_error"].as_str().unwrap_or("not reached yet");
    let events = telemetry["spool"]["events"].as_object().into_iter().flat_map(|links| links.values());
    match events.filter_map(Value::as_u64).max().unwrap_or(0) {
        0 => why.to_owned(),
        events => format!("{why}; {events} events wait on disk"),
    }
}

fn load(node: &Value) -> String {
    let load = &node["load"];
    let percent = |key: &str| load[key].as_f64().map_or("-".to_owned(), |part| format!("{:.0} %", part * 100.0));
    format!(
        "load     cpu {}, memory {}, network {}, {:.1} requests/s, {} in flight, {} queued",
        percent("cpu"),
        percent("memory"),
        percent("network"),
        load["requests_per_s"].as_f64().unwrap_or(0.0),
        load["in_flight"].as_u64().unwrap_or(0),
        load["queued"].as_u64().unwrap_or(0)
    )
}

fn scaling(services: &[Value]) -> String {
    let all = services.iter().map(|service| {
        format!(
            "{}: {} local + {} cloud ready of {} wanted ({})",
            text(service, "name"),
            service["ready_local"],
            service["ready_cloud"],
            service["wanted"],
            text(service, "reason")
        )
    });
    format!("services {}", all.collect::<Vec<_>>().join("; "))
}

fn money(node: &Value, spend: &Value) -> String {
    let amount = |key: &str| spend[key].as_f64().unwrap_or(0.0);
    let limit = |key: &str| spend[key].as_f64().map_or(String::new(), |limit| format!(" of {limit:.4}"));
    let forbidden = if flag(node, "no_cloud") { "; TIDEGATE_NO_CLOUD is set: no instance is launched" } else { "" };
    format!(
        "spend    {:.4}{} in the last hour, {:.4}{} in the last day, {:.4} committed, {}{forbidden}",
        amount("hour"),
        limit("limit_hour"),
        amount("day"),
        limit("limit_day"),
        amount("committed"),
        text(spend, "currency")
    )
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or(false)
}
