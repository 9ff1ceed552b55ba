//! What a day at the fleet's broker costs a node with the profile for mobile links: counted at a real broker, with the sizes
//! of real packets.

use edge_config::Profile;
use serde_json::Value;

use super::clients::{Broker, Message, Subscriber};
use super::embedded::{CBOR, mqtt};
use crate::support::{Home, Node, PATIENCE, Spec, wait_until};

/// Beside topic and payload: the type, a length of two bytes, the topic's length, a packet id, properties with an expiry.
const PACKET_OVERHEAD: usize = 1 + 2 + 2 + 2 + 6;
/// PINGREQ, and PINGRESP.
const PING_BYTES: usize = 2;
/// A mobile link that breaks each half hour, all day.
const CONNECTIONS_A_DAY: usize = 48;
/// Far more than a node on a quiet box says.
const EVENTS_A_DAY: usize = 200;
const DAY_S: usize = 86_400;

/// One replica of the model that is compiled in, and no cloud.
const SERVICE: &str = "[service.digits.local]\nruntime = 'onnx'\nmodel = 'builtin:digits'";

/// A node with the profile's own `[mqtt]`, at this broker.
fn cellular(broker: &Broker) -> (Spec, toml::Table) {
    let profile: toml::Table = Profile::Cellular.text().parse().unwrap();
    let mqtt = profile["mqtt"].as_table().unwrap().clone();
    let shipped = toml::to_string(&toml::Table::from_iter([("mqtt".to_owned(), mqtt.clone().into())])).unwrap();
    let spec = Spec::without_services().with(SERVICE).with(&shipped);
    (spec.with(&format!("[mqtt]\nuplink = [\"mqtt://{}\"]", broker.address())), mqtt)
}

fn uplink(node: &Node) -> Value {
    let links = node.get_json("/api/v1/node")["telemetry"]["links"].clone();
    links.as_array().unwrap().iter().find(|link| link["link"] == "uplink").cloned().expect("an uplink")
}

fn bytes(node: &Node, key: &str) -> usize {
    usize::try_from(uplink(node)[key].as_u64().unwrap()).unwrap()
}

fn seconds(mqtt: &toml::Table, key: &str) -> usize {
    let text = mqtt[key].as_str().unwrap_or_else(|| panic!("{key} is no duration"));
    usize::try_from(humantime::parse_duration(text).unwrap().as_secs()).unwrap()
}

/// On topics that end so, from this node.
fn said(ear: &Subscriber, below: &str) -> Vec<Message> {
    let topic = format!("{CBOR}/{below}");
    ear.heard().into_iter().filter(|message| message.topic == topic && !message.is_empty()).collect()
}

fn packet(message: &Message) -> usize {
    message.topic.len() + message.bytes.len() + PACKET_OVERHEAD
}

#[test]
fn a_day_on_a_mobile_link_costs_a_third_of_its_budget_and_hearing_the_fleet_is_left_out() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let ear = Subscriber::start(&broker.address(), "#");
    let (spec, settings) = cellular(&broker);
    let node = home.start(&spec);
    let [announced, load, service] = ["discovery/gateway-t", "node/gateway-t/load", "node/gateway-t/service/digits"]
        .map(|below| {
            ear.wait_for_topic(&format!("{CBOR}/{below}"));
            below
        });
    let started = ear.wait_for("the start", |m| m.topic.starts_with(&format!("{CBOR}/node/gateway-t/event/")));

    // All that was sent so far is one connection: greeting, Will, subscriptions, retained values, and the first events.
    let connection = bytes(&node, "sent_bytes");

    // At home there is a report each tick, and offers that change with each request.
    let at_home = Subscriber::start(&mqtt(&node), &format!("{CBOR}/node/gateway-t/load"));
    let requests = node.load(2);
    wait_until(PATIENCE, "40 ticks", || (at_home.count() >= 40).then_some(()));
    requests.stop().assert_sound();
    for below in [announced, load, service] {
        let count = said(&ear, below).len();
        assert!(count <= 1, "{count} of {below} in ten minutes");
    }

    // The fleet is not heard: 200 announcements of others cost nothing. A question to all is, and comes after them.
    let before = bytes(&node, "received_bytes");
    let mut crowd = super::publisher::Publisher::connect(&broker.address(), "crowd");
    (0..200).for_each(|n| crowd.publish(&format!("{CBOR}/discovery/other-{n}"), &[0x41; 500], true));
    let question = format!("{CBOR}/node/all/command/who");
    crowd.publish(&question, b"?", false);
    crowd.send();
    let heard = wait_until(PATIENCE, "the question is heard", || {
        Some(bytes(&node, "received_bytes") - before).filter(|bytes| *bytes > 0)
    });
    assert!(heard < 500, "{heard} bytes came");

    let [announced, load, service] = [announced, load, service].map(|below| packet(&said(&ear, below)[0]));
    let (interval, refresh) = (seconds(&settings, "uplink_load_interval"), seconds(&settings, "refresh"));
    let telemetry = DAY_S / interval * (load + service);
    let standing = DAY_S / refresh.min(interval) * announced;
    let pings = DAY_S / seconds(&settings, "keepalive") * PING_BYTES;
    let events = packet(&started) * EVENTS_A_DAY;
    let quiet = telemetry + standing + pings + connection;
    let busy = quiet + (CONNECTIONS_A_DAY - 1) * connection + events;
    println!(
        "load {load}, service {service}, announcement {announced}, event {}, connection {connection} bytes; a quiet day \
         {quiet} bytes sent, one with {CONNECTIONS_A_DAY} connections and {EVENTS_A_DAY} events {busy}",
        packet(&started)
    );
    let budget = usize::try_from(settings["uplink_daily_bytes"].as_integer().unwrap()).unwrap();
    assert!(quiet < budget / 3, "{quiet} bytes on a quiet day");
    assert!(busy < budget, "{busy} bytes on a day of broken connections");
    // What it would cost to hear a fleet of a thousand that announces as often.
    println!("a fleet of 1,000 would be {} bytes a day to hear", 1_000 * DAY_S / refresh * announced);
}
