//! The owner's calls, below `/.tidegate/`: `GET status`, `POST lease` and `POST drain` answer how the instance is, `GET
//! metrics` with figures.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::front::Front;
use super::instance::since_boot;
use super::lease::RenewalOrder;
use super::life::{EndReason, Phase};
use super::metrics;
use super::problem::{AnswerBody, Problem, bytes_answer};
use crate::wire::{LeaseRenewal, LeaseState, LeaseStatus};

/// A renewal is four short fields.
const MAX_RENEWAL_BYTES: usize = 16 * 1024;

/// Answers the call of that name.
pub(super) async fn answer(
    front: &Front,
    call: &str,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Problem> {
    match (request.method().clone(), call) {
        (Method::GET, "status") => {}
        (Method::GET, "metrics") => return Ok(metrics::answer(front).await),
        (Method::POST, "lease") => renew(front, request).await?,
        (Method::POST, "drain") => drain(front),
        (method, call) => return Err(Problem::NoSuchCall(format!("{method} {call}"))),
    }
    Ok(status(front))
}

async fn renew(front: &Front, request: Request<Incoming>) -> Result<(), Problem> {
    let renewal = read(request).await?;
    let order = RenewalOrder { session: renewal.session, sequence: renewal.sequence };
    let ttl = Duration::from_millis(renewal.ttl_ms);
    front.life().renew(&renewal.launch, order, ttl, since_boot())?;
    front.changed.notify_one();
    Ok(())
}

async fn read(request: Request<Incoming>) -> Result<LeaseRenewal, Problem> {
    let body = Limited::new(request.into_body(), MAX_RENEWAL_BYTES).collect().await;
    let body = body.map_err(|error| Problem::BadRenewal(error.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| Problem::BadRenewal(error.to_string()))
}

fn drain(front: &Front) {
    front.life().drain(EndReason::Asked, since_boot());
    front.changed.notify_one();
}

fn status(front: &Front) -> Response<AnswerBody> {
    let status = {
        let life = front.life();
        let remaining = life.lease().remaining(since_boot());
        LeaseStatus {
            launch: life.lease().launch().to_owned(),
            service: front.service.clone(),
            state: state(life.phase()),
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
            in_flight: front.in_flight(),
            served: front.served(),
        }
    };
    let body = serde_json::to_vec(&status).unwrap_or_default();
    bytes_answer(StatusCode::OK, "application/json", body.into())
}

fn state(phase: Phase) -> LeaseState {
    match phase {
        Phase::Starting => LeaseState::Starting,
        Phase::Ready => LeaseState::Ready,
        Phase::Draining => LeaseState::Draining,
    }
}
