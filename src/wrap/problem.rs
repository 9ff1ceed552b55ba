//! The wrapper's own error answers: RFC 9457 problem details, with the member `error` that inference clients read.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// The body of every answer here: passed on from the server, or made by the wrapper.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// Tells the gateway to send the request, and all further ones, to another replica.
const DRAINING: HeaderName = HeaderName::from_static("x-tidegate-draining");

/// Tells the gateway that the server died or broke off before it answered: as if the connection to it had broken.
const UNANSWERED: HeaderName = HeaderName::from_static("x-tidegate-unanswered");

/// Seconds after which trying again can help: an instance becomes ready, or is out of the routes, within about this.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why the wrapper did not pass a request on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("a bearer token in x-tidegate-authorization is required, and it must be the instance's own")]
    Unauthorized,
    #[error("the server is not ready yet")]
    Starting,
    #[error("this instance is draining; send the request to another replica")]
    Draining,
    #[error("the instance has all the requests that it takes at once; send the request to another replica")]
    Full,
    #[error("the server behind this instance did not answer: {0}")]
    BadGateway(String),
    #[error(
        "there is no control call {0}; there are GET status, GET metrics, POST lease and POST drain below /.tidegate/"
    )]
    NoSuchCall(String),
    #[error("the lease renewal cannot be read: {0}")]
    BadRenewal(String),
    #[error("{0}")]
    RenewalRefused(#[from] super::lease::RenewalRefused),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Starting | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Full => StatusCode::TOO_MANY_REQUESTS,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::NoSuchCall(_) => StatusCode::NOT_FOUND,
            Self::BadRenewal(_) => StatusCode::BAD_REQUEST,
            Self::RenewalRefused(_) => StatusCode::CONFLICT,
        }
    }

    /// The stable part of the problem's `type`.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::BadGateway(_) => "bad-gateway",
            Self::NoSuchCall(_) => "no-such-call",
            Self::BadRenewal(_) => "bad-renewal",
            Self::RenewalRefused(_) => "renewal-refused",
        }
    }

    /// The answer to send.
    pub(super) fn answer(&self) -> Response<AnswerBody> {
        let (status, detail) = (self.status(), self.to_string());
        let body = serde_json::json!({
            "type": format!("urn:tidegate:problem:{}", self.kind()),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": detail,
            "error": detail,
        });
        let mut response = bytes_answer(status, "application/problem+json", body.to_string().into());
        if matches!(self, Self::Starting | Self::Draining) {
            response.headers_mut().insert(DRAINING, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::BadGateway(_)) {
            response.headers_mut().insert(UNANSWERED, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::Starting | Self::Draining | Self::Full) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// An answer made of bytes.
/// The body of a request that has none.
pub(super) fn no_body() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn bytes_answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<AnswerBody> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
