//! One request to a replica, and to another one if the first did not do it.
//!
//! A second try goes to another endpoint, once, before anything of an answer was passed on, and only if nothing of the
//! request was used up: the replica could not be reached, or said that it is stopping (`x-tidegate-draining`), or the
//! request may be repeated and its body is still at hand.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::GatewayOptions;
use super::admission::{Demand, NoSlot, Service};
use super::clock::Clock;
use super::connect::{self, AddressError, Connector};
use super::headers;
use super::inflight::Passage;
use super::problem::Refusal;
use super::slot::Slot;
use super::upload::{Fault, Upload, UploadBody};
use crate::logic::load::Outcome;
use crate::logic::route::{Endpoint, Placement, Verdict};
use crate::tls::was_not_let_in;

/// A second try waits this long for another replica: the time in which a supervisor notices a dead process and starts
/// it again. Without this, the requests that were at the only replica when it died would all be lost.
const SECOND_TRY_PATIENCE: Duration = Duration::from_secs(5);
/// An unused connection is closed before a replica's own keep-alive limit is likely to close it under a request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// The connections to the replicas.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    client: Client<Connector, UploadBody>,
}

impl Upstream {
    pub(super) fn new(options: &GatewayOptions) -> Self {
        let connector = Connector::new(options.connect_timeout, options.dialer.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(options.max_idle_per_replica)
            .build(connector);
        Self { client }
    }
}

/// What of a request is the same at each try.
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// As it came, which is how another node's gateway wants it.
    pub(super) original: PathAndQuery,
    /// As a replica wants it.
    pub(super) path_and_query: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) upload: Upload,
    pub(super) demand: Demand,
    /// Another node sent it.
    pub(super) is_guest: bool,
    pub(super) is_repeatable: bool,
    /// Since the epoch.
    pub(super) deadline: Duration,
    /// From the arrival to the deadline.
    pub(super) allowed: Duration,
}

/// A request on its way.
pub(super) struct Forwarding<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) service: &'a Arc<Service>,
    pub(super) clock: Clock,
    pub(super) passage: &'a mut Passage,
    pub(super) outgoing: Outgoing,
}

/// How one try ended.
struct Try {
    endpoint: Arc<Endpoint>,
    upstream_time: Duration,
    end: End,
}

enum End {
    Answered(Response<Incoming>),
    /// Nothing was sent.
    Unsent(String),
    /// It said that it is stopping, and did not look at the request.
    Draining,
    /// Another node that does not take it now, and did not look at it.
    Declined,
    /// Something may have been sent, and no answer came.
    Broken(String),
    /// The deadline passed.
    Late,
    /// The body itself was at fault.
    Body(Fault),
}

impl Forwarding<'_> {
    /// The replica's answer with the headers that the client sees, its body still to be read.
    pub(super) async fn run(mut self) -> Result<Response<Incoming>, Refusal> {
        let slot = self.first_slot().await?;
        let queue_time = self.passage.hold(slot);
        self.service.meters.queue_duration.record(queue_time.as_secs_f64());
        let mut last = self.attempt().await;
        if let Some(slot) = self.second_slot(&last).await {
            tracing::debug!(service = %self.service.name, failed = %last.endpoint.replica,
                other = %slot.endpoint().replica, why = last.end.word(), "a second try");
            self.passage.hold(slot);
            last = self.attempt().await;
        }
        self.conclude(last, queue_time)
    }

    async fn first_slot(&self) -> Result<Slot, Refusal> {
        let service = || self.service.name.clone();
        if self.outgoing.is_guest {
            let slot = self.service.take_for_guest(&self.outgoing.demand);
            return slot.ok_or_else(|| Refusal::NoRoomForGuest { service: service() });
        }
        let wanted = self.outgoing.demand.placement;
        if wanted.is_some_and(|placement| !self.service.has_replica_at(placement)) {
            return Err(Refusal::NoLocalReplica { service: service() });
        }
        self.service.admit(&self.outgoing.demand, self.outgoing.deadline).await.map_err(|reason| match reason {
            NoSlot::QueueFull => Refusal::QueueFull { service: service(), waiting: self.service.options().queue },
            NoSlot::Stopping => Refusal::Stopping { service: service() },
            NoSlot::Expired => Refusal::QueueExpired { service: service(), allowed: self.outgoing.allowed },
        })
    }

    /// A slot for a second try, if there may be one.
    async fn second_slot(&mut self, first: &Try) -> Option<Slot> {
        if !self.may_try_again(&first.end) {
            return None;
        }
        let is_declined = matches!(first.end, End::Declined);
        // What one node had no room for is not carried from node to node.
        let peers = self.outgoing.demand.peers && !is_declined;
        let demand = Demand { avoid: Some(Arc::clone(&first.endpoint)), peers, ..self.outgoing.demand.clone() };
        if self.outgoing.is_guest {
            self.passage.let_go();
            return self.service.take_for_guest(&demand);
        }
        if matches!(first.end, End::Answered(_)) {
            // There is an answer, if a bad one: better than to wait for another.
            return self.service.take_now(&demand);
        }
        self.passage.let_go();
        let patience = match is_declined {
            // It waits as it would have waited here at first.
            true => self.outgoing.deadline,
            false => self.outgoing.deadline.min(self.clock.now() + SECOND_TRY_PATIENCE),
        };
        self.service.admit(&demand, patience).await.ok()
    }

    fn may_try_again(&self, end: &End) -> bool {
        let outgoing = &self.outgoing;
        outgoing.upload.is_complete()
            && match end {
                End::Unsent(_) | End::Draining | End::Declined => true,
                End::Broken(_) => outgoing.is_repeatable,
                End::Answered(answer) => outgoing.is_repeatable && is_nobody_behind(answer.status()),
                End::Late | End::Body(_) => false,
            }
    }

    /// Sends the request to the endpoint whose slot is held, and learns from what comes of it.
    async fn attempt(&mut self) -> Try {
        let slot = self.passage.slot().expect("a try holds a slot");
        let endpoint = Arc::clone(slot.endpoint());
        let sent_at = self.clock.now();
        let end = match self.outgoing.request_for(&endpoint, sent_at) {
            Ok(request) => self.send(request, endpoint.placement).await,
            Err(error) => End::Unsent(error.to_string()),
        };
        let now = self.clock.now();
        let verdict = self.verdict(&end, now.saturating_sub(sent_at));
        if let Some(slot) = self.passage.slot() {
            slot.learn(now, verdict);
        }
        Try { endpoint, upstream_time: now.saturating_sub(sent_at), end }
    }

    async fn send(&self, request: Request<UploadBody>, placement: Placement) -> End {
        let deadline = self.clock.instant(self.outgoing.deadline);
        match tokio::time::timeout_at(deadline, self.upstream.client.request(request)).await {
            Ok(Ok(answer)) if placement == Placement::Peer && is_declined(&answer) => End::Declined,
            Ok(Ok(answer)) if is_draining(&answer) => End::Draining,
            Ok(Ok(answer)) if is_unanswered(&answer) => End::Broken("the server in the instance broke off".to_owned()),
            Ok(Ok(answer)) => End::Answered(answer),
            Ok(Err(error)) => self.failure(&error),
            Err(_) => End::Late,
        }
    }

    fn failure(&self, error: &ClientError) -> End {
        match self.outgoing.upload.fault() {
            Some(fault) => End::Body(fault),
            None if is_unsent(error) => End::Unsent(reason(error)),
            None => End::Broken(reason(error)),
        }
    }

    fn verdict(&self, end: &End, taken: Duration) -> Verdict {
        match end {
            End::Answered(answer) if is_nobody_behind(answer.status()) => Verdict::Failed,
            End::Answered(_) => Verdict::Answered,
            End::Draining => Verdict::Draining,
            End::Declined => Verdict::Full,
            End::Unsent(_) | End::Broken(_) => Verdict::Failed,
            // The operator's own limit says that it hangs; a client's deadline only says that it is slow.
            End::Late if taken >= self.service.options().request_timeout / 2 => Verdict::Failed,
            End::Late => Verdict::TooLate,
            End::Body(_) => Verdict::Nothing,
        }
    }

    fn conclude(self, last: Try, queue_time: Duration) -> Result<Response<Incoming>, Refusal> {
        let replica = || last.endpoint.replica.clone();
        match last.end {
            End::Answered(mut answer) => {
                *answer.version_mut() = Version::HTTP_11;
                headers::toward_client(answer.headers_mut(), &last.endpoint, queue_time, last.upstream_time);
                self.passage.settle(answer.status(), outcome(answer.status()));
                Ok(answer)
            }
            End::Unsent(why) => Err(Refusal::Unreachable { replica: replica(), why }),
            End::Draining => Err(Refusal::Draining { replica: replica() }),
            End::Declined => Err(Refusal::Declined { node: replica(), service: self.service.name.clone() }),
            End::Broken(why) => Err(Refusal::Broken { replica: replica(), why }),
            End::Late => Err(Refusal::DeadlineExceeded { replica: replica(), allowed: self.outgoing.allowed }),
            End::Body(Fault::TooLarge) => Err(Refusal::BodyTooLarge { limit: self.service.options().max_body_bytes }),
            End::Body(Fault::Broken) => Err(Refusal::BodyBroken),
        }
    }
}

impl Outgoing {
    fn request_for(&self, endpoint: &Endpoint, now: Duration) -> Result<Request<UploadBody>, AddressError> {
        let (scheme, authority) = connect::address(endpoint)?;
        let path_and_query = match endpoint.placement {
            Placement::Peer => self.original.clone(),
            Placement::Local | Placement::Cloud => self.path_and_query.clone(),
        };
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path_and_query).build()?;
        let mut request = Request::new(self.upload.body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        headers::for_endpoint(request.headers_mut(), endpoint, self.deadline.saturating_sub(now));
        Ok(request)
    }
}

impl End {
    /// For the log.
    fn word(&self) -> &str {
        match self {
            Self::Answered(_) => "it answered that nobody is behind it",
            Self::Draining => "draining",
            Self::Declined => "it had no room",
            Self::Unsent(why) | Self::Broken(why) => why,
            Self::Late => "late",
            Self::Body(_) => "body",
        }
    }
}

fn is_draining(answer: &Response<Incoming>) -> bool {
    answer.status() == StatusCode::SERVICE_UNAVAILABLE && answer.headers().contains_key(headers::DRAINING)
}

fn is_declined(answer: &Response<Incoming>) -> bool {
    answer.headers().contains_key(headers::DECLINED)
}

fn is_unanswered(answer: &Response<Incoming>) -> bool {
    answer.status() == StatusCode::BAD_GATEWAY && answer.headers().contains_key(headers::UNANSWERED)
}

/// What gateways say when the one behind them does not answer.
fn is_nobody_behind(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn outcome(status: StatusCode) -> Outcome {
    if status.is_server_error() { Outcome::Failed } else { Outcome::Ok }
}

/// Whether nobody read a byte of the request: the connection was not made, or was found closed before the request was taken, or
/// the other end did not let us in.
fn is_unsent(error: &ClientError) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    error.is_connect() || cause.is_some_and(hyper::Error::is_canceled) || was_not_let_in(error)
}

/// The innermost cause, which is what the operator needs: "connection refused" rather than "client error".
fn reason(error: &ClientError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
