//! What is counted of a request, by a guard that does it when it is dropped: at the end of the answer, when the client
//! goes away in the middle, and when a panic unwinds through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::admission::Service;
use super::clock::Clock;
use super::meters::HttpMeters;
use super::slot::Slot;
use crate::logic::load::{Finish, Outcome, ServiceCounters};
use crate::logic::route::Placement;

/// The code under which a request is counted whose client went away before the answer ended; nginx's.
const CLIENT_WENT_AWAY: u16 = 499;

/// What all requests are entered in.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) clock: Clock,
    pub(super) meters: HttpMeters,
    active: AtomicUsize,
}

impl Ledger {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, meters: HttpMeters::new(), active: AtomicUsize::new(0) }
    }

    /// Requests that have come and are not answered to the end yet.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }
}

/// One request, from its head to the last byte of its answer.
#[derive(Debug)]
pub(super) struct Passage {
    ledger: Arc<Ledger>,
    method: &'static str,
    route: &'static str,
    pub(super) arrived_at: Duration,
    /// The status that the client was sent; none while it has been sent nothing.
    status: Option<StatusCode>,
    /// How it ended; a client that went away until something else is known.
    outcome: Outcome,
    visit: Option<Visit>,
}

/// The part of a request that concerns a service.
#[derive(Debug)]
struct Visit {
    service: Arc<Service>,
    /// What it is counted in: another node's request is no load of this one's, as scaling sees it.
    counters: Arc<ServiceCounters>,
    is_guest: bool,
    started_at: Option<Duration>,
    placement: Option<Placement>,
    slot: Option<Slot>,
}

impl Passage {
    pub(super) fn begin(ledger: &Arc<Ledger>, method: &'static str, route: &'static str) -> Self {
        ledger.active.fetch_add(1, Ordering::SeqCst);
        ledger.meters.active.increment(1.0);
        Self {
            arrived_at: ledger.clock.now(),
            ledger: Arc::clone(ledger),
            method,
            route,
            status: None,
            outcome: Outcome::Cancelled,
            visit: None,
        }
    }

    /// It is for this service, from a client of this node or from another node.
    pub(super) fn visit(&mut self, service: &Arc<Service>, is_guest: bool) {
        let service = Arc::clone(service);
        let counters = Arc::clone(if is_guest { &service.guests } else { &service.counters });
        counters.arrived();
        self.visit = Some(Visit { service, counters, is_guest, started_at: None, placement: None, slot: None });
    }

    /// It was given a slot: the first starts its time in flight, a second one continues it. Returns how long it waited
    /// for the first.
    pub(super) fn hold(&mut self, slot: Slot) -> Duration {
        let Some(visit) = &mut self.visit else { return Duration::ZERO };
        let started_at = *visit.started_at.get_or_insert_with(|| {
            let now = self.ledger.clock.now();
            visit.counters.start(now);
            now
        });
        visit.placement = Some(slot.endpoint().placement);
        visit.slot = Some(slot);
        started_at.saturating_sub(self.arrived_at)
    }

    /// The slot that it holds.
    pub(super) fn slot(&mut self) -> Option<&mut Slot> {
        self.visit.as_mut()?.slot.as_mut()
    }

    /// Lets go of the slot before the end, for a second try elsewhere.
    pub(super) fn let_go(&mut self) {
        if let Some(visit) = &mut self.visit {
            visit.slot = None;
        }
    }

    /// The status that the client is sent, and how the request ended if the answer reaches it whole.
    pub(super) fn settle(&mut self, status: StatusCode, outcome: Outcome) {
        self.status = Some(status);
        self.outcome = outcome;
    }

    /// The answer broke off at the replica's side, after its head was passed on.
    pub(super) fn broke_off(&mut self) {
        self.outcome = Outcome::Failed;
    }

    /// The client went away before the end of the answer.
    pub(super) fn abandoned(&mut self) {
        self.outcome = Outcome::Cancelled;
    }

    fn code(&self) -> u16 {
        match (self.outcome, self.status) {
            (Outcome::Cancelled, _) | (_, None) => CLIENT_WENT_AWAY,
            (Outcome::Failed, Some(status)) if !status.is_server_error() => StatusCode::BAD_GATEWAY.as_u16(),
            (_, Some(status)) => status.as_u16(),
        }
    }
}

impl Visit {
    fn end(self, arrived_at: Duration, now: Duration, outcome: Outcome, code: u16) {
        let Self { service, counters, is_guest, started_at, placement, slot } = self;
        match (started_at, placement) {
            (Some(started_at), Some(placement)) => {
                counters.finish(Finish { arrived_at, started_at, outcome, placement }, now);
            }
            _ => counters.turned_away(arrived_at, now, outcome),
        }
        match is_guest {
            true => service.meters.guest_ended(code),
            false => service.meters.ended(placement.map_or("none", Placement::as_str), code),
        }
        // Last, so that who is given the slot finds this request counted as ended.
        drop(slot);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let now = self.ledger.clock.now();
        let code = self.code();
        if let Some(visit) = self.visit.take() {
            visit.end(self.arrived_at, now, self.outcome, code);
        }
        if let Some(status) = self.status {
            let seconds = now.saturating_sub(self.arrived_at).as_secs_f64();
            self.ledger.meters.answered(self.method, self.route, status, seconds);
        }
        self.ledger.meters.active.decrement(1.0);
        self.ledger.active.fetch_sub(1, Ordering::SeqCst);
    }
}
