//! A state directory that was lost while the credential was kept: the node goes on in a later session than it ever spoke in,
//! and a second box with the same credential is still told apart.

use std::path::Path;

use super::clients::{Broker, Subscriber, at_broker};
use super::embedded::JSON;
use super::fleet::{ignored, path, run, wait_for_alive};
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

struct Site {
    home: Home,
    broker: Broker,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        run(&home, &["init", "test", "--dir", &path(&home, "fleet")]);
        let broker = Broker::start(&home);
        Self { home, broker }
    }

    fn spec(&self, name: &str, state_dir: &Path) -> Spec {
        let credentials = self.home.path().join("fleet/nodes").join(name);
        if !credentials.exists() {
            run(&self.home, &["enroll", name, "--dir", &path(&self.home, "fleet")]);
        }
        at_broker(&self.broker.address()).with(&format!(
            "[node]\nid = {name:?}\nstate_dir = {state_dir:?}\ncredentials = {credentials:?}\n[mqtt]\nrefresh = '1s'"
        ))
    }

    /// A node that has started three times.
    fn start_thrice(&self, name: &str) -> Node {
        let spec = self.spec(name, &self.home.path().join(format!("state-{name}")));
        for _ in 0..2 {
            self.home.start(&spec).kill9();
        }
        self.home.start(&spec)
    }
}

#[test]
fn a_node_that_lost_its_state_directory_is_heard_again_at_once() {
    let site = Site::new();
    let a = site.home.start(&site.spec("gw-a", &site.home.path().join("state-a")));
    let b = site.start_thrice("gw-b");
    wait_for_alive(&a, "gw-b", true);
    assert_eq!(b.get_json("/api/v1/node")["session"], 3);
    b.kill9();
    wait_for_alive(&a, "gw-b", false);

    let empty = site.home.path().join("state-empty");
    let b = site.home.start(&site.spec("gw-b", &empty));
    assert_eq!(b.get_json("/api/v1/node")["session"], 1, "it knows of nothing");
    let raised = b.wait_for_event(PATIENCE, "session.raised");
    assert!(raised["reason"].as_str().is_some_and(|reason| reason.contains("session 4 from now on")), "{raised}");
    wait_for_alive(&a, "gw-b", true);
    assert_eq!(std::fs::read_to_string(empty.join("session")).unwrap().trim(), "4");
    assert_eq!(b.events("session.raised").len(), 1);
    let so_far = ignored(&a, "stale");
    let seen = Subscriber::start(&site.broker.address(), &format!("{JSON}/discovery/gw-b"));
    wait_until(PATIENCE, "it goes on", || (seen.count() > 3).then_some(()));
    assert_eq!(ignored(&a, "stale"), so_far, "nothing that it says is old any more");
    assert!(b.events("node.duplicate").is_empty() && a.events("node.duplicate").is_empty());
}

#[test]
fn a_second_box_with_the_credential_and_an_empty_state_directory_is_told_apart() {
    let site = Site::new();
    let first = site.start_thrice("gw-b");
    let seen = Subscriber::start(&site.broker.address(), &format!("{JSON}/#"));
    seen.wait_for_topic(&format!("{JSON}/discovery/gw-b"));
    let second = site.home.start(&site.spec("gw-b", &site.home.path().join("state-copy")));
    second.wait_for_event(PATIENCE, "session.raised");
    wait_until(PATIENCE, "one of the two says so", || {
        let told = |node: &Node| !node.events("node.duplicate").is_empty();
        (told(&first) || told(&second)).then_some(())
    });
    // They do not outbid each other.
    assert!(first.events("session.raised").len() <= 1 && second.events("session.raised").len() == 1);
}

#[test]
fn who_hears_nothing_kept_asks_who_is_there_and_who_does_hear_does_not() {
    let site = Site::new();
    let seen = Subscriber::start(&site.broker.address(), &format!("{JSON}/node/all/command/who"));
    let a = site.home.start(&site.spec("gw-a", &site.home.path().join("state-a")));
    let asked = seen.wait_for("it asks", |message| !message.is_empty()).json();
    assert_eq!((&asked["from"], &asked["name"]), (&"gw-a".into(), &"who".into()), "{asked}");
    let b = site.home.start(&site.spec("gw-b", &site.home.path().join("state-b")));
    wait_for_alive(&b, "gw-a", true);
    // Whoever asks has asked before the third announcement.
    let announced = Subscriber::start(&site.broker.address(), &format!("{JSON}/discovery/gw-b"));
    wait_until(PATIENCE, "it was there for a while", || (announced.count() > 4).then_some(()));
    assert_eq!(seen.count(), 1, "{:?}", seen.heard());
    assert_eq!(a.get_json("/api/v1/node")["broker_connected"], true);
}
