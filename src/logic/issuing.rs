//! Which requests for a renewed certificate are served: one certificate for each name in a while, so that a stolen credential
//! fills no log; the same one again where its answer was lost; and none for a request that comes twice.

use std::collections::BTreeMap;
use std::time::Duration;

/// A name gets one certificate in this time. Whoever renews in time needs one in months.
pub const ISSUE_PACE: Duration = Duration::from_hours(1);
/// A name is answered once in this time: shorter than anybody waits before it asks again.
pub const ANSWER_PACE: Duration = Duration::from_secs(2);
/// Names that are remembered for [`ISSUE_PACE`]: a fleet of ten thousand that renews at once, twice over.
const MAX_NAMES: usize = 20_000;

/// A request's place in its sender's time: session and sequence.
pub type Place = (u64, u64);

/// What was asked and given, by name. `A` is an answer, `K` the key that it is for.
#[derive(Debug)]
pub struct Desk<K, A> {
    names: BTreeMap<String, Entry<K, A>>,
}

#[derive(Debug)]
struct Entry<K, A> {
    /// The newest request, and when it came.
    place: Place,
    asked_at: Duration,
    given: Option<Given<K, A>>,
}

#[derive(Debug)]
struct Given<K, A> {
    at: Duration,
    key: K,
    answer: A,
}

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict<A> {
    /// A certificate may be issued.
    Issue,
    /// This was given for the same key a while ago.
    Again(A),
    /// Not now, for this reason.
    Refuse(&'static str),
    /// It came before, or too soon after another one.
    Ignore,
}

impl<K, A> Default for Desk<K, A> {
    fn default() -> Self {
        Self { names: BTreeMap::new() }
    }
}

impl<K: PartialEq, A: Clone> Desk<K, A> {
    /// A request of `name` for `key`, from this place in its time.
    pub fn asked(&mut self, name: &str, key: &K, place: Place, now: Duration) -> Verdict<A> {
        let is_recent = |at: Duration, pace: Duration| now.saturating_sub(at) < pace;
        if let Some(entry) = self.names.get_mut(name) {
            if place <= entry.place || is_recent(entry.asked_at, ANSWER_PACE) {
                return Verdict::Ignore;
            }
            (entry.place, entry.asked_at) = (place, now);
            return match &entry.given {
                Some(given) if !is_recent(given.at, ISSUE_PACE) => Verdict::Issue,
                Some(given) if given.key == *key => Verdict::Again(given.answer.clone()),
                Some(_) => Verdict::Refuse("this name got a certificate for another key less than an hour ago"),
                None => Verdict::Issue,
            };
        }
        if self.names.len() >= MAX_NAMES {
            // A request is not served once it has expired, which is earlier.
            self.names.retain(|_, entry| is_recent(entry.asked_at, ISSUE_PACE));
        }
        if self.names.len() >= MAX_NAMES {
            return Verdict::Refuse("more nodes ask than this authority remembers; it is to be asked again in an hour");
        }
        self.names.insert(name.to_owned(), Entry { place, asked_at: now, given: None });
        Verdict::Issue
    }

    /// A certificate was issued.
    pub fn given(&mut self, name: &str, key: K, answer: A, now: Duration) {
        if let Some(entry) = self.names.get_mut(name) {
            entry.given = Some(Given { at: now, key, answer });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100_000 + seconds)
    }

    #[test]
    fn a_name_gets_one_certificate_an_hour_and_the_same_one_again_for_the_same_key() {
        let mut desk = Desk::default();
        assert_eq!(desk.asked("a", &1, (1, 1), at(0)), Verdict::Issue);
        desk.given("a", 1, "first", at(0));
        assert_eq!(desk.asked("a", &1, (1, 2), at(10)), Verdict::Again("first"), "its answer was lost");
        assert!(matches!(desk.asked("a", &2, (1, 3), at(20)), Verdict::Refuse(why) if why.contains("an hour")));
        assert_eq!(desk.asked("b", &9, (1, 1), at(20)), Verdict::Issue, "each name by itself");
        assert_eq!(desk.asked("a", &2, (1, 4), at(3_600)), Verdict::Issue);
    }

    #[test]
    fn a_request_that_comes_twice_or_at_once_is_served_once() {
        let mut desk = Desk::<u8, &str>::default();
        assert_eq!(desk.asked("a", &1, (2, 7), at(0)), Verdict::Issue);
        assert_eq!(desk.asked("a", &1, (2, 7), at(60)), Verdict::Ignore, "by another broker, or replayed");
        assert_eq!(desk.asked("a", &1, (1, 9), at(60)), Verdict::Ignore, "of a session before");
        assert_eq!(desk.asked("a", &1, (2, 8), at(60)), Verdict::Issue, "nothing was issued yet");
        assert_eq!(desk.asked("a", &1, (2, 9), at(61)), Verdict::Ignore, "too soon");
        assert_eq!(desk.asked("a", &1, (2, 10), at(64)), Verdict::Issue);
    }

    #[test]
    fn names_are_bounded_and_forgotten_after_an_hour() {
        let mut desk = Desk::<u32, ()>::default();
        for number in 0..MAX_NAMES {
            assert_eq!(desk.asked(&format!("n-{number}"), &0, (1, 1), at(0)), Verdict::Issue);
        }
        assert!(matches!(desk.asked("one-more", &0, (1, 1), at(1)), Verdict::Refuse(_)));
        assert_eq!(desk.asked("one-more", &0, (1, 2), at(3_700)), Verdict::Issue);
        assert_eq!(desk.names.len(), 1);
    }
}
