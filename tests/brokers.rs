//! One conformance suite for every broker that Tidegate is meant for: the embedded one, Mosquitto and RabbitMQ, each real.
//!
//! `gaps` runs the cases and holds the table of what a broker is known to lack; a gap that is not there any more fails the
//! suite as a missing feature does. `access` tests the shipped Mosquitto rules with real certificates, `hub` a node's own broker
//! as its site's hub.

mod support;

#[path = "brokers/access.rs"]
mod access;
#[path = "brokers/cases.rs"]
mod cases;
#[path = "brokers/certificates.rs"]
mod certificates;
#[path = "brokers/embedded.rs"]
mod embedded;
#[path = "brokers/gaps.rs"]
mod gaps;
#[path = "brokers/hub.rs"]
mod hub;
#[path = "brokers/mosquitto.rs"]
mod mosquitto;
#[path = "brokers/peer.rs"]
mod peer;
#[path = "brokers/process.rs"]
mod process;
#[path = "brokers/rabbitmq.rs"]
mod rabbitmq;
#[path = "brokers/site.rs"]
mod site;
#[path = "brokers/stranger.rs"]
mod stranger;

#[test]
fn the_embedded_broker_conforms() {
    gaps::run(&mut embedded::Embedded::start());
}

#[test]
fn mosquitto_conforms() {
    gaps::run(&mut mosquitto::Mosquitto::start());
}

#[test]
fn rabbitmq_conforms() {
    gaps::run(&mut rabbitmq::RabbitMq::start());
}
