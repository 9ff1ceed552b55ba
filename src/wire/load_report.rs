//! The load report: one sample of the box and of every service, at each monitor tick.

use serde::{Deserialize, Serialize};

/// One sample, on `node/{node}/load`. None stands for "no data": nothing was measured, which is not the same as zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The node.
    pub node: String,
    /// The node's session.
    pub session: u64,
    /// Counts the reports of a session from 1; a gap is a lost report.
    pub sequence: u64,
    /// When the sample was taken, RFC 3339 in UTC.
    pub at: String,
    /// Seconds since the node started.
    #[serde(default)]
    pub uptime_s: u64,
    /// Milliseconds between samples.
    #[serde(default)]
    pub tick_ms: u32,
    /// Busy share of all processors, 0 to 1.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Processors.
    #[serde(default)]
    pub cpu_count: u32,
    /// Used share of memory, 0 to 1.
    #[serde(default)]
    pub memory: Option<f64>,
    /// Memory in use, in bytes.
    #[serde(default)]
    pub memory_used_bytes: u64,
    /// Memory of the box, in bytes.
    #[serde(default)]
    pub memory_total_bytes: u64,
    /// Traffic of the busier direction over the link's speed, 0 to 1; none where the speed is not known.
    #[serde(default)]
    pub network: Option<f64>,
    /// Bytes received a second.
    #[serde(default)]
    pub network_rx_bytes_per_s: Option<f64>,
    /// Bytes sent a second.
    #[serde(default)]
    pub network_tx_bytes_per_s: Option<f64>,
    /// The kernel's load average over one minute.
    #[serde(default)]
    pub load_average_1m: Option<f64>,
    /// Processors that the node process keeps busy (1 is one whole processor).
    #[serde(default)]
    pub process_cpu: Option<f64>,
    /// Resident memory of the node process, in bytes.
    #[serde(default)]
    pub process_memory_bytes: u64,
    /// Requests that arrive a second, all services.
    #[serde(default)]
    pub requests_per_s: f64,
    /// Requests in progress now, all services.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests that wait now, all services.
    #[serde(default)]
    pub queued: u64,
    /// Requests a second that ended without a good answer, all services.
    #[serde(default)]
    pub errors_per_s: f64,
    /// Ready replicas on the node.
    #[serde(default)]
    pub replicas_local: u32,
    /// Ready instances at providers.
    #[serde(default)]
    pub replicas_cloud: u32,
    /// Spent in the last 60 minutes, in the budget's currency.
    #[serde(default)]
    pub spend_hour: f64,
    /// Whether the node's own connection to its broker stands (a report may have waited for it).
    #[serde(default)]
    pub broker_connected: bool,
    /// The services, in the order of their names.
    #[serde(default)]
    pub services: Vec<ServiceLoadReport>,
}

/// One service's part of a load report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceLoadReport {
    /// The service.
    pub service: String,
    /// Requests that arrive a second.
    #[serde(default)]
    pub requests_per_s: f64,
    /// Requests in progress now.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests that wait now.
    #[serde(default)]
    pub queued: u64,
    /// In flight and queued over ready replicas × concurrency; none while nothing is ready.
    #[serde(default)]
    pub utilisation: Option<f64>,
    /// Mean time that a replica takes for a request that does not fail, in seconds.
    #[serde(default)]
    pub service_time_s: Option<f64>,
    /// Median request time, waiting included, in seconds.
    #[serde(default)]
    pub latency_p50_s: Option<f64>,
    /// 95th percentile of the request time, in seconds.
    #[serde(default)]
    pub latency_p95_s: Option<f64>,
    /// 99th percentile of the request time, in seconds.
    #[serde(default)]
    pub latency_p99_s: Option<f64>,
    /// Ready replicas on the node.
    #[serde(default)]
    pub ready_local: u32,
    /// Ready instances at providers.
    #[serde(default)]
    pub ready_cloud: u32,
    /// Replicas that the policy wants.
    #[serde(default)]
    pub wanted: u32,
}
