//! The `predictive` policy: as many replicas as cost least, late requests counted at their price.
//!
//! One rule decides everything. A replica costs its price for each second from its launch on. A request that waits too long costs
//! `late_price`. [`Forecast`] says with which probability which load comes when; for each count of replicas that gives the late requests to
//! expect, mostly by how far the load is above the capacity, and a little by the odds of waiting where it is below. So:
//!
//! - **Out.** Launch so many that what they save, from when they are ready until it pays best to end them, exceeds what they cost by the
//!   most; nothing that would only be needed later than one start from now, since it can be launched later.
//! - **In.** Keep as long as keeping costs less, over the best time, than ending now and launching again when that is due.
//! - **Backlog.** What waits now and cannot be answered before a start is over delays all that come until it is worked off; more
//!   replicas work it off earlier.
//!
//! A quantile is nowhere configured: the two prices give it. A wish falls only once it was lower for a fifth of a start, and for as long as a
//! request takes, as estimates tremble.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Basis, Bounds, Change, Decision, Metric, Observation, Reason};
use crate::archive::archived;
use crate::forecast::{Forecast, Forecaster, SLOT};

mod part;
mod scene;
pub use part::Part;
use scene::Scene;

/// How a service scales by forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Requests that a replica takes at once.
    pub concurrency: u32,
    /// A request that waits longer is late.
    pub late_after: Duration,
    /// What a late request costs, as the time of a replica that costs as much; `None` for as much as twenty that are answered.
    pub late_price: Option<Duration>,
    /// What is left out, to see what it is worth.
    pub without: Vec<Part>,
}

/// What a late request costs where nobody said, in service times.
pub const LATE_PRICE: u32 = 20;

/// What a late request costs, as the time of an instance that costs as much; both in the same money, the price above 0.
pub fn late_price(cost: f64, price_per_hour: f64) -> Duration {
    Duration::try_from_secs_f64(cost / price_per_hour * 3600.0).unwrap_or(Duration::MAX)
}

/// A start takes so long until one was seen.
const ASSUMED_START: Duration = Duration::from_secs(30);
/// A local replica is ready after so long.
const LOCAL_START: Duration = Duration::from_secs(5);
/// A decision takes effect with the next tick, and is made once a slot.
const REACTION: f64 = 4.0;
/// What a free replica costs, of one that does not: enough to end it when nothing is to do.
const FREE: f64 = 0.01;
/// A wish falls once it was lower for this share of a start, and for a service time: ending takes as long anyway.
const STEADY: f64 = 0.2;
/// Before the first answer, what nobody has asked for so long ends; while it starts it is not counted.
const UNASKED: Duration = Duration::from_secs(60);
/// The mean service time is that of so many requests.
const REQUESTS: f64 = 200.0;
/// No request takes less, in seconds.
const SHORTEST: f64 = 1e-6;
/// After a silence of so many slots, and as many of the usual ticks, what came before says nothing of what comes.
const SILENCE: u32 = 8;

/// What the policy remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    wanted: u32,
    forecast: Forecast,
    /// Mean service time in seconds, of how many requests that is, and the arrivals a second over as long.
    service_time: Option<f64>,
    answered: f64,
    rate: Option<f64>,
    /// When it was last asked, and the usual time between two times of late.
    at: Option<Duration>,
    tick: Option<Duration>,
    /// Requests that came in the slot that is not over, and how much of it is.
    arrivals: f64,
    filled: Duration,
    /// Lower wishes of late, oldest first and highest first.
    wishes: VecDeque<(Duration, u32)>,
    last: Option<Last>,
    last_change: Change,
}

/// What the last decision was made from, for its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    expected: f64,
    basis: Basis,
}

archived!(Last { expected, basis });
archived!(State {
    wanted,
    forecast,
    service_time,
    answered,
    rate,
    at,
    tick,
    arrivals,
    filled,
    wishes,
    last,
    last_change
});

impl State {
    pub(super) fn start(alive: u32) -> Self {
        Self {
            wanted: alive,
            forecast: Forecast::default(),
            service_time: None,
            answered: 0.0,
            rate: None,
            at: None,
            tick: None,
            arrivals: 0.0,
            filled: Duration::ZERO,
            wishes: VecDeque::new(),
            last: None,
            last_change: Change::Inside,
        }
    }

    /// How much the forecast of the last decision has erred lately, as a share of 1 + what came.
    pub(super) fn forecast_error(&self) -> Option<f64> {
        match self.last?.basis {
            Basis::Forecast { ahead, .. } => self.forecast.error_at(ahead).map(|error| error.exp2() - 1.0),
            _ => None,
        }
    }

    /// Begins anew with so many alive, and with what was learnt.
    pub(super) fn begin_at(self, alive: u32) -> Self {
        let Self { forecast, service_time, answered, .. } = self;
        Self { forecast, service_time, answered, ..Self::start(alive) }
    }

    /// Goes on after the process was not there.
    pub(super) fn resume(&mut self, away: Option<Duration>) {
        self.forecast.resume(away);
    }

    pub(super) fn is_sound(&self) -> bool {
        let is_time = self.service_time.is_none_or(|time| time.is_finite() && time > 0.0);
        let is_count = (0.0..=REQUESTS).contains(&self.answered);
        is_time && is_count && self.forecast.is_sound()
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// What was learnt of the load.
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// Takes in what came since the last time; whether a slot is over.
    fn take_in(&mut self, rate: f64, seen: &Observation, now: Duration, without: &[Forecaster]) -> bool {
        let Some(at) = self.at.replace(now) else { return false };
        let elapsed = now.saturating_sub(at);
        // How often it is asked is the node's tick, of which nothing is told here.
        // The usual time of late: a stall makes one long, and several may come at once after it.
        let tick = self.tick.map_or(elapsed, |tick| elapsed.clamp(tick / 2, tick * 2));
        self.tick = Some(tick);
        if elapsed > SLOT * SILENCE && elapsed > tick * SILENCE {
            let slots = (self.filled + elapsed).as_millis() / SLOT.as_millis();
            self.forecast.skip(u32::try_from(slots).unwrap_or(u32::MAX));
            (self.arrivals, self.filled) = (0.0, Duration::ZERO);
            self.rate = None;
            return false;
        }
        self.arrivals += rate * elapsed.as_secs_f64();
        self.filled += elapsed;
        let is_over = self.filled >= SLOT;
        if is_over {
            self.begin_rate(seen);
        }
        // A tick longer than a slot tells the same of all slots in it; what is left over begins the next one.
        let rate = self.arrivals / self.filled.as_secs_f64().max(f64::MIN_POSITIVE);
        while self.filled >= SLOT {
            self.learn(rate, without);
            self.filled -= SLOT;
            self.arrivals = rate * self.filled.as_secs_f64();
        }
        is_over
    }

    /// Where requests last longer than a slot, the arrivals of the first slot tell little: so many came lately as are here, or as were before
    /// a gap that is shorter than a request.
    fn begin_rate(&mut self, seen: &Observation) {
        let Some(time) = self.service_time.filter(|time| self.rate.is_none() && *time > SLOT.as_secs_f64()) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "requests are far fewer than 2^52")]
        let here = seen.in_flight.saturating_add(seen.queued) as f64;
        let before = self.forecast.last_before(Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX));
        self.rate = Some(here.max(before.unwrap_or_default()) / time);
    }

    /// Takes in a slot. Work that lasts longer than a slot is at a replica for many: what came over its time is what is there.
    fn learn(&mut self, rate: f64, without: &[Forecaster]) {
        // No load is told where it is not known.
        let Some(time) = self.service_time else { return self.forecast.skip(1) };
        let share = (SLOT.as_secs_f64() / time).min(1.0);
        let rate = self.rate.map_or(rate, |mean| mean + share * (rate - mean));
        self.rate = Some(rate);
        self.forecast.learn_without(rate * time, without);
    }

    /// What is wanted before a request was ever answered: what is there, until nobody has asked for a while.
    fn wait_for_one(&mut self, seen: &Observation, bounds: Bounds, now: Duration) -> Change {
        if seen.in_use() || seen.starting > 0 {
            self.wishes.clear();
            return if seen.demand() { Change::NoData } else { Change::Inside };
        }
        if self.wishes.is_empty() {
            self.wishes.push_back((now, self.wanted));
        }
        if self.wishes.front().is_none_or(|(since, _)| now.saturating_sub(*since) < UNASKED) {
            return Change::Inside;
        }
        let before = std::mem::replace(&mut self.wanted, bounds.clamp(0));
        super::change(before, 0, bounds, self.wanted)
    }

    fn learn_service_time(&mut self, seen: &Observation) {
        let Some(time) = seen.service_time.filter(|time| time.is_finite() && *time > 0.0) else { return };
        let completed = if seen.completed.is_finite() { seen.completed.max(1.0) } else { 1.0 };
        // The first ones are from a cold start and weigh no more than any other.
        self.answered = (self.answered + completed).min(REQUESTS);
        let share = (completed / self.answered).min(1.0);
        let time = time.max(SHORTEST);
        self.service_time = Some(self.service_time.map_or(time, |mean| mean + share * (time - mean)));
    }
}

impl Config {
    /// With all that it does.
    pub fn new(concurrency: u32, late_after: Duration, late_price: Option<Duration>) -> Self {
        Self { concurrency, late_after, late_price, without: Vec::new() }
    }

    fn has(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }

    fn forecasters_left_out(&self) -> Vec<Forecaster> {
        self.without.iter().filter_map(|part| part.forecaster()).collect()
    }

    pub(super) fn decide(
        &self,
        mut state: State,
        seen: &Observation,
        bounds: Bounds,
        now: Duration,
    ) -> (State, Decision) {
        let before = state.wanted;
        let bounded = bounds.clamp(before);
        state.wanted = bounded;
        let change = self.step(&mut state, seen, bounds, now);
        let change = super::bound_change(before, bounded, state.wanted, change);
        let decision = Decision { wanted: state.wanted, reason: self.reason(&state, change) };
        (state, decision)
    }

    fn step(&self, state: &mut State, seen: &Observation, bounds: Bounds, now: Duration) -> Change {
        let before = state.wanted;
        state.learn_service_time(seen);
        let rate = seen.arrivals_per_s.filter(|rate| rate.is_finite() && *rate >= 0.0);
        // What is missing for a moment is taken to have been as it is afterwards, what is for long is not known.
        let Some(rate) = rate else { return Change::NoData };
        let is_over = state.take_in(rate, seen, now, &self.forecasters_left_out());
        if let Some((wanted, change)) = super::wake(before, seen, bounds) {
            state.wanted = wanted;
            state.wishes.clear();
            return change;
        }
        // Before the first answer nobody knows how much work a request is, and so what the load is; where none comes, there is none.
        let Some(service_time) = state.service_time else {
            return state.wait_for_one(seen, bounds, now);
        };
        if !is_over {
            return super::still(state.last_change);
        }
        let scene = Scene::new(self, &state.forecast, service_time, seen);
        if state.wishes.is_empty() {
            // What was there at the start stays at least as long as any other wish.
            state.wishes.push_back((now, scene.alive));
        }
        let wish = self.wish(state, &scene, now);
        // The last one stays while it has work: ending it would only wake it again.
        let needed = u32::from(seen.in_use());
        state.wanted = bounds.clamp(wish.max(needed));
        let (expected, ahead, by) = scene.expected();
        state.last = Some(Last { expected, basis: Basis::Forecast { ahead, by } });
        state.last_change = super::change(before, wish, bounds, state.wanted);
        state.last_change
    }

    /// The wish before bounds, a fall held back while it is fresh.
    fn wish(&self, state: &mut State, scene: &Scene, now: Duration) -> u32 {
        let alive = scene.alive;
        let more = scene.more(alive);
        if more > alive {
            state.wishes.clear();
            state.wishes.push_back((now, more));
            return more;
        }
        // None is ended that would be launched again at once.
        let wish = scene.more_than(scene.fewer()).min(alive);
        let steady = Duration::from_secs_f64(scene.steady());
        while state.wishes.back().is_some_and(|(_, earlier)| *earlier <= wish) {
            state.wishes.pop_back();
        }
        state.wishes.push_back((now, wish));
        while state.wishes.len() > 1 && state.wishes.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= steady) {
            state.wishes.pop_front();
        }
        state.wishes.front().map_or(wish, |(_, highest)| (*highest).min(alive).max(wish))
    }

    fn reason(&self, state: &State, change: Change) -> Reason {
        let capacity = f64::from(state.wanted) * f64::from(self.concurrency);
        let basis =
            state.last.map_or(Basis::Forecast { ahead: Duration::ZERO, by: Default::default() }, |last| last.basis);
        Reason {
            metric: Metric::OfferedLoad,
            value: state.last.map(|last| last.expected).filter(|_| change != Change::NoData),
            threshold: capacity,
            setpoint: capacity,
            band: 0.0,
            change,
            wanted: state.wanted,
            basis,
        }
    }
}

#[cfg(test)]
mod tests;
