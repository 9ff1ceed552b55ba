//! The messages on MQTT, as packed CBOR and as their JSON mirror.
