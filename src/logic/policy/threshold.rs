//! The `threshold` policy: R(t) above T adds S·Δt replicas, R(t) below T removes S·Δt.
//!
//! What the formula leaves open is settled here:
//!
//! - **Pace.** A crossing acts at once; after that the policy acts at most once per Δt, whichever way. One clock for
//!   both directions: a load that swings around T cannot change the fleet more often than one that stays on one side.
//! - **Fractions** carry over to the next act in the same direction; acting the other way discards them.
//! - **S·Δt below one.** "Acts at once" and "a quarter of a replica" contradict each other. The first crossing is
//!   rounded up to one replica when the last change is at least 1/S ago (the time that S grants one replica), so it
//!   acts at once and no load can make the fleet change faster than S; otherwise the fraction gathers.
//! - **Band.** With a band the edges T ± band/2 act themselves, so 0.85 against 0.80 with a band of 0.10 adds. Without
//!   one the formula holds literally: R = T does nothing.
//! - **Limits.** The wish is stored clamped, and gathered fractions are dropped at a limit: nothing winds up.
//! - **Zero.** A request that finds no replica wakes one at once, and the last replica stays while it has work.
//! - **Restart.** The wish begins at what is alive, and nothing is removed for one interval.

use std::time::Duration;

use super::{Basis, Bounds, Change, Decision, Metric, Observation, Reason, Side};
use crate::archive::archived;

/// Slack for comparing with an edge: 0.80 + 0.05 is not the number 0.85 in binary, and an operator means that it is.
const TOLERANCE: f64 = 1e-9;

/// How a service scales by threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// R: what is watched.
    pub metric: Metric,
    /// T, in the unit of the metric.
    pub threshold: f64,
    /// S, in replicas per minute; above 0.
    pub scale_factor: f64,
    /// Δt: the time between two acts, apart from the sampling tick; above 0.
    pub interval: Duration,
    /// The whole width of the band around T, in the unit of the metric; 0 for none.
    pub band: f64,
}

/// What the policy remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The last wish, clamped.
    wanted: u32,
    /// The last act, also one that only gathered a fraction: starts Δt.
    acted_at: Option<Duration>,
    /// The last act that changed the wish: says whether a fraction may be rounded up.
    changed_at: Option<Duration>,
    /// The start of the node, or the last wake from zero: nothing is removed for one interval from here.
    settled_from: Option<Duration>,
    /// The fraction that is left over, and its direction.
    carry: Option<(Side, f64)>,
}

archived!(State { wanted, acted_at, changed_at, settled_from, carry });

impl State {
    /// The state of a node that starts and finds so many replicas alive.
    pub(super) fn start(alive: u32) -> Self {
        Self { wanted: alive, acted_at: None, changed_at: None, settled_from: None, carry: None }
    }

    /// The replica count that the last decision asked for.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    pub(super) fn follow(&mut self, wanted: u32) {
        self.wanted = wanted;
    }
}

impl Config {
    pub(super) fn decide(&self, state: &State, seen: &Observation, bounds: Bounds, now: Duration) -> (State, Decision) {
        let mut next = state.clone();
        next.wanted = bounds.clamp(state.wanted);
        next.settled_from.get_or_insert(now);
        let bounded = next.wanted;
        let change = self.step(&mut next, seen, bounds, now);
        let change = super::bound_change(state.wanted, bounded, next.wanted, change);
        let reason = self.reason(seen, change, next.wanted);
        (next.clone(), Decision { wanted: next.wanted, reason })
    }

    /// One decision on a wish that is inside its bounds.
    fn step(&self, state: &mut State, seen: &Observation, bounds: Bounds, now: Duration) -> Change {
        if state.wanted == 0 && seen.ready == 0 && seen.demand() {
            return wake(state, bounds, now);
        }
        let side = match seen.value(self.metric) {
            Some(value) => self.side(value),
            // Nobody was answered because nobody asked.
            None if self.metric == Metric::LatencyP95 && seen.is_idle() => Some(Side::Below),
            None => return Change::NoData,
        };
        let Some(side) = side else { return Change::Inside };
        if let Some(limit) = at_limit(state.wanted, side, bounds) {
            state.carry = None;
            return limit;
        }
        let remaining = self.remaining(state, side, now);
        if !remaining.is_zero() {
            return Change::Waiting { side, remaining };
        }
        match side {
            Side::Above => self.act(state, side, bounds.max, now),
            Side::Below if state.wanted == 1 && seen.in_use() => Change::LastInUse,
            Side::Below => self.act(state, side, bounds.min.max(u32::from(seen.in_use())), now),
        }
    }

    /// The edge that a value has crossed.
    fn side(&self, value: f64) -> Option<Side> {
        let (above, below) = if self.band > 0.0 {
            (value >= self.edge(Side::Above) - TOLERANCE, value <= self.edge(Side::Below) + TOLERANCE)
        } else {
            (value > self.threshold, value < self.threshold)
        };
        if above { Some(Side::Above) } else { below.then_some(Side::Below) }
    }

    fn edge(&self, side: Side) -> f64 {
        let half = self.band.max(0.0) / 2.0;
        match side {
            Side::Above => self.threshold + half,
            Side::Below => self.threshold - half,
        }
    }

    /// How long a crossing still has to wait.
    fn remaining(&self, state: &State, side: Side, now: Duration) -> Duration {
        let settled_from = state.settled_from.filter(|_| side == Side::Below);
        let since = state.acted_at.max(settled_from);
        since.map_or(Duration::ZERO, |since| self.interval.saturating_sub(now.saturating_sub(since)))
    }

    /// Moves the wish by S·Δt and what was carried over, no further than `limit`.
    fn act(&self, state: &mut State, side: Side, limit: u32, now: Duration) -> Change {
        let gathered = self.gathered(state, side, now);
        let whole = whole_replicas(gathered);
        state.acted_at = Some(now);
        state.carry = Some((side, (gathered - f64::from(whole)).max(0.0)));
        let before = state.wanted;
        state.wanted = match side {
            Side::Above => before.saturating_add(whole).min(limit),
            Side::Below => before.saturating_sub(whole).max(limit),
        };
        let moved = before.abs_diff(state.wanted);
        if moved == 0 {
            return Change::Gathering { side, gathered };
        }
        state.changed_at = Some(now);
        match side {
            Side::Above => Change::Added(moved),
            Side::Below => Change::Removed(moved),
        }
    }

    /// S·Δt, what was carried over in this direction, and the rounding up of a first crossing.
    fn gathered(&self, state: &State, side: Side, now: Duration) -> f64 {
        let share = self.scale_factor * self.interval.as_secs_f64() / 60.0;
        let carried = state.carry.filter(|(carried, _)| *carried == side).map_or(0.0, |(_, amount)| amount);
        let gathered = share + carried;
        if share > 0.0 && self.one_is_due(state, now) { gathered.max(1.0) } else { gathered }
    }

    /// Whether S grants a whole replica for the time since the last change.
    fn one_is_due(&self, state: &State, now: Duration) -> bool {
        state.changed_at.is_none_or(|changed_at| {
            let elapsed = now.saturating_sub(changed_at);
            elapsed.as_secs_f64() * self.scale_factor / 60.0 >= 1.0 - TOLERANCE
        })
    }

    fn reason(&self, seen: &Observation, change: Change, wanted: u32) -> Reason {
        Reason {
            metric: self.metric,
            value: seen.value(self.metric),
            threshold: change.side().map_or(self.threshold, |side| self.edge(side)),
            setpoint: self.threshold,
            band: self.band.max(0.0),
            change,
            wanted,
            basis: Basis::Threshold,
        }
    }
}

/// From zero to one. The wake is no act: a load that is more than one replica can bear crosses T next, at once.
fn wake(state: &mut State, bounds: Bounds, now: Duration) -> Change {
    state.wanted = bounds.clamp(1);
    state.settled_from = Some(now);
    if state.wanted > 0 { Change::Woken } else { Change::WakeBarred }
}

fn at_limit(wanted: u32, side: Side, bounds: Bounds) -> Option<Change> {
    match side {
        Side::Above => (wanted >= bounds.max).then_some(Change::AtMaximum),
        Side::Below => (wanted <= bounds.min).then_some(Change::AtMinimum),
    }
}

/// Whole replicas in a sum of fractions: ten times a tenth is one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates when it becomes a u32")]
fn whole_replicas(gathered: f64) -> u32 {
    (gathered + TOLERANCE).floor() as u32
}

#[cfg(test)]
mod tests;
