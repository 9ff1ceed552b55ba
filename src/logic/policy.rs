//! How many replicas a service should have, and why.
//!
//! A policy is pure: state and observation in, state and decision out. The decision carries its reason, so that the log
//! line, the event and the dashboard answer "why did it burst at 03:12?" from one value.

use std::fmt;
use std::time::Duration;

use super::archive;
use super::forecast::Forecaster;

mod archived;
pub mod concurrency;
mod largest;
pub mod predictive;
pub mod threshold;

/// What a policy watches: R(t).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// In flight and queued requests over ready replicas times their concurrency.
    Utilisation,
    /// CPU time of the host, as a fraction of 1.
    Cpu,
    /// Memory of the host, as a fraction of 1.
    Memory,
    /// Bytes per second over the link speed, as a fraction of 1.
    Network,
    /// Arrivals per second.
    RequestRate,
    /// 95th percentile of the whole request time, in seconds.
    LatencyP95,
    /// A number that is measured elsewhere.
    Custom,
    /// Requests in flight and waiting, together. What `concurrency` watches; not for `threshold`.
    Requests,
    /// Arrivals a second times the time that one takes at a replica: places that are busy when nobody waits. What `predictive` watches; not
    /// for `threshold`.
    OfferedLoad,
}

impl Metric {
    /// Every metric that a threshold may be set for, in the order in which they are documented.
    pub const ALL: [Self; 7] =
        [Self::Utilisation, Self::Cpu, Self::Memory, Self::Network, Self::RequestRate, Self::LatencyP95, Self::Custom];

    /// The word used in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utilisation => "utilisation",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Network => "network",
            Self::RequestRate => "request_rate",
            Self::LatencyP95 => "latency_p95",
            Self::Custom => "custom metric",
            Self::Requests => "requests",
            Self::OfferedLoad => "offered_load",
        }
    }

    /// What follows a number of this metric in a sentence.
    fn unit(self) -> &'static str {
        match self {
            Self::Utilisation
            | Self::Cpu
            | Self::Memory
            | Self::Network
            | Self::Custom
            | Self::Requests
            | Self::OfferedLoad => "",
            Self::RequestRate => "/s",
            Self::LatencyP95 => " s",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In flight and queued requests over what the ready replicas take at once.
///
/// `None` while no replica is ready: there is no capacity to be a fraction of, and a wake from zero does not need it.
pub fn utilisation(in_flight: f64, queued: f64, ready: u32, concurrency: u32) -> Option<f64> {
    let capacity = f64::from(ready) * f64::from(concurrency);
    (capacity > 0.0).then(|| (in_flight + queued) / capacity)
}

/// What a policy sees of one service at one moment. A metric that could not be measured is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// See [`Metric::Utilisation`].
    pub utilisation: Option<f64>,
    /// See [`Metric::Cpu`].
    pub cpu: Option<f64>,
    /// See [`Metric::Memory`].
    pub memory: Option<f64>,
    /// See [`Metric::Network`].
    pub network: Option<f64>,
    /// See [`Metric::RequestRate`].
    pub request_rate: Option<f64>,
    /// See [`Metric::LatencyP95`]; in seconds.
    pub latency_p95: Option<f64>,
    /// See [`Metric::Custom`].
    pub custom: Option<f64>,
    /// Replicas that take requests, wherever they are.
    pub ready: u32,
    /// Replicas on their way.
    pub starting: u32,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests waiting now.
    pub queued: u64,
    /// Requests in flight and waiting, the mean over the policy's long window.
    pub requests: Option<f64>,
    /// The same over its short one.
    pub requests_short: Option<f64>,
    /// Arrivals per second of the whole service since the last sample.
    pub arrivals_per_s: Option<f64>,
    /// Mean time at a replica of what was answered since the last sample, in seconds.
    pub service_time: Option<f64>,
    /// How many that were.
    pub completed: f64,
    /// How long those on their way have been so.
    pub starting_for: Vec<Duration>,
    /// How long the next instance takes to start, as learnt at its adapter.
    pub start_time: Option<Duration>,
    /// How long each instance, the one that is to go next first, has been paid for already.
    pub paid_ahead: Vec<Duration>,
    /// The least that the next instance is billed for.
    pub minimum_billing: Duration,
    /// Replicas that run here or could: no more than do where the box bears no further one.
    pub local: u32,
}

impl Observation {
    /// The value of a metric; a value that is not a finite number is no value.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let value = match metric {
            Metric::Utilisation => self.utilisation,
            Metric::Cpu => self.cpu,
            Metric::Memory => self.memory,
            Metric::Network => self.network,
            Metric::RequestRate => self.request_rate,
            Metric::LatencyP95 => self.latency_p95,
            Metric::Custom => self.custom,
            Metric::Requests => self.requests,
            Metric::OfferedLoad => None,
        };
        value.filter(|value| value.is_finite())
    }

    /// Someone waits for an answer at this moment.
    pub fn demand(&self) -> bool {
        self.in_flight > 0 || self.queued > 0
    }

    /// Someone waits, or came during the window that the request rate is measured over.
    pub fn in_use(&self) -> bool {
        self.demand() || self.value(Metric::RequestRate).is_some_and(|rate| rate > 0.0)
    }

    /// It is known that nobody waits, and that nobody came during that window.
    pub fn is_idle(&self) -> bool {
        !self.in_use() && self.value(Metric::RequestRate).is_some()
    }
}

/// The fewest and the most replicas a service may have. Should they contradict each other, the maximum holds: it is
/// what protects the host and the purse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest; 0 lets the service scale to zero.
    pub min: u32,
    /// Most, local and cloud together.
    pub max: u32,
}

impl Bounds {
    /// The nearest count inside the bounds.
    pub fn clamp(self, wanted: u32) -> u32 {
        wanted.max(self.min).min(self.max)
    }
}

/// How a service scales.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// R(t) against T, S·Δt replicas at a time.
    Threshold(threshold::Config),
    /// Requests per replica, as Knative's autoscaler.
    Concurrency(concurrency::Config),
    /// What costs least, by a forecast.
    Predictive(predictive::Config),
    /// Each of these on its own: what most is wanted by is wanted, and for its reason.
    Largest(Vec<Policy>),
}

/// What a policy remembers between two decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyState {
    /// Of [`Policy::Threshold`].
    Threshold(threshold::State),
    /// Of [`Policy::Concurrency`].
    Concurrency(concurrency::State),
    /// Of [`Policy::Predictive`]; it holds a day of load.
    Predictive(Box<predictive::State>),
    /// Of [`Policy::Largest`].
    Largest(largest::State),
}

impl PolicyState {
    /// The replica count that the last decision asked for.
    pub fn wanted(&self) -> u32 {
        match self {
            Self::Threshold(state) => state.wanted(),
            Self::Concurrency(state) => state.wanted(),
            Self::Predictive(state) => state.wanted(),
            Self::Largest(state) => state.wanted,
        }
    }

    /// Reads what was written; `None` where these are no such bytes, of another version, or of no state that can be.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        archive::from_bytes(bytes).filter(Self::is_sound)
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Threshold(_) | Self::Concurrency(_) => true,
            Self::Predictive(state) => state.is_sound(),
            Self::Largest(state) => state.states.iter().all(Self::is_sound),
        }
    }

    /// Begins anew with so many alive: nothing is taken down at once. What was learnt stays.
    #[must_use]
    pub fn begin_at(self, alive: u32) -> Self {
        match self {
            Self::Threshold(_) => Self::Threshold(threshold::State::start(alive)),
            Self::Concurrency(_) => Self::Concurrency(concurrency::State::start(alive)),
            Self::Predictive(state) => Self::Predictive(Box::new(state.begin_at(alive))),
            Self::Largest(state) => {
                let states = state.states.into_iter().map(|state| state.begin_at(alive)).collect();
                Self::Largest(largest::State { wanted: alive, states })
            }
        }
    }

    /// Goes on with what was learnt before the process was not there; for how long that was, where it is known.
    pub fn resume(&mut self, away: Option<Duration>) {
        match self {
            Self::Threshold(_) | Self::Concurrency(_) => {}
            Self::Predictive(state) => state.resume(away),
            Self::Largest(state) => state.states.iter_mut().for_each(|state| state.resume(away)),
        }
    }

    /// How much the forecast has erred lately that the last decision was made by, as a share of 1 + what came; `None` without one.
    pub fn forecast_error(&self) -> Option<f64> {
        match self {
            Self::Threshold(_) | Self::Concurrency(_) => None,
            Self::Predictive(state) => state.forecast_error(),
            Self::Largest(state) => state.states.iter().find_map(Self::forecast_error),
        }
    }

    /// Whether something was learnt that is worth keeping over a restart.
    pub fn has_learnt(&self) -> bool {
        match self {
            Self::Threshold(_) | Self::Concurrency(_) => false,
            Self::Predictive(state) => state.forecast().known() > 0,
            Self::Largest(state) => state.states.iter().any(Self::has_learnt),
        }
    }

    /// Goes on from a wish that another policy had: of those that step up and down from the last one.
    fn follow(&mut self, wanted: u32) {
        match self {
            Self::Threshold(state) => state.follow(wanted),
            Self::Concurrency(_) | Self::Predictive(_) => {}
            Self::Largest(state) => state.follow(wanted),
        }
    }

    /// The states of single policies in it.
    fn singles(self) -> Vec<Self> {
        match self {
            Self::Largest(state) => state.states.into_iter().flat_map(Self::singles).collect(),
            single => vec![single],
        }
    }
}

impl Policy {
    /// The utilisation that it steers to; `None` where it watches something else.
    pub fn target_utilisation(&self) -> Option<f64> {
        match self {
            Self::Threshold(config) => (config.metric == Metric::Utilisation).then_some(config.threshold),
            Self::Concurrency(_) | Self::Predictive(_) => None,
            Self::Largest(policies) => policies.iter().find_map(Self::target_utilisation),
        }
    }

    /// The long and the short window over which requests are averaged, where it asks for them.
    pub fn windows(&self) -> Option<(Duration, Duration)> {
        match self {
            Self::Concurrency(config) => Some((config.stable_window, config.panic_window)),
            Self::Threshold(_) | Self::Predictive(_) => None,
            Self::Largest(policies) => policies.iter().find_map(Self::windows),
        }
    }

    /// The state at the start of the node, when `alive` replicas were found or are to be had again.
    ///
    /// The wish begins there, so a restart in mid-burst scales nothing in.
    pub fn start(&self, alive: u32) -> PolicyState {
        match self {
            Self::Threshold(_) => PolicyState::Threshold(threshold::State::start(alive)),
            Self::Concurrency(_) => PolicyState::Concurrency(concurrency::State::start(alive)),
            Self::Predictive(_) => PolicyState::Predictive(Box::new(predictive::State::start(alive))),
            Self::Largest(policies) => {
                let states = policies.iter().map(|policy| policy.start(alive)).collect();
                PolicyState::Largest(largest::State { wanted: alive, states })
            }
        }
    }

    /// The state after another policy: it begins at what that wanted, with what was learnt by one of its kind.
    fn start_with(&self, other: PolicyState) -> PolicyState {
        let alive = other.wanted();
        let mut singles = other.singles();
        self.picked(&mut singles, alive)
    }

    fn picked(&self, singles: &mut Vec<PolicyState>, alive: u32) -> PolicyState {
        if let Self::Largest(policies) = self {
            let states = policies.iter().map(|policy| policy.picked(singles, alive)).collect();
            return PolicyState::Largest(largest::State { wanted: alive, states });
        }
        let is_mine = |state: &PolicyState| {
            matches!(
                (self, state),
                (Self::Threshold(_), PolicyState::Threshold(_))
                    | (Self::Concurrency(_), PolicyState::Concurrency(_))
                    | (Self::Predictive(_), PolicyState::Predictive(_))
            )
        };
        let mine = singles.iter().position(is_mine).map(|index| singles.swap_remove(index));
        mine.map_or_else(|| self.start(alive), |state| state.begin_at(alive))
    }

    /// One decision. `now` never runs backwards; call it as often as samples come. A state of another policy begins anew.
    pub fn decide(
        &self,
        state: PolicyState,
        seen: &Observation,
        bounds: Bounds,
        now: Duration,
    ) -> (PolicyState, Decision) {
        let (state, decision) = match (self, state) {
            (Self::Threshold(config), PolicyState::Threshold(state)) => {
                let (state, decision) = config.decide(&state, seen, bounds, now);
                (PolicyState::Threshold(state), decision)
            }
            (Self::Concurrency(config), PolicyState::Concurrency(state)) => {
                let (state, decision) = config.decide(state, seen, bounds, now);
                (PolicyState::Concurrency(state), decision)
            }
            (Self::Predictive(config), PolicyState::Predictive(state)) => {
                let (state, decision) = config.decide(*state, seen, bounds, now);
                (PolicyState::Predictive(Box::new(state)), decision)
            }
            (Self::Largest(policies), PolicyState::Largest(state)) if largest::fits(policies, &state) => {
                let (state, decision) = largest::decide(policies, state, seen, bounds, now);
                (PolicyState::Largest(state), decision)
            }
            (policy, other) => return policy.decide(policy.start_with(other), seen, bounds, now),
        };
        debug_assert_eq!(decision.wanted, bounds.clamp(decision.wanted), "a decision outside its bounds");
        debug_assert_eq!(decision.wanted, state.wanted(), "the stored wish is the clamped one");
        (state, decision)
    }
}

/// From none to one where somebody waits: what is wanted then.
fn wake(wanted: u32, seen: &Observation, bounds: Bounds) -> Option<(u32, Change)> {
    let is_asleep = wanted == 0 && seen.ready == 0 && seen.demand();
    let woken = bounds.clamp(1);
    is_asleep.then_some((woken, if woken > 0 { Change::Woken } else { Change::WakeBarred }))
}

/// What a wish came to once it was held to its bounds.
fn change(before: u32, wish: u32, bounds: Bounds, wanted: u32) -> Change {
    match wanted.cmp(&before) {
        std::cmp::Ordering::Greater => Change::Added(wanted - before),
        std::cmp::Ordering::Less => Change::Removed(before - wanted),
        std::cmp::Ordering::Equal if wish > bounds.max => Change::AtMaximum,
        std::cmp::Ordering::Equal if wish < bounds.min => Change::AtMinimum,
        std::cmp::Ordering::Equal => Change::Inside,
    }
}

/// Bounds that moved past the wish are the reason of a decision that would otherwise have changed nothing.
fn bound_change(before: u32, bounded: u32, wanted: u32, change: Change) -> Change {
    match bounded.cmp(&before) {
        std::cmp::Ordering::Greater if wanted == bounded => Change::RaisedToMinimum,
        std::cmp::Ordering::Less if wanted == bounded => Change::LoweredToMaximum,
        _ => change,
    }
}

/// What holds between two decisions: where the last one stood at a bound, it stands there still.
fn still(last: Change) -> Change {
    match last {
        Change::AtMaximum | Change::AtMinimum => last,
        _ => Change::Inside,
    }
}

/// The wanted replica count with its reason.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Replicas wanted, local and cloud together; within the bounds.
    pub wanted: u32,
    /// Why.
    pub reason: Reason,
}

/// Which side of the threshold was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Too much load: replicas are added.
    Above,
    /// Too little load: replicas are removed.
    Below,
}

/// What a decision did, or why it did nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// So many more replicas.
    Added(u32),
    /// So many fewer replicas.
    Removed(u32),
    /// S·Δt is less than one replica: so much of the next one has come together.
    Gathering {
        /// Whether it is being added or removed.
        side: Side,
        /// Below 1.
        gathered: f64,
    },
    /// Between the edges.
    Inside,
    /// An edge was crossed, but the interval is not over.
    Waiting {
        /// Which edge.
        side: Side,
        /// Until the next change may come.
        remaining: Duration,
    },
    /// More are called for, and the maximum is reached.
    AtMaximum,
    /// More are called for than run here, and other nodes have room: nothing is launched.
    LeftToPeers,
    /// Fewer are called for, and the minimum is reached.
    AtMinimum,
    /// Fewer are called for, but the last replica has work: ending it would only wake it again.
    LastInUse,
    /// The metric has no value: the last decision holds.
    NoData,
    /// From zero to one, because someone waits.
    Woken,
    /// Someone waits, but the maximum is zero.
    WakeBarred,
    /// The minimum was raised above what was wanted.
    RaisedToMinimum,
    /// The maximum was lowered below what was wanted.
    LoweredToMaximum,
}

impl Change {
    /// The edge that was crossed, where one was.
    pub fn side(&self) -> Option<Side> {
        match self {
            Self::Added(_) | Self::AtMaximum | Self::LeftToPeers => Some(Side::Above),
            Self::Removed(_) | Self::AtMinimum | Self::LastInUse => Some(Side::Below),
            Self::Gathering { side, .. } | Self::Waiting { side, .. } => Some(*side),
            Self::Inside
            | Self::NoData
            | Self::Woken
            | Self::WakeBarred
            | Self::RaisedToMinimum
            | Self::LoweredToMaximum => None,
        }
    }

    /// The word for events and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::Removed(_) => "removed",
            Self::Gathering { .. } => "gathering",
            Self::Inside => "inside",
            Self::Waiting { .. } => "waiting",
            Self::AtMaximum => "at_maximum",
            Self::LeftToPeers => "left_to_peers",
            Self::AtMinimum => "at_minimum",
            Self::LastInUse => "last_in_use",
            Self::NoData => "no_data",
            Self::Woken => "woken",
            Self::WakeBarred => "wake_barred",
            Self::RaisedToMinimum => "raised_to_minimum",
            Self::LoweredToMaximum => "lowered_to_maximum",
        }
    }
}

/// Why a decision is what it is. Displays as one sentence for an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// What was measured.
    pub metric: Metric,
    /// Its value, `None` when there was none.
    pub value: Option<f64>,
    /// The edge that was crossed: `setpoint` plus or minus half the band; the setpoint itself where none was.
    pub threshold: f64,
    /// The configured threshold T.
    pub setpoint: f64,
    /// The configured band around it, in whole; 0 for none.
    pub band: f64,
    /// What followed.
    pub change: Change,
    /// Replicas wanted from now on.
    pub wanted: u32,
    /// What the value was held against.
    pub basis: Basis,
}

/// What a policy holds a value against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// A threshold, with a band or without.
    Threshold,
    /// What one replica is to have; in panic by the short window.
    Concurrency {
        /// Whether the short window counts and nothing is taken down.
        panics: bool,
    },
    /// The prices of a replica and of a late request.
    Forecast {
        /// How far ahead the value was forecast.
        ahead: Duration,
        /// By what.
        by: Forecaster,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_cause(f)?;
        self.write_effect(f)
    }
}

impl Reason {
    /// What was seen: the sentence up to its comma or colon.
    fn write_cause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.change {
            Change::Added(_)
            | Change::Removed(_)
            | Change::Inside
            | Change::AtMaximum
            | Change::AtMinimum
            | Change::LeftToPeers
                if self.basis != Basis::Threshold =>
            {
                self.write_held_against(f)
            }
            Change::Inside => self.write_inside(f),
            Change::NoData => write!(f, "{} has no value now", self.metric),
            Change::Woken | Change::WakeBarred => f.write_str("requests wait and no replica is ready"),
            Change::RaisedToMinimum => write!(f, "the minimum is now {}", self.wanted),
            Change::LoweredToMaximum => write!(f, "the maximum is now {}", self.wanted),
            _ => self.write_crossing(f),
        }
    }

    fn write_effect(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = self.wanted;
        match self.change {
            Change::Added(count) => write!(f, ": {count} more, {wanted} wanted"),
            Change::Removed(count) => write!(f, ": {count} fewer, {wanted} wanted"),
            Change::Gathering { side, gathered } => write!(
                f,
                ": {} of the next replica to {} has come together, still {wanted} wanted",
                number(gathered),
                if side == Side::Above { "add" } else { "remove" },
            ),
            Change::Inside => write!(f, ": still {wanted} wanted"),
            Change::Waiting { remaining, .. } => {
                write!(f, ": the next change may come in {:.1} s, still {wanted} wanted", remaining.as_secs_f64())
            }
            Change::AtMaximum => write!(f, ", but the maximum is reached: still {wanted} wanted"),
            Change::LeftToPeers => write!(f, ", but other nodes have room: still {wanted} wanted"),
            Change::AtMinimum => write!(f, ", but the minimum is reached: still {wanted} wanted"),
            Change::LastInUse => write!(f, ", but the last replica has work: still {wanted} wanted"),
            Change::NoData => write!(f, ": the last decision holds, {wanted} wanted"),
            Change::WakeBarred => write!(f, ", but the maximum is {wanted}: {wanted} wanted"),
            Change::Woken | Change::RaisedToMinimum | Change::LoweredToMaximum => write!(f, ": {wanted} wanted"),
        }
    }

    fn write_crossing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, sign) = match self.change.side() {
            Some(Side::Below) => ("below", '-'),
            _ => ("above", '+'),
        };
        if self.value.is_none() {
            return write!(f, "{} has no value, as nobody asked", self.metric);
        }
        self.write_value(f)?;
        if self.band > 0.0 {
            let (edge, setpoint) = (number(self.threshold), number(self.setpoint));
            write!(f, " is at or {word} {edge} (threshold {setpoint} {sign} band/2)")
        } else {
            write!(f, " is {word} the threshold {}", number(self.setpoint))
        }
    }

    fn write_inside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_value(f)?;
        if self.band > 0.0 {
            let half = self.band / 2.0;
            write!(f, " is between {} and {}", number(self.setpoint - half), number(self.setpoint + half))
        } else {
            write!(f, " is exactly the threshold {}", number(self.setpoint))
        }
    }

    /// Of a policy that has no threshold.
    fn write_held_against(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_value(f)?;
        match self.basis {
            Basis::Threshold => Ok(()),
            Basis::Concurrency { panics } => {
                let window =
                    if panics { "short window, as far more is called for than is ready" } else { "long window" };
                write!(f, " ({window}), {} to each replica", number(self.setpoint))
            }
            Basis::Forecast { .. } if self.value.is_none() => f.write_str(" is not known yet"),
            Basis::Forecast { ahead, by } => {
                write!(f, " is expected in {:.0} s ({})", ahead.as_secs_f64(), by.as_str())
            }
        }
    }

    fn write_value(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(f, "{} {}{}", self.metric, number(value), self.metric.unit()),
            None => write!(f, "{}", self.metric),
        }
    }
}

/// Two decimals, a third where it says something: 0.80, 0.846.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.strip_suffix('0').map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests;
