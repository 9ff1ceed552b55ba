//! Two nodes of a fleet: what is too much for one goes to the other before money is spent, for as long as that is heard.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::fleet::{Fleet, path, run, seen};
use crate::support::{Node, PATIENCE, Spec, wait_until};

/// Heard every few seconds, which a busy machine keeps up with, and not given up by the broker within this test.
const HEARTBEAT: &str = "[mqtt]\nrefresh = '5s'\nkeepalive = '120s'";

fn spec(fleet: &Fleet, name: &str, more: &str) -> Spec {
    let files = fleet.enroll(name, "node");
    fleet.spec(name, &files).with(HEARTBEAT).with(more)
}

/// One that takes two guests: half of two replicas that take two requests each.
fn with_room(fleet: &Fleet, name: &str) -> Spec {
    let more = "[gateway]\npeer_listen = '127.0.0.1:0'\n[service.digits.local]\nmax_replicas = 2\nconcurrency = 2\n\
                [service.digits.scaling]\nmin_replicas = 2";
    spec(fleet, name, more)
}

fn peers(node: &Node) -> Vec<Value> {
    let all = node.get_json("/api/v1/replicas");
    all.as_array().into_iter().flatten().filter(|one| one["placement"] == "peer").cloned().collect()
}

fn wait_for_peers(node: &Node, expected: &[&str]) {
    let names = || peers(node).iter().map(|one| one["replica"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    wait_until(PATIENCE, &format!("the peers are {expected:?}"), || (names() == expected).then_some(()));
}

fn answered_by_peers(node: &Node) -> u64 {
    let metrics = node.console("/metrics").text();
    let line = metrics.lines().find(|line| {
        line.starts_with("tidegate_requests_total{")
            && line.contains("placement=\"peer\"")
            && line.contains("code=\"200\"")
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn overflow_goes_to_a_node_with_room_and_to_the_cloud_when_that_is_gone() {
    let fleet = Fleet::found();
    let with_room = with_room(&fleet, "gw-b");
    let (a, b) = (fleet.home.start(&spec(&fleet, "gw-a", "")), fleet.home.start(&with_room));
    wait_for_peers(&a, &["gw-b"]);
    assert!(peers(&b).is_empty(), "gw-a takes nobody's requests, and says so by saying nothing");

    let load = a.load(2);
    wait_until(PATIENCE, "the other node answers, and is the reason for not bursting", || {
        let reason = a.service("digits")["reason"].as_str().unwrap_or_default().to_owned();
        (answered_by_peers(&a) > 50 && reason.contains("other nodes have room")).then_some(())
    });
    assert_eq!(a.get_json("/api/v1/bursts").as_array().map(Vec::len), Some(0), "{}", a.service("digits")["reason"]);
    assert_eq!(b.get_json("/api/v1/bursts").as_array().map(Vec::len), Some(0), "guests make nobody burst");

    b.kill9();
    wait_until(PATIENCE, "an instance takes over", || (a.service("digits")["ready_cloud"] != 0).then_some(()));
    wait_for_peers(&a, &[]);
    let tally = load.stop();
    tally.assert_sound();
    assert!(tally.from("peer") > 50 && tally.from("local") > 0, "{:?}", tally.answers);
}

#[test]
fn a_peer_is_routable_from_its_first_live_word_to_one_heartbeat_after_its_last() {
    let fleet = Fleet::found();
    let with_room = with_room(&fleet, "gw-b");
    let b = fleet.home.start(&with_room);
    let a = fleet.home.start(&spec(&fleet, "gw-a", ""));
    wait_for_peers(&a, &["gw-b"]);
    // It hangs: its connection stands, and the broker believes in it.
    b.signal(Signal::SIGSTOP);
    wait_for_peers(&a, &[]);
    let known = seen(&a, "gw-b").expect("known until its time to live is over");
    assert_eq!((&known["state"], &known["alive"]), (&"online".into(), &false.into()), "{known}");
    b.signal(Signal::SIGCONT);
    wait_for_peers(&a, &["gw-b"]);

    // What the broker kept of it proves nobody: who joins after it hung waits for its next word.
    b.signal(Signal::SIGSTOP);
    let late = fleet.home.start(&spec(&fleet, "gw-c", ""));
    wait_until(PATIENCE, "gw-b is known to the late one", || seen(&late, "gw-b"));
    assert!(peers(&late).is_empty());
    b.signal(Signal::SIGCONT);
    wait_for_peers(&late, &["gw-b"]);

    // One that is asked to stop is left alone at once.
    assert_eq!(b.terminate().code, Some(0));
    wait_for_peers(&a, &[]);
}

#[test]
fn who_is_put_out_is_no_peer_at_once_and_the_others_are_still() {
    let fleet = Fleet::found();
    let b = with_room(&fleet, "gw-b");
    // Nothing that it says from here on can be why it is used: its next word is half a minute away.
    let b = fleet.home.start(&b.with("[mqtt]\nrefresh = '30s'"));
    let a_s = fleet.enroll("gw-a", "node");
    let a = fleet.home.start(&fleet.spec("gw-a", &a_s).with(HEARTBEAT));
    fleet.enroll("gw-z", "node");
    wait_for_peers(&a, &["gw-b"]);
    b.signal(Signal::SIGSTOP);
    let revoke = |name: &str| {
        run(&fleet.home, &["revoke", name, "--dir", &path(&fleet.home, "fleet")]);
        std::fs::copy(path(&fleet.home, "fleet/trust.cbor"), a_s.join("trust.cbor")).unwrap();
    };
    let told = |count: usize| {
        let changes = wait_until(PATIENCE, "the change is told", || {
            Some(a.events("trust.changed")).filter(|changes| changes.len() == count)
        });
        changes[count - 1]["reason"].as_str().unwrap().to_owned()
    };
    revoke("gw-z");
    assert!(told(1).ends_with("1 revoked certificates"), "nobody that was heard is put out");
    assert_eq!(seen(&a, "gw-b").expect("known")["alive"], true);
    revoke("gw-b");
    let reason = told(2);
    assert!(reason.ends_with("not believed any more: gw-b"), "{reason}");
    wait_for_peers(&a, &[]);
    assert!(seen(&a, "gw-b").is_none());
    b.signal(Signal::SIGCONT);
}

#[test]
fn a_listener_for_peers_that_nobody_could_use_is_refused_with_what_to_do() {
    let fleet = Fleet::found();
    let refused = |spec: &Spec, expected: &str| {
        let ended = fleet.home.run_to_end(spec);
        assert!(ended.code == Some(2) && ended.stderr.contains(expected), "{expected:?} in {}", ended.stderr);
    };
    let listens = |at: &str| with_room(&fleet, "gw-b").with(&format!("[gateway]\npeer_listen = '{at}'"));
    refused(&listens("0.0.0.0:0"), "set gateway.peer_host");
    refused(&listens("127.0.0.1:0").without("node", "credentials"), "tidegate fleet enroll");
    let host = "[gateway]\npeer_host = 'https://gw-b:8443'";
    refused(&listens("0.0.0.0:0").with(host), "without a port");
    let nowhere = spec(&fleet, "gw-c", "[gateway]\npeer_host = 'gw-c.local'");
    refused(&nowhere, "gateway.peer_listen");
}
