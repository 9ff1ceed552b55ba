//! The one metrics recorder of the process, with the buckets and words that boards and alerts know.

use std::sync::{Mutex, PoisonError};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// OpenTelemetry's advice for HTTP durations, in seconds.
const HTTP_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Waiting begins at a millisecond and ends with a client's patience.
const QUEUE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// From another process on this box to a GPU machine at a provider.
const START_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0];

static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Installs the recorder at the first call; later calls return the same one, so that two nodes in one process share it.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut installed = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("http_server_request_duration_seconds".into()), &HTTP_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full("tidegate_queue_duration_seconds".into()), &QUEUE_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full("tidegate_burst_start_seconds".into()), &START_BUCKETS)?
        .install_recorder()?;
    describe();
    metrics::gauge!("tidegate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    *installed = Some(handle.clone());
    Ok(handle)
}

fn describe() {
    describe_histogram!(
        "http_server_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's arrival to its answer's end"
    );
    describe_gauge!("http_server_active_requests", "Requests that are being answered");
    describe_counter!("tidegate_requests_total", "Requests by service, placement and status code");
    describe_gauge!("tidegate_queue_requests", "Requests that wait for a replica");
    describe_histogram!("tidegate_queue_duration_seconds", Unit::Seconds, "Time that requests waited for a replica");
    describe_gauge!("tidegate_replicas", "Replicas by service, placement and state");
    describe_gauge!(
        "tidegate_forecast_error_ratio",
        "How much the forecast that decides has erred lately, as a share of 1 + what came"
    );
    describe_gauge!("tidegate_replicas_desired", "Replicas that the policy wants");
    describe_histogram!(
        "tidegate_burst_start_seconds",
        Unit::Seconds,
        "Time from an instance's intent to its readiness"
    );
    describe_gauge!("tidegate_spend_total", "What the instances that ended in this session cost, in currency units");
    describe_gauge!("tidegate_budget_limit", "The cap of a rolling window, in currency units");
    describe_gauge!("tidegate_budget_remaining", "What the cap leaves beside spent and committed");
    describe_gauge!("tidegate_budget_reserved", "What everything alive may still cost");
    describe_gauge!("tidegate_mqtt_connected", "Whether the link's broker is reached, 0 or 1");
    describe_counter!("tidegate_mqtt_reconnects_total", "Connections to the broker after the first one");
    describe_counter!("tidegate_mqtt_dropped_total", "Messages given up, by link and reason");
    describe_gauge!(
        "tidegate_credential_expiry_timestamp_seconds",
        "When this node's credential ends, in seconds since 1970"
    );
    describe_counter!(
        "tidegate_guest_requests_total",
        "Requests that other nodes sent here, by service and status code"
    );
    describe_gauge!("tidegate_mqtt_guests", "Clients that came in at mqtt.listen_tls");
    describe_counter!("tidegate_mqtt_refused_total", "Connections that mqtt.listen_tls did not let in, by reason");
    describe_counter!("tidegate_mqtt_sent_bytes_total", "Bytes of MQTT packets to the broker, without TCP and TLS");
    describe_counter!(
        "tidegate_mqtt_received_bytes_total",
        "Bytes of MQTT packets from the broker, without TCP and TLS"
    );
    describe_gauge!("tidegate_mqtt_uplink_budget_bytes", "Bytes that may go to the uplink at once, below 0 where owed");
    describe_gauge!("tidegate_mqtt_spool_events", "Events on disk that the broker has not taken");
    describe_gauge!("tidegate_mqtt_spool_unsaved_events", "Events that the disk has not taken");
    describe_counter!(
        "tidegate_mqtt_infer_requests_total",
        "Requests for inference that came on MQTT, by what became of them"
    );
    describe_counter!("tidegate_discovery_ignored_total", "Discovery messages that were ignored, by kind");
    describe_counter!("tidegate_mailbox_dropped_total", "Control messages dropped at a full mailbox");
    describe_gauge!("tidegate_build_info", "Always 1; the version is a label");
}
