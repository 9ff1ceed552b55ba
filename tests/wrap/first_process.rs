//! Signals, and the wrapper as the first process of a container: who is buried, and what the end looks like from outside.

use std::process::Command;

use cloud_adapters::contract::is_left_out_without_root;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::replica::{descendants, eventually, get, is_alive, try_request};
use super::{Instance, Program, finish_request, hold_request, infer};

#[test]
fn a_hangup_is_nothing_to_end_for() {
    let mut instance = Instance::start(&[]);
    let address = instance.ready();
    let started = descendants(instance.program.pid());
    instance.program.signal(Signal::SIGHUP);
    assert_eq!(infer(&address).status, 200);
    instance.program.signal(Signal::SIGTERM);
    instance.ends(0, "a signal asked for the end", &started);
}

/// A provider that crashed may ask again; only who sits at the terminal means "now" by it.
#[test]
fn a_second_sigterm_says_nothing_new_and_an_interrupt_after_it_waits_for_nobody() {
    let mut instance = Instance::start(&["--drain-timeout", "10m", "--grace", "100ms"]);
    let address = instance.ready();
    let started = descendants(instance.program.pid());
    let (first, second) = (hold_request(&address), hold_request(&address));
    instance.program.signal(Signal::SIGTERM);
    eventually("it drains", || (infer(&address).status == 503).then_some(()));
    for _ in 0..5 {
        instance.program.signal(Signal::SIGTERM);
        assert_eq!(infer(&address).status, 503);
    }
    assert_eq!(finish_request(first).expect("it is answered").status, 200);
    instance.program.signal(Signal::SIGINT);
    instance.ends(0, "a signal asked for the end", &started);
    drop(second);
}

/// A wrapper as process 1 of its own process table; `None` where tests that need root are left out.
fn contained(arguments: &[&str], script: &str) -> Option<Instance> {
    use std::os::unix::process::CommandExt;
    if is_left_out_without_root("a process table of its own") {
        return None;
    }
    let new_table = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(new_table).arg(env!("CARGO_BIN_EXE_tidegate")).args(["wrap", "--service", "s", "--launch", "l-1"]);
    command.arg("--run-dir").arg(directory.path()).args(arguments);
    command.args(["--ready-command", "true", "--", "sh", "-c", script]).env("D", directory.path()).process_group(0);
    Some(Instance { program: Program::start(command), directory })
}

/// Process 1, as it is called outside.
fn first_process(instance: &Instance) -> Pid {
    eventually("process 1 is there", || descendants(instance.program.pid()).first().copied())
}

/// Children of a process, the ended ones that nobody has buried among them.
fn children(parent: Pid) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_ascii_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids.filter(is_child).collect()
}

const ORPHANS: &str = "for i in 1 2 3; do (setsid sh -c 'until test -f $D/go; do sleep 0.02; done; echo x >> $D/gone' &); done; exec sleep 1000";

#[test]
fn process_1_buries_orphans_drains_and_passes_the_exit_code_on() {
    let Some(mut instance) = contained(&[], ORPHANS) else { return };
    let address = instance.ready();
    let first = first_process(&instance);
    // The wrapper and three orphans, adopted.
    eventually("the orphans are adopted", || (children(first).len() == 4).then_some(()));
    std::fs::write(instance.directory.path().join("go"), "").unwrap();
    eventually("the orphans ended", || instance.file("gone").filter(|lines| lines.lines().count() == 3));
    eventually("nobody waits to be buried", || (children(first).len() == 1).then_some(()));
    assert_eq!(get(&address, "/.tidegate/status").json()["state"], "ready");
    let started = descendants(instance.program.pid());
    kill(first, Signal::SIGTERM).unwrap();
    instance.ends(0, "a signal asked for the end", &started);
}

#[test]
fn process_1_ends_with_the_code_of_a_failed_instance() {
    let Some(mut instance) = contained(&[], "sleep 0.2; exit 3") else { return };
    instance.ends(1, "server exited with code 3", &[]);
}

#[test]
fn process_1_is_not_ended_by_a_hangup_or_by_what_it_does_not_pass_on() {
    let Some(instance) = contained(&[], "exec sleep 1000") else { return };
    let address = instance.ready();
    let first = first_process(&instance);
    for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
        // Sent from inside, as a process of the container would: there the kernel protects process 1.
        let pid = first.to_string();
        let inside = ["--target", &pid, "--pid", "kill", "-s", signal.as_str().trim_start_matches("SIG"), "1"];
        assert!(Command::new("nsenter").args(inside).status().unwrap().success());
    }
    assert_eq!(get(&address, "/.tidegate/status").json()["state"], "ready");
    assert!(is_alive(first));
}

#[test]
fn a_wrapper_that_is_killed_ends_process_1_and_all_else() {
    let Some(mut instance) = contained(&[], "exec sleep 1000") else { return };
    let address = instance.ready();
    let first = first_process(&instance);
    let wrapper = Pid::from_raw(children(first)[0]);
    let started = descendants(instance.program.pid());
    kill(wrapper, Signal::SIGKILL).unwrap();
    assert_eq!(instance.program.ended().code(), Some(128 + 9));
    eventually("no process is left", || (!started.iter().any(|pid| is_alive(*pid))).then_some(()));
    assert!(try_request(&address, "GET / HTTP/1.1\r\n", b"").is_none());
}
