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
#[path = "mqtt/fleet.rs"]
mod fleet;
#[path = "mqtt/flood.rs"]
mod flood;
#[path = "mqtt/hostile.rs"]
mod hostile;
#[path = "mqtt/page.rs"]
mod page;
