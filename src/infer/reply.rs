//! The answer as a message. One with a 2xx status is the service's own, byte for byte; any other is problem details (RFC 9457),
//! as the gateway has them, so that a client of MQTT 3.1.1, which sees no properties, can tell the two apart by the payload.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::request::ReplyTo;
use crate::gateway::{NoAnswer, PROBLEM_TYPE, problem};
use crate::mqtt::{MAX_PACKET_BYTES, Outgoing, Properties, Qos};

/// The largest answer that fits into a packet beside its topic, correlation data and properties, which take less than this.
pub(super) const MAX_ANSWER_BYTES: usize = MAX_PACKET_BYTES as usize - 4_096;
/// So much of what a service says of an error is passed on.
const MAX_DETAIL_CHARS: usize = 1_024;

/// The user property that says what HTTP's status line would.
const STATUS: &str = "status";
/// Headers of the answer that are passed on as user properties.
const PASSED_ON: [&str; 5] =
    ["x-request-id", "x-tidegate-replica", "x-tidegate-placement", "retry-after", "inference-header-content-length"];

/// A refusal that is not the gateway's: its slug, title, status and words.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) slug: &'static str,
    pub(super) title: &'static str,
    pub(super) status: StatusCode,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn malformed(why: String) -> Self {
        Self { slug: "bad-request", title: "The request is not valid", status: StatusCode::BAD_REQUEST, detail: why }
    }

    pub(super) fn unknown_service(service: &str, known: &str) -> Self {
        let detail = format!("no service `{service}` answers over MQTT here; there is {known}");
        Self { slug: "unknown-service", title: "No such service", status: StatusCode::NOT_FOUND, detail }
    }

    pub(super) fn expired() -> Self {
        let detail = "the request expired before it was looked at; allow more time, or send less".to_owned();
        Self { slug: "expired", title: "The request expired", status: StatusCode::GATEWAY_TIMEOUT, detail }
    }

    pub(super) fn no_answer(why: &NoAnswer) -> Self {
        match why {
            NoAnswer::TooLarge { limit } => Self::too_large(*limit),
            NoAnswer::BrokeOff(why) => {
                let (slug, title) = ("replica-broken", "The replica broke off");
                let detail = format!("{why}; send it again if it may be repeated");
                Self { slug, title, status: StatusCode::BAD_GATEWAY, detail }
            }
        }
    }

    fn too_large(limit: usize) -> Self {
        let detail =
            format!("the answer is larger than the {limit} bytes that a message carries; ask for less, or over HTTP");
        Self { slug: "answer-too-large", title: "The answer is too large", status: StatusCode::BAD_GATEWAY, detail }
    }
}

/// The gateway's answer for the client; `left` is what is left of the client's patience.
pub(super) fn of_answer(to: &ReplyTo, answer: Response<Bytes>, left: Option<Duration>) -> Outgoing {
    let (head, body) = answer.into_parts();
    let is_problem = head.headers.get(CONTENT_TYPE).is_some_and(|said| said == PROBLEM_TYPE);
    let whole = match head.status.is_success() || is_problem {
        true => message(to, head.status, &head.headers, None, body.into(), left),
        false => {
            let problem = of_service(head.status, &body, &head.headers);
            message(to, head.status, &head.headers, Some(PROBLEM_TYPE), problem.into_bytes(), left)
        }
    };
    match whole.packet_bytes() > MAX_PACKET_BYTES as usize {
        true => of_problem(to, &Problem::too_large(MAX_ANSWER_BYTES), left),
        false => whole,
    }
}

/// A refusal for the client.
pub(super) fn of_problem(to: &ReplyTo, why: &Problem, left: Option<Duration>) -> Outgoing {
    let body = problem(why.slug, why.title, why.status, &why.detail, "");
    message(to, why.status, &HeaderMap::new(), Some(PROBLEM_TYPE), body.into_bytes(), left)
}

/// What a service says of an error, in the one shape of all errors.
fn of_service(status: StatusCode, body: &[u8], headers: &HeaderMap) -> String {
    let said = serde_json::from_slice::<Value>(body).ok();
    let error = said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str);
    let text = error.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    let detail: String = text.chars().take(MAX_DETAIL_CHARS).collect();
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    problem("service-error", "The service answered with an error", status, &detail, id)
}

fn message(
    to: &ReplyTo,
    status: StatusCode,
    headers: &HeaderMap,
    content_type: Option<&str>,
    payload: Vec<u8>,
    left: Option<Duration>,
) -> Outgoing {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let passed_on = PASSED_ON.into_iter().filter_map(|name| Some((name.to_owned(), text(name)?)));
    let properties = Properties {
        response_topic: None,
        correlation: to.correlation.clone(),
        content_type: content_type.map(str::to_owned).or_else(|| text(CONTENT_TYPE.as_str())),
        user: std::iter::once((STATUS.to_owned(), status.as_str().to_owned())).chain(passed_on).collect(),
    };
    Outgoing {
        topic: to.topic.clone(),
        payload,
        retained: false,
        qos: Qos::AtLeastOnce,
        expiry: left,
        properties: Some(Box::new(properties)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to() -> ReplyTo {
        ReplyTo { topic: "tidegate/v1/f/reply/c/s".to_owned(), correlation: Some(vec![1, 2]) }
    }

    fn answer(status: u16, content_type: &str, body: &[u8]) -> Response<Bytes> {
        let answer =
            Response::builder().status(status).header(CONTENT_TYPE, content_type).header("x-request-id", "r-1");
        answer.header("set-cookie", "a=b").body(Bytes::copy_from_slice(body)).unwrap()
    }

    fn read(message: &Outgoing) -> Value {
        serde_json::from_slice(&message.payload).unwrap()
    }

    #[test]
    fn a_services_answer_stays_as_it_is() {
        let reply = of_answer(&to(), answer(200, "image/png", b"\x89PNG"), None);
        assert_eq!((reply.topic.as_str(), &reply.payload[..]), ("tidegate/v1/f/reply/c/s", &b"\x89PNG"[..]));
        assert!(!reply.retained && reply.qos == Qos::AtLeastOnce);
        let properties = reply.properties.unwrap();
        assert_eq!(properties.content_type.as_deref(), Some("image/png"));
        assert_eq!(properties.correlation, Some(vec![1, 2]));
        let user =
            [("status", "200"), ("x-request-id", "r-1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(properties.user, user);
    }

    #[test]
    fn whatever_is_no_success_is_problem_details() {
        let gateways = problem("queue-full", "t", StatusCode::TOO_MANY_REQUESTS, "d", "r");
        let kept = of_answer(&to(), answer(429, PROBLEM_TYPE, gateways.as_bytes()), None);
        assert_eq!(kept.payload, gateways.as_bytes());
        for (body, detail) in
            [(&br#"{"error":"no input"}"#[..], "no input"), (b"<h1>no</h1>", "<h1>no</h1>"), (b"", "")]
        {
            let reply = of_answer(&to(), answer(400, "text/html", body), None);
            let said = read(&reply);
            assert_eq!((&said["status"], &said["error"]), (&400.into(), &detail.into()));
            assert_eq!(
                (&said["type"], &said["request_id"]),
                (&"urn:tidegate:problem:service-error".into(), &"r-1".into())
            );
            assert_eq!(reply.properties.unwrap().content_type.as_deref(), Some(PROBLEM_TYPE));
        }
    }

    #[test]
    fn an_answer_that_no_packet_holds_is_said_to_be_one() {
        let reply = of_answer(&to(), answer(200, &"x".repeat(9_000), &vec![0; MAX_ANSWER_BYTES]), None);
        assert_eq!(read(&reply)["type"], "urn:tidegate:problem:answer-too-large");
        assert!(of_answer(&to(), answer(200, "x", &vec![0; MAX_ANSWER_BYTES]), None).payload.len() == MAX_ANSWER_BYTES);
    }

    #[test]
    fn a_long_error_is_cut() {
        let reply = of_answer(&to(), answer(500, "text/plain", "é".repeat(50_000).as_bytes()), None);
        assert_eq!(read(&reply)["detail"].as_str().unwrap().chars().count(), MAX_DETAIL_CHARS);
    }
}
