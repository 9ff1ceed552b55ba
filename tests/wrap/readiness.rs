//! When an instance counts as ready where a command says so, and what is told of one that never does.

use std::path::Path;
use std::process::Command;

use super::replica::{descendants, eventually, get, tidegate};
use super::{Instance, Program};

fn instance(arguments: &[&str], check: impl FnOnce(&Path) -> Vec<String>) -> Instance {
    let directory = tempfile::tempdir().unwrap();
    let mut command: Command = tidegate(&["wrap", "--service", "s", "--launch", "l-1"]);
    command.arg("--run-dir").arg(directory.path()).args(arguments);
    for word in check(directory.path()) {
        command.args(["--ready-command", &word]);
    }
    command.args(["--", "sh", "-c", "exec sleep 1000"]);
    Instance { program: Program::start(command), directory }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_command_that_exits_with_zero_is_ready_and_not_before() {
    let instance = instance(&[], |directory| {
        let script = format!("test -n \"$PORT\" && touch {0}/asked && test -f {0}/up", directory.display());
        words(&["sh", "-c", &script])
    });
    let address = instance.address();
    let state = || get(&address, "/.tidegate/status").json()["state"].as_str().unwrap().to_owned();
    eventually("it was asked", || instance.file("asked"));
    assert_eq!(state(), "starting");
    std::fs::write(instance.directory.path().join("up"), "").unwrap();
    eventually("it is ready", || (state() == "ready").then_some(()));
}

#[test]
fn the_last_words_of_a_command_that_never_agrees_are_told() {
    let mut instance =
        instance(&["--ready-timeout", "4s"], |_| words(&["sh", "-c", "echo no GPU is free >&2; exit 3"]));
    let started =
        "the server was not ready within 4 s; at the last look: 'sh' ended with exit status: 3: no GPU is free";
    instance.ends(1, started, &[]);
}

#[test]
fn a_command_that_does_not_start_is_told_in_the_end() {
    let mut instance = instance(&["--ready-timeout", "2s"], |_| words(&["/no/such/check", "--deep"]));
    let told = "the server was not ready within 2 s; at the last look: cannot run '/no/such/check': No such file or \
                directory (os error 2)";
    instance.ends(1, told, &[]);
}

#[test]
fn a_command_that_hangs_ends_with_the_instance() {
    let mut instance = instance(&["--ready-timeout", "4s"], |_| words(&["sh", "-c", "sleep 1000 & sleep 1001; wait"]));
    instance.address();
    let hanging = || {
        let started = descendants(instance.program.pid());
        // The shim, the server, the command's shell and its two children.
        (started.len() == 5).then_some(started)
    };
    let started = eventually("the command hangs", hanging);
    instance.ends(1, "the server was not ready within 4 s", &started);
}

#[test]
fn a_command_that_hangs_is_killed_and_asked_again() {
    let instance = instance(&[], |directory| {
        let first = format!("test -f {0}/again && exit 0; touch {0}/again; exec sleep 1000", directory.display());
        words(&["sh", "-c", &first])
    });
    let address = instance.address();
    eventually("the second answer counts", || {
        (get(&address, "/.tidegate/status").json()["state"] == "ready").then_some(())
    });
}

#[test]
fn a_command_and_another_check_are_not_both_taken() {
    let output = tidegate(&["wrap", "--service", "s", "--ready", "tcp", "--ready-command", "true", "--", "true"])
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be used with"));
}
