//! A node on MQTT, seen by clients that are none of ours: Mosquitto's, paho with cbor2, and brokers that die, hang,
//! refuse and lie.

mod support;

#[path = "mqtt/clients.rs"]
mod clients;
#[path = "mqtt/publisher.rs"]
mod publisher;

#[path = "mqtt/burst.rs"]
mod burst;
#[path = "mqtt/embedded.rs"]
mod embedded;
#[path = "mqtt/external.rs"]
mod external;
#[path = "mqtt/faults.rs"]
mod faults;
#[path = "mqtt/fleet.rs"]
mod fleet;
#[path = "mqtt/flood.rs"]
mod flood;
#[path = "mqtt/hostile.rs"]
mod hostile;
#[path = "mqtt/infer.rs"]
mod infer;
#[path = "mqtt/kills.rs"]
mod kills;
#[path = "mqtt/outlived.rs"]
mod outlived;
#[path = "mqtt/page.rs"]
mod page;
#[path = "mqtt/peers.rs"]
mod peers;
#[path = "mqtt/proxy.rs"]
mod proxy;
#[path = "mqtt/renewal.rs"]
mod renewal;
#[path = "mqtt/story.rs"]
mod story;
#[path = "mqtt/uplink.rs"]
mod uplink;
#[path = "mqtt/uplink_cost.rs"]
mod uplink_cost;
