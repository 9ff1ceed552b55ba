//! What goes to a broker that is paid by the byte, and when: pure.
//!
//! On each topic of telemetry or standing values one message goes at most once an interval, the newest wins. A budget is a
//! bucket that fills evenly over the day and holds a quarter of it: what it gives in any 24 hours is a quarter at once and
//! three quarters that flow in, which is the budget. Telemetry stops while half of the bucket is left, standing values while
//! a quarter is, so that there is always something for what must be said; that is never held back, and what it takes beyond
//! the bucket is paid back before anything else goes. The wire is the account: bytes that went are charged, whoever sent them.

use std::collections::BTreeMap;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Of a day's budget what may go at once. The rest flows in over 24 hours, so no window of a day has more than the whole.
const AT_ONCE: f64 = 0.25;
/// Of what may go at once, what telemetry and standing values leave for those that are worth more.
const LEFT_BY_TELEMETRY: f64 = 0.5;
const LEFT_BY_STANDING: f64 = 0.25;

/// A node announces itself again after three quarters of a refresh at the earliest.
const SHARE_OF_REFRESH: f64 = 0.7;

/// What a message is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// States, goodbyes, trust, answers, events, and that something is gone: always sent, at once.
    Must,
    /// What others find at the broker and what expires: announcements and instances.
    Standing,
    /// Load reports and services: worth as much as they are new.
    Telemetry,
}

/// What waits and what may go; `M` is a message.
#[derive(Debug)]
pub struct Thrift<M> {
    interval: Duration,
    /// The same for standing values, which others take for dead when they come too rarely.
    standing_interval: Duration,
    budget: Option<Budget>,
    lines: BTreeMap<String, Line<M>>,
}

/// One topic.
#[derive(Debug)]
struct Line<M> {
    sent_at: Option<Duration>,
    waiting: Option<Waiting<M>>,
}

#[derive(Debug)]
struct Waiting<M> {
    worth: Worth,
    bytes: u64,
    message: M,
}

/// The bucket.
#[derive(Debug)]
struct Budget {
    a_day: f64,
    /// Below zero where what had to be said took more than there was.
    left: f64,
    at: Duration,
    /// Bytes on the wire that are charged.
    charged: u64,
    /// Bytes that were let go and charged, and have not shown up on the wire.
    ahead: u64,
}

impl<M> Thrift<M> {
    /// What stands is said again each `refresh`, whatever the interval. `daily_bytes`: none is no bound.
    pub fn new(interval: Duration, refresh: Duration, daily_bytes: Option<u64>, now: Duration) -> Self {
        let standing_interval = interval.min(refresh.mul_f64(SHARE_OF_REFRESH));
        let budget = daily_bytes.map(|bytes| Budget::new(bytes, now));
        Self { interval, standing_interval, budget, lines: BTreeMap::new() }
    }

    /// Takes a message for a topic; gives back what is to be sent there now.
    #[must_use = "what is given back is to be sent"]
    pub fn offer(&mut self, topic: &str, worth: Worth, bytes: u64, message: M, now: Duration) -> Option<M> {
        if worth == Worth::Must {
            // What waits is older, and an answer to nothing any more.
            self.lines.remove(topic);
            return Some(message);
        }
        self.hold(topic, worth, bytes, message);
        self.take(topic, now)
    }

    /// Takes a message that cannot be sent now: it waits, in the place of an older one, until it is [`Thrift::due`].
    pub fn hold(&mut self, topic: &str, worth: Worth, bytes: u64, message: M) {
        debug_assert!(worth != Worth::Must, "what must be said never waits");
        let line = self.lines.entry(topic.to_owned()).or_insert(Line { sent_at: None, waiting: None });
        line.waiting = Some(Waiting { worth, bytes, message });
    }

    /// What has waited long enough and can be paid, worth most and waiting longest first.
    #[must_use = "what is given back is to be sent"]
    pub fn due(&mut self, now: Duration) -> Vec<M> {
        let waiting = self.lines.iter().filter_map(|(topic, line)| {
            line.waiting.as_ref().map(|waiting| (waiting.worth, line.sent_at, topic.clone()))
        });
        let mut order: Vec<_> = waiting.collect();
        order.sort();
        order.into_iter().filter_map(|(_, _, topic)| self.take(&topic, now)).collect()
    }

    /// Charges what went over the wire: all bytes since the start, of every kind.
    pub fn went(&mut self, bytes: u64, now: Duration) {
        if let Some(budget) = &mut self.budget {
            budget.went(bytes, now);
        }
    }

    /// Bytes that may go at once, below zero where they are owed; none without a budget.
    pub fn left(&self) -> Option<f64> {
        self.budget.as_ref().map(|budget| budget.left)
    }

    /// Whether even standing values have to wait.
    pub fn is_short(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.left < budget.at_once() * LEFT_BY_STANDING)
    }

    /// Whether telemetry has to wait.
    pub fn is_low(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.left < budget.at_once() * LEFT_BY_TELEMETRY)
    }

    fn take(&mut self, topic: &str, now: Duration) -> Option<M> {
        let line = self.lines.get_mut(topic)?;
        let is_standing = line.waiting.as_ref().is_some_and(|waiting| waiting.worth == Worth::Standing);
        let interval = if is_standing { self.standing_interval } else { self.interval };
        let is_time = line.sent_at.is_none_or(|at| now.saturating_sub(at) >= interval);
        let waiting = line.waiting.take_if(|waiting| {
            is_time && self.budget.as_mut().is_none_or(|budget| budget.pays(waiting.worth, waiting.bytes, now))
        })?;
        line.sent_at = Some(now);
        Some(waiting.message)
    }
}

impl Budget {
    #[expect(clippy::cast_precision_loss, reason = "a budget beyond 2^53 bytes is none")]
    fn new(a_day: u64, now: Duration) -> Self {
        let a_day = a_day as f64;
        Self { a_day, left: a_day * AT_ONCE, at: now, charged: 0, ahead: 0 }
    }

    fn at_once(&self) -> f64 {
        self.a_day * AT_ONCE
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let flow = self.a_day * (1.0 - AT_ONCE) / DAY.as_secs_f64();
        self.left = (self.left + passed * flow).min(self.at_once());
    }

    /// Charges `bytes` where they can be paid without touching what is left for others.
    #[expect(clippy::cast_precision_loss, reason = "no message has 2^53 bytes")]
    fn pays(&mut self, worth: Worth, bytes: u64, now: Duration) -> bool {
        self.fill(now);
        let kept = match worth {
            Worth::Must => return true,
            Worth::Standing => LEFT_BY_STANDING,
            Worth::Telemetry => LEFT_BY_TELEMETRY,
        };
        let after = self.left - bytes as f64;
        let pays = after >= self.at_once() * kept;
        if pays {
            self.left = after;
            self.ahead += bytes;
        }
        pays
    }

    /// A flood of what must be said is paid back for a day, and not for weeks.
    #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^53 bytes")]
    fn went(&mut self, bytes: u64, now: Duration) {
        self.fill(now);
        let new = bytes.saturating_sub(self.charged);
        self.charged = self.charged.max(bytes);
        let paid = self.ahead.min(new);
        self.ahead -= paid;
        self.left = (self.left - (new - paid) as f64).max(-self.a_day);
    }
}

#[cfg(test)]
mod tests;
