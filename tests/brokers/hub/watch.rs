//! Watching from a laptop, by exactly the command that `tidegate fleet init` prints.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::Hub;
use crate::access::FLEETS;
use crate::peer::{Peer, retained, unique};
use crate::support::{PATIENCE, wait_until};

/// A command of a shell, its lines so far, ended when dropped.
struct Shell {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Shell {
    fn run(command: &str) -> Self {
        let mut child = Command::new("sh");
        child.args(["-c", &format!("exec {command}")]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let (output, lines) = (child.stdout.take().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let book = lines.clone();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| book.lock().unwrap().push(line));
        });
        Self { child, lines }
    }

    fn wait_for_line(&self, start: &str) -> String {
        let found = || self.lines.lock().unwrap().iter().find(|line| line.starts_with(start)).cloned();
        wait_until(PATIENCE, start, found)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn the_command_that_is_printed_shows_the_fleet_and_its_password_stands_nowhere() {
    let hub = Hub::start();
    let command = hub.watch_command();
    let watching = Shell::run(&command);
    watching.wait_for_line("tidegate-json/v1/plant-a/discovery/hub {");
    watching.wait_for_line("tidegate-json/v1/plant-a/node/hub/state {");
    watching.wait_for_line("tidegate-json/v1/plant-a/node/hub/load {");

    let users = hub.home.path().join("fleet/users");
    assert_eq!(std::fs::metadata(&users).unwrap().permissions().mode() & 0o777, 0o600);
    let (_, password) = hub.watcher().login.unwrap();
    assert!(!std::fs::read_to_string(&users).unwrap().contains(&password));
    assert_eq!(hub.printed.matches(&password).count(), 1, "it is shown once: {}", hub.printed);
    let wrong = Shell::run(&command.replace(&password, "wrong"));
    wait_until(PATIENCE, "it is counted", || (hub.refused("password") > 0).then_some(()));
    assert!(wrong.lines.lock().unwrap().is_empty());
}

#[test]
fn an_operators_credential_shows_and_clears_at_a_hub_too() {
    let hub = Hub::start();
    let files = hub.enroll("laptop", "operator").display().to_string();
    let at = ["--broker", &format!("mqtts://127.0.0.1:{}", hub.port), "--credentials", &files];
    let ended = hub.home.command(&[&["watch", "--json", "--count", "3"], &at[..]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(
        ended.stdout.lines().filter(|line| line.contains("tidegate/v1/plant-a/")).count(),
        3,
        "{}",
        ended.stdout
    );
    let ended = hub.home.command(&[&["fleet", "prune", "plant-a", "--dry-run"], &at[..]].concat());
    assert!(ended.code == Some(0) && ended.stdout.contains("nothing to clear"), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn who_watches_cannot_write() {
    let hub = Hub::start();
    let listener = Peer::up(&hub.own_box(), &["#"]);
    let watcher = Peer::start(&hub.watcher(), &unique("watcher"), &[], None);
    watcher.wait_connected(1);
    let below = ["node/hub/command/drain", "node/hub/state", "discovery/ghost", "node/all/command/who", "fleet/trust"];
    let topics = below.into_iter().flat_map(|below| FLEETS.map(|fleet| format!("{fleet}/{below}")));
    let topics: Vec<String> = topics.chain(["sensors/x".to_owned()]).collect();
    topics.iter().for_each(|topic| watcher.publish(retained(topic, "by a watcher")));
    // Each was answered once nothing of them waits any more.
    wait_until(PATIENCE, "all were answered", || (watcher.status().waiting == 0).then_some(()));
    let own = Peer::up(&hub.own_box(), &[]);
    own.publish(retained("sensors/end", "end"));
    listener.wait_for_payload("sensors/end", "end");
    let written: Vec<_> = listener.heard().into_iter().filter(|message| message.payload == b"by a watcher").collect();
    assert!(written.is_empty(), "{written:?}");
    assert_eq!((watcher.status().connected, watcher.status().connections), (true, 1));
}
