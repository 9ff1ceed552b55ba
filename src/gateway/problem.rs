//! Why a request was refused, and the one place that makes an HTTP answer of it: problem details (RFC 9457) with a stable
//! `type`, and the member `error` that clients of the Open Inference Protocol read.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::answer_body::AnswerBody;
use super::headers::{DECLINED, REQUEST_ID};
use crate::logic::load::Outcome;
use crate::tls::Unwelcome;

/// A second is about what a queue needs to move on, and an instance to come nearer.
const RETRY_AFTER_SECONDS: &str = "1";

/// The media type of problem details.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Problem details (RFC 9457) as every refusal has them, with the stable type `urn:tidegate:problem:{slug}`.
#[must_use]
pub fn problem(slug: &str, title: &str, status: StatusCode, detail: &str, request_id: &str) -> String {
    let problem = json!({
        "type": format!("urn:tidegate:problem:{slug}"),
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
        "request_id": request_id,
        "error": detail,
    });
    problem.to_string()
}

/// Why a request gets an answer of the gateway's own. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("nothing is served at this path; ask /v2/models/MODEL/… or /services/SERVICE/…")]
    NoRoute,
    #[error("only GET and HEAD are answered at this path")]
    MethodNotAllowed,
    #[error("there is no service `{service}` here; there is {known}")]
    UnknownService { service: String, known: String },
    #[error("the header {header} is not valid; it takes {allowed}")]
    BadHeader { header: &'static str, allowed: &'static str },
    #[error("the body is larger than the service's limit of {limit} bytes; send less, or raise max_body_bytes")]
    BodyTooLarge { limit: u64 },
    #[error("the body ended before its length or is not well formed; send it again")]
    BodyBroken,
    #[error("the body did not arrive within {} ms; send it faster, or allow more time", .allowed.as_millis())]
    BodyTimeout { allowed: Duration },
    #[error("{waiting} requests wait for `{service}` already; send it again later")]
    QueueFull { service: String, waiting: usize },
    #[error("no replica of `{service}` was free within {} ms and none has seen the request; send it again later", .allowed.as_millis())]
    QueueExpired { service: String, allowed: Duration },
    #[error(
        "this node stops and no replica of `{service}` was free before that; none has seen the request, send it again"
    )]
    Stopping { service: String },
    #[error("`{service}` has no ready replica on this node; leave out x-tidegate-placement, or send it again later")]
    NoLocalReplica { service: String },
    #[error("`{service}` has no ready replica; send it again later")]
    NoReplica { service: String },
    #[error("replica `{replica}` is stopping and no other was free; send it again")]
    Draining { replica: String },
    #[error("replica `{replica}` could not be reached: {why}; nothing of the request was sent, send it again")]
    Unreachable { replica: String, why: String },
    #[error("replica `{replica}` broke off: {why}; send it again if it may be repeated")]
    Broken { replica: String, why: String },
    #[error("replica `{replica}` did not begin to answer within {} ms; allow more time", .allowed.as_millis())]
    DeadlineExceeded { replica: String, allowed: Duration },
    #[error("this node has no room for another node's request of `{service}`; ask elsewhere")]
    NoRoomForGuest { service: String },
    #[error("this node takes no request of yours: {why}")]
    NotWelcome { why: Unwelcome },
    #[error(
        "node `{node}` had no room for a request of `{service}` any more, and no replica here was free in time; none has \
         seen the request, send it again later"
    )]
    Declined { node: String, service: String },
    #[error("no service has a ready replica, or the node is stopping")]
    NotReady,
    #[error("an error in the gateway ended this request; it is in the log under this request id")]
    Internal,
}

impl Refusal {
    /// The slug of the stable type, the title, the status, and what is counted.
    fn facts(&self) -> (&'static str, &'static str, StatusCode, Outcome) {
        use Outcome::{Expired, Failed, Rejected};
        match self {
            Self::NoRoute => ("no-route", "No such path", StatusCode::NOT_FOUND, Rejected),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED, Rejected)
            }
            Self::UnknownService { .. } => ("unknown-service", "No such service", StatusCode::NOT_FOUND, Rejected),
            Self::BadHeader { .. } => ("bad-header", "A header is not valid", StatusCode::BAD_REQUEST, Rejected),
            Self::BodyTooLarge { .. } => {
                ("body-too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE, Rejected)
            }
            Self::BodyBroken => ("body-broken", "The body broke off", StatusCode::BAD_REQUEST, Rejected),
            Self::BodyTimeout { .. } => {
                ("body-timeout", "The body took too long", StatusCode::REQUEST_TIMEOUT, Rejected)
            }
            Self::QueueFull { .. } => ("queue-full", "The queue is full", StatusCode::TOO_MANY_REQUESTS, Rejected),
            Self::QueueExpired { .. } => {
                ("queue-expired", "No replica was free in time", StatusCode::SERVICE_UNAVAILABLE, Expired)
            }
            Self::Stopping { .. } => ("stopping", "The node stops", StatusCode::SERVICE_UNAVAILABLE, Rejected),
            Self::NoLocalReplica { .. } => {
                ("no-local-replica", "No local replica", StatusCode::SERVICE_UNAVAILABLE, Rejected)
            }
            Self::NoReplica { .. } => ("no-replica", "No replica", StatusCode::SERVICE_UNAVAILABLE, Rejected),
            Self::Draining { .. } => ("draining", "The replica is stopping", StatusCode::SERVICE_UNAVAILABLE, Failed),
            Self::Unreachable { .. } => {
                ("replica-unreachable", "The replica could not be reached", StatusCode::BAD_GATEWAY, Failed)
            }
            Self::Broken { .. } => ("replica-broken", "The replica broke off", StatusCode::BAD_GATEWAY, Failed),
            Self::DeadlineExceeded { .. } => {
                ("deadline-exceeded", "The deadline passed", StatusCode::GATEWAY_TIMEOUT, Expired)
            }
            Self::NoRoomForGuest { .. } => {
                ("no-room-for-guest", "No room for another node's request", StatusCode::TOO_MANY_REQUESTS, Rejected)
            }
            Self::NotWelcome { .. } => ("not-welcome", "Not a node of this fleet", StatusCode::FORBIDDEN, Rejected),
            Self::Declined { .. } => ("declined", "No node had room", StatusCode::TOO_MANY_REQUESTS, Rejected),
            Self::NotReady => ("not-ready", "Not ready", StatusCode::SERVICE_UNAVAILABLE, Rejected),
            Self::Internal => ("internal", "An error in the gateway", StatusCode::INTERNAL_SERVER_ERROR, Failed),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.facts().2
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.facts().3
    }

    /// Whether no replica has seen anything of the request: another node that sent it can take it elsewhere.
    fn is_unseen(&self) -> bool {
        matches!(
            self,
            Self::UnknownService { .. }
                | Self::BodyTooLarge { .. }
                | Self::NoRoomForGuest { .. }
                | Self::NotWelcome { .. }
                | Self::NoLocalReplica { .. }
                | Self::NoReplica { .. }
                | Self::Stopping { .. }
                | Self::Draining { .. }
                | Self::Unreachable { .. }
                | Self::NotReady
        )
    }

    /// Waiting helps where nothing was wrong with the request.
    fn is_worth_waiting(&self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The answer that the client gets.
    pub(super) fn answer(&self, request_id: &HeaderValue) -> Response<AnswerBody> {
        let (slug, title, status, _) = self.facts();
        let problem = problem(slug, title, status, &self.to_string(), request_id.to_str().unwrap_or_default());
        let mut answer = Response::new(AnswerBody::own(problem));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if self.is_worth_waiting() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if self.is_unseen() {
            headers.insert(DECLINED, HeaderValue::from_static(slug));
        }
        if matches!(self, Self::MethodNotAllowed) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        headers.insert(REQUEST_ID, request_id.clone());
        answer
    }
}
