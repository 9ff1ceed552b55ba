//! How a connection ended: what that says of the broker, and in words, with what to do where it is for people to do
//! something.

use std::fmt::{Debug, Display};
use std::io;

use super::Protocol;
use crate::mqtt::MAX_PACKET_BYTES;

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// In words.
    pub(super) reason: String,
}

/// What a failure says of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// It does not speak this version.
    RefusesVersion,
    /// It speaks this version, and refuses for another reason.
    Refuses,
    /// It closed the connection without a word.
    Closed,
    /// It sent a packet larger than we take.
    Oversized,
    /// There was no talk with a broker: no network, no TLS, no answer, or none that is MQTT.
    Unreachable,
}

impl Failure {
    pub(super) fn refuses(code: &dyn Debug) -> Self {
        Self { kind: FailureKind::Refuses, reason: format!("the broker refuses this node ({code:?})") }
    }

    pub(super) fn refuses_credentials(code: &dyn Debug) -> Self {
        let advice = "check mqtt.username and mqtt.password_file, or the certificate";
        Self { kind: FailureKind::Refuses, reason: format!("the broker refuses this node ({code:?}): {advice}") }
    }

    pub(super) fn refuses_version(protocol: Protocol) -> Self {
        Self { kind: FailureKind::RefusesVersion, reason: format!("the broker does not speak {protocol}") }
    }

    pub(super) fn closed() -> Self {
        Self { kind: FailureKind::Closed, reason: "the broker closed the connection".to_owned() }
    }

    pub(super) fn oversized(bytes: usize) -> Self {
        let reason = format!("the broker sent a packet of {bytes} bytes, this node takes {MAX_PACKET_BYTES}");
        Self { kind: FailureKind::Oversized, reason }
    }

    pub(super) fn unreachable(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unreachable, reason: reason.into() }
    }

    /// No answer to CONNECT, or a connection that takes no bytes.
    pub(super) fn silent() -> Self {
        Self::unreachable("the broker does not answer, or takes nothing any more")
    }

    /// No answer to pings.
    pub(super) fn without_answer() -> Self {
        Self::unreachable("the broker does not answer any more, though the connection stands")
    }

    pub(super) fn no_broker() -> Self {
        Self::unreachable("what answers there does not begin as an MQTT broker does: check mqtt.broker or mqtt.uplink")
    }

    pub(super) fn not_mqtt(protocol: Protocol, error: &dyn Display) -> Self {
        Self::unreachable(format!("the broker sent what is not {protocol}: {error}"))
    }

    pub(super) fn ended_by_broker(code: &dyn Debug, why: Option<&str>) -> Self {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        Self::unreachable(format!("the broker ended the connection ({code:?}{why})"))
    }

    /// From making a connection, before a word was said on it.
    pub(super) fn of_connecting(error: &io::Error) -> Self {
        let said = error.to_string();
        if said.contains("lookup address") {
            let advice = "check mqtt.broker or mqtt.uplink, and this box's name servers";
            return Self::unreachable(format!("the broker's name is not found ({said}): {advice}"));
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::unreachable("nobody listens there: is the broker running?"),
            _ => Self::unreachable(explained(error)),
        }
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
    // What tokio-util says when a connection ends within a frame.
    if said.contains("bytes remaining on stream") {
        return "the broker dropped the connection in the middle of a packet".to_owned();
    }
    let advice = [
        (
            "invalid peer certificate",
            "check mqtt.ca_file or the roots beside node.credentials, the name in mqtt.broker or mqtt.uplink, and this box's \
             clock",
        ),
        (
            "CertificateRequired",
            "it wants a certificate: enroll this node (node.credentials), or set mqtt.certificate_file and mqtt.key_file",
        ),
        (
            "CertificateRevoked",
            "this node's credential was revoked; enroll it anew with `tidegate fleet enroll`, and replace the files in \
             node.credentials",
        ),
        (
            "CertificateExpired",
            "this node's certificate has ended, or a clock is wrong, here or there; enroll it anew with `tidegate fleet enroll`",
        ),
        (
            "received fatal alert",
            "it does not take this node's certificate: check node.credentials, or mqtt.certificate_file and mqtt.key_file",
        ),
    ];
    let fitting = advice.iter().find(|(words, _)| said.contains(words));
    fitting.map_or(said.clone(), |(_, advice)| format!("{said}: {advice}"))
}
