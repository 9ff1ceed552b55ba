//! What becomes of requests, counted by its kind; why one was turned away is told in the log once in a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::Counter;

/// A kind of refusal is told once in this time, however many come.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The gateway answered it, with whatever status.
    Answered,
    /// A replica's answer could not be passed on: it is too large for MQTT, or broke off.
    NoAnswer,
    /// Its time was over before the gateway was asked.
    Expired,
    /// It came before, and was answered or is being answered.
    Duplicate,
    /// No service of that name answers here.
    UnknownService,
    /// It wants its answer where its client may not read, or says other things that cannot be.
    Malformed,
    /// It was retained: it would be asked anew with every connection.
    Retained,
    /// Its topic is none that requests have.
    BadTopic,
    /// There was no room for it.
    TooMany,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Answered,
        Self::NoAnswer,
        Self::Expired,
        Self::Duplicate,
        Self::UnknownService,
        Self::Malformed,
        Self::Retained,
        Self::BadTopic,
        Self::TooMany,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoAnswer => "no_answer",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::UnknownService => "unknown_service",
            Self::Malformed => "malformed",
            Self::Retained => "retained",
            Self::BadTopic => "bad_topic",
            Self::TooMany => "too_many",
        }
    }
}

/// Counters of all outcomes, at zero from the start.
pub(super) struct Meters {
    counters: BTreeMap<Outcome, Counter>,
    /// When each kind was last told.
    told: Mutex<BTreeMap<Outcome, Instant>>,
}

impl Meters {
    pub(super) fn new() -> Self {
        let counter = |outcome: Outcome| {
            let counter = metrics::counter!("tidegate_mqtt_infer_requests_total", "result" => outcome.word());
            counter.absolute(0);
            (outcome, counter)
        };
        Self { counters: Outcome::ALL.into_iter().map(counter).collect(), told: Mutex::default() }
    }

    /// Counts a request, and tells of one that got no answer of a service. Its payload is never told.
    pub(super) fn count(&self, outcome: Outcome, topic: &str) {
        if let Some(counter) = self.counters.get(&outcome) {
            counter.increment(1);
        }
        if outcome == Outcome::Answered {
            return;
        }
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let why = outcome.word();
        if told.get(&outcome).is_some_and(|at| now.duration_since(*at) < TELL_AGAIN) {
            tracing::debug!(topic, why, "a request over MQTT was not answered by a service");
        } else {
            told.insert(outcome, now);
            tracing::warn!(
                topic,
                why,
                "a request over MQTT was not answered by a service; more of the kind are counted"
            );
        }
    }
}
