//! A node's credential that nears its end is renewed over MQTT by a hub that holds an authority: no hand, no restart. Real
//! nodes at a Mosquitto that knows everyone by their certificate.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate::trust::{Authority, Credential, CredentialFiles, Role, Subject, UnixSeconds};
use tidegate::wire::{Encoding, Root, Sealed, Topic};

use super::fleet::{Fleet, ignored, path, run, wait_for_alive};
use crate::support::{Node, PATIENCE, wait_until};

const HOUR: UnixSeconds = 3_600;

fn now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Lets a node in whose credential is in the last sixth of its hour.
fn enroll_nearly_over(fleet: &Fleet, name: &str) -> PathBuf {
    let root = Authority::open(&fleet.home.path().join("fleet")).unwrap();
    let hosts = vec!["gateway.local".to_owned(), "127.0.0.1".to_owned()];
    let subject = Subject { fleet: "test".into(), name: name.into(), role: Role::Node, hosts };
    let credential = root.enroll(&subject, HOUR, now() - HOUR / 6 * 5).unwrap();
    let folder = fleet.home.path().join("fleet/nodes").join(name);
    CredentialFiles::new(&folder).store(&credential, root.anchors(), &root.trust_message().unwrap()).unwrap();
    folder
}

/// A node that renews with the authority in this folder.
fn hub(fleet: &Fleet, name: &str, authority: &Path) -> Node {
    let files = fleet.enroll(name, "node");
    fleet.home.start(&fleet.spec(name, &files).with(&format!("[node]\nauthority = {authority:?}")))
}

fn credential(folder: &Path) -> Credential {
    CredentialFiles::new(folder).load().unwrap().unwrap().0
}

fn lines_of(folder: &Path, name: &str) -> usize {
    let issued = std::fs::read_to_string(folder.join("issued")).unwrap_or_default();
    issued.lines().filter(|line| line.starts_with(&format!("{name} "))).count()
}

/// Waits for a message on a topic of the CBOR tree, as somebody of the fleet.
fn heard(fleet: &Fleet, files: &Path, topic: &str) -> Vec<u8> {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", &fleet.port.to_string(), "-C", "1", "-W", "60", "-F", "%x", "-t"]);
    command.arg(format!("tidegate/v1/test/{topic}"));
    for (option, name) in [("--cafile", "roots.pem"), ("--cert", "node.pem"), ("--key", "node.key")] {
        command.arg(option).arg(files.join(name));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let hex = String::from_utf8(output.stdout).unwrap();
    hex.trim().as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_credential_is_renewed_over_mqtt_by_an_authority_without_a_restart() {
    let fleet = Fleet::found();
    let authority = fleet.enroll("issuer", "authority");
    let hub = hub(&fleet, "hub", &authority);
    let files = enroll_nearly_over(&fleet, "gw-a");
    let before = credential(&files);
    let a = fleet.home.start(&fleet.spec("gw-a", &files));
    let renewed = a.wait_for_event(PATIENCE, "credential.renewed");
    assert!(renewed["reason"].as_str().is_some_and(|reason| reason.contains("holds for 0 days")), "{renewed}");
    let issued = hub.wait_for_event(PATIENCE, "credential.issued");
    assert!(issued["reason"].as_str().is_some_and(|reason| reason.contains("a certificate for gw-a")), "{issued}");

    let after = credential(&files);
    let (old, new) = (before.facts(), after.facts());
    assert_eq!((&new.subject(), new.enrolled_as()), (&old.subject(), old.serial.as_slice()));
    assert_ne!(new.public_key, old.public_key, "every certificate has a key of its own");
    assert!(new.not_after > old.not_after && new.not_after <= now() + HOUR, "no longer a life than before");
    assert!(!files.join("node-next.key").exists());

    // What it says bears the new certificate, and is believed.
    let (root, topic) = (Root::new(Encoding::Cbor, "test").unwrap(), Topic::discovery("gw-a").unwrap());
    let laptop = fleet.enroll("laptop", "operator");
    wait_until(PATIENCE, "it signs with the new certificate", || {
        let sealed = Sealed::read(&root, &topic, &heard(&fleet, &laptop, "discovery/gw-a")).unwrap();
        (sealed.chain == after.chain()).then_some(())
    });
    wait_for_alive(&hub, "gw-a", true);
    assert_eq!((ignored(&hub, "foreign"), ignored(&hub, "expired"), ignored(&hub, "forged")), (0, 0, 0));
    assert_eq!(a.get_json("/api/v1/node")["session"], 1, "no restart");

    // So does its Last Will, which the broker was given before: the connection is made anew.
    wait_until(PATIENCE, "it connected anew", || {
        let links = a.get_json("/api/v1/node")["telemetry"]["links"].clone();
        let cbor = links.as_array()?.iter().find(|link| link["link"] == "cbor")?.clone();
        (cbor["connections"] == 2 && cbor["connected"] == true).then_some(())
    });

    assert_eq!(lines_of(&authority, "gw-a"), 1, "asked once, issued once");
    let listed = run(&fleet.home, &["list", "--dir", &authority.display().to_string()]);
    assert!(listed.lines().any(|line| line.starts_with("gw-a ") && line.contains(" node ")), "{listed}");

    // Who puts the node out puts out what the hub gave it, though the fleet's own list has never heard of that.
    run(&fleet.home, &["revoke", "gw-a", "--dir", &path(&fleet.home, "fleet")]);
    std::fs::copy(fleet.home.path().join("fleet/trust.cbor"), fleet.home.path().join("fleet/nodes/hub/trust.cbor"))
        .unwrap();
    wait_until(PATIENCE, "gw-a is put out", || (ignored(&hub, "revoked") > 0).then_some(()));
}

#[test]
fn one_that_was_put_out_gets_none() {
    let fleet = Fleet::found();
    let authority = fleet.enroll("issuer", "authority");
    let files = enroll_nearly_over(&fleet, "gw-b");
    run(&fleet.home, &["revoke", "gw-b", "--dir", &path(&fleet.home, "fleet")]);
    // The hub is enrolled after that, and so knows of it.
    let hub = hub(&fleet, "hub", &authority);
    let laptop = fleet.enroll("laptop", "operator");
    let b = std::thread::scope(|scope| {
        let asked = scope.spawn(|| heard(&fleet, &laptop, "node/all/command/renew"));
        let b = fleet.home.start(&fleet.spec("gw-b", &files));
        assert!(!asked.join().unwrap().is_empty(), "it asks");
        b
    });
    // What it says after that is heard after it.
    let so_far = ignored(&hub, "revoked");
    wait_until(PATIENCE, "the hub has heard more of it", || (ignored(&hub, "revoked") > so_far + 2).then_some(()));
    assert_eq!(lines_of(&authority, "gw-b"), 0);
    assert!(b.events("credential.renewed").is_empty() && hub.events("credential.issued").is_empty());
}

#[test]
fn of_two_authorities_one_renews_and_the_other_is_passed_over() {
    let fleet = Fleet::found();
    let authority = fleet.enroll("issuer", "authority");
    let first = hub(&fleet, "hub-1", &authority);
    // The fleet's own folder does as well.
    let second = hub(&fleet, "hub-2", &fleet.home.path().join("fleet"));
    let files = enroll_nearly_over(&fleet, "gw-c");
    let enrolled = lines_of(&fleet.home.path().join("fleet"), "gw-c");
    let c = fleet.home.start(&fleet.spec("gw-c", &files));
    let issued =
        [first.wait_for_event(PATIENCE, "credential.issued"), second.wait_for_event(PATIENCE, "credential.issued")];
    c.wait_for_event(PATIENCE, "credential.renewed");
    wait_for_alive(&first, "gw-c", true);
    wait_for_alive(&second, "gw-c", true);
    assert_eq!(c.events("credential.renewed").len(), 1);
    assert!(c.events("credential.expiring").is_empty(), "{:?}", c.events("credential.expiring"));
    let serial: String = credential(&files).facts().serial.iter().map(|byte| format!("{byte:02x}")).collect();
    let winners = issued.iter().filter(|one| one["reason"].as_str().is_some_and(|reason| reason.contains(&serial)));
    assert_eq!(winners.count(), 1, "{serial} of {issued:?}");
    assert_eq!((lines_of(&authority, "gw-c"), lines_of(&fleet.home.path().join("fleet"), "gw-c")), (1, enrolled + 1));
}

#[test]
fn what_is_no_authority_is_refused_at_the_start_with_what_to_do() {
    let fleet = Fleet::found();
    let files = fleet.enroll("hub", "node");
    let refused = |authority: &Path| {
        let spec = fleet.spec("hub", &files).with(&format!("[node]\nauthority = {authority:?}"));
        let ended = fleet.home.run_to_end(&spec);
        assert_ne!(ended.code, Some(0));
        ended.stderr
    };
    let told = refused(&files);
    assert!(told.contains("node.authority") && told.contains("is of the role node"), "{told}");
    let told = refused(&fleet.home.path().join("nowhere"));
    assert!(told.contains("holds no credential") && told.contains("--role authority"), "{told}");
    run(&fleet.home, &["init", "other", "--dir", &path(&fleet.home, "other")]);
    let told = refused(&fleet.home.path().join("other"));
    assert!(told.contains("it is of the fleet other, and this node is of test"), "{told}");
}
