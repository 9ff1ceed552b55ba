//! What a policy was asked and what it said, so that it can be asked again: a state, and all that was seen since.

use std::time::Duration;

use super::archive::{self, archived};
use super::policy::{Bounds, Decision, Observation, Policy, PolicyState};

/// A recording is so long at most, and has so many entries.
const LONGEST: Duration = Duration::from_secs(300);
const MOST: usize = 3_000;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When.
    pub now: Duration,
    /// What was seen.
    pub seen: Observation,
    /// Between which counts.
    pub bounds: Bounds,
    /// What was wanted from then on.
    pub wanted: u32,
    /// Why, in words.
    pub why: String,
}

/// Questions to one policy, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Who was asked.
    pub policy: Policy,
    /// Its state before the first question, as bytes.
    state: Vec<u8>,
    /// What was wanted before.
    before: u32,
    /// All that it was asked.
    pub entries: Vec<Entry>,
}

archived!(Entry { now, seen, bounds, wanted, why });
archived!(Recording { policy, state, before, entries });

/// What an answer was, and what it is when the question is asked again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed<'a> {
    /// The question and the recorded answer.
    pub entry: &'a Entry,
    /// The answer of now.
    pub decision: Decision,
}

impl Replayed<'_> {
    /// Whether the answers are the same, in number and in words.
    pub fn is_same(&self) -> bool {
        self.decision.wanted == self.entry.wanted && self.decision.reason.to_string() == self.entry.why
    }
}

impl Recording {
    /// As it was written; `None` where these are no such bytes, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        archive::from_bytes(bytes)
    }

    /// Asks everything again. `None` where the state cannot be read.
    pub fn replay(&self) -> Option<Vec<Replayed<'_>>> {
        let mut state = PolicyState::from_bytes(&self.state)?;
        let mut answers = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let (next, decision) = self.policy.decide(state, &entry.seen, entry.bounds, entry.now);
            state = next;
            answers.push(Replayed { entry, decision });
        }
        Some(answers)
    }

    /// The answers that were others than the one before.
    pub fn changes(&self) -> impl Iterator<Item = &Entry> {
        let before = std::iter::once(self.before).chain(self.entries.iter().map(|entry| entry.wanted));
        self.entries.iter().zip(before).filter(|(entry, before)| entry.wanted != *before).map(|(entry, _)| entry)
    }

    fn has_change(&self) -> bool {
        self.changes().next().is_some()
    }
}

/// Records, and gives what is worth keeping: recordings in which something changed.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    open: Option<Recording>,
    done: Vec<Vec<u8>>,
}

/// Recordings that wait to be taken away; more are let go of.
const MOST_DONE: usize = 4;

impl Recorder {
    /// To be called before a decision that does not follow from the last one, and before the first.
    pub fn begin(&mut self, policy: &Policy, state: &PolicyState) {
        self.end();
        let before = state.wanted();
        let state = archive::to_bytes(state);
        self.open = Some(Recording { policy: policy.clone(), state, before, entries: Vec::new() });
    }

    /// Whether a recording is open and has room.
    pub fn is_open(&self, now: Duration) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let is_young = open.entries.first().is_none_or(|first| now.saturating_sub(first.now) < LONGEST);
            is_young && open.entries.len() < MOST
        })
    }

    /// Takes in a question and its answer.
    pub fn note(&mut self, seen: Observation, bounds: Bounds, now: Duration, decision: &Decision) {
        let Some(open) = &mut self.open else { return };
        let (wanted, why) = (decision.wanted, decision.reason.to_string());
        open.entries.push(Entry { now, seen, bounds, wanted, why });
    }

    /// Closes what is open.
    pub fn end(&mut self) {
        let Some(done) = self.open.take().filter(Recording::has_change) else { return };
        self.done.truncate(MOST_DONE - 1);
        self.done.push(archive::to_bytes(&done));
    }

    /// What is to be kept, once.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Metric, predictive, threshold};

    const BOUNDS: Bounds = Bounds { min: 1, max: 20 };

    fn policies() -> Vec<Policy> {
        let by_threshold = Policy::Threshold(threshold::Config {
            metric: Metric::Utilisation,
            threshold: 0.8,
            scale_factor: 7.0,
            interval: Duration::from_secs(10),
            band: 0.1,
        });
        let by_forecast =
            Policy::Predictive(predictive::Config::new(2, Duration::from_secs(1), Some(Duration::from_secs(36))));
        vec![by_threshold.clone(), by_forecast.clone(), Policy::Largest(vec![by_forecast, by_threshold])]
    }

    fn seen(second: u64) -> Observation {
        let load = if second % 120 < 60 { 3.0 } else { 14.5 };
        Observation {
            utilisation: Some(load / 10.0),
            arrivals_per_s: Some(load),
            service_time: Some(1.0),
            completed: load,
            ready: 4,
            in_flight: 3,
            start_time: Some(Duration::from_millis(30_500)),
            starting_for: vec![Duration::from_millis(1)],
            local: 1,
            ..Observation::default()
        }
    }

    fn recorded(policy: &Policy, seconds: u64) -> Vec<Vec<u8>> {
        let (mut recorder, mut all) = (Recorder::default(), Vec::new());
        let mut state = policy.start(4);
        for second in 0..seconds {
            let now = Duration::from_secs(second);
            if !recorder.is_open(now) {
                recorder.begin(policy, &state);
            }
            let (next, decision) = policy.decide(state, &seen(second), BOUNDS, now);
            recorder.note(seen(second), BOUNDS, now, &decision);
            state = next;
            all.extend(recorder.take());
        }
        recorder.end();
        all.extend(recorder.take());
        all
    }

    #[test]
    fn what_was_recorded_gives_the_same_again_from_any_moment_on() {
        for policy in policies() {
            let recordings = recorded(&policy, 1_500);
            assert!(recordings.len() >= 4, "{} of {policy:?}", recordings.len());
            for bytes in &recordings {
                let recording = Recording::from_bytes(bytes).expect("readable");
                assert_eq!(recording.policy, policy);
                let replayed = recording.replay().expect("a state");
                assert_eq!(replayed.len(), recording.entries.len());
                let other = replayed.iter().find(|one| !one.is_same());
                assert!(other.is_none(), "{other:?}");
            }
        }
    }

    #[test]
    fn another_answer_is_noticed() {
        let bytes = &recorded(&policies()[0], 400)[0];
        let mut recording = Recording::from_bytes(bytes).unwrap();
        recording.entries[3].seen.utilisation = Some(9.0);
        assert!(recording.replay().unwrap().iter().any(|one| !one.is_same()));
    }

    #[test]
    fn where_nothing_changes_nothing_is_kept() {
        let policy = &policies()[0];
        let (mut recorder, mut state) = (Recorder::default(), policy.start(4));
        for second in 0..1_000 {
            if !recorder.is_open(Duration::from_secs(second)) {
                recorder.begin(policy, &state);
            }
            let calm = Observation { utilisation: Some(0.8), ..seen(second) };
            let (next, decision) = policy.decide(state, &calm, BOUNDS, Duration::from_secs(second));
            recorder.note(calm, BOUNDS, Duration::from_secs(second), &decision);
            state = next;
        }
        recorder.end();
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn other_bytes_are_no_recording() {
        let bytes = &recorded(&policies()[1], 400)[0];
        assert!(Recording::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(Recording::from_bytes(b"something else").is_none());
    }
}
