//! What happened, with the reason: one CloudEvents 1.0 event (structured mode) for each turn of a node's life.

use serde::{Deserialize, Serialize};

use super::numbered::numbered_enum;

/// A time in a message (RFC 3339, compared as text) before this is of a clock that was not set yet, and says nothing of when that was.
pub const CALENDAR_BEGINS: &str = "2026-01-01";

/// An event, on `node/{node}/event/{kind}`. In the JSON tree it is a CloudEvent in structured mode (CloudEvents 1.0.2,
/// JSON format); in CBOR it has the same fields by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Version of CloudEvents, `1.0`.
    pub specversion: String,
    /// Unique for its source: `{session}-{sequence}`.
    pub id: String,
    /// Who says so: `/tidegate/{fleet}/{node}`.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// What it happened to: a launch, replica, service or node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When, RFC 3339 in UTC; none while the node does not know the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// What `data` is in the JSON tree, `application/json`.
    #[serde(default)]
    pub datacontenttype: String,
    /// The particulars.
    #[serde(default)]
    pub data: EventData,
}

impl Event {
    /// An event of a node's `session`; `sequence` counts the session's events, so that no two share an id.
    pub fn new(kind: EventKind, fleet: &str, node: &str, session: u64, sequence: u64, data: EventData) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id: format!("{session}-{sequence}"),
            source: source(fleet, node),
            kind,
            subject: data.subject().or(Some(node)).map(str::to_owned),
            time: None,
            datacontenttype: "application/json".to_owned(),
            data,
        }
    }

    /// The same event with its time, RFC 3339 in UTC.
    #[must_use]
    pub fn at(mut self, time: impl Into<String>) -> Self {
        self.time = Some(time.into());
        self
    }
}

/// The `source` of a node's events.
pub(super) fn source(fleet: &str, node: &str) -> String {
    format!("/tidegate/{fleet}/{node}")
}

/// An event's particulars; what does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventData {
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The service that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The adapter that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The launch that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// The replica that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Where that replica runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Replicas wanted from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// The measure that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The threshold that it was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Cost until now, in `currency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// ISO 4217 code of `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Seconds that it took, for example from launch to ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// The error as the provider or the system told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl EventData {
    /// The most particular thing that is named.
    fn subject(&self) -> Option<&str> {
        self.launch.as_deref().or(self.replica.as_deref()).or(self.service.as_deref())
    }
}

numbered_enum! {
    /// Where a replica runs, as an event tells it.
    pub enum Placement {
        /// On the node.
        Local = 1 "local",
        /// On another node of the fleet.
        Peer = 2 "peer",
        /// An instance at a provider.
        Cloud = 3 "cloud",
    }
}

numbered_enum! {
    /// What happened. The word, for example `burst.started`, is the event's `type` and the topic's last segment.
    pub enum EventKind {
        /// An instance was asked of a provider.
        BurstStarted = 1 "burst.started",
        /// An instance answered and is routed to.
        BurstReady = 2 "burst.ready",
        /// An instance is confirmed gone.
        BurstEnded = 3 "burst.ended",
        /// An instance could not be launched, never became ready, or ended by itself.
        BurstFailed = 4 "burst.failed",
        /// An instance of an earlier session was found and taken over.
        BurstAdopted = 5 "burst.adopted",
        /// A local replica was started.
        ReplicaStarted = 6 "replica.started",
        /// A local replica answered and is routed to.
        ReplicaReady = 7 "replica.ready",
        /// A local replica failed; it is started again after a pause.
        ReplicaFailed = 8 "replica.failed",
        /// A local replica was stopped on purpose.
        ReplicaStopped = 9 "replica.stopped",
        /// A launch was refused, or instances drain, because a cap would be exceeded.
        BudgetExhausted = 10 "budget.exhausted",
        /// There is room below the caps again.
        BudgetRestored = 11 "budget.restored",
        /// The wanted number of replicas changed.
        ScaleDecided = 12 "scale.decided",
        /// The node serves.
        NodeStarted = 13 "node.started",
        /// The node drains and goes.
        NodeStopping = 14 "node.stopping",
        /// A second live session under this node's id was seen; bursting stopped.
        NodeDuplicate = 15 "node.duplicate",
        /// The connection to the broker was lost (told once it is back).
        LinkLost = 16 "link.lost",
        /// The connection to the broker stands again.
        LinkRestored = 17 "link.restored",
        /// The journal cannot be written: no launches until it can.
        JournalUnwritable = 18 "journal.unwritable",
        /// The time is not known yet.
        ClockUnknown = 19 "clock.unknown",
        /// A provider gave notice that it takes an instance away; it drains.
        BurstPreempted = 20 "burst.preempted",
        /// An instance does not end, however often its provider is asked.
        BurstStuck = 21 "burst.stuck",
        /// Messages were ignored: unsigned, foreign, forged, stale or malformed ones.
        MessageRejected = 22 "message.rejected",
        /// Somebody else wrote on a retained topic of this node, or cleared it; it was said again.
        TopicRepaired = 23 "topic.repaired",
        /// The fleet believes other roots, or revoked somebody.
        TrustChanged = 24 "trust.changed",
        /// The node signs with a new certificate.
        CredentialRenewed = 25 "credential.renewed",
        /// The node's certificate ends soon, and was not renewed.
        CredentialExpiring = 26 "credential.expiring",
        /// This node, an authority, issued a certificate to a node that asked for it.
        CredentialIssued = 27 "credential.issued",
        /// The node was outlived by what it said before it lost its state directory, and goes on in a later session.
        SessionRaised = 28 "session.raised",
        /// A changed configuration was taken up while the node ran.
        ConfigApplied = 29 "config.applied",
        /// A changed configuration was not taken up: it is wrong, or changes what a node has only at its start.
        ConfigRejected = 30 "config.rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_the_most_particular_thing_named() {
        let data = |launch: Option<&str>, service: Option<&str>| EventData {
            launch: launch.map(str::to_owned),
            service: service.map(str::to_owned),
            ..EventData::default()
        };
        let subject = |data| Event::new(EventKind::BurstStarted, "f", "n", 1, 1, data).subject;
        assert_eq!(subject(data(Some("l-1"), Some("digits"))).as_deref(), Some("l-1"));
        assert_eq!(subject(data(None, Some("digits"))).as_deref(), Some("digits"));
        assert_eq!(subject(data(None, None)).as_deref(), Some("n"));
    }
}
