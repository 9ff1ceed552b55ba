//! `tidegate service why`: one decision in words.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use serde_json::Value;

use crate::cli::ask::{Target, failed};
use crate::cli::terminal::say;
use crate::host::clock::{rfc3339, unix_ms_now};
use crate::wire::CALENDAR_BEGINS;

/// Which decision.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service.
    name: String,
    /// When: a date (2026-11-26T03:12:00Z), a time of the last day (03:12 UTC), or so long ago (10m). Now, unless given.
    #[arg(value_parser = moment)]
    time: Option<i64>,
    #[command(flatten)]
    target: Target,
    /// The node's JSON as it is.
    #[arg(long)]
    json: bool,
}

const DAY: Duration = Duration::from_hours(24);

/// A moment in Unix milliseconds.
fn moment(text: &str) -> Result<i64, String> {
    let now = Duration::from_millis(u64::try_from(unix_ms_now()).unwrap_or(0));
    let at = if let Ok(ago) = humantime::parse_duration(text) {
        now.saturating_sub(ago)
    } else if let Some(of_day) = time_of_day(text) {
        let midnight = Duration::from_secs(now.as_secs() / DAY.as_secs() * DAY.as_secs());
        let today = midnight + of_day;
        if today <= now { today } else { today.saturating_sub(DAY) }
    } else {
        let date =
            humantime::parse_rfc3339_weak(text).ok().and_then(|date: SystemTime| date.duration_since(UNIX_EPOCH).ok());
        date.ok_or_else(|| format!("{text:?} is no time: write 2026-11-26T03:12:00Z, 03:12 or 10m"))?
    };
    i64::try_from(at.as_millis()).map_err(|_| format!("{text:?} is too far away"))
}

/// `03:12` or `03:12:30`.
fn time_of_day(text: &str) -> Option<Duration> {
    let parts: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    match parts?.as_slice() {
        [hours @ 0..24, minutes @ 0..60] => Some(Duration::from_secs(hours * 3600 + minutes * 60)),
        [hours @ 0..24, minutes @ 0..60, seconds @ 0..60] => {
            Some(Duration::from_secs(hours * 3600 + minutes * 60 + seconds))
        }
        _ => None,
    }
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        match self.explain() {
            Ok(words) => say!("{words}"),
            Err(error) => return failed(&error),
        }
        ExitCode::SUCCESS
    }

    fn explain(&self) -> anyhow::Result<String> {
        let services: Vec<Value> = self.target.get("/api/v1/services")?;
        let names: Vec<&str> = services.iter().filter_map(|service| service["name"].as_str()).collect();
        let Some(service) = services.iter().find(|service| service["name"] == *self.name) else {
            bail!("there is no service {:?}; there are: {}", self.name, names.join(", "));
        };
        let decisions: Vec<Value> = match self.time {
            None => self.target.get("/api/v1/decisions")?,
            Some(_) => self.target.get(&format!("/api/v1/decisions?service={}", self.name))?,
        };
        // One that wants a count: what replaces a replica is told by the same kind of event.
        let is_mine =
            |decision: &&Value| decision["data"]["service"] == *self.name && decision["data"]["wanted"].is_number();
        let mine: Vec<&Value> = decisions.iter().filter(is_mine).collect();
        match self.time {
            None => Ok(if self.json { service.to_string() } else { in_force(service, mine.last().copied()) }),
            Some(at) => self.at(&rfc3339(at), &mine),
        }
    }

    /// The last decision before a time that changed something; such texts compare as the times do.
    fn at(&self, at: &str, mine: &[&Value]) -> anyhow::Result<String> {
        let time = |decision: &Value| decision["time"].as_str().unwrap_or_default().to_owned();
        let is_before = |decision: &&Value| (CALENDAR_BEGINS..=at).contains(&time(decision).as_str());
        let Some(last) = mine.iter().rposition(is_before) else {
            let known = mine.first().map_or_else(
                || "it has decided nothing yet".to_owned(),
                |first| format!("what it still knows begins at {}", time(first)),
            );
            bail!("the node does not know what it decided for {:?} before {at}: {known}", self.name);
        };
        if self.json {
            return Ok(mine[last].to_string());
        }
        let until = mine.get(last + 1).map_or_else(|| "none yet".to_owned(), |next| time(next));
        Ok(format!(
            "{}\n  the last change of replicas before that time, at {}; the next one: {until}",
            sentence(mine[last]),
            time(mine[last])
        ))
    }
}

fn sentence(decision: &Value) -> &str {
    decision["data"]["reason"].as_str().unwrap_or("it is not said why")
}

fn in_force(service: &Value, last: Option<&Value>) -> String {
    let count = |key: &str| service[key].as_u64().unwrap_or(0);
    let mut words = format!(
        "wanted: {}; {}\n  there: {} ready here, {} ready at providers, {} starting, {} draining, {} failed\n  asked: \
         {} being answered, {} waiting",
        count("wanted"),
        service["reason"].as_str().unwrap_or("it is not said why"),
        count("ready_local"),
        count("ready_cloud"),
        count("starting_local") + count("starting_cloud"),
        count("draining"),
        count("failed"),
        count("in_flight"),
        count("queued"),
    );
    if let Some(last) = last {
        words += &format!("\n  last change, {}: {}", last["time"].as_str().unwrap_or_default(), sentence(last));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_a_date_a_time_of_day_or_so_long_ago() {
        assert_eq!(moment("2026-11-26T03:12:00Z"), Ok(1_795_662_720_000));
        assert_eq!(moment("2026-11-26 03:12:00"), Ok(1_795_662_720_000));
        let now = unix_ms_now();
        let ago = |text: &str| now - moment(text).unwrap();
        assert!((599_000..=600_500).contains(&ago("10m")), "{}", ago("10m"));
        for text in ["00:00", "23:59:59", "03:12"] {
            assert!((0..=86_400_000).contains(&ago(text)), "{text}: {}", ago(text));
        }
        for wrong in ["", "soon", "24:00", "3", "03:60", "03:12:99", "1:2:3:4", "-5m"] {
            assert!(moment(wrong).is_err(), "{wrong:?}");
        }
    }
}
