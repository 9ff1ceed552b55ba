//! `GET /.tidegate/metrics`: the wrapper's own few figures, and behind them the server's text as it is.
//!
//! Our part is written so that it reads the same as OpenMetrics and as Prometheus's text format 0.0.4, because what
//! follows it may be either; the server's part is not parsed. A server that has none, or is slow, costs its part only.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::front::{Front, describe};
use super::instance::since_boot;
use super::problem::{AnswerBody, bytes_answer, no_body};

/// Half of Prometheus's usual 10 s for a scrape: the rest is the way there and back.
const SERVER_DEADLINE: Duration = Duration::from_secs(5);

/// A large model server has a few hundred kilobytes; more would be carried over the edge's uplink with each scrape.
const MAX_SERVER_BYTES: usize = 4 * 1024 * 1024;

/// Formats, as a content type names them. OpenMetrics knows no comments, so an answer that needs one is the older text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics ends with this line, and nothing may follow it.
const END: &[u8] = b"# EOF\n";

/// What is counted here; the rest is known elsewhere.
#[derive(Debug)]
pub(super) struct Meters {
    /// Since boot.
    started: Duration,
    /// Answers by the first digit of their status, 1 to 5.
    answers: [AtomicU64; 5],
}

impl Meters {
    pub(super) fn new(started: Duration) -> Self {
        Self { started, answers: Default::default() }
    }

    /// Counts an answer: the server's, or one of ours in its place.
    pub(super) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = class.checked_sub(1).and_then(|class| self.answers.get(class)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Answers the call.
pub(super) async fn answer(front: &Front) -> Response<AnswerBody> {
    let mut text = BytesMut::from(own(front).as_bytes());
    let Some(path) = &front.metrics_path else {
        text.extend_from_slice(END);
        return bytes_answer(StatusCode::OK, OPENMETRICS, text.freeze());
    };
    let fetched = tokio::time::timeout(SERVER_DEADLINE, fetch(front, path)).await;
    let content_type = match fetched.unwrap_or_else(|_| Err(format!("no answer within {SERVER_DEADLINE:?}"))) {
        Ok(server) => append(&mut text, &server),
        Err(why) => {
            let why = why.replace(['\n', '\r'], " ");
            text.extend_from_slice(format!("# the server's own metrics at {path} are missing: {why}\n").as_bytes());
            TEXT
        }
    };
    bytes_answer(StatusCode::OK, content_type, text.freeze())
}

/// What the server says of itself.
struct ServerText {
    is_openmetrics: bool,
    text: Bytes,
}

fn append(to: &mut BytesMut, server: &ServerText) -> &'static str {
    to.extend_from_slice(&server.text);
    if !to.ends_with(b"\n") {
        to.extend_from_slice(b"\n");
    }
    if !server.is_openmetrics {
        return TEXT;
    }
    if !to.ends_with(END) {
        to.extend_from_slice(END);
    }
    OPENMETRICS
}

async fn fetch(front: &Front, path: &str) -> Result<ServerText, String> {
    let uri = format!("http://{}{path}", front.authority);
    // Not OpenMetrics: its rules bind a text as a whole, and ours stands before the server's.
    let request =
        Request::get(uri).header(ACCEPT, "text/plain;version=0.0.4").body(no_body()).map_err(|e| e.to_string())?;
    let answer = front.client.request(request).await.map_err(|error| describe(&error))?;
    let (head, body) = answer.into_parts();
    if !head.status.is_success() {
        return Err(format!("it answered {}", head.status));
    }
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err("they are compressed, although that was not asked for".to_owned());
    }
    let content_type = head.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let is_openmetrics = content_type.starts_with(b"application/openmetrics-text");
    let text = Limited::new(body, MAX_SERVER_BYTES).collect().await.map_err(|error| too_much(error.as_ref()))?;
    Ok(ServerText { is_openmetrics, text: text.to_bytes() })
}

fn too_much(error: &(dyn std::error::Error + 'static)) -> String {
    if error.is::<LengthLimitError>() {
        format!("they are larger than {} MiB", MAX_SERVER_BYTES / 1024 / 1024)
    } else {
        describe(error)
    }
}

fn own(front: &Front) -> String {
    let now = since_boot();
    let lease = front.life().lease().remaining(now);
    let uptime = now.saturating_sub(front.meters.started);
    let mut text = String::with_capacity(1024);
    family(&mut text, "requests", "counter", "Requests answered, by the first digit of the status.");
    for (class, counter) in (1..).zip(&front.meters.answers) {
        let _ =
            writeln!(text, "tidegate_wrap_requests_total{{code=\"{class}xx\"}} {}", counter.load(Ordering::Relaxed));
    }
    family(&mut text, "in_flight", "gauge", "Requests admitted and not finished.");
    let _ = writeln!(text, "tidegate_wrap_in_flight {}", front.in_flight());
    family(&mut text, "lease_remaining_seconds", "gauge", "Until the instance ends itself unless renewed.");
    let _ = writeln!(text, "tidegate_wrap_lease_remaining_seconds {:.3}", lease.as_secs_f64());
    family(&mut text, "uptime_seconds", "gauge", "Since the wrapper started.");
    let _ = writeln!(text, "tidegate_wrap_uptime_seconds {:.3}", uptime.as_secs_f64());
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# TYPE tidegate_wrap_{name} {kind}\n# HELP tidegate_wrap_{name} {help}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(server: &'static str, is_openmetrics: bool) -> (String, &'static str) {
        let mut text = BytesMut::from("own 1\n");
        let kind = append(&mut text, &ServerText { is_openmetrics, text: Bytes::from(server) });
        (String::from_utf8(text.to_vec()).unwrap(), kind)
    }

    #[test]
    fn the_servers_text_follows_ours_and_the_end_stands_at_the_end() {
        assert_eq!(appended("a 1", false), ("own 1\na 1\n".to_owned(), TEXT));
        assert_eq!(appended("", false), ("own 1\n".to_owned(), TEXT));
        assert_eq!(appended("a 1\n# EOF\n", true), ("own 1\na 1\n# EOF\n".to_owned(), OPENMETRICS));
        assert_eq!(appended("a 1\n# EOF", true), ("own 1\na 1\n# EOF\n".to_owned(), OPENMETRICS));
        assert_eq!(appended("a 1", true), ("own 1\na 1\n# EOF\n".to_owned(), OPENMETRICS));
    }

    #[test]
    fn answers_are_counted_by_the_first_digit_of_their_status() {
        let meters = Meters::new(Duration::ZERO);
        for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY] {
            meters.count(status);
        }
        assert_eq!(meters.answers.each_ref().map(|counter| counter.load(Ordering::Relaxed)), [0, 2, 0, 1, 1]);
    }
}
