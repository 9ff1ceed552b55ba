//! A trace: when requests came and how long each keeps one place at a replica busy.

use std::time::Duration;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Since the beginning of the trace.
    pub at: Duration,
    /// Time that it takes at a replica.
    pub work: Duration,
}

/// Requests in the order in which they came, and how long the trace is.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    requests: Vec<Request>,
    length: Duration,
}

impl Trace {
    /// A trace of these requests. It is as long as `length`, or as its last request where that came later.
    pub fn new(mut requests: Vec<Request>, length: Duration) -> Self {
        // Stable: requests of the same moment keep their order.
        requests.sort_by_key(|request| request.at);
        let last = requests.last().map_or(Duration::ZERO, |request| request.at);
        Self { requests, length: length.max(last) }
    }

    /// The requests, oldest first.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// From the first moment to the last.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The part from `from` to `to`, its first moment being zero.
    #[must_use]
    pub fn part(&self, from: Duration, to: Duration) -> Self {
        let inside = self.requests.iter().filter(|request| request.at >= from && request.at < to);
        let moved = inside.map(|request| Request { at: request.at - from, ..*request });
        Self { requests: moved.collect(), length: to.min(self.length).saturating_sub(from) }
    }
}
