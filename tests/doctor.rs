//! `tidegate doctor`: each thing that can be wrong with a box is told in words, with what to do, and nothing is changed.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cloud_adapters::contract::is_left_out_without_root;
use serde_json::Value;
use support::{Finished, Home, Spec, free_port};

fn examine(home: &Home, spec: &Spec) -> Finished {
    let config = home.config(spec);
    home.command(&["doctor", "-c", config.to_str().unwrap()])
}

/// The one line that speaks of something, with its mend.
fn told(finished: &Finished, about: &str) -> String {
    let lines: Vec<&str> = finished.stdout.lines().collect();
    let at = lines.iter().position(|line| line.contains(about)).unwrap_or_else(|| panic!("{about}: {finished:?}"));
    let mend = lines.get(at + 1).filter(|line| line.trim_start().starts_with("mend:")).copied().unwrap_or_default();
    format!("{}{mend}", lines[at])
}

#[test]
fn a_box_on_which_all_is_well_has_no_problem_before_and_while_a_node_runs() {
    let home = Home::new();
    let spec = Spec::new().with(&format!("[console]\nlisten = '127.0.0.1:{}'", free_port()));
    let before = examine(&home, &spec);
    assert_eq!(before.code, Some(0), "{before:?}");
    assert!(told(&before, "state directory").contains("is made at the first start"), "{before:?}");
    let _node = home.start(&spec);
    let during = examine(&home, &spec);
    assert_eq!(during.code, Some(0), "{during:?}");
    assert!(told(&during, "state directory").contains("a node (process "), "{during:?}");
    assert!(told(&during, "/healthz").contains("says ok") && told(&during, "/readyz").contains("says ok"));
}

#[test]
fn each_finding_is_an_object_for_programs() {
    let home = Home::new();
    let config = home.config(&Spec::new());
    let finished = home.command(&["doctor", "--json", "-c", config.to_str().unwrap()]);
    let found: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    let clock = found.iter().find(|one| one["about"] == "clock").unwrap();
    assert_eq!((&clock["verdict"], &clock["mend"]), (&Value::from("ok"), &Value::Null));
}

#[test]
fn every_problem_of_a_wrong_configuration_is_told() {
    let home = Home::new();
    let wrong = home.file("wrong.toml", "[gatewy]\nqueue = 1\n[node]\ntick = 'soon'\n");
    let finished = home.command(&["doctor", "-c", wrong.to_str().unwrap()]);
    assert_eq!(finished.code, Some(1));
    for word in ["PROBLEM", "gatewy", "did you mean `gateway`", "node.tick", "mend:"] {
        assert!(finished.stdout.contains(word), "{word}: {finished:?}");
    }
}

#[test]
fn a_port_that_somebody_has_and_a_broker_that_nobody_is_are_told() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let nobody = free_port();
    let mut spec =
        Spec::new().with(&format!("[gateway]\nlisten = '{address}'\n[mqtt]\nbroker = 'mqtt://127.0.0.1:{nobody}'"));
    spec.remove("mqtt", "listen");
    let finished = examine(&home, &spec);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let port = told(&finished, "ports");
    assert!(port.starts_with("PROBLEM") && port.contains("ss -ltnp") && port.contains(&address.to_string()), "{port}");
    let broker = told(&finished, "broker");
    assert!(broker.contains("is not reached: Connection refused") && broker.contains("mend: start it"), "{broker}");
}

#[test]
fn a_state_directory_of_somebody_else_is_told_with_both_names() {
    if is_left_out_without_root("another user") {
        return;
    }
    let home = Home::new();
    std::fs::create_dir(home.state_dir()).unwrap();
    for open in [home.path(), &home.state_dir()] {
        std::fs::set_permissions(open, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let config = home.config(&Spec::new());
    let own = examine(&home, &Spec::new());
    assert!(told(&own, "others may look into").contains("chmod 700"), "{own:?}");
    let asked = home.tidegate(&["doctor".into(), "-c".into(), config.into()], &[]);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(asked.get_program())
        .args(asked.get_args());
    let output = command.output().unwrap();
    let finished = Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let state = told(&finished, "belongs to");
    assert!(state.contains("belongs to root, and this is nobody") && state.contains("chown -R nobody"), "{state}");
}

/// A disk of the test's own.
struct Disk<'a>(&'a Path);

impl Disk<'_> {
    fn mount(&self, options: &str) {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.0).status().unwrap();
        assert!(mounted.success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_or_read_only_is_told() {
    if is_left_out_without_root("a disk of its own") {
        return;
    }
    let home = Home::new();
    let state = home.state_dir();
    std::fs::create_dir(&state).unwrap();
    let disk = Disk(&state);
    disk.mount("size=512k,mode=700");
    let full = examine(&home, &Spec::new());
    assert!(told(&full, "MiB are free").starts_with("PROBLEM"), "{full:?}");
    drop(disk);
    let disk = Disk(&state);
    disk.mount("size=32m,mode=700");
    let narrow = examine(&home, &Spec::new());
    assert!(told(&narrow, "MiB are free").starts_with("warning") && narrow.code == Some(0), "{narrow:?}");
    drop(disk);
    let disk = Disk(&state);
    disk.mount("ro,mode=700");
    let still = examine(&home, &Spec::new());
    assert!(told(&still, "read-only").starts_with("PROBLEM") && still.code == Some(1), "{still:?}");
}

#[test]
fn a_clock_of_1970_or_2150_is_told() {
    let home = Home::new();
    let config = home.config(&Spec::new());
    for (date, word, code) in
        [("1970-01-02 00:00:00", "signed commands wait", 0), ("2150-01-01 00:00:00", "count as expired", 1)]
    {
        let asked = home.tidegate(&["doctor".into(), "-c".into(), config.clone().into()], &[]);
        let mut command = Command::new("faketime");
        command.arg(date).arg(asked.get_program()).args(asked.get_args());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(word) && said.contains(&date[..10]), "{said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
    }
}

#[test]
fn two_installations_are_told_with_their_versions() {
    let home = Home::new();
    let folders = ["one", "two"].map(|name| home.path().join(name));
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
        let program = folder.join("tidegate");
        std::fs::write(&program, format!("#!/bin/sh\necho tidegate 0.0.{}\n", folder.ends_with("one") as u8)).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let config = home.config(&Spec::new());
    let path = format!("{}:{}:/usr/bin:/bin", folders[0].display(), folders[1].display());
    let finished = home.command_with(&["doctor", "-c", config.to_str().unwrap()], &[("PATH", &path)]);
    let found = told(&finished, "installations");
    assert!(
        found.contains("one/tidegate (tidegate 0.0.1)") && found.contains("two/tidegate (tidegate 0.0.0)"),
        "{found}"
    );
    assert!(found.starts_with("warning") && found.contains("mend: keep one"), "{found}");
}

/// What `doctor`, `config check` and `run` say of one configuration: the same, before anything starts.
fn refused_by_all(home: &Home, spec: &Spec) -> String {
    let config = home.config(spec);
    let config = config.to_str().unwrap();
    let examined = home.command(&["doctor", "-c", config]);
    assert_eq!(examined.code, Some(1), "{examined:?}");
    for command in [vec!["config", "check", config], vec!["run", "-c", config]] {
        let refused = home.command(&command);
        assert_eq!(refused.code, Some(2), "{command:?}: {refused:?}");
        let errors: Vec<&str> = refused.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        assert!(!errors.is_empty() && errors.iter().all(|error| examined.stdout.contains(error)), "{refused:?}");
    }
    assert!(!home.state_dir().join("session").exists(), "nothing was started");
    examined.stdout
}

#[test]
fn what_a_start_would_refuse_is_told_before_it_and_all_of_it() {
    let home = Home::new();
    let folder = |name: &str| home.path().join(name).display().to_string();
    for arguments in [
        vec!["fleet", "init", "plant-b", "--dir", &folder("other")],
        vec!["fleet", "enroll", "gw-b", "--dir", &folder("other")],
    ] {
        assert_eq!(home.command(&arguments).code, Some(0));
    }
    let others = folder("other/nodes/gw-b");
    let broken = home.file("broken.onnx", "no model");
    let mut spec = Spec::new().with(&format!(
        "[node]\nid = 'gw-a'\nfleet = 'plant-a'\ncredentials = {others:?}\nauthority = {:?}\nca_file = {:?}\n\
         [mqtt]\nbroker = 'mqtts://127.0.0.1:1'\nusername = 'gw'\npassword_file = {:?}\n\
         [service.digits.local]\nmodel = {broken:?}",
        folder("no-authority"),
        folder("no-ca.pem"),
        folder("no-password"),
    ));
    spec.remove("mqtt", "listen");
    let told = refused_by_all(&home, &spec);
    for word in [
        "is of node gw-b of the fleet plant-b, and this is node gw-a of the fleet plant-a",
        "no-authority",
        "node.ca_file",
        "no-password cannot be read",
        "broken.onnx",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_hub_s_missing_file_of_users_is_told_before_its_start() {
    let home = Home::new();
    let users = home.path().join("users.toml");
    let spec = Spec::new().with(&format!("[mqtt]\nlisten_tls = '127.0.0.1:0'\nusers_file = {users:?}"));
    let told = refused_by_all(&home, &spec);
    assert!(told.contains("mqtt.users_file") && told.contains("users.toml"), "{told}");
}

#[test]
fn a_link_that_a_running_node_does_not_get_is_told() {
    let home = Home::new();
    let nobody = free_port();
    let mut spec = Spec::new().with(&format!(
        "[console]\nlisten = '127.0.0.1:{}'\n[mqtt]\nbroker = 'mqtt://127.0.0.1:{nobody}'",
        free_port()
    ));
    spec.remove("mqtt", "listen");
    let _node = home.start(&spec);
    let finished = examine(&home, &spec);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let link = told(&finished, "the node's link cbor");
    assert!(link.contains("does not stand: nobody listens there") && link.contains("events wait on disk"), "{link}");
}
