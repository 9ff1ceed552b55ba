//! The smallest build, `--no-default-features`: it serves programs, speaks with a broker elsewhere, and says of what it lacks where
//! that is. Played where TIDEGATE_MINIMAL names such a program, as the lane `minimal` of tests/run does.

mod support;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use support::{Home, PATIENCE, free_port, wait_until};

fn program() -> Option<PathBuf> {
    let program = std::env::var_os("TIDEGATE_MINIMAL").map(PathBuf::from);
    if program.is_none() {
        println!("left out: TIDEGATE_MINIMAL names no program (tests/run --with minimal builds one)");
    }
    program
}

fn run(program: &Path, home: &Home, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home.path()).env_remove("TIDEGATE_MINIMAL").stdin(Stdio::null());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn what_the_smallest_build_lacks_is_told_with_what_to_do() {
    let Some(program) = program() else { return };
    let home = Home::new();
    let config = home.file("onnx.toml", "[service.digits.local]\nruntime = 'onnx'\nmodel = 'builtin:digits'\n");
    for command in [["config", "check"], ["run", "-c"]] {
        let refused = run(&program, &home, &[&command[..], &[config.to_str().unwrap()]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        let told = said(&refused);
        for words in
            ["service.digits.local.runtime = \"onnx\" is not in this build", "no broker of its own", "mqtt.broker"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
    }
    let demo = run(&program, &home, &["demo"]);
    assert!(demo.status.code() == Some(2) && said(&demo).contains("unrecognized subcommand"), "{}", said(&demo));
}

#[test]
fn the_smallest_build_serves_a_program_and_speaks_with_a_broker_elsewhere() {
    let Some(program) = program() else { return };
    let home = Home::new();
    let (broker, gateway, console) = (free_port(), free_port(), free_port());
    let spawn = |program: &Path, arguments: &[OsString]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Killed(command.spawn().unwrap())
    };
    let _broker = spawn(Path::new("mosquitto"), &["-p".into(), broker.to_string().into()]);
    let config = home.file(
        "tidegate.toml",
        format!(
            "[node]\nid = 'small'\nfleet = 'test'\nstate_dir = {:?}\n[mqtt]\nbroker = 'mqtt://127.0.0.1:{broker}'\n\
             [gateway]\nlisten = '127.0.0.1:{gateway}'\n[console]\nlisten = '127.0.0.1:{console}'\n\
             [service.files.local]\nruntime = 'process'\nready = '/'\nmax_replicas = 1\n\
             command = ['python3', '-m', 'http.server', '--bind', '127.0.0.1', '{{port}}']\n",
            home.path().join("state")
        ),
    );
    let _node = spawn(&program, &["run".into(), "-c".into(), config.into()]);
    wait_until(PATIENCE, "a request is answered", || {
        let url = format!("http://127.0.0.1:{gateway}/services/files/");
        let answer = Command::new("curl").args(["--silent", "--fail", "--max-time", "5", &url]).output().unwrap();
        answer.status.success().then_some(())
    });
    let state = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.to_string(), "-C", "1", "-W", "20"])
        .args(["-t", "tidegate-json/v1/test/node/small/state"])
        .output()
        .unwrap();
    assert!(said(&state).contains("\"state\":\"online\""), "{}", said(&state));
}
