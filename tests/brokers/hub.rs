//! A real node as its site's hub, set up by the very commands and lines that `tidegate fleet init` prints.

use std::path::PathBuf;

use serde_json::Value;
use tidegate::tls::{BrokerTls, NodeCertificate};

use crate::peer::{Peer, live, unique};
use crate::process::free_port;
use crate::site::Door;
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

#[path = "hub/access.rs"]
mod access;
#[path = "hub/entry.rs"]
mod entry;
#[path = "hub/nodes.rs"]
mod nodes;
#[path = "hub/sensors.rs"]
mod sensors;
#[path = "hub/watch.rs"]
mod watch;

const FLEET: &str = "plant-a";

/// A fleet's folder, a hub that is of it, and what `fleet init` said.
struct Hub {
    home: Home,
    port: u16,
    printed: String,
    node: Node,
}

impl Hub {
    fn start() -> Self {
        Self::with(|_| String::new())
    }

    /// With more in its configuration, made from the fleet's folder.
    fn with(more: impl Fn(&str) -> String) -> Self {
        let (home, port) = (Home::new(), free_port());
        let dir = home.path().join("fleet").display().to_string();
        let printed = fleet(&home, &["init", FLEET, "--dir", &dir, "--hub", &format!("127.0.0.1:{port}")]);
        let enroll = line_with(&printed, "fleet enroll hub");
        let words: Vec<&str> = enroll.split_whitespace().skip(2).collect();
        fleet(&home, &words);
        let lines = [line_with(&printed, "listen_tls = "), line_with(&printed, "users_file = ")];
        // Where the two differ from a real hub: loopback alone, and a file that is not in /etc.
        let lines =
            lines.join("\n").replace("0.0.0.0", "127.0.0.1").replace("/etc/tidegate/users", &format!("{dir}/users"));
        let spec =
            node_spec(&home, "hub").with(&format!("[mqtt]\n{lines}\nlisten = \"127.0.0.1:0\"")).with(&more(&dir));
        let node = home.start(&spec);
        Self { home, port, printed, node }
    }

    /// Lets somebody in; the folder with their files.
    fn enroll(&self, name: &str, role: &str) -> PathBuf {
        fleet(&self.home, &["enroll", name, "--role", role, "--dir", &self.dir()]);
        self.files(name)
    }

    fn files(&self, name: &str) -> PathBuf {
        self.home.path().join("fleet/nodes").join(name)
    }

    fn dir(&self) -> String {
        self.home.path().join("fleet").display().to_string()
    }

    /// With the certificate in a folder, or none.
    fn door(&self, files: Option<&PathBuf>) -> Door {
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        let roots = read(self.home.path().join("fleet/roots.pem"));
        let own = files.map(|files| (read(files.join("node.pem")), read(files.join("node.key"))));
        let own = own.as_ref().map(|(chain, key)| NodeCertificate { chain, key });
        let tls = Some(BrokerTls::new(Some(&roots), own).unwrap());
        Door { host: "127.0.0.1", port: self.port, login: None, tls }
    }

    /// The listener of the box.
    fn own_box(&self) -> Door {
        let (_, port) = self.node.addresses.mqtt.as_deref().unwrap().rsplit_once(':').unwrap();
        Door { host: "127.0.0.1", port: port.parse().unwrap(), login: None, tls: None }
    }

    /// With the password that `fleet init` has shown.
    fn watcher(&self) -> Door {
        let command = self.watch_command();
        let word =
            |before: &str| command.split_whitespace().skip_while(|word| *word != before).nth(1).unwrap().to_owned();
        Door { login: Some((word("-u"), word("-P"))), ..self.door(None) }
    }

    /// As it is printed, in one line.
    fn watch_command(&self) -> String {
        let lines = self.printed.lines().skip_while(|line| !line.contains("mosquitto_sub")).take(2);
        lines.map(|line| line.trim().trim_end_matches('\\')).collect::<Vec<_>>().join(" ")
    }

    /// How many were not let in for a reason.
    fn refused(&self, reason: &str) -> u64 {
        self.metric(&format!("tidegate_mqtt_refused_total{{reason=\"{reason}\"}} "))
    }

    fn metric(&self, start: &str) -> u64 {
        let metrics = self.node.console("/metrics").text();
        metrics.lines().find_map(|line| line.strip_prefix(start)).map_or(0, |count| count.parse().unwrap())
    }

    /// Revokes somebody, and gives the hub the word.
    fn revoke(&self, name: &str) {
        fleet(&self.home, &["revoke", name, "--dir", &self.dir()]);
        self.give_trust();
    }

    fn give_trust(&self) {
        let trust = self.home.path().join("fleet/trust.cbor");
        std::fs::copy(trust, self.files("hub").join("trust.cbor")).unwrap();
    }
}

fn fleet(home: &Home, arguments: &[&str]) -> String {
    let ended = home.command(&[&["fleet"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    ended.stdout
}

fn line_with(printed: &str, words: &str) -> String {
    printed.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {printed}")).trim().to_owned()
}

/// A node of the fleet with its credential, quick to say everything again and to look at its files.
fn node_spec(home: &Home, name: &str) -> Spec {
    let credentials = home.path().join("fleet/nodes").join(name);
    let state_dir = home.path().join(format!("state-{name}"));
    Spec::new().with("[service.digits.local]\nmax_replicas = 1").with(&format!(
        "[node]\nid = {name:?}\nfleet = {FLEET:?}\nstate_dir = {state_dir:?}\ncredentials = {credentials:?}\n\
         [mqtt]\nrefresh = '1s'\nkeepalive = '5s'"
    ))
}

/// A link with a certificate, which says that it is up.
fn member(hub: &Hub, files: &PathBuf, filters: &[&str]) -> Peer {
    let peer = Peer::start(&hub.door(Some(files)), &unique("member"), filters, None);
    peer.wait_connected(1);
    peer
}

/// Waits until what was subscribed stands: a word of the box that all may read comes through.
fn wait_until_it_hears(hub: &Hub, peer: &Peer, topic: &str) {
    let own = Peer::start(&hub.own_box(), &unique("box"), &[], None);
    wait_until(PATIENCE, &format!("{topic} is heard"), || {
        own.publish(live(topic, "heard?"));
        (!peer.payloads(topic).is_empty()).then_some(())
    });
}

/// What a node knows of another one.
fn seen(node: &Node, other: &str) -> Option<Value> {
    let all = node.get_json("/api/v1/discovery");
    let of_other = |one: &&Value| one["node"] == other && one["own"] == false && one["instance"].is_null();
    all.as_array().and_then(|all| all.iter().find(of_other).cloned())
}
