//! `rumqttc`'s client for MQTT 3.1.1: our words into its own and back. There is no expiry of messages in this version.

use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, LastWill, Packet, SubscribeReasonCode};
use rumqttc::mqttbytes::{self, QoS};
use rumqttc::{
    AsyncClient, ConnectionError, Event, MqttOptions, Outgoing as Sent, StateError, TlsConfiguration, Transport,
};

use super::failure::Failure;
use super::session::{Happening, MAX_INFLIGHT, Step};
use super::traffic::{PUBACK_BYTES, SHORT_BYTES, packet_bytes};
use super::{LinkOptions, Protocol};
use crate::mqtt::{Incoming, MAX_PACKET_BYTES, Outgoing, Qos};

/// The link has judged topic and payload; this leaves room for the packet's own few bytes.
const MAX_OUTGOING_BYTES: usize = MAX_PACKET_BYTES as usize + 64;

pub(super) fn options(options: &LinkOptions) -> MqttOptions {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    mqtt.set_keep_alive(options.keepalive)
        .set_clean_session(true)
        .set_max_packet_size(MAX_PACKET_BYTES as usize, MAX_OUTGOING_BYTES)
        .set_inflight(MAX_INFLIGHT);
    if let Some((user, password)) = &options.credentials {
        mqtt.set_credentials(user, password);
    }
    if let Some(tls) = &options.tls {
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.client_config())));
    }
    if let Some(will) = &options.last_will {
        mqtt.set_last_will(LastWill::new(&will.topic, will.payload.clone(), qos(will.qos), will.retained));
    }
    mqtt
}

pub(super) fn publish(client: &AsyncClient, message: &Outgoing) -> bool {
    client.try_publish(&message.topic, qos(message.qos), message.retained, message.payload.clone()).is_ok()
}

pub(super) fn connect_bytes(options: &MqttOptions) -> usize {
    let mut connect = Connect::new(options.client_id());
    (connect.last_will, connect.login) = (options.last_will(), options.credentials());
    connect.size()
}

/// Topic, packet id, payload.
pub(super) fn publish_bytes(message: &Outgoing) -> usize {
    let packet_id = if message.qos == Qos::AtMostOnce { 0 } else { 2 };
    packet_bytes(2 + message.topic.len() + packet_id + message.payload.len())
}

/// Packet id, one filter with its level.
pub(super) fn subscribe_bytes(filter: &str) -> usize {
    packet_bytes(2 + 2 + filter.len() + 1)
}

pub(super) fn step(event: Event) -> Step {
    let (received, sent) = match &event {
        Event::Incoming(packet) => (packet.size(), 0),
        Event::Outgoing(Sent::PubAck(_)) => (0, PUBACK_BYTES),
        Event::Outgoing(Sent::PingReq | Sent::Disconnect) => (0, SHORT_BYTES),
        Event::Outgoing(_) => (0, 0),
    };
    Step { happening: happening(event), received, sent }
}

fn happening(event: Event) -> Happening {
    match event {
        // In this version no broker tells the largest packet that it takes.
        Event::Incoming(Packet::ConnAck(_)) => Happening::Up(None),
        Event::Incoming(Packet::Publish(publish)) => Happening::Received(Incoming {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            retained: publish.retain,
            expiry: None,
            properties: None,
        }),
        Event::Incoming(Packet::PubAck(ack)) => Happening::Acknowledged(ack.pkid),
        Event::Incoming(Packet::SubAck(ack)) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
            Happening::NotSubscribed("no reason in this version".to_owned())
        }
        Event::Outgoing(Sent::Publish(packet_id)) => Happening::Sent(packet_id),
        _ => Happening::Other,
    }
}

pub(super) fn failure(error: &ConnectionError) -> Failure {
    match error {
        ConnectionError::ConnectionRefused(code) => refusal(*code),
        ConnectionError::Tls(error) => Failure::of_tls(error),
        ConnectionError::Io(error) => Failure::of_connecting(error),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Failure::silent(),
        ConnectionError::NotConnAck(_) => Failure::no_broker(),
        ConnectionError::MqttState(error) => of_state(error),
        other => Failure::unreachable(other.to_string()),
    }
}

fn of_state(error: &StateError) -> Failure {
    match error {
        StateError::ConnectionAborted => Failure::closed(),
        StateError::Deserialization(mqttbytes::Error::Io(error)) | StateError::Io(error) => Failure::of_stream(error),
        StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(bytes)) => Failure::oversized(*bytes),
        StateError::Deserialization(error) => Failure::not_mqtt(Protocol::V311, error),
        StateError::AwaitPingResp | StateError::CollisionTimeout => Failure::without_answer(),
        other => Failure::unreachable(other.to_string()),
    }
}

fn refusal(code: ConnectReturnCode) -> Failure {
    use ConnectReturnCode::{BadUserNamePassword, NotAuthorized, RefusedProtocolVersion};
    match code {
        RefusedProtocolVersion => Failure::refuses_version(Protocol::V311),
        BadUserNamePassword | NotAuthorized => Failure::refuses_credentials(&code),
        other => Failure::refuses(&other),
    }
}

pub(super) fn qos(level: Qos) -> QoS {
    match level {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::failure::FailureKind;
    use super::*;

    fn of_packet(error: mqttbytes::Error) -> Failure {
        failure(&ConnectionError::MqttState(StateError::Deserialization(error)))
    }

    #[test]
    fn how_a_connection_ended_is_told_as_in_version_5() {
        let oversized = of_packet(mqttbytes::Error::PayloadSizeLimitExceeded(200_000));
        assert_eq!(oversized.kind, FailureKind::Oversized);
        assert!(oversized.reason.contains("a packet of 200000 bytes"), "{}", oversized.reason);
        assert_eq!(of_packet(mqttbytes::Error::Io(io::ErrorKind::UnexpectedEof.into())).kind, FailureKind::Closed);
        let nonsense = of_packet(mqttbytes::Error::InvalidPacketType(0));
        assert!(nonsense.reason.contains("not MQTT 3.1.1"), "{}", nonsense.reason);
        for silent in [ConnectionError::NetworkTimeout, ConnectionError::FlushTimeout] {
            assert!(failure(&silent).reason.contains("does not answer"), "{silent}");
        }
        let refused = failure(&ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion));
        assert_eq!(refused.kind, FailureKind::RefusesVersion);
    }
}
