//! Recorded traces: comma-separated values, the format of the Azure traces of language models, and a web server's access log.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::trace::{Request, Trace};

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A time on each line, and the work of the request after a comma where it is known, in seconds.
    Csv,
    /// `TIMESTAMP,ContextTokens,GeneratedTokens`; the work is a 4,000th of a second for each token of the context and 30 ms for each
    /// that was generated.
    AzureLlm,
    /// A line of a web server's log for each request, with its time in square brackets.
    AccessLog,
}

impl Format {
    /// What they are called.
    pub const NAMES: [&str; 3] = ["csv", "azure-llm", "access-log"];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "csv" => Ok(Self::Csv),
            "azure-llm" => Ok(Self::AzureLlm),
            "access-log" => Ok(Self::AccessLog),
            other => Err(format!("there is no format {other:?}; there are {}", Self::NAMES.join(", "))),
        }
    }
}

/// Why a trace cannot be played.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// From 1; 0 for the whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

/// A trace, and what was noticed while it was read.
#[derive(Debug, PartialEq)]
pub struct Reading {
    /// What was read.
    pub trace: Trace,
    /// How many requests stood after one that came later.
    pub out_of_order: usize,
}

/// A pause of a month or longer is a wrong date or unit rather than a pause.
const LONGEST_PAUSE: f64 = 30.0 * 86_400.0;
/// No request is worked on for a day.
const MOST_WORK: f64 = 86_400.0;
/// Times beyond the year 5138 are in smaller units than seconds.
const LATEST: f64 = 1e11;

/// Reads a trace. Requests whose work is not told take `work`.
pub fn read(text: &str, format: Format, work: Duration) -> Result<Reading, Unreadable> {
    // Spreadsheets begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let mut requests: Vec<(usize, f64, f64)> = Vec::new();
    for (number, line) in lines {
        let parsed = match format {
            Format::Csv => of_csv(line, work),
            Format::AzureLlm => of_azure(line),
            Format::AccessLog => of_log(line).map(|at| (at, work.as_secs_f64())),
        };
        match parsed.and_then(|(at, work)| Ok((sane_time(at)?, sane_work(work)?))) {
            Ok((at, work)) => requests.push((number, at, work)),
            // The first line may name the columns.
            Err(_) if requests.is_empty() && number == 1 && format != Format::AccessLog && is_heading(line) => {}
            Err(what) => return Err(Unreadable { line: number, what }),
        }
    }
    assemble(requests)
}

fn assemble(mut requests: Vec<(usize, f64, f64)>) -> Result<Reading, Unreadable> {
    let whole = |what: &str| Unreadable { line: 0, what: what.to_owned() };
    if requests.is_empty() {
        return Err(whole("the trace is empty: there is no request in it"));
    }
    let out_of_order = requests.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
    requests.sort_by(|a, b| a.1.total_cmp(&b.1));
    for pair in requests.windows(2) {
        let pause = pair[1].1 - pair[0].1;
        if pause > LONGEST_PAUSE {
            let days = pause / 86_400.0;
            let what = format!(
                "lies {days:.0} days after the request before it (line {}): correct its time or its unit, which is seconds, or cut the trace there",
                pair[0].0
            );
            return Err(Unreadable { line: pair[1].0, what });
        }
    }
    let (first, last) = (requests[0].1, requests[requests.len() - 1].1);
    if last <= first {
        return Err(whole("all requests of the trace have the same time: there must be two that differ"));
    }
    let request = |(_, at, work): &(usize, f64, f64)| Request {
        at: Duration::from_secs_f64(at - first),
        work: Duration::from_secs_f64(*work),
    };
    let trace = Trace::new(requests.iter().map(request).collect(), Duration::from_secs_f64(last - first));
    Ok(Reading { trace, out_of_order })
}

fn is_heading(line: &str) -> bool {
    let first = line.split(',').next().unwrap_or_default().trim().trim_matches('"');
    first.starts_with(|letter: char| letter.is_alphabetic()) && first.parse::<f64>().is_err()
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|field| field.trim().trim_matches('"'))
}

fn of_csv(line: &str, work: Duration) -> Result<(f64, f64), String> {
    let mut fields = fields(line);
    let at = time(fields.next().unwrap_or_default())?;
    let work = match fields.next().filter(|field| !field.is_empty()) {
        Some(field) => field.parse().map_err(|_| format!("the work {field:?} is not a number of seconds"))?,
        None => work.as_secs_f64(),
    };
    Ok((at, work))
}

fn of_azure(line: &str) -> Result<(f64, f64), String> {
    let mut fields = fields(line);
    let at = time(fields.next().unwrap_or_default())?;
    let mut tokens = |name: &str| {
        let field =
            fields.next().ok_or_else(|| format!("{name} is missing (TIMESTAMP,ContextTokens,GeneratedTokens)"))?;
        field.parse::<f64>().map_err(|_| format!("{name} {field:?} is not a number"))
    };
    let (context, generated) = (tokens("ContextTokens")?, tokens("GeneratedTokens")?);
    Ok((at, context / 4000.0 + generated * 0.03))
}

/// The time in square brackets, as in `[10/Oct/2000:13:55:36 -0700]`.
fn of_log(line: &str) -> Result<f64, String> {
    let inside = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside);
    let inside = inside.ok_or("there is no time in square brackets, as in [10/Oct/2000:13:55:36 -0700]")?;
    log_time(inside)
        .or_else(|| time(inside).ok())
        .ok_or_else(|| format!("{inside:?} is not a time like 10/Oct/2000:13:55:36 -0700"))
}

fn log_time(text: &str) -> Option<f64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (stamp, zone) = text.split_once(' ')?;
    let mut parts = stamp.split(['/', ':']);
    let day = parts.next()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (year, hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let utc = humantime::parse_rfc3339_weak(&format!("{year}-{month:02}-{day} {hour}:{minute}:{second}")).ok()?;
    Some(utc.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64() - offset(zone)?)
}

/// By how many seconds a zone as `+0200` or `+02:00` is ahead.
fn offset(zone: &str) -> Option<f64> {
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, zone.strip_prefix('+')?),
    };
    let digits: String = rest.chars().filter(|letter| *letter != ':').collect();
    let is_right = digits.len() == 4 && digits.chars().all(|letter| letter.is_ascii_digit());
    let number = is_right.then(|| digits.parse::<u32>().ok()).flatten()?;
    Some(sign * f64::from(number / 100 * 3600 + number % 100 * 60))
}

/// Seconds, since 1970 or since anything, or a date and a time of day.
fn time(text: &str) -> Result<f64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok(seconds);
    }
    // A zone stands after the time of day; a date has its hyphens before.
    let zone = text.rfind(['+', '-']).filter(|at| text[..*at].contains(':'));
    let (date, ahead) = match zone {
        Some(at) => (&text[..at], offset(&text[at..])),
        None => (text.strip_suffix('Z').unwrap_or(text), Some(0.0)),
    };
    let since =
        humantime::parse_rfc3339_weak(date).ok().and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    since.zip(ahead).map(|(since, ahead)| since.as_secs_f64() - ahead).ok_or_else(|| {
        format!("{text:?} is not a time: seconds, or a date since 1970 as in 2023-11-16 18:17:03.98 or 2023-11-16T18:17:03+02:00")
    })
}

fn sane_time(at: f64) -> Result<f64, String> {
    if !at.is_finite() {
        return Err(format!("the time {at} is not a number"));
    }
    if at.abs() >= LATEST {
        return Err(format!("the time {at:.0} is not in seconds: divide by 1,000 what is in milliseconds"));
    }
    Ok(at)
}

fn sane_work(work: f64) -> Result<f64, String> {
    if !work.is_finite() {
        return Err(format!("the work {work} is not a number of seconds"));
    }
    if work < 0.0 {
        return Err(format!("the work {work} is negative"));
    }
    if work > MOST_WORK {
        return Err(format!("the work of {work:.0} s is longer than a day: it is told in seconds"));
    }
    Ok(work)
}

#[cfg(test)]
mod tests;
