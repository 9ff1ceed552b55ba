//! One request from its head to its answer: what is asked, of whom, under which limits. The same for one that came over HTTP
//! and for one that came another way (`guest`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::Gateway;
use super::admission::{Demand, Service};
use super::answer_body::AnswerBody;
use super::forward::{Forwarding, Outgoing};
use super::guest::Guest;
use super::headers;
use super::inflight::Passage;
use super::meters::method_label;
use super::problem::Refusal;
use super::target::{self, Kind, ServiceTarget, Target};
use super::upload::{Upload, UploadError};
use crate::logic::load::Outcome;
use crate::logic::route::Placement;

/// A 404 names at most this many services.
const MAX_SERVICES_NAMED: usize = 10;

/// What a request is answered with, before its guard is handed over.
enum Reply {
    Own(Value),
    Replica { answer: Response<Incoming>, max_pause: Duration },
}

/// A request's body as it is at hand.
pub(super) enum AskedBody {
    /// Still on its way over a connection.
    Arriving(Incoming),
    Whole(Bytes),
}

/// Who sent a request.
#[derive(Clone)]
pub(super) struct Visitor {
    /// Where from.
    pub(super) address: HeaderValue,
    /// The other node whose request it is.
    pub(super) guest: Option<Arc<Guest>>,
    /// What metrics call the way it came, if not by the request's path.
    pub(super) route: Option<&'static str>,
}

/// A request without its target.
struct Asked {
    method: Method,
    /// Path and query as they came.
    original: PathAndQuery,
    headers: HeaderMap,
    body: AskedBody,
    visitor: Visitor,
    id: HeaderValue,
}

/// Answers a request, whatever happens: a refusal is an answer, and so is a panic.
pub(super) async fn answer(
    gateway: Arc<Gateway>,
    head: Parts,
    body: AskedBody,
    visitor: Visitor,
) -> Response<AnswerBody> {
    let is_guest = visitor.guest.is_some();
    let id = headers::request_id(&head.headers);
    let (target, route) = target::resolve(&head.uri);
    let mut passage = Passage::begin(&gateway.ledger, method_label(&head.method), visitor.route.unwrap_or(route));
    let original = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let asked = Asked { method: head.method, original, headers: head.headers, body, visitor, id: id.clone() };
    let reply = catch_panic(respond(&gateway, asked, target, &mut passage)).await.unwrap_or_else(|_: Panicked| {
        gateway.ledger.meters.panics.increment(1);
        Err(Refusal::Internal)
    });
    let mut answer = finish(reply, &id, passage);
    if !is_guest {
        // Between nodes alone: whoever else reads it has nowhere to take the request.
        answer.headers_mut().remove(headers::DECLINED);
    }
    answer
}

fn finish(reply: Result<Reply, Refusal>, id: &HeaderValue, mut passage: Passage) -> Response<AnswerBody> {
    match reply {
        Ok(Reply::Replica { answer, max_pause }) => {
            let (mut head, incoming) = answer.into_parts();
            head.headers.insert(headers::REQUEST_ID, id.clone());
            Response::from_parts(head, AnswerBody::replica(incoming, passage, max_pause))
        }
        Ok(Reply::Own(value)) => {
            passage.settle(StatusCode::OK, Outcome::Ok);
            own_answer(&value, id)
        }
        Err(refusal) => {
            passage.settle(refusal.status(), refusal.outcome());
            refusal.answer(id)
        }
    }
}

async fn respond(gateway: &Gateway, asked: Asked, target: Target<'_>, passage: &mut Passage) -> Result<Reply, Refusal> {
    if let Some(guest) = &asked.visitor.guest {
        guest.is_welcome().map_err(|why| Refusal::NotWelcome { why })?;
    }
    match target {
        Target::Service(target) => to_service(gateway, asked, target, passage).await,
        Target::Nowhere => Err(Refusal::NoRoute),
        _ if !matches!(asked.method, Method::GET | Method::HEAD) => Err(Refusal::MethodNotAllowed),
        Target::Metadata => Ok(Reply::Own(metadata())),
        Target::Live => Ok(Reply::Own(json!({ "live": true }))),
        Target::Ready if gateway.is_ready() => Ok(Reply::Own(json!({ "ready": true }))),
        Target::Ready => Err(Refusal::NotReady),
    }
}

/// The server metadata of the Open Inference Protocol.
fn metadata() -> Value {
    json!({
        "name": "tidegate",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_configuration"],
    })
}

async fn to_service(
    gateway: &Gateway,
    mut asked: Asked,
    target: ServiceTarget<'_>,
    passage: &mut Passage,
) -> Result<Reply, Refusal> {
    let is_guest = asked.visitor.guest.is_some();
    let found = gateway.service(target.service).filter(|service| !is_guest || service.options().guests);
    let service = &found.ok_or_else(|| unknown_service(gateway, target.service))?;
    passage.visit(service, is_guest);
    let allowed = allowed_time(&asked.headers, service, is_guest)?;
    let placement = if is_guest { Some(Placement::Local) } else { headers::placement(&asked.headers)? };
    let was_passed_on = is_guest || headers::was_passed_on(&asked.headers);
    if target.kind == Kind::Readiness && !service.has_replica() {
        return Err(Refusal::NoReplica { service: service.name.clone() });
    }
    let is_repeatable = is_repeatable(&asked, target.kind, service);
    let deadline = passage.arrived_at + allowed;
    let upload = receive(gateway, asked.body, service, deadline, allowed).await?;
    let prefix = target.is_prefixed.then_some(target.service);
    headers::toward_replica(&mut asked.headers, &asked.visitor.address, &asked.id, prefix, is_guest);
    // Another node may turn out to be full, and then the request must be whole for the next one.
    let demand = Demand { placement, peers: !was_passed_on && upload.is_whole(), avoid: None };
    let outgoing = Outgoing {
        method: asked.method,
        original: asked.original,
        path_and_query: target.path_and_query,
        headers: asked.headers,
        upload,
        demand,
        is_guest,
        is_repeatable,
        deadline,
        allowed,
    };
    let forwarding = Forwarding { upstream: &gateway.upstream, service, clock: gateway.clock, passage, outgoing };
    let answer = forwarding.run().await?;
    Ok(Reply::Replica { answer, max_pause: service.options().request_timeout })
}

fn unknown_service(gateway: &Gateway, name: &str) -> Refusal {
    let services = gateway.services.load();
    let served = services.values().filter(|service| !service.is_retired());
    let mut known: Vec<&str> = served.map(|service| service.name.as_str()).collect();
    if known.len() > MAX_SERVICES_NAMED {
        known.truncate(MAX_SERVICES_NAMED);
        known.push("…");
    }
    let known = if known.is_empty() { "none configured".to_owned() } else { known.join(", ") };
    Refusal::UnknownService { service: name.chars().take(64).collect(), known }
}

/// The client's deadline where it gives one, but never more than the service's own: that is the operator's limit. A guest comes
/// with that of its own node.
fn allowed_time(headers: &HeaderMap, service: &Service, is_guest: bool) -> Result<Duration, Refusal> {
    let most = service.options().request_timeout;
    let asked = headers::deadline(headers)?;
    Ok(asked.map_or(most, |asked| if is_guest { asked } else { asked.min(most) }))
}

/// Whether a request that a replica may have seen can be sent to another one.
fn is_repeatable(asked: &Asked, kind: Kind, service: &Service) -> bool {
    service.options().repeatable
        || kind == Kind::Infer
        || asked.method.is_idempotent()
        || asked.headers.contains_key(headers::IDEMPOTENCY_KEY)
}

async fn receive(
    gateway: &Gateway,
    body: AskedBody,
    service: &Service,
    deadline: Duration,
    allowed: Duration,
) -> Result<Upload, Refusal> {
    let limit = service.options().max_body_bytes;
    let body = match body {
        AskedBody::Arriving(incoming) => incoming,
        AskedBody::Whole(bytes) if bytes.len() as u64 > limit => return Err(Refusal::BodyTooLarge { limit }),
        AskedBody::Whole(bytes) => return Ok(Upload::Whole { bytes, room: None }),
    };
    let receiving = Upload::receive(body, limit, &gateway.replay_room);
    match tokio::time::timeout_at(gateway.clock.instant(deadline), receiving).await {
        Ok(Ok(upload)) => Ok(upload),
        Ok(Err(UploadError::TooLarge)) => Err(Refusal::BodyTooLarge { limit }),
        Ok(Err(UploadError::Broken(_))) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodyTimeout { allowed }),
    }
}

fn own_answer(value: &Value, id: &HeaderValue) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::own(value.to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(headers::REQUEST_ID, id.clone());
    answer
}

/// A request panicked; the panic hook has told what and where.
#[derive(Debug)]
struct Panicked;

/// Runs a future so that a panic in it costs this one request. What it held is dropped by the unwinding: slots and
/// counters live in guards.
async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let told = catch_panic(async {
            tokio::task::yield_now().await;
            panic!("on purpose, to see it caught");
        });
        assert!(told.await.is_err());
        assert_eq!(catch_panic(async { 7 }).await.expect("no panic"), 7);
    }
}
