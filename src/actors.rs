//! Thin shells around `logic`, one noun each. A handler converts, asks `logic`, and sends; mailboxes are bounded, sends
//! never wait, and every tick derives anew what to do, so that a lost message costs a delay and nothing else.
//!
//! ```text
//! monitor ──sample──▶ scheduler ──orders──▶ local_runner, burst ──snapshots──▶ scheduler ──▶ RouteTable
//!    └──────────────── reports, statuses, events, offers ──▶ publisher, discovery ──▶ mqtt
//! ```

use actix::{Message, Recipient};

pub mod burst;
pub mod discovery;
pub mod hearing;
pub mod issuer;
pub mod keeper;
pub mod local_runner;
pub mod monitor;
pub mod publisher;
pub mod reach;
pub mod scheduler;
pub mod surveyor;
pub mod upstream;

/// Messages that wait for one actor. Far above what a tick sends; a full mailbox means a stalled actor, and what it
/// misses is said again with the next tick.
pub const MAILBOX: usize = 256;

/// Sends without waiting; what does not fit is dropped and counted, since the next tick says it again.
pub(crate) fn tell<M>(to: &Recipient<M>, message: M)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    if let Err(error) = to.try_send(message) {
        metrics::counter!("tidegate_mailbox_dropped_total").increment(1);
        tracing::debug!(%error, "a control message was dropped");
    }
}
