//! Bytes over MQTT: the link to a broker and the embedded broker.
