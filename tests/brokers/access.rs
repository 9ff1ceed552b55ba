//! The shipped rules for Mosquitto, as they are in `examples/mosquitto`, with real certificates: a node writes its own topics
//! and no other's, whatever it claims.

use std::path::Path;
use std::process::Command;

use tidegate::mqtt::Incoming;

use crate::certificates::Certificates;
use crate::mosquitto::run;
use crate::peer::{Peer, live, retained, unique};
use crate::process::{Running, free_port};
use crate::site::Door;
use crate::support::{PATIENCE, wait_until};

pub(crate) const FLEETS: [&str; 2] = ["tidegate/v1/plant-a", "tidegate-json/v1/plant-a"];

struct Fleet {
    /// Before its folder, so that it ends first.
    _running: Running,
    certificates: Certificates,
    port: u16,
    /// Where sensors come in.
    sensors: u16,
}

/// Sensors with a password each.
const SENSORS: [&str; 2] = ["cam-1", "cam-2"];
const PASSWORD: &str = "of a sensor";

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
        let sensors = free_port();
        let here = |text: String, listener: &str, port: u16| {
            let here = text.replace("/etc/mosquitto/", &format!("{}/", folder.display()));
            let moved = here.replace(listener, &format!("listener {port} 127.0.0.1"));
            assert_ne!(moved, here, "the port stands in the example");
            moved
        };
        std::fs::create_dir(folder.join("conf.d")).unwrap();
        let all = format!("user root\ninclude_dir {}\n", folder.join("conf.d").display());
        std::fs::write(folder.join("mosquitto.conf"), all).unwrap();
        shipped("tidegate.conf", &folder.join("conf.d/tidegate.conf"), |text| here(text, "listener 8883", port));
        shipped("tidegate_sensors.conf", &folder.join("conf.d/tidegate_sensors.conf"), |text| {
            here(text, "listener 8884", sensors)
        });
        for rules in ["tidegate.acl", "tidegate_sensors.acl"] {
            shipped(rules, &folder.join(rules), |text| text);
        }
        let passwords = folder.join("sensors.passwd");
        std::fs::write(&passwords, "").unwrap();
        for sensor in SENSORS {
            let made = Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([sensor, PASSWORD]).status();
            assert!(made.expect("mosquitto_passwd").success());
        }
        let running = run(folder, port);
        Self { _running: running, certificates, port, sensors }
    }

    /// Where a sensor comes in, with its password.
    fn sensor(&self, who: &str) -> Door {
        let tls = Some(self.certificates.tls("ca", None));
        Door { host: "127.0.0.1", port: self.sensors, login: Some((who.to_owned(), PASSWORD.to_owned())), tls }
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
fn a_sensor_asks_under_its_own_name_and_reads_its_own_replies_alone() {
    let fleet = Fleet::start();
    let listener = fleet.listener();
    let tree = FLEETS[0];
    let node = Peer::start(
        &fleet.door("gateway-1"),
        &unique("gateway-1"),
        &[&format!("$share/tidegate/{tree}/infer/digits/#")],
        None,
    );
    node.wait_connected(1);
    let everything = ["#", "$share/curious/tidegate/v1/plant-a/infer/digits/#", "tidegate/v1/plant-a/reply/#"];
    let curious = Peer::start(&fleet.sensor("cam-2"), &unique("cam-2"), &everything, None);
    curious.wait_connected(1);
    let own = format!("{tree}/reply/cam-1/#");
    let sensor = Peer::start(&fleet.sensor("cam-1"), &unique("cam-1"), &[&own], None);
    sensor.wait_connected(1);

    // Beside what it may, all that it may not: the last is heard once all before it would have been.
    let allowed = ["infer/digits/cam-1", "infer/digits/cam-1/17"].map(|below| format!("{tree}/{below}"));
    let mut refused: Vec<String> =
        ["infer/digits/cam-2", "infer/digits/cam-2/17", "infer/digits/cam-10", "reply/cam-1/x", "reply/cam-2/x", "x"]
            .map(|below| format!("{tree}/{below}"))
            .to_vec();
    refused.extend(topics_of("gateway-1").into_iter().chain(topics_of("cam-1")));
    refused.extend(["tidegate/v1/plant-b/infer/digits/cam-1", "tidegate/v1/plant-a/fleet/trust"].map(str::to_owned));
    refused.iter().for_each(|topic| sensor.publish(live(topic, "not mine")));
    for topic in &allowed {
        wait_until(PATIENCE, "the node is asked", || {
            sensor.publish(live(topic, "mine"));
            node.payloads(topic).contains(&"mine".to_owned()).then_some(())
        });
        listener.wait_for_payload(topic, "mine");
    }
    let heard = [listener.heard(), node.heard()].concat();
    assert!(heard.iter().all(|message| message.payload != b"not mine"), "{heard:?}");
    assert_eq!(sensor.status().connections, 1, "what is refused costs no connection");

    // Each reads what it is answered, whatever it has subscribed to.
    node.publish(live(&format!("{tree}/reply/cam-1/digits"), "a seven"));
    node.publish(live(&format!("{tree}/reply/cam-2/digits"), "a nine"));
    sensor.wait_for_payload(&format!("{tree}/reply/cam-1/digits"), "a seven");
    curious.wait_for_payload(&format!("{tree}/reply/cam-2/digits"), "a nine");
    for (peer, own) in [(&sensor, "cam-1"), (&curious, "cam-2")] {
        let is_own = |message: &Incoming| message.topic == format!("{tree}/reply/{own}/digits");
        assert!(peer.heard().iter().all(is_own), "{:?}", peer.heard());
    }

    // Neither by the other's password, nor without one.
    for login in [None, Some(("cam-1".to_owned(), "wrong".to_owned()))] {
        Peer::start(&Door { login, ..fleet.sensor("cam-1") }, &unique("stranger"), &[], None).wait_refused("password");
    }
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
