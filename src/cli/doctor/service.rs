//! The installed service, as systemd sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Finding;

const ABOUT: &str = "service";
const UNIT: &str = "tidegate.service";

/// Nothing where systemd does not run or the unit is not installed: then the node is started by something else.
pub(super) fn look() -> Vec<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Vec::new();
    }
    let Some(unit) = show() else { return Vec::new() };
    let is = |key: &str, value: &str| unit.get(key).is_some_and(|found| found == value);
    if is("LoadState", "not-found") {
        return Vec::new();
    }
    let mut found = vec![state(&unit)];
    if !is("UnitFileState", "enabled") {
        let what = format!("{UNIT} is not started at boot ({})", text(&unit, "UnitFileState"));
        found.push(Finding::warning(ABOUT, what, "systemctl enable tidegate"));
    }
    found.extend(verify());
    found
}

fn state(unit: &BTreeMap<String, String>) -> Finding {
    let state = text(unit, "ActiveState");
    let restarts = text(unit, "NRestarts");
    match (state, text(unit, "Result")) {
        ("active", _) if restarts != "0" => {
            let what = format!("{UNIT} is active, and was started again {restarts} times");
            Finding::warning(ABOUT, what, "look why: journalctl -u tidegate")
        }
        ("active", _) => Finding::ok(ABOUT, format!("{UNIT} is active: {}", text(unit, "StatusText"))),
        (_, "exit-code") if text(unit, "ExecMainStatus") == "2" => Finding::problem(
            ABOUT,
            format!("{UNIT} ended with exit code 2: the configuration, or a model, is wrong"),
            "journalctl -u tidegate -n 30 lists every problem; then: systemctl restart tidegate",
        ),
        (state, result) => {
            let what = format!("{UNIT} is {state} ({result})");
            Finding::problem(ABOUT, what, "systemctl start tidegate; if that fails: journalctl -u tidegate -n 30")
        }
    }
}

/// What systemd would grumble about and ignore: an override with a typo in it.
fn verify() -> Option<Finding> {
    let output = Command::new("systemd-analyze").args(["verify", UNIT]).stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tidegate")).collect();
    (!ours.is_empty()).then(|| {
        let mend = "mend the override: systemctl edit tidegate, or take it away: systemctl revert tidegate";
        Finding::problem(ABOUT, ours.join("; "), mend)
    })
}

fn show() -> Option<BTreeMap<String, String>> {
    let keys = "LoadState,ActiveState,UnitFileState,Result,ExecMainStatus,NRestarts,StatusText";
    let output =
        Command::new("systemctl").args(["show", "--property", keys, UNIT]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect())
}

fn text<'a>(unit: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    unit.get(key).map_or("", String::as_str)
}
