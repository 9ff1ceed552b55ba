//! The headers that change on the way through.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{CONNECTION, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::problem::Refusal;
use crate::logic::route::{Endpoint, Placement};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const REPLICA: HeaderName = HeaderName::from_static("x-tidegate-replica");
pub(super) const PLACEMENT: HeaderName = HeaderName::from_static("x-tidegate-placement");
pub(super) const DEADLINE_MS: HeaderName = HeaderName::from_static("x-tidegate-deadline-ms");
/// Proves to an instance that its node is asking. A header of its own, so that the client's `authorization` reaches the
/// replica untouched.
pub(super) const AUTHORIZATION: HeaderName = HeaderName::from_static("x-tidegate-authorization");
/// On a 503: the replica takes no more requests and did not look at this one.
pub(super) const DRAINING: HeaderName = HeaderName::from_static("x-tidegate-draining");
/// A wrapper says so of a server that died or broke off before it answered.
pub(super) const UNANSWERED: HeaderName = HeaderName::from_static("x-tidegate-unanswered");
/// Another node did not take the request, and did not look at it.
pub(super) const DECLINED: HeaderName = HeaderName::from_static("x-tidegate-declined");
/// How many nodes have passed the request on: one does, and the next one answers it or declines.
const HOPS: HeaderName = HeaderName::from_static("x-tidegate-hops");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");

/// Headers that concern one connection only (RFC 9110 section 7.6.1), beside those that `connection` names.
const HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHORIZATION, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE];

/// A client's request id longer than this is replaced: it stands in logs and answers.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The client's request id where it is one (visible ASCII, not too long), else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    headers.get(REQUEST_ID).filter(|id| is_request_id(id)).cloned().unwrap_or_else(new_request_id)
}

fn is_request_id(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn new_request_id() -> HeaderValue {
    made(format!("{:032x}", fastrand::u128(..)))
}

/// The time that the client gives the request; `None` when it does not say.
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(DEADLINE_MS) else { return Ok(None) };
    let milliseconds = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    milliseconds
        .map(|ms| Some(Duration::from_millis(ms)))
        .ok_or(Refusal::BadHeader { header: "x-tidegate-deadline-ms", allowed: "a whole number of milliseconds" })
}

/// Where the client wants the request to be answered; `None` for anywhere.
pub(super) fn placement(headers: &HeaderMap) -> Result<Option<Placement>, Refusal> {
    match headers.get(PLACEMENT).map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"local") => Ok(Some(Placement::Local)),
        Some(_) => Err(Refusal::BadHeader { header: "x-tidegate-placement", allowed: "`local`, or leave it out" }),
    }
}

/// Whether another node has passed the request on already; it must not go from node to node.
pub(super) fn was_passed_on(headers: &HeaderMap) -> bool {
    headers.get(HOPS).is_some_and(|hops| hops.as_bytes() != b"0")
}

/// Makes a client's headers those that a replica sees. Nothing the client sends can pass for the node's own token. What
/// another node has passed on names the host that its client asked for.
pub(super) fn toward_replica(
    headers: &mut HeaderMap,
    from: &HeaderValue,
    id: &HeaderValue,
    service_prefix: Option<&str>,
    is_guest: bool,
) {
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    headers.remove(AUTHORIZATION);
    headers.remove(HOPS);
    headers.append(FORWARDED_FOR, from.clone());
    if let Some(host) = headers.remove(HOST)
        && !(is_guest && headers.contains_key(FORWARDED_HOST))
    {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Some(prefix) = service_prefix.and_then(|service| HeaderValue::try_from(format!("/services/{service}")).ok())
    {
        headers.insert(FORWARDED_PREFIX, prefix);
    }
    headers.insert(REQUEST_ID, id.clone());
}

/// What one endpoint is told beside.
pub(super) fn for_endpoint(headers: &mut HeaderMap, endpoint: &Endpoint, remaining: Duration) {
    let is_peer = endpoint.placement == Placement::Peer;
    if is_peer {
        headers.insert(HOPS, HeaderValue::from_static("1"));
    }
    // Another node has a limit of its own; this one's is nearer.
    if is_peer || headers.contains_key(DEADLINE_MS) {
        headers.insert(DEADLINE_MS, made(remaining.as_millis().to_string()));
    }
    if let Some(token) = endpoint.bearer.as_ref().and_then(|token| bearer(token.expose())) {
        headers.insert(AUTHORIZATION, token);
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Makes a replica's headers those that the client sees.
pub(super) fn toward_client(headers: &mut HeaderMap, endpoint: &Endpoint, queue: Duration, upstream: Duration) {
    strip_hop_by_hop(headers);
    headers.remove(DECLINED);
    if let Ok(replica) = HeaderValue::from_str(&endpoint.replica) {
        headers.insert(REPLICA, replica);
    }
    headers.insert(PLACEMENT, HeaderValue::from_static(endpoint.placement.as_str()));
    if endpoint.placement == Placement::Peer {
        // The other node's of the same names; both are within what is told here as upstream.
        headers.remove(SERVER_TIMING);
    }
    // Appended: a replica may have timings of its own to tell.
    headers.append(SERVER_TIMING, server_timing(queue, upstream));
}

/// In milliseconds, as the Server Timing specification of the W3C has it.
fn server_timing(queue: Duration, upstream: Duration) -> HeaderValue {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let mut text = String::with_capacity(48);
    let _ = write!(text, "queue;dur={:.2}, upstream;dur={:.2}", ms(queue), ms(upstream));
    made(text)
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for named in named_by_connection(headers) {
        headers.remove(named);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The headers that `connection` names. `close` and `keep-alive`, nearly always all there is, name none.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    names
        .filter(|name| !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|name| HeaderName::try_from(name).ok())
        .collect()
}

/// A value made of digits, letters and punctuation, which cannot be refused.
fn made(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_on_it() {
        let mut headers = headers(&[
            ("connection", "keep-alive, X-Private, close"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("authorization", "Bearer mine"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["authorization"]);
    }

    #[test]
    fn a_client_cannot_pass_for_the_node() {
        let mut map = headers(&[("x-tidegate-authorization", "Bearer stolen"), ("authorization", "Bearer mine")]);
        let value = HeaderValue::from_static("10.0.0.1");
        toward_replica(&mut map, &value, &value, Some("web"), false);
        assert!(!map.contains_key(AUTHORIZATION));
        assert_eq!(map["authorization"], "Bearer mine");
        assert_eq!(map["x-forwarded-prefix"], "/services/web");
    }

    #[test]
    fn a_request_id_is_kept_where_it_is_one() {
        assert_eq!(request_id(&headers(&[("x-request-id", "abc-1")])), "abc-1");
        let too_long: String = "x".repeat(129);
        let mut long = HeaderMap::new();
        long.insert(REQUEST_ID, HeaderValue::try_from(too_long).expect("a value"));
        assert_eq!(request_id(&long).len(), 32);
        assert_eq!(request_id(&headers(&[("x-request-id", "a b")])).len(), 32);
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn the_deadline_and_the_placement_are_read_or_refused() {
        assert_eq!(deadline(&HeaderMap::new()).ok(), Some(None));
        let read = deadline(&headers(&[("x-tidegate-deadline-ms", "250")]));
        assert_eq!(read.ok(), Some(Some(Duration::from_millis(250))));
        for bad in ["", "-1", "1.5", "soon"] {
            assert!(deadline(&headers(&[("x-tidegate-deadline-ms", bad)])).is_err(), "{bad}");
        }
        assert_eq!(placement(&headers(&[("x-tidegate-placement", "local")])).ok(), Some(Some(Placement::Local)));
        assert!(placement(&headers(&[("x-tidegate-placement", "cloud")])).is_err());
    }

    #[test]
    fn timings_are_milliseconds() {
        let told = server_timing(Duration::from_micros(1_500), Duration::from_millis(20));
        assert_eq!(told, "queue;dur=1.50, upstream;dur=20.00");
    }
}
