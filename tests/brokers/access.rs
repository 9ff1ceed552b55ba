//! The shipped rules for Mosquitto, as they are in `examples/mosquitto`, with real certificates: a node writes its own topics
//! and no other's, whatever it claims.

use std::path::Path;

use crate::certificates::Certificates;
use crate::mosquitto::run;
use crate::peer::{Peer, live, retained, unique};
use crate::process::{Running, free_port};
use crate::site::Door;

pub(crate) const FLEETS: [&str; 2] = ["tidegate/v1/plant-a", "tidegate-json/v1/plant-a"];

struct Fleet {
    /// Before its folder, so that it ends first.
    _running: Running,
    certificates: Certificates,
    port: u16,
}

impl Fleet {
    fn start() -> Self {
        let (certificates, port) = (Certificates::make(), free_port());
        for (authority, file) in [("ca", "gateway-1"), ("ca", "gateway-2"), ("ca", "operator-1")] {
            certificates.node(authority, file, file);
        }
        let folder = certificates.folder();
        std::fs::create_dir(folder.join("certs")).unwrap();
        for file in ["ca.pem", "server.pem", "server-key.pem"] {
            std::fs::copy(folder.join(file), folder.join("certs").join(file)).unwrap();
        }
        shipped("tidegate.conf", &folder.join("mosquitto.conf"), |text| {
            let here = text.replace("/etc/mosquitto/", &format!("{}/", folder.display()));
            let moved = here.replace("listener 8883", &format!("listener {port} 127.0.0.1"));
            assert_ne!(moved, here, "the port stands in the example");
            format!("user root\n{moved}")
        });
        shipped("tidegate.acl", &folder.join("tidegate.acl"), |text| text);
        let running = run(folder, port);
        Self { _running: running, certificates, port }
    }

    fn door(&self, who: &str) -> Door {
        let tls = Some(self.certificates.tls("ca", Some(who)));
        Door { host: "127.0.0.1", port: self.port, login: None, tls }
    }

    /// One that hears all that is said in the fleet.
    fn listener(&self) -> Peer {
        let end = "tidegate/v1/plant-a/node/operator-1/up";
        let filters = FLEETS.map(|fleet| format!("{fleet}/#"));
        let peer =
            Peer::start(&self.door("operator-1"), &unique("operator"), &filters.each_ref().map(String::as_str), None);
        peer.publish(live(end, "up"));
        peer.wait_for_payload(end, "up");
        peer
    }
}

fn shipped(name: &str, to: &Path, edit: impl FnOnce(String) -> String) {
    let path = format!("{}/examples/mosquitto/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(to, edit(std::fs::read_to_string(path).unwrap())).unwrap();
}

/// All topics that a node has, by `docs/wire.cddl` and the table of the design.
pub(crate) fn topics_of(node: &str) -> Vec<String> {
    let below = ["discovery/#", "discovery/#/l-1", "node/#/state", "node/#/load", "node/#/service/digits"];
    let more = ["node/#/burst/l-1", "node/#/event/burst.started", "node/#/response/r-1"];
    let topics = below.into_iter().chain(more).map(|topic| topic.replace('#', node));
    topics.flat_map(|topic| FLEETS.map(|fleet| format!("{fleet}/{topic}"))).collect()
}

/// Says something on every topic, and an own word at the end; once that is heard, what is to be heard of the others is.
pub(crate) fn try_all(writer: &Peer, own: &str, topics: &[String], payload: &str) {
    topics.iter().for_each(|topic| writer.publish(retained(topic, payload)));
    writer.publish(live(&format!("{}/node/{own}/event/end", FLEETS[0]), payload));
}

pub(crate) fn heard_of(listener: &Peer, own: &str, payload: &str) -> Vec<String> {
    let end = format!("{}/node/{own}/event/end", FLEETS[0]);
    listener.wait_for_payload(&end, payload);
    let said = listener.heard().into_iter().filter(|message| message.payload == payload.as_bytes());
    let mut topics: Vec<_> = said.map(|message| message.topic).filter(|topic| *topic != end).collect();
    topics.sort_unstable();
    topics
}

pub(crate) fn sorted(mut topics: Vec<String>) -> Vec<String> {
    topics.sort_unstable();
    topics
}

#[test]
fn a_node_writes_its_own_topics_and_no_others_whatever_it_claims() {
    let fleet = Fleet::start();
    let listener = fleet.listener();
    let own = Peer::start(&fleet.door("gateway-1"), &unique("gateway-1"), &[], None);
    try_all(&own, "gateway-1", &topics_of("gateway-1"), "mine");
    assert_eq!(heard_of(&listener, "gateway-1", "mine"), sorted(topics_of("gateway-1")));

    // What the fleet believes counts by a root's signature, whoever carries it.
    let beyond = ["tidegate/v1/plant-b/discovery/gateway-1", "tidegate/v1/plant-b/fleet/trust", "$SYS/x", "elsewhere"];
    let commands = ["gateway-1", "gateway-2"].map(|node| format!("tidegate/v1/plant-a/node/{node}/command/drain"));
    let mut others = topics_of("gateway-2");
    others.extend(beyond.map(str::to_owned));
    others.push(commands[1].clone());
    // Also what only looks like its own.
    others.extend(["discovery/gateway-10", "node/gateway-10/state"].map(|topic| format!("{}/{topic}", FLEETS[0])));
    try_all(&own, "gateway-1", &others, "not mine");
    assert_eq!(heard_of(&listener, "gateway-1", "not mine"), Vec::<String>::new());

    assert_eq!(own.status().connections, 1, "what is refused costs no connection");

    // With the other's user name, and with its client id as a node makes it.
    let claims = Some(("gateway-2".to_owned(), "any".to_owned()));
    let claiming =
        Peer::start(&Door { login: claims, ..fleet.door("gateway-1") }, "tidegate_plant-a_gateway-2_cbor", &[], None);
    try_all(&claiming, "gateway-1", &others, "claimed");
    assert_eq!(heard_of(&listener, "gateway-1", "claimed"), Vec::<String>::new());

    // A Last Will is a message like others.
    let state = format!("{}/node/gateway-2/state", FLEETS[0]);
    let willed = Peer::start(&fleet.door("gateway-1"), &unique("willed"), &[], Some(retained(&state, "willed")));
    willed.wait_connected(1);
    drop(willed);
    let other = Peer::start(&fleet.door("gateway-2"), &unique("gateway-2"), &[], None);
    try_all(&other, "gateway-2", &topics_of("gateway-2"), "the other's own");
    assert_eq!(heard_of(&listener, "gateway-2", "the other's own"), sorted(topics_of("gateway-2")));
    assert!(listener.payloads(&state).iter().all(|payload| payload != "willed"));
}

#[test]
fn operators_command_nodes_answer_and_everyone_in_the_fleet_reads() {
    let fleet = Fleet::start();
    let listener = fleet.listener();
    let command = format!("{}/node/gateway-2/command/drain", FLEETS[0]);
    let trust = format!("{}/fleet/trust", FLEETS[0]);
    let node = Peer::start(&fleet.door("gateway-2"), &unique("gateway-2"), &[&command, &trust], None);
    node.wait_connected(1);
    let operator = Peer::start(&fleet.door("operator-1"), &unique("operator"), &[], None);
    operator.publish(retained(&trust, "roots"));
    operator.publish(retained(&command, "please"));
    node.wait_for_payload(&trust, "roots");
    node.wait_for_payload(&command, "please");
    // It clears what a node left behind; to a broker that is a message like any other, and a node says its own again.
    operator.publish(retained(&format!("{}/node/gateway-3/state", FLEETS[0]), ""));
    let elsewhere = ["tidegate/v1/plant-b/node/gateway-2/state".to_owned()];
    try_all(&operator, "operator-1", &elsewhere, "not mine");
    assert_eq!(heard_of(&listener, "operator-1", "not mine"), Vec::<String>::new());
    node.publish(live(&format!("{}/node/gateway-2/response/r-1", FLEETS[0]), "done"));
    listener.wait_for_payload(&format!("{}/node/gateway-2/response/r-1", FLEETS[0]), "done");
}

#[test]
fn nobody_comes_in_without_a_certificate_of_the_fleet() {
    let fleet = Fleet::start();
    fleet.certificates.node("other-ca", "foreign", "gateway-1");
    let ca = |node| Door { tls: Some(fleet.certificates.tls("ca", node)), ..fleet.door("gateway-1") };
    for door in [ca(None), ca(Some("foreign"))] {
        Peer::start(&door, &unique("stranger"), &[], None).wait_refused("certificate");
    }
    let clear = Door { tls: None, ..fleet.door("gateway-1") };
    Peer::start(&clear, &unique("stranger"), &[], None).wait_refused("closed");
}
