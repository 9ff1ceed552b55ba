//! A client that is none of ours: Mosquitto's.

use std::process::{Command, Output};

use crate::site::Door;

/// Longest that a client may wait for what it was asked to get, in seconds.
const PATIENCE_S: &str = "60";

fn client(program: &str, door: &Door, version: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", door.host, "-p", &door.port.to_string(), "-V", version]);
    if let Some((user, password)) = &door.login {
        command.args(["-u", user, "-P", password]);
    }
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("Mosquitto's clients are installed (tests/run does it)")
}

/// The version that a broker is spoken with: `5` or `311`.
pub(crate) fn version(door: &Door) -> &'static str {
    let mut command = client("mosquitto_pub", door, "5");
    command.args(["-t", "version", "-m", "5", "-q", "1"]);
    if run(command).status.success() { "5" } else { "311" }
}

/// The first `count` messages of a filter; fewer where they do not come.
pub(crate) fn first(door: &Door, filter: &str, count: usize) -> Vec<String> {
    let mut command = client("mosquitto_sub", door, version(door));
    command.args(["-t", filter, "-q", "0", "-F", "%r %t %p", "-C", &count.to_string(), "-W", PATIENCE_S]);
    String::from_utf8(run(command).stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Connects under a name, which ends whoever has it, and goes.
pub(crate) fn connect_as(door: &Door, client_id: &str) {
    let mut command = client("mosquitto_sub", door, version(door));
    let output = run({
        command.args(["-i", client_id, "-t", "nothing", "-E"]);
        command
    });
    assert!(output.status.success(), "{client_id}: {output:?}");
}
