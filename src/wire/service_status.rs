//! A service's status: what is wanted, what is there, and why.

use serde::{Deserialize, Serialize};

/// A service of a node, on `node/{node}/service/{service}`. Retained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The node.
    pub node: String,
    /// The node's session.
    pub session: u64,
    /// The service.
    pub service: String,
    /// When it was written, RFC 3339 in UTC.
    pub at: String,
    /// Replicas that the policy wants.
    #[serde(default)]
    pub wanted: u32,
    /// Ready replicas on the node.
    #[serde(default)]
    pub ready_local: u32,
    /// Ready instances at providers.
    #[serde(default)]
    pub ready_cloud: u32,
    /// Replicas that start on the node.
    #[serde(default)]
    pub starting_local: u32,
    /// Instances that start at providers.
    #[serde(default)]
    pub starting_cloud: u32,
    /// Replicas that finish what they have, wherever they are.
    #[serde(default)]
    pub draining: u32,
    /// Replicas that failed and wait for their next start.
    #[serde(default)]
    pub failed: u32,
    /// Requests in progress now.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests that wait now.
    #[serde(default)]
    pub queued: u64,
    /// Why `wanted` is what it is, in one sentence.
    #[serde(default)]
    pub reason: String,
    /// The measure that decided, for example `utilisation`; none before the first decision.
    #[serde(default)]
    pub metric: Option<String>,
    /// The measure's value (latencies in seconds); none where there was no data.
    #[serde(default)]
    pub value: Option<f64>,
    /// The threshold that it was held against.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Requests that arrive a second.
    #[serde(default)]
    pub requests_per_s: f64,
    /// Median request time, waiting included, in seconds.
    #[serde(default)]
    pub latency_p50_s: Option<f64>,
    /// 95th percentile of the request time, in seconds.
    #[serde(default)]
    pub latency_p95_s: Option<f64>,
    /// 99th percentile of the request time, in seconds.
    #[serde(default)]
    pub latency_p99_s: Option<f64>,
    /// Spent on this service in the last 60 minutes, in `currency`.
    #[serde(default)]
    pub spend_hour: f64,
    /// ISO 4217 code of `spend_hour`; none where there is no budget.
    #[serde(default)]
    pub currency: Option<String>,
    /// How much the forecast that decides has erred lately, as a share of 1 + what came (0.2 is a fifth); none without a forecast.
    #[serde(default)]
    pub forecast_error: Option<f64>,
}
