//! The instance's HTTP face: checks the token, passes everything on to the server as a stream, and answers itself while
//! there is no server to pass it to.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::control;
use super::instance::since_boot;
use super::life::{Life, Phase};
use super::metrics::Meters;
use super::problem::{AnswerBody, Problem};

/// Everything below it is for the owner and never reaches the server.
const CONTROL_PREFIX: &str = "/.tidegate/";

/// Carries the instance's token, apart from `Authorization`, which belongs to the caller and the server.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-tidegate-authorization");

/// Idle connections to the server that are kept.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// Shorter than what common servers keep an idle connection open (gunicorn 2 s, uvicorn 5 s), so that a request seldom
/// meets one that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// To a server on this machine: it accepts at once or is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests that may wait for each one in progress, where `--concurrency` limits these: the owner counts too, and is
/// ahead of us by the bytes still under way.
const WAITING_PER_REQUEST: u64 = 4;

/// The client that reaches the server.
pub(super) type ServerClient = Client<HttpConnector, AnswerBody>;

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) service: String,
    pub(super) authority: Authority,
    pub(super) client: ServerClient,
    /// Wakes the instance's loop: something happened that may change what is next.
    pub(super) changed: Notify,
    /// Where the server has metrics of its own, if it does.
    pub(super) metrics_path: Option<String>,
    pub(super) meters: Meters,
    token: Option<[u8; 32]>,
    life: Mutex<Life>,
    in_flight: AtomicU64,
    served: AtomicU64,
    concurrency: Option<Concurrency>,
}

#[derive(Debug)]
struct Concurrency {
    permits: Arc<Semaphore>,
    /// In progress and waiting.
    most: u64,
}

impl Front {
    /// `token` is the secret itself; only its digest is kept.
    pub(super) fn new(
        service: String,
        authority: Authority,
        token: Option<&str>,
        concurrency: Option<u32>,
        metrics_path: Option<String>,
        life: Life,
    ) -> Self {
        Self {
            service,
            authority,
            client: client(),
            changed: Notify::new(),
            metrics_path,
            meters: Meters::new(since_boot()),
            token: token.map(|token| Sha256::digest(token).into()),
            life: Mutex::new(life),
            in_flight: AtomicU64::new(0),
            served: AtomicU64::new(0),
            concurrency: concurrency.map(Concurrency::new),
        }
    }

    /// The instance's life, locked: for a few instructions, never across an await.
    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests admitted and not finished.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Requests that the server answered.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Response<AnswerBody> {
        if !self.authorized(request.headers()) {
            return self.counted(Problem::Unauthorized.answer());
        }
        request.headers_mut().remove(TOKEN_HEADER);
        if let Some(call) = request.uri().path().strip_prefix(CONTROL_PREFIX) {
            let call = call.to_owned();
            return control::answer(&self, &call, request).await.unwrap_or_else(|problem| problem.answer());
        }
        let answer = self.pass_on(request).await.unwrap_or_else(|problem| problem.answer());
        self.counted(answer)
    }

    fn counted(&self, answer: Response<AnswerBody>) -> Response<AnswerBody> {
        self.meters.count(answer.status());
        answer
    }

    fn authorized(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.token else { return true };
        let given = headers.get(TOKEN_HEADER).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        given.is_some_and(|given| same_digest(&Sha256::digest(given).into(), expected))
    }

    async fn pass_on(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Problem> {
        let in_flight = self.admit().await?;
        let request = to_server(request, &self.authority);
        let answer = self.client.request(request).await.map_err(|error| Problem::BadGateway(describe(&error)))?;
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(from_server(answer, in_flight))
    }

    async fn admit(self: &Arc<Self>) -> Result<InFlight, Problem> {
        match self.life().phase() {
            Phase::Starting => return Err(Problem::Starting),
            Phase::Draining => return Err(Problem::Draining),
            Phase::Ready => {}
        }
        // Counted before it waits: a drain waits for those in line, too.
        let mut in_flight = InFlight::new(self);
        if let Some(concurrency) = &self.concurrency {
            if self.in_flight() > concurrency.most {
                return Err(Problem::Full);
            }
            in_flight.permit = Arc::clone(&concurrency.permits).acquire_owned().await.ok();
        }
        Ok(in_flight)
    }
}

impl Concurrency {
    fn new(limit: u32) -> Self {
        let permits = Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { permits, most: u64::from(limit) * (1 + WAITING_PER_REQUEST) }
    }
}

fn client() -> ServerClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .build(connector)
}

/// Compares in constant time: how much of a guess was right must not show. Digests, so that the length shows neither.
fn same_digest(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

fn to_server(request: Request<Incoming>, authority: &Authority) -> Request<AnswerBody> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.clone());
    uri.path_and_query = Some(path);
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_11;
    strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove(EXPECT);
    if parts.headers.get(HOST).is_some_and(http::HeaderValue::is_empty) {
        parts.headers.remove(HOST);
    }
    Request::from_parts(parts, body.boxed_unsync())
}

fn from_server(answer: Response<Incoming>, in_flight: InFlight) -> Response<AnswerBody> {
    let (mut parts, body) = answer.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    Response::from_parts(parts, Counted { body, _in_flight: in_flight }.boxed_unsync())
}

/// RFC 9110 section 7.6.1: what concerns one connection is not passed on to the next.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

/// The innermost cause says the most: "connection refused" rather than "client error".
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// One request in progress, from its admission to the last byte of its answer.
struct InFlight {
    front: Arc<Front>,
    permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    fn new(front: &Arc<Front>) -> Self {
        front.in_flight.fetch_add(1, Ordering::AcqRel);
        Self { front: Arc::clone(front), permit: None }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.front.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.front.changed.notify_one();
        }
    }
}

/// The server's answer on its way; the request is in flight until it is dropped.
struct Counted {
    body: Incoming,
    _in_flight: InFlight,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("keep-alive", "5"),
            ("x-kept", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn digests_that_differ_anywhere_are_not_the_same() {
        let digest = [7; 32];
        assert!(same_digest(&digest, &digest));
        for index in 0..32 {
            let mut other = digest;
            other[index] ^= 0x80;
            assert!(!same_digest(&digest, &other));
        }
    }
}
