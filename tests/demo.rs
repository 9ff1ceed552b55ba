//! The demo as a user runs it: the whole of it in one command, judged by its own conditions and by the process table.

use std::fs;
use std::process::{Command, Stdio};

/// Every process that mentions the directory.
fn processes_below(directory: &str) -> Vec<String> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let commands = pids.filter_map(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let tagged = String::from_utf8_lossy(&environment).contains(directory);
        (command.contains(directory) || tagged).then(|| format!("{pid} {command}"))
    });
    commands.collect()
}

fn demo(directory: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[test]
fn the_demo_bursts_loses_nothing_agrees_returns_and_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_string_lossy().into_owned();
    let (code, text) = demo(&path, &["--no-timing", "--seconds", "40"]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "== without burst",
        "== with burst",
        "the cloud here is other processes on this machine",
        "launch at demo-cloud",
        "held    no request was lost: 0 of",
        "held    local and cloud answers agree: 0 of",
        "held    a burst happened",
        "held    the node returned to its baseline",
        "held    no process is left: none",
        "p95 was not judged, as asked",
        "crossing to first cloud answer",
        "curl -s http://127.0.0.1:8080/v2/models/digits/infer",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert_eq!(processes_below(&path), Vec::<String>::new());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the demo removes what it wrote");
}

#[test]
fn without_burst_the_demo_plays_once_and_launches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_string_lossy().into_owned();
    let (code, text) = demo(&path, &["--no-burst", "--seconds", "30"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("== without burst") && !text.contains("== with burst"), "{text}");
    assert!(!text.contains("launch at"), "{text}");
}

#[test]
fn a_demo_that_is_too_short_is_bad_usage() {
    let (code, text) = demo("/tmp", &["--seconds", "5"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("30"), "{text}");
}
