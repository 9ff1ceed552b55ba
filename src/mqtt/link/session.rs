//! One connection, from CONNECT to its end, in either version of the protocol: all that the link knows of `rumqttc`.

use std::io;

use super::{LinkOptions, Protocol, v5, v311};
use crate::mqtt::{Incoming, Outgoing, Qos};

/// Unacknowledged publishes at once. The default of the client for version 5, 65,535, costs 14 MB of memory.
pub(super) const MAX_INFLIGHT: u16 = 64;
/// Room between the feeder and the event loop.
pub(super) const CHANNEL_CAPACITY: usize = 32;
/// From the first packet of TCP to CONNACK; a name server and a handshake over a mobile link fit in.
pub(super) const CONNECT_TIMEOUT_S: u64 = 5;

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Happening {
    /// The broker accepted us.
    Up,
    Received(Incoming),
    /// The broker is done with the publish of this packet id.
    Acknowledged(u16),
    /// The same, but it did not take it, and says why (MQTT 5 alone).
    NotTaken(u16, String),
    /// It takes no subscription to one of the filters, and says why.
    NotSubscribed(String),
    /// A publish went out under this packet id; 0 is at-most-once and has none.
    Sent(u16),
    /// Nothing that matters to us.
    Other,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// In words, with what to do where it is for people to do something.
    pub(super) reason: String,
}

/// What a failure says of the broker's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// It does not speak this one.
    RefusesVersion,
    /// It speaks this one, and refuses for another reason.
    Refuses,
    /// It closed the connection without a word.
    Closed,
    /// There was no talk with a broker: no network, no TLS, no answer.
    Unreachable,
}

/// Where messages go in; clones share the connection.
#[derive(Clone)]
pub(super) enum Client {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// The other end of a [`Client`]; it waits for the network.
pub(super) enum Connection {
    V5(Box<rumqttc::v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// Both ends of a connection that is made when it is first polled. Fresh each time: a used one keeps requests, packet ids and
/// collisions of the old connection, and sends them into the new one or waits for their acknowledgement for ever.
pub(super) fn open(options: &LinkOptions, protocol: Protocol) -> (Client, Connection) {
    match protocol {
        Protocol::V5 => {
            let (client, events) = rumqttc::v5::AsyncClient::new(v5::options(options), CHANNEL_CAPACITY);
            (Client::V5(client), Connection::V5(Box::new(events)))
        }
        Protocol::V311 => {
            let (client, mut events) = rumqttc::AsyncClient::new(v311::options(options), CHANNEL_CAPACITY);
            events.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
            (Client::V311(client), Connection::V311(Box::new(events)))
        }
    }
}

impl Connection {
    /// The next thing that happens; after a failure there is nothing more.
    pub(super) async fn next(&mut self) -> Result<Happening, Failure> {
        match self {
            Self::V5(events) => events.poll().await.map(v5::happening).map_err(|error| v5::failure(&error)),
            Self::V311(events) => events.poll().await.map(v311::happening).map_err(|error| v311::failure(&error)),
        }
    }
}

impl Client {
    /// Returns whether there was room for it.
    pub(super) fn publish(&self, message: &Outgoing) -> bool {
        match self {
            Self::V5(client) => v5::publish(client, message),
            Self::V311(client) => v311::publish(client, message),
        }
    }

    pub(super) fn subscribe(&self, filter: &str, level: Qos, others_alone: bool) {
        let asked = match self {
            Self::V5(client) => v5::subscribe(client, filter, level, others_alone),
            Self::V311(client) => client.try_subscribe(filter, v311::qos(level)).map_err(|error| error.to_string()),
        };
        if let Err(error) = asked {
            tracing::warn!(%error, filter, "could not subscribe; trying again with the next connection");
        }
    }

    /// Ends the connection so that the Last Will stays unsaid.
    pub(super) fn say_goodbye(&self) {
        let asked = match self {
            Self::V5(client) => client.try_disconnect().map_err(|error| error.to_string()),
            Self::V311(client) => client.try_disconnect().map_err(|error| error.to_string()),
        };
        if let Err(error) = asked {
            tracing::debug!(%error, "no goodbye to the MQTT broker");
        }
    }
}

impl Failure {
    pub(super) fn refuses(code: &dyn std::fmt::Debug) -> Self {
        Self { kind: FailureKind::Refuses, reason: format!("the broker refuses this node ({code:?})") }
    }

    pub(super) fn refuses_credentials(code: &dyn std::fmt::Debug) -> Self {
        let advice = "check mqtt.username and mqtt.password_file, or the certificate";
        Self { kind: FailureKind::Refuses, reason: format!("the broker refuses this node ({code:?}): {advice}") }
    }

    pub(super) fn refuses_version(protocol: Protocol) -> Self {
        Self { kind: FailureKind::RefusesVersion, reason: format!("the broker does not speak {protocol}") }
    }

    pub(super) fn closed() -> Self {
        Self { kind: FailureKind::Closed, reason: "the broker closed the connection".to_owned() }
    }

    pub(super) fn unreachable(reason: String) -> Self {
        Self { kind: FailureKind::Unreachable, reason }
    }

    /// From reading or writing a connection that stood: at its end, or broken by what came in.
    pub(super) fn of_stream(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Self::closed(),
            _ => Self::unreachable(explained(error)),
        }
    }

    pub(super) fn of_tls(error: &rumqttc::TlsError) -> Self {
        match error {
            rumqttc::TlsError::Io(error) => Self::unreachable(format!("no TLS with the broker: {}", explained(error))),
            other => Self::unreachable(format!("no TLS with the broker: {other}")),
        }
    }
}

/// What the TLS library says, with the setting that it is about. In TLS 1.3 a broker tells what it thinks of our certificate
/// only after the handshake, so such words come from any read.
fn explained(error: &io::Error) -> String {
    let said = error.to_string();
    let advice = [
        ("invalid peer certificate", "check mqtt.ca_file, the name in mqtt.broker and this box's clock"),
        ("CertificateRequired", "it wants a certificate: set mqtt.certificate_file and mqtt.key_file"),
        ("received fatal alert", "check mqtt.certificate_file and mqtt.key_file"),
    ];
    let fitting = advice.iter().find(|(words, _)| said.contains(words));
    fitting.map_or(said.clone(), |(_, advice)| format!("{said}: {advice}"))
}
