//! A slot at a replica, held by one request. Dropping it gives it to whoever waits first.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Service;
use crate::logic::route::{Endpoint, Verdict};

#[derive(Debug)]
pub(super) struct Slot {
    service: Arc<Service>,
    /// Taken out when the slot is given back, so that it is given back once.
    endpoint: Option<Arc<Endpoint>>,
    taken_at: Duration,
    is_learned: bool,
    is_guest: bool,
}

impl Slot {
    /// For an endpoint of which a slot was taken at `taken_at`.
    pub(super) fn new(service: Arc<Service>, endpoint: Arc<Endpoint>, taken_at: Duration) -> Self {
        Self { service, endpoint: Some(endpoint), taken_at, is_learned: false, is_guest: false }
    }

    /// The same for another node's request.
    pub(super) fn for_guest(mut self) -> Self {
        self.is_guest = true;
        self.endpoint().counters.guest_came();
        self
    }

    /// Whose slot it is.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        self.endpoint.as_ref().expect("a slot has its endpoint until it is dropped")
    }

    /// What the request taught about the endpoint; the first lesson counts.
    pub(super) fn learn(&mut self, now: Duration, verdict: Verdict) {
        if let (Some(endpoint), false) = (&self.endpoint, self.is_learned) {
            endpoint.learn(self.taken_at, now, verdict);
            self.is_learned = true;
        }
    }

    /// Gives the slot back without offering it: for the one who is offering slots and found its taker gone.
    pub(super) fn put_back(mut self) {
        self.release();
    }

    fn release(&mut self) -> bool {
        if !self.is_learned {
            let now = self.taken_at;
            self.learn(now, Verdict::Nothing);
        }
        let Some(endpoint) = self.endpoint.take() else { return false };
        if self.is_guest {
            endpoint.counters.guest_went();
        }
        endpoint.release();
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.release() {
            self.service.hand_out();
        }
    }
}
