//! Several policies together: the largest wish is that of all.

use std::time::Duration;

use super::{Basis, Bounds, Change, Decision, Metric, Observation, Policy, PolicyState, Reason};

/// Whether each state is of the policy in its place.
pub(super) fn fits(policies: &[Policy], states: &[PolicyState]) -> bool {
    let is_of = |(policy, state): (&Policy, &PolicyState)| match (policy, state) {
        (Policy::Threshold(_), PolicyState::Threshold(_))
        | (Policy::Concurrency(_), PolicyState::Concurrency(_))
        | (Policy::Predictive(_), PolicyState::Predictive(_)) => true,
        (Policy::Largest(policies), PolicyState::Largest(states)) => fits(policies, states),
        _ => false,
    };
    policies.len() == states.len() && policies.iter().zip(states).all(is_of)
}

/// Each decides, and the largest wish is that of all from then on. One that steps up and down goes on from there; the others say each time what
/// they want, and between two decisions what they wanted last. One that knows nothing holds, and so nothing is taken down on what the
/// others know.
pub(super) fn decide(
    policies: &[Policy],
    states: Vec<PolicyState>,
    seen: &Observation,
    bounds: Bounds,
    now: Duration,
) -> (Vec<PolicyState>, Decision) {
    let before = bounds.clamp(states.iter().map(PolicyState::wanted).max().unwrap_or(0));
    let decided = policies.iter().zip(states).map(|(policy, state)| policy.decide(state, seen, bounds, now));
    let (mut states, decisions): (Vec<_>, Vec<_>) = decided.unzip();
    let holds = decisions.iter().find(|decision| decision.reason.change == Change::NoData).cloned();
    // The first of those that want as many.
    let largest = decisions.into_iter().reduce(|most, next| if next.wanted > most.wanted { next } else { most });
    let mut largest = largest.unwrap_or_else(|| nobody_decides(bounds));
    if let Some(holds) = holds.filter(|_| largest.wanted < before) {
        largest = holds;
        largest.wanted = before;
    }
    let reason = &mut largest.reason;
    reason.wanted = largest.wanted;
    // What it came to for all of them.
    reason.change = match (largest.wanted.cmp(&before), reason.change) {
        (_, Change::NoData) => Change::NoData,
        (std::cmp::Ordering::Greater, Change::Added(_) | Change::Removed(_)) => Change::Added(largest.wanted - before),
        (std::cmp::Ordering::Less, Change::Added(_) | Change::Removed(_) | Change::Inside) => {
            Change::Removed(before - largest.wanted)
        }
        (std::cmp::Ordering::Equal, Change::Added(_) | Change::Removed(_)) => Change::Inside,
        (_, change) => change,
    };
    states.iter_mut().for_each(|state| state.follow(largest.wanted));
    (states, largest)
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
