//! The bytes that a link has sent and received: whole MQTT packets, as they stand within TCP or TLS.
//!
//! The client library opens its own socket, so what goes through that cannot be counted from outside; the packets are told
//! one by one, and the length of each follows from what is in it. TCP, IP and TLS come on top: about 130 bytes for a packet
//! that travels alone.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes since the link was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the broker.
    pub sent: u64,
    /// From the broker.
    pub received: u64,
}

/// Counts for one link.
pub(super) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    sent_total: metrics::Counter,
    received_total: metrics::Counter,
}

impl Meter {
    pub(super) fn new(link: &'static str) -> Self {
        let meter = Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent_total: metrics::counter!("tidegate_mqtt_sent_bytes_total", "link" => link),
            received_total: metrics::counter!("tidegate_mqtt_received_bytes_total", "link" => link),
        };
        meter.sent_total.absolute(0);
        meter.received_total.absolute(0);
        meter
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.sent_total.increment(bytes as u64);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.received_total.increment(bytes as u64);
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }
}

/// A packet whose part after the fixed header has so many bytes: the type, the length with seven bits a byte, the rest.
pub(super) fn packet_bytes(rest: usize) -> usize {
    1 + length_bytes(rest) + rest
}

/// What a length takes that is written with seven bits a byte.
pub(super) fn length_bytes(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// PUBACK without a reason, packet id and all.
pub(super) const PUBACK_BYTES: usize = 4;
/// PINGREQ, and DISCONNECT without a reason.
pub(super) const SHORT_BYTES: usize = 2;
