//! The metrics of the data plane. Handles are made once for each set of labels and looked up by plain values, so that a
//! request formats no label.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// What is measured of every request, whatever it asks for.
#[derive(Debug)]
pub(super) struct HttpMeters {
    pub(super) active: Gauge,
    pub(super) panics: Counter,
    /// Connections to the listener for other nodes that were not let in.
    pub(super) strangers: Counter,
    durations: RwLock<BTreeMap<(&'static str, &'static str, u16), Histogram>>,
}

impl HttpMeters {
    pub(super) fn new() -> Self {
        Self {
            active: gauge!("http_server_active_requests"),
            panics: counter!("tidegate_request_panics_total"),
            strangers: counter!("tidegate_peer_connections_refused_total"),
            durations: RwLock::default(),
        }
    }

    /// A request that took this long, from its head to the last byte of its answer.
    pub(super) fn answered(&self, method: &'static str, route: &'static str, status: StatusCode, seconds: f64) {
        let key = (method, route, status.as_u16());
        let make = || {
            histogram!("http_server_request_duration_seconds", "http_request_method" => method,
                "http_route" => route, "http_response_status_code" => status.as_str().to_owned())
        };
        with_handle(&self.durations, key, make, |histogram| histogram.record(seconds));
    }
}

/// What is measured of each service.
#[derive(Debug)]
pub(super) struct ServiceMeters {
    service: String,
    pub(super) queued: Gauge,
    pub(super) queue_duration: Histogram,
    requests: RwLock<BTreeMap<(&'static str, u16), Counter>>,
    guests: RwLock<BTreeMap<u16, Counter>>,
}

impl ServiceMeters {
    pub(super) fn new(service: &str) -> Self {
        let queued = gauge!("tidegate_queue_requests", "service" => service.to_owned());
        queued.set(0.0);
        Self {
            service: service.to_owned(),
            queued,
            queue_duration: histogram!("tidegate_queue_duration_seconds", "service" => service.to_owned()),
            requests: RwLock::default(),
            guests: RwLock::default(),
        }
    }

    /// A request ended. `placement` is `none` for one that no replica had; `code` is the status, 499 for a client that
    /// went away, 502 for an answer that broke off after its head.
    pub(super) fn ended(&self, placement: &'static str, code: u16) {
        let make = || {
            counter!("tidegate_requests_total", "service" => self.service.clone(), "placement" => placement,
                "code" => code.to_string())
        };
        with_handle(&self.requests, (placement, code), make, |counter| counter.increment(1));
    }
}

impl ServiceMeters {
    /// A request of another node ended. That node counts it among its own, as one of placement `peer`.
    pub(super) fn guest_ended(&self, code: u16) {
        let make =
            || counter!("tidegate_guest_requests_total", "service" => self.service.clone(), "code" => code.to_string());
        with_handle(&self.guests, code, make, |counter| counter.increment(1));
    }
}

/// Calls `use_it` with the handle for `key`, which is made on first use.
fn with_handle<K: Ord, H>(handles: &RwLock<BTreeMap<K, H>>, key: K, make: impl FnOnce() -> H, use_it: impl FnOnce(&H)) {
    if let Some(handle) = handles.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return use_it(handle);
    }
    use_it(handles.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert_with(make));
}

/// The method as a label: the known ones, and one word for what clients invent (OpenTelemetry's convention).
pub(super) fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => "_OTHER",
    }
}
