//! `rumqttc`'s client for MQTT 5: our words into its own and back.

use std::time::Duration;

use rumqttc::Outgoing as Sent;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, Filter, LastWill, LastWillProperties, Packet, PubAck, PubAckReason,
    Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions, StateError, mqttbytes};
use rumqttc::{TlsConfiguration, Transport};

use super::failure::Failure;
use super::session::{CONNECT_TIMEOUT_S, Happening, MAX_INFLIGHT, Step};
use super::traffic::{PUBACK_BYTES, SHORT_BYTES, length_bytes, packet_bytes};
use super::{LinkOptions, Protocol, whole_seconds};
use crate::mqtt::{Incoming, MAX_PACKET_BYTES, Outgoing, Properties, Qos};

/// CONNACK's return codes of 3.1.1, as brokers of that age send them in whatever frame: 1 is the version, 4 and 5 are the
/// password and the permission.
const OLD_REFUSES_VERSION: u8 = 1;
const OLD_REFUSES_CREDENTIALS: [u8; 2] = [4, 5];

pub(super) fn options(options: &LinkOptions) -> MqttOptions {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
    let connect = ConnectProperties { max_packet_size: Some(MAX_PACKET_BYTES), ..ConnectProperties::new() };
    mqtt.set_connect_properties(connect)
        .set_keep_alive(options.keepalive)
        .set_clean_start(true)
        .set_connection_timeout(CONNECT_TIMEOUT_S)
        .set_outgoing_inflight_upper_limit(MAX_INFLIGHT);
    if let Some((user, password)) = &options.credentials {
        mqtt.set_credentials(user, password);
    }
    if let Some(tls) = &options.tls {
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.client_config())));
    }
    if let Some(will) = &options.last_will {
        mqtt.set_last_will(last_will(will));
    }
    mqtt
}

fn last_will(will: &Outgoing) -> LastWill {
    let properties = will.expiry.map(|expiry| LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: Some(whole_seconds(expiry)),
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    });
    LastWill::new(&will.topic, will.payload.clone(), qos(will.qos), will.retained, properties)
}

pub(super) fn publish(client: &AsyncClient, message: &Outgoing) -> bool {
    let properties = publish_properties(message);
    let (topic, payload) = (message.topic.clone(), message.payload.clone());
    client.try_publish_with_properties(topic, qos(message.qos), message.retained, payload, properties).is_ok()
}

fn publish_properties(message: &Outgoing) -> PublishProperties {
    let said = message.properties.as_deref().cloned().unwrap_or_default();
    PublishProperties {
        message_expiry_interval: message.expiry.map(whole_seconds),
        response_topic: said.response_topic,
        correlation_data: said.correlation.map(Into::into),
        content_type: said.content_type,
        user_properties: said.user,
        ..PublishProperties::default()
    }
}

/// None where there is nothing in them that a message of ours may have.
fn properties(said: PublishProperties) -> Option<Box<Properties>> {
    let properties = Properties {
        response_topic: said.response_topic,
        correlation: said.correlation_data.map(Into::into),
        content_type: said.content_type,
        user: said.user_properties,
    };
    (properties != Properties::default()).then(|| Box::new(properties))
}

pub(super) fn subscribe(client: &AsyncClient, filter: &str, level: Qos, others_alone: bool) -> Result<(), String> {
    // To leave out one's own of what is shared among several is a protocol error (MQTT 5, 3.8.3.1).
    let nolocal = others_alone && !filter.starts_with("$share/");
    let filter = Filter { nolocal, ..Filter::new(filter, qos(level)) };
    client.try_subscribe_many([filter]).map_err(|error| error.to_string())
}

pub(super) fn connect_bytes(options: &MqttOptions) -> usize {
    let connect = Connect {
        // Its value has always two bytes.
        keep_alive: 0,
        client_id: options.client_id(),
        clean_start: options.clean_start(),
        properties: options.connect_properties(),
    };
    connect.size(&options.last_will(), &options.credentials())
}

/// Topic, packet id, the properties behind their length, payload.
pub(super) fn publish_bytes(message: &Outgoing) -> usize {
    let packet_id = if message.qos == Qos::AtMostOnce { 0 } else { 2 };
    let properties = properties_bytes(message);
    let of_length = length_bytes(properties);
    packet_bytes(2 + message.topic.len() + packet_id + of_length + properties + message.payload.len())
}

/// Each has a byte for its kind; texts and bytes have two for their length, names and values each.
fn properties_bytes(message: &Outgoing) -> usize {
    let expiry = if message.expiry.is_some() { 5 } else { 0 };
    let Some(properties) = &message.properties else { return expiry };
    let texts = [&properties.response_topic, &properties.content_type].into_iter().flatten().map(|text| 3 + text.len());
    let correlation = properties.correlation.iter().map(|bytes| 3 + bytes.len());
    let user = properties.user.iter().map(|(name, value)| 5 + name.len() + value.len());
    expiry + texts.chain(correlation).chain(user).sum::<usize>()
}

/// Packet id, no properties, one filter with its options.
pub(super) fn subscribe_bytes(filter: &str) -> usize {
    packet_bytes(2 + 1 + 2 + filter.len() + 1)
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
        Event::Incoming(Packet::ConnAck(answer)) => {
            Happening::Up(answer.properties.and_then(|said| said.max_packet_size))
        }
        Event::Incoming(Packet::Publish(publish)) => Happening::Received(received(publish)),
        Event::Incoming(Packet::PubAck(ack)) => acknowledged(&ack),
        Event::Incoming(Packet::SubAck(ack)) => subscribed(&ack.return_codes),
        Event::Outgoing(Sent::Publish(packet_id)) => Happening::Sent(packet_id),
        _ => Happening::Other,
    }
}

fn received(publish: Publish) -> Incoming {
    let said = publish.properties.unwrap_or_default();
    let expiry = said.message_expiry_interval.map(|seconds| Duration::from_secs(seconds.into()));
    Incoming {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.to_vec(),
        retained: publish.retain,
        expiry,
        properties: properties(said),
    }
}

/// That nobody listens is a success.
fn acknowledged(ack: &PubAck) -> Happening {
    match ack.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Happening::Acknowledged(ack.pkid),
        reason => Happening::NotTaken(ack.pkid, format!("{reason:?}")),
    }
}

fn subscribed(codes: &[SubscribeReasonCode]) -> Happening {
    let refused = codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
    refused.map_or(Happening::Other, |code| Happening::NotSubscribed(format!("{code:?}")))
}

pub(super) fn failure(error: &ConnectionError) -> Failure {
    match error {
        ConnectionError::ConnectionRefused(code) => refusal(*code),
        ConnectionError::Tls(error) => Failure::of_tls(error),
        ConnectionError::Io(error) => Failure::of_connecting(error),
        ConnectionError::Timeout(_) => Failure::silent(),
        ConnectionError::NotConnAck(_) => Failure::no_broker(),
        ConnectionError::MqttState(error) => of_state(error),
        other => Failure::unreachable(other.to_string()),
    }
}

fn of_state(error: &StateError) -> Failure {
    match error {
        StateError::ConnectionAborted => Failure::closed(),
        StateError::Deserialization(error) => of_packet(error),
        StateError::Io(error) => Failure::of_stream(error),
        StateError::AwaitPingResp | StateError::CollisionTimeout => Failure::without_answer(),
        StateError::IncomingPacketTooLarge { pkt_size, .. } => Failure::oversized(*pkt_size),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            Failure::ended_by_broker(reason_code, reason_string.as_deref())
        }
        other => Failure::unreachable(other.to_string()),
    }
}

fn refusal(code: ConnectReturnCode) -> Failure {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadUserNamePassword, Banned, NotAuthorized, RefusedProtocolVersion,
        UnsupportedProtocolVersion,
    };
    match code {
        UnsupportedProtocolVersion | RefusedProtocolVersion => Failure::refuses_version(Protocol::V5),
        BadUserNamePassword | NotAuthorized | Banned | BadAuthenticationMethod => Failure::refuses_credentials(&code),
        other => Failure::refuses(&other),
    }
}

fn of_packet(error: &mqttbytes::Error) -> Failure {
    match error {
        mqttbytes::Error::Io(error) => Failure::of_stream(error),
        mqttbytes::Error::InvalidConnectReturnCode(OLD_REFUSES_VERSION) => Failure::refuses_version(Protocol::V5),
        mqttbytes::Error::InvalidConnectReturnCode(code) if OLD_REFUSES_CREDENTIALS.contains(code) => {
            Failure::refuses_credentials(code)
        }
        mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size, .. } => Failure::oversized(*pkt_size),
        other => Failure::not_mqtt(Protocol::V5, other),
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

    use rumqttc::v5::mqttbytes::v5::SubAck;

    use super::super::failure::FailureKind;
    use super::*;

    fn kind_of_packet(error: mqttbytes::Error) -> FailureKind {
        failure(&ConnectionError::MqttState(StateError::Deserialization(error))).kind
    }

    #[test]
    fn only_a_refused_version_is_one() {
        use ConnectReturnCode::*;
        let refused = |code| failure(&ConnectionError::ConnectionRefused(code)).kind;
        assert_eq!(refused(UnsupportedProtocolVersion), FailureKind::RefusesVersion);
        for code in [BadUserNamePassword, NotAuthorized, Banned, ServerBusy, ClientIdentifierNotValid, QuotaExceeded] {
            assert_eq!(refused(code), FailureKind::Refuses, "{code:?}");
        }
        // As an old broker numbers them.
        assert_eq!(kind_of_packet(mqttbytes::Error::InvalidConnectReturnCode(1)), FailureKind::RefusesVersion);
        assert_eq!(kind_of_packet(mqttbytes::Error::InvalidConnectReturnCode(5)), FailureKind::Refuses);
    }

    #[test]
    fn an_end_without_a_word_is_told_from_a_broken_one() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
            assert_eq!(kind_of_packet(mqttbytes::Error::Io(kind.into())), FailureKind::Closed, "{kind}");
        }
        assert_eq!(failure(&ConnectionError::MqttState(StateError::ConnectionAborted)).kind, FailureKind::Closed);
        // What TLS says of a certificate, and a port where nobody listens.
        assert_eq!(kind_of_packet(mqttbytes::Error::Io(io::ErrorKind::InvalidData.into())), FailureKind::Unreachable);
        let nobody = ConnectionError::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(failure(&nobody).kind, FailureKind::Unreachable);
        assert_eq!(kind_of_packet(mqttbytes::Error::MalformedPacket), FailureKind::Unreachable);
        let oversized = mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size: 200_000, max: MAX_PACKET_BYTES };
        assert_eq!(kind_of_packet(oversized), FailureKind::Oversized);
    }

    #[test]
    fn what_a_broker_refuses_to_take_is_told_with_its_reason() {
        let ack = |reason| Event::Incoming(Packet::PubAck(PubAck { pkid: 7, reason, properties: None }));
        let refused = happening(ack(PubAckReason::NotAuthorized));
        assert!(matches!(&refused, Happening::NotTaken(7, why) if why == "NotAuthorized"), "{refused:?}");
        assert!(matches!(happening(ack(PubAckReason::NoMatchingSubscribers)), Happening::Acknowledged(7)));
        let subscribed = |code| {
            let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce), code];
            happening(Event::Incoming(Packet::SubAck(SubAck { pkid: 1, return_codes, properties: None })))
        };
        assert!(matches!(subscribed(SubscribeReasonCode::NotAuthorized), Happening::NotSubscribed(_)));
        assert!(matches!(subscribed(SubscribeReasonCode::Success(QoS::AtMostOnce)), Happening::Other));
    }
}
