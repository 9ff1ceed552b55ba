//! What those who are let in may do: the same cases as for Mosquitto under the rules that we ship, and client ids beside.

use super::{Hub, member, wait_until_it_hears};
use crate::access::{FLEETS, heard_of, sorted, topics_of, try_all};
use crate::peer::{Peer, live, retained, unique};
use crate::site::Door;
use crate::support::{PATIENCE, wait_until};

/// One that hears all that is said in the fleet.
fn listener(hub: &Hub) -> Peer {
    let peer = member(
        hub,
        &hub.enroll("operator-1", "operator"),
        &FLEETS.map(|fleet| format!("{fleet}/#")).each_ref().map(String::as_str),
    );
    let end = "tidegate/v1/plant-a/node/operator-1/up";
    peer.publish(live(end, "up"));
    peer.wait_for_payload(end, "up");
    peer
}

#[test]
fn at_a_hub_a_node_writes_its_own_topics_and_no_others_whatever_it_claims() {
    let hub = Hub::start();
    let listener = listener(&hub);
    let files = hub.enroll("gateway-1", "node");
    let own = member(&hub, &files, &[]);
    try_all(&own, "gateway-1", &topics_of("gateway-1"), "mine");
    assert_eq!(heard_of(&listener, "gateway-1", "mine"), sorted(topics_of("gateway-1")));

    let beyond = ["tidegate/v1/plant-b/discovery/gateway-1", "tidegate/v1/plant-b/fleet/trust", "elsewhere"];
    let commands = ["gateway-1", "gateway-2"].map(|node| format!("tidegate/v1/plant-a/node/{node}/command/drain"));
    let mut others = topics_of("gateway-2");
    others.extend(beyond.map(str::to_owned));
    others.push(commands[1].clone());
    others.extend(["discovery/gateway-10", "node/gateway-10/state"].map(|topic| format!("{}/{topic}", FLEETS[0])));
    try_all(&own, "gateway-1", &others, "not mine");
    assert_eq!(heard_of(&listener, "gateway-1", "not mine"), Vec::<String>::new());
    assert_eq!(own.status().connections, 1, "what is refused costs no connection");

    // The user name of another is a word like any other where a certificate says who it is.
    let claims = Some(("gateway-2".to_owned(), "any".to_owned()));
    let door = hub.door(Some(&files));
    let claiming = Peer::start(&Door { login: claims, ..door.clone() }, &unique("claiming"), &[], None);
    try_all(&claiming, "gateway-1", &others, "claimed");
    assert_eq!(heard_of(&listener, "gateway-1", "claimed"), Vec::<String>::new());

    // A Last Will is a message like others, and refused before it can be one.
    let will = Some(retained(&format!("{}/node/gateway-2/state", FLEETS[0]), "willed"));
    Peer::start(&door, &unique("willed"), &[], will).wait_refused("NotAuthorized");
    assert!(hub.refused("last_will") > 0);
    let state = format!("{}/node/gateway-1/state", FLEETS[0]);
    let willed = Peer::start(&door, &unique("willed"), &[], Some(retained(&state, "willed")));
    willed.wait_connected(1);
    drop(willed);
    listener.wait_for_payload(&state, "willed");
}

#[test]
fn at_a_hub_operators_command_and_nodes_answer() {
    let hub = Hub::start();
    let listener = listener(&hub);
    let command = format!("{}/node/gateway-2/command/drain", FLEETS[0]);
    let node = member(&hub, &hub.enroll("gateway-2", "node"), &[&command]);
    let operator = member(&hub, &hub.enroll("operator-2", "operator"), &[]);
    wait_until_it_hears(&hub, &node, &command);
    operator.publish(live(&command, "please"));
    node.wait_for_payload(&command, "please");
    let elsewhere = ["tidegate/v1/plant-b/node/gateway-2/state".to_owned()];
    try_all(&operator, "operator-2", &elsewhere, "not mine");
    assert_eq!(heard_of(&listener, "operator-2", "not mine"), Vec::<String>::new());
    let answer = format!("{}/node/gateway-2/response/r-1", FLEETS[0]);
    node.publish(live(&answer, "done"));
    listener.wait_for_payload(&answer, "done");
}

#[test]
fn at_a_hub_nobody_reads_what_is_not_the_fleets() {
    let hub = Hub::start();
    let fleet = "tidegate-json/v1/plant-a/node/x/event/x";
    let filters = ["#", "tidegate/#", "sensors/#", "$share/g/#", "$share/g/sensors/#", "$SYS/#", fleet];
    let node = Peer::start(&hub.door(Some(&hub.enroll("gateway-1", "node"))), &unique("curious"), &filters, None);
    let watcher = Peer::start(&hub.watcher(), &unique("curious"), &filters, None);
    let own = Peer::up(&hub.own_box(), &["sensors/#"]);
    for peer in [&node, &watcher] {
        wait_until_it_hears(&hub, peer, fleet);
    }
    own.publish(live("sensors/door", "open"));
    own.wait_for_payload("sensors/door", "open");
    for peer in [&node, &watcher] {
        own.publish(live(fleet, "and then"));
        peer.wait_for_payload(fleet, "and then");
        let others: Vec<_> = peer.heard().into_iter().filter(|message| message.topic != fleet).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

#[test]
fn at_a_hub_nobody_ends_anothers_connection_by_its_client_id() {
    let hub = Hub::start();
    let (one, two) = (hub.enroll("gateway-1", "node"), hub.enroll("gateway-2", "node"));
    let id = "tidegate_plant-a_gateway-1_cbor";
    let first = Peer::start(&hub.door(Some(&one)), id, &[], None);
    first.wait_connected(1);
    // Of a node that is there, of the hub itself, and of one that has not come yet.
    for id in [id, "tidegate_plant-a_hub_cbor", "tidegate_plant-a_gateway-3_cbor"] {
        for door in [hub.door(Some(&two)), hub.watcher()] {
            Peer::start(&door, id, &[], None).wait_refused("ClientIdentifierNotValid");
        }
    }
    // A name that is no node's goes to who has it, and to the box before all others.
    let dashboard = Peer::start(&hub.own_box(), "dashboard", &[], None);
    dashboard.wait_connected(1);
    Peer::start(&hub.watcher(), "dashboard", &[], None).wait_refused("ClientIdentifierNotValid");
    let recorder = Peer::start(&hub.watcher(), "recorder", &[], None);
    recorder.wait_connected(1);
    let of_the_box = Peer::start(&hub.own_box(), "recorder", &[], None);
    of_the_box.wait_connected(1);
    drop(recorder);

    assert_eq!((first.status().connections, dashboard.status().connections), (1, 1));
    assert!(first.status().connected && dashboard.status().connected);
    // The node itself, after a break of its network, takes its name back.
    let again = Peer::start(&hub.door(Some(&one)), id, &[], None);
    again.wait_connected(1);
    wait_until(PATIENCE, "the former connection has ended", || (first.changes().len() > 1).then_some(()));
}
