//! Several policies together: the largest wish is that of all.

use std::cmp::Ordering;
use std::time::Duration;

use super::{Basis, Bounds, Change, Decision, Metric, Observation, Policy, PolicyState, Reason};
use crate::archive::archived;

/// What several policies remember.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// What all of them came to.
    pub(super) wanted: u32,
    /// Each one's own.
    pub(super) states: Vec<PolicyState>,
}

archived!(State { wanted, states });

impl State {
    pub(super) fn follow(&mut self, wanted: u32) {
        self.wanted = wanted;
        self.states.iter_mut().for_each(|state| state.follow(wanted));
    }
}

/// Whether each state is of the policy in its place.
pub(super) fn fits(policies: &[Policy], state: &State) -> bool {
    let is_of = |(policy, state): (&Policy, &PolicyState)| match (policy, state) {
        (Policy::Threshold(_), PolicyState::Threshold(_))
        | (Policy::Concurrency(_), PolicyState::Concurrency(_))
        | (Policy::Predictive(_), PolicyState::Predictive(_)) => true,
        (Policy::Largest(policies), PolicyState::Largest(state)) => fits(policies, state),
        _ => false,
    };
    policies.len() == state.states.len() && policies.iter().zip(&state.states).all(is_of)
}

/// Each decides, and the largest wish is that of all from then on. One that steps up and down goes on from there; the others say each time what
/// they want, and between two decisions what they wanted last. One that knows nothing holds, and so nothing is taken down on what the
/// others know.
pub(super) fn decide(
    policies: &[Policy],
    state: State,
    seen: &Observation,
    bounds: Bounds,
    now: Duration,
) -> (State, Decision) {
    let before = bounds.clamp(state.wanted);
    let decided = policies.iter().zip(state.states).map(|(policy, state)| policy.decide(state, seen, bounds, now));
    let (states, decisions): (Vec<_>, Vec<_>) = decided.unzip();
    let holds = decisions.iter().find(|decision| decision.reason.change == Change::NoData).cloned();
    // The first of those that want as many.
    let largest = decisions.into_iter().reduce(|most, next| if next.wanted > most.wanted { next } else { most });
    let mut largest = largest.unwrap_or_else(|| nobody_decides(bounds));
    if let Some(holds) = holds.filter(|_| largest.wanted < before) {
        largest = holds;
        largest.wanted = before;
    }
    largest.reason.wanted = largest.wanted;
    largest.reason.change = for_all(largest.reason.change, before, largest.wanted);
    let mut state = State { wanted: largest.wanted, states };
    state.follow(largest.wanted);
    (state, largest)
}

/// What one policy's change came to for all of them.
fn for_all(change: Change, before: u32, wanted: u32) -> Change {
    match (wanted.cmp(&before), change) {
        (Ordering::Greater, Change::Woken | Change::RaisedToMinimum) => change,
        (Ordering::Greater, _) => Change::Added(wanted - before),
        (Ordering::Less, _) => Change::Removed(before - wanted),
        (Ordering::Equal, Change::Added(_) | Change::Removed(_)) => Change::Inside,
        (Ordering::Equal, _) => change,
    }
}

/// Of no policy at all, which no configuration has.
fn nobody_decides(bounds: Bounds) -> Decision {
    let (metric, change) = (Metric::Utilisation, Change::NoData);
    let wanted = bounds.clamp(0);
    let reason = Reason {
        metric,
        value: None,
        threshold: 0.0,
        setpoint: 0.0,
        band: 0.0,
        change,
        wanted,
        basis: Basis::Threshold,
    };
    Decision { wanted, reason }
}
