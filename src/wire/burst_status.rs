//! A burst's status: one instance at a provider, from its launch to its end, with what it costs.

use serde::{Deserialize, Serialize};

use super::numbered::numbered_enum;

/// An instance, on `node/{node}/burst/{launch}`. Retained; cleared when the instance's row is closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BurstStatus {
    /// The node that owns the instance.
    pub node: String,
    /// The owner's session when it wrote this.
    pub session: u64,
    /// The launch id: idempotency token, label and journal key at once.
    pub launch: String,
    /// The service that the instance serves.
    pub service: String,
    /// The adapter that it was launched through.
    #[serde(default)]
    pub adapter: String,
    /// Where it is in its life.
    #[serde(default)]
    pub state: BurstState,
    /// Why it is there, in one sentence.
    #[serde(default)]
    pub reason: String,
    /// When it was asked for, RFC 3339 in UTC.
    #[serde(default)]
    pub started_at: String,
    /// When it first was ready.
    #[serde(default)]
    pub ready_at: Option<String>,
    /// When it was confirmed gone.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// Cost until now or until its end, in `currency`, rounded up as the provider bills.
    #[serde(default)]
    pub cost: f64,
    /// ISO 4217 code of `cost`; none where there is no budget.
    #[serde(default)]
    pub currency: Option<String>,
    /// Price of an hour, in `currency`.
    #[serde(default)]
    pub price_per_hour: Option<f64>,
    /// The provider's own name for it, where one is known.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// Seconds until it ends itself unless its lease is renewed, as last heard.
    #[serde(default)]
    pub lease_remaining_s: Option<u64>,
    /// Why it goes or went, once that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
}

numbered_enum! {
    /// The life of an instance.
    pub enum BurstState {
        /// Promised in the journal, asked of the provider.
        Launching = 1 "launching",
        /// At the provider, not ready yet.
        Starting = 2 "starting",
        /// Routed to.
        Ready = 3 "ready",
        /// Finishing what it has.
        Draining = 4 "draining",
        /// Asked to end.
        Terminating = 5 "terminating",
        /// Confirmed gone.
        Ended = 6 "ended",
        /// Never became ready, or ended by itself.
        Failed = 7 "failed",
    }
}
