//! `tidegate simulate --replay`: asks a node's policies again what they were asked.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::EXIT_USAGE;
use crate::cli::terminal::{complain, say, table};
use crate::host::clock::rfc3339;
use crate::journal::{Kept, recordings_at};
use crate::logic::record::{Recording, Replayed};

/// One decision that is told.
struct Told {
    at: String,
    wanted: u32,
    why: String,
    /// What is decided now, where that differs.
    now: Option<(u32, String)>,
}

/// Replays a file or a folder of them. Decisions that changed nothing are left out, unless another one is made now.
pub(super) fn run(path: &Path, json: bool) -> ExitCode {
    let replayed = recordings_at(path).map_err(|error| format!("{}: {error}", path.display())).and_then(|paths| {
        if paths.is_empty() {
            return Err(format!("{}: there is no recording in it (a file that ends in .rec)", path.display()));
        }
        let (read, wrong): (Vec<_>, Vec<_>) = paths.iter().map(|path| replay(path)).partition(Result::is_ok);
        let problems: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
        if read.is_empty() {
            return Err(problems.join("\n"));
        }
        problems.iter().for_each(|problem| complain!("{problem}; left out"));
        Ok(read.into_iter().filter_map(Result::ok).collect::<Vec<_>>())
    });
    let recordings = match replayed {
        Ok(recordings) => recordings,
        Err(problem) => {
            complain!("error: {problem}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let asked: usize = recordings.iter().map(|(asked, _)| asked).sum();
    let told: Vec<Told> = recordings.into_iter().flat_map(|(_, told)| told).collect();
    let others = told.iter().filter(|one| one.now.is_some()).count();
    if json {
        say!("{}", Value::Array(told.iter().map(object).collect()));
    } else {
        let rows: Vec<_> = told.iter().map(row).collect();
        say!("{}", table(&["AT", "WANTED", "WHY", "NOW"], &rows));
        let same =
            if others == 0 { "all of them the same again".to_owned() } else { format!("{others} of them others now") };
        say!("{asked} decisions, {same}");
    }
    if others == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many questions it has, and what is to be told of the answers.
fn replay(path: &Path) -> Result<(usize, Vec<Told>), String> {
    let named = |problem: &str| format!("{}: {problem}", path.display());
    let kept = Kept::read(path).map_err(|error| named(&error.to_string()))?;
    let unknown = || named("it is no recording of a node of this version");
    let kept = kept.ok_or_else(unknown)?;
    let recording = Recording::from_bytes(&kept.bytes).ok_or_else(unknown)?;
    let replayed = recording.replay().ok_or_else(unknown)?;
    let mut before = None;
    let told = replayed.iter().filter(|one| {
        let is_new = before.replace(one.entry.wanted) != Some(one.entry.wanted);
        is_new || !one.is_same()
    });
    Ok((replayed.len(), told.map(|one| tell(&kept, one)).collect()))
}

fn tell(kept: &Kept, one: &Replayed<'_>) -> Told {
    let now = (!one.is_same()).then(|| (one.decision.wanted, one.decision.reason.to_string()));
    let at = rfc3339(kept.unix_ms(one.entry.now));
    Told { at, wanted: one.entry.wanted, why: one.entry.why.clone(), now }
}

fn object(told: &Told) -> Value {
    let now = told.now.as_ref().map(|(wanted, why)| json!({ "wanted": wanted, "why": why }));
    json!({ "at": told.at, "wanted": told.wanted, "why": told.why, "same": now.is_none(), "now": now })
}

fn row(told: &Told) -> Vec<String> {
    let now = told.now.as_ref().map_or_else(|| "the same".to_owned(), |(wanted, why)| format!("{wanted}: {why}"));
    vec![told.at.clone(), told.wanted.to_string(), told.why.clone(), now]
}
