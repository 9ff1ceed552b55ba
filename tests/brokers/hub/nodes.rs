//! Two real nodes, one of them the hub of the other: they see each other until one is put out, and what is renewed and
//! rotated counts without a restart.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tidegate::trust::{Authority, CredentialFiles, Role, Subject};

use super::{FLEET, Hub, fleet, member, node_spec, seen};
use crate::peer::{Peer, unique};
use crate::support::{Node, PATIENCE, wait_until};

/// A node that publishes at the hub, with more in its configuration.
pub(super) fn at_hub(hub: &Hub, name: &str, more: &str) -> Node {
    hub.enroll(name, "node");
    let mut spec = node_spec(&hub.home, name);
    spec.remove("mqtt", "listen");
    hub.home.start(&spec.with(&format!("[mqtt]\nbroker = \"mqtts://127.0.0.1:{}\"", hub.port)).with(more))
}

fn wait_until_seen(node: &Node, other: &str) {
    wait_until(PATIENCE, &format!("{other} is seen"), || seen(node, other).filter(|one| one["alive"] == true));
}

#[test]
fn a_hub_and_a_node_see_each_other_until_the_node_is_put_out() {
    let hub = Hub::start();
    let node = at_hub(&hub, "gateway-1", "");
    wait_until_seen(&hub.node, "gateway-1");
    wait_until_seen(&node, "hub");
    let guests = || hub.metric("tidegate_mqtt_guests ");
    wait_until(PATIENCE, "a link for each tree", || (guests() == 2).then_some(()));

    let state = format!("tidegate-json/v1/{FLEET}/node/gateway-1/state");
    let watcher = Peer::start(&hub.watcher(), &unique("watcher"), &[&state], None);
    let last = || watcher.payloads(&state).pop().and_then(|said| serde_json::from_str::<Value>(&said).ok());
    let reads = |state: &str| last().filter(|last| last["state"] == state).map(drop);
    wait_until(PATIENCE, "it is online for whoever watches", || reads("online"));

    // The word goes to the hub alone.
    hub.revoke("gateway-1");
    let told = hub.node.wait_for_event(PATIENCE, "trust.changed");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.ends_with("not believed any more: gateway-1"), "{reason}");
    wait_until(PATIENCE, "and gone, by its Last Will", || reads("lost"));
    wait_until(PATIENCE, "it is put out", || (hub.refused("put_out") >= 2).then_some(()));
    wait_until(PATIENCE, "it is not let in again", || {
        node.log().lines().any(|line| line.contains("CertificateRevoked")).then_some(())
    });
    assert!(hub.refused("certificate") > 0 && hub.refused("handshake") == 0);
    wait_until(PATIENCE, "it is forgotten", || seen(&hub.node, "gateway-1").is_none().then_some(()));
    assert_eq!(guests(), 1, "the watcher");
    assert_eq!(node.get_json("/api/v1/node")["broker_connected"], false);
    // A new credential of the same name is another one.
    hub.enroll("gateway-1", "node");
    wait_until_seen(&hub.node, "gateway-1");
    assert!(hub.node.terminate().code == Some(0) && node.terminate().code == Some(0));
}

#[test]
fn a_node_at_a_hub_that_holds_the_fleet_s_folder_is_renewed_there() {
    let hub = Hub::with(|dir| format!("[node]\nauthority = {dir:?}"));
    let root = Authority::open(hub.dir().as_ref()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let subject = Subject { fleet: FLEET.into(), name: "gateway-1".into(), role: Role::Node, hosts: Vec::new() };
    // Five sixths of its hour are over.
    let credential = root.enroll(&subject, 3_600, now - 3_000).unwrap();
    let word = root.trust_message().unwrap();
    CredentialFiles::new(&hub.files("gateway-1")).store(&credential, root.anchors(), &word).unwrap();
    let mut spec = node_spec(&hub.home, "gateway-1");
    spec.remove("mqtt", "listen");
    let node = hub.home.start(&spec.with(&format!("[mqtt]\nbroker = \"mqtts://127.0.0.1:{}\"", hub.port)));
    node.wait_for_event(PATIENCE, "credential.renewed");
    wait_until_seen(&hub.node, "gateway-1");
    let refused = "refuses a message";
    assert!(!node.log().contains(refused), "the hub takes all that a node says: {}", node.log());
}

#[test]
fn a_renewed_credential_is_shown_and_a_new_root_believed_without_a_restart() {
    let hub = Hub::start();
    let old = hub.enroll("gateway-1", "node");
    let stays = member(&hub, &old, &[]);
    let first = shown(hub.port);
    fleet(&hub.home, &["enroll", "hub", "--host", "127.0.0.1", "--dir", &hub.dir()]);
    let renewed =
        wait_until(PATIENCE, "another certificate is shown", || Some(shown(hub.port)).filter(|now| *now != first));
    let there = std::fs::read_to_string(hub.files("hub").join("node.pem")).unwrap();
    assert_eq!(renewed, there.trim());
    Peer::start(&hub.door(Some(&old)), &unique("again"), &[], None).wait_connected(1);

    fleet(&hub.home, &["rotate", "--dir", &hub.dir()]);
    hub.give_trust();
    let by_new = hub.enroll("gateway-2", "node");
    let peer = Peer::start(&hub.door(Some(&by_new)), &unique("new"), &[], None);
    wait_until(PATIENCE, "the new root lets in", || peer.status().connected.then_some(()));
    assert!(stays.status().connected, "the old root still does");
    fleet(&hub.home, &["enroll", "hub", "--host", "127.0.0.1", "--dir", &hub.dir()]);
    wait_until(PATIENCE, "a certificate of the new root is shown", || (shown(hub.port) != renewed).then_some(()));
    fleet(&hub.home, &["rotate", "--finish", "--dir", &hub.dir()]);
    hub.give_trust();
    wait_until(PATIENCE, "who came by the old root is put out", || (!stays.status().connected).then_some(()));
    assert_eq!((peer.status().connected, peer.status().connections), (true, 1));
}

/// The certificate that a hub shows, as OpenSSL reads it.
fn shown(port: u16) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]).stdin(Stdio::null());
    let said = String::from_utf8(command.output().expect("openssl").stdout).unwrap();
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let from = said.find(begin).unwrap_or_else(|| panic!("no certificate: {said}"));
    let until = said[from..].find(end).unwrap() + end.len();
    said[from..from + until].to_owned()
}
