//! The `concurrency` policy: the algorithm of Knative's pod autoscaler (KPA), decision for decision.
//!
//! Requests in flight and waiting, averaged over a long (stable) and a short (panic) window, over what one replica is to have. When
//! the short window calls for twice what is ready, it counts and nothing is taken down until the stable window has passed without that.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Basis, Bounds, Change, Decision, Metric, Observation, Reason};
use crate::archive::archived;

/// How a service scales by concurrency.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Requests in flight and waiting that one replica is to have: its concurrency times the utilisation that is aimed at.
    pub target: f64,
    /// The long window, which also says how long panic lasts.
    pub stable_window: Duration,
    /// The short window.
    pub panic_window: Duration,
    /// So many times what is ready must be called for by the short window to begin panic.
    pub panic_threshold: f64,
    /// No decision asks for more than so many times what is ready.
    pub max_scale_up_rate: f64,
    /// No decision asks for less than what is ready over this.
    pub max_scale_down_rate: f64,
    /// The greatest wish of so long a time counts; zero for none.
    pub scale_down_delay: Duration,
}

/// Between two decisions.
pub const TICK: Duration = Duration::from_secs(2);

/// What the policy remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The last wish, clamped.
    wanted: u32,
    /// When it decides next; `None` before it did.
    due: Option<Duration>,
    /// What the last decision came to.
    last_change: Change,
    /// It was made with more than one replica alive, so it begins in panic.
    begins_in_panic: bool,
    panic_since: Option<Duration>,
    most_in_panic: u32,
    /// Wishes of the scale-down delay, oldest first.
    wishes: VecDeque<(Duration, u32)>,
}

/// What it sees.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// Requests in flight and waiting, the mean of the stable window.
    stable: f64,
    /// The same of the panic window.
    panic: f64,
    /// Replicas that take requests.
    ready: u32,
}

archived!(State { wanted, due, last_change, begins_in_panic, panic_since, most_in_panic, wishes });

impl State {
    /// The state at the start of the node with so many replicas alive. With more than one it begins in panic, so that what is there
    /// stays until enough was seen.
    pub(super) fn start(alive: u32) -> Self {
        Self {
            wanted: alive,
            due: None,
            last_change: Change::Inside,
            begins_in_panic: alive > 1,
            panic_since: None,
            most_in_panic: alive,
            wishes: VecDeque::new(),
        }
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Whether it is in panic.
    pub fn panics(&self) -> bool {
        self.panic_since.is_some()
    }
}

impl Config {
    /// Knative's defaults, for a replica that takes so many requests at once.
    pub fn new(concurrency: u32) -> Self {
        Self {
            target: 0.7 * f64::from(concurrency),
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
        }
    }

    pub(super) fn decide(
        &self,
        mut state: State,
        observed: &Observation,
        bounds: Bounds,
        now: Duration,
    ) -> (State, Decision) {
        let before = state.wanted;
        let bounded = bounds.clamp(before);
        let change = self.step(&mut state, observed, bounded, bounds, now);
        let change = super::bound_change(before, bounded, state.wanted, change);
        let value = if state.panics() { observed.requests_short } else { observed.requests };
        let reason = Reason {
            metric: Metric::Requests,
            value,
            threshold: self.target,
            setpoint: self.target,
            band: 0.0,
            change,
            wanted: state.wanted,
            basis: Basis::Concurrency { panics: state.panics() },
        };
        (state.clone(), Decision { wanted: state.wanted, reason })
    }

    fn step(&self, state: &mut State, observed: &Observation, before: u32, bounds: Bounds, now: Duration) -> Change {
        state.wanted = before;
        if let Some((wanted, change)) = super::wake(before, observed, bounds) {
            state.wanted = wanted;
            return change;
        }
        if state.due.is_some_and(|due| now < due) {
            return super::still(state.last_change);
        }
        let windows = observed.requests.zip(observed.requests_short);
        let Some((stable, panic)) = windows.filter(|(stable, panic)| stable.is_finite() && panic.is_finite()) else {
            return Change::NoData;
        };
        if state.due.is_none() && state.begins_in_panic {
            state.panic_since = Some(now);
        }
        // In step with the first decision, so that a tick that comes a little early delays one and not all.
        let next = state.due.unwrap_or(now) + TICK;
        state.due = Some(if next > now { next } else { now + TICK });
        let wish = self.wish(state, Seen { stable, panic, ready: observed.ready }, now);
        // The last one stays while it has work.
        state.wanted = bounds.clamp(wish.max(u32::from(observed.demand())));
        state.last_change = super::change(before, wish, bounds, state.wanted);
        state.last_change
    }

    /// One decision, before bounds.
    fn wish(&self, state: &mut State, seen: Seen, now: Duration) -> u32 {
        let ready = f64::from(seen.ready.max(1));
        let most = (self.max_scale_up_rate * ready).ceil();
        let least = (ready / self.max_scale_down_rate).floor();
        let called_for = |value: f64| (value / self.target).ceil();
        let stable = whole(called_for(seen.stable).max(least).min(most));
        let panic = whole(called_for(seen.panic).max(least).min(most));

        // Of the wish before its limits.
        let is_over = called_for(seen.panic) / ready >= self.panic_threshold;
        if is_over {
            state.panic_since = Some(now);
        } else if state.panic_since.is_some_and(|since| now.saturating_sub(since) > self.stable_window) {
            state.panic_since = None;
            state.most_in_panic = 0;
        }
        let mut wish = stable;
        if state.panics() {
            state.most_in_panic = state.most_in_panic.max(stable).max(panic);
            wish = state.most_in_panic;
        }
        self.delayed(state, wish, now)
    }

    fn delayed(&self, state: &mut State, wish: u32, now: Duration) -> u32 {
        if self.scale_down_delay.is_zero() {
            return wish;
        }
        while state.wishes.back().is_some_and(|(_, earlier)| *earlier <= wish) {
            state.wishes.pop_back();
        }
        state.wishes.push_back((now, wish));
        while state.wishes.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= self.scale_down_delay) {
            state.wishes.pop_front();
        }
        state.wishes.front().map_or(wish, |(_, most)| *most)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates when it becomes a u32")]
fn whole(replicas: f64) -> u32 {
    replicas as u32
}

#[cfg(test)]
mod tests;
