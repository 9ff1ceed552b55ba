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
//! A quantile is nowhere configured: the two prices give it. A wish falls only once it was lower for a fifth of a start, as estimates tremble.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Basis, Bounds, Change, Decision, Metric, Observation, Reason};
use crate::logic::forecast::{Forecast, HORIZONS, Outlook, SLOT};

/// How a service scales by forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Requests that a replica takes at once.
    pub concurrency: u32,
    /// A request that waits longer is late.
    pub late_after: Duration,
    /// What a late request costs, as the time of a replica that costs as much; `None` for as much as twenty that are answered.
    pub late_price: Option<Duration>,
    /// So many replicas cost (almost) nothing: the local ones.
    pub free: u32,
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
/// How far ahead gains and costs are added up, in seconds.
const REACH: f64 = 1280.0;
/// A backlog that grows is taken to last so long, in seconds.
const LONGEST_BACKLOG: f64 = 600.0;
/// A wish falls once it was lower for this share of a start.
const STEADY: f64 = 0.2;
/// Of the late requests, so many by what overload lets wait, and the rest by the odds of a queue in balance.
const BY_OVERLOAD: f64 = 0.9;
/// An overload is taken to last so long, in seconds.
const OVERLOAD: f64 = 30.0;
/// The mean service time is that of so many requests.
const REQUESTS: f64 = 200.0;
/// After a silence of so many slots, and as many of the usual ticks, what came before says nothing of what comes.
const SILENCE: u32 = 8;

/// What the policy remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    wanted: u32,
    forecast: Forecast,
    /// Mean service time in seconds.
    service_time: Option<f64>,
    /// When it was last asked, and the shortest time between two times.
    at: Option<Duration>,
    tick: Option<Duration>,
    /// Requests that came in the slot that is not over, and how much of it is.
    arrivals: f64,
    filled: Duration,
    /// Lower wishes of late, oldest first and highest first.
    wishes: VecDeque<(Duration, u32)>,
    last: Option<Last>,
}

/// What the last decision was made from, for its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    expected: f64,
    basis: Basis,
}

impl State {
    pub(super) fn start(alive: u32) -> Self {
        Self {
            wanted: alive,
            forecast: Forecast::default(),
            service_time: None,
            at: None,
            tick: None,
            arrivals: 0.0,
            filled: Duration::ZERO,
            wishes: VecDeque::new(),
            last: None,
        }
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// What was learnt of the load.
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// Takes in what came since the last time; whether a slot is over.
    fn take_in(&mut self, rate: f64, now: Duration) -> bool {
        let Some(at) = self.at.replace(now) else { return false };
        let elapsed = now.saturating_sub(at);
        // How often it is asked is the node's tick, of which nothing is told here.
        let tick = self.tick.map_or(elapsed, |tick| tick.min(elapsed));
        self.tick = Some(tick);
        if elapsed > SLOT * SILENCE && elapsed > tick * SILENCE {
            self.forecast.gap();
            (self.arrivals, self.filled) = (0.0, Duration::ZERO);
            return false;
        }
        self.arrivals += rate * elapsed.as_secs_f64();
        self.filled += elapsed;
        let is_over = self.filled >= SLOT;
        // A tick longer than a slot tells the same of all slots in it; what is left over begins the next one.
        let rate = self.arrivals / self.filled.as_secs_f64().max(f64::MIN_POSITIVE);
        while self.filled >= SLOT {
            // No load is told where it is not known.
            self.forecast.learn(self.service_time.map_or(f64::NAN, |time| rate * time));
            self.filled -= SLOT;
            self.arrivals = rate * self.filled.as_secs_f64();
        }
        is_over
    }

    fn learn_service_time(&mut self, seen: &Observation) {
        let Some(time) = seen.service_time.filter(|time| time.is_finite() && *time > 0.0) else { return };
        let share = (seen.completed / REQUESTS).clamp(0.0, 0.5);
        self.service_time = Some(self.service_time.map_or(time, |mean| mean + share * (time - mean)));
    }
}

impl Config {
    pub(super) fn decide(
        &self,
        mut state: State,
        seen: &Observation,
        bounds: Bounds,
        now: Duration,
    ) -> (State, Decision) {
        let before = bounds.clamp(state.wanted);
        state.wanted = before;
        let change = self.step(&mut state, seen, bounds, now);
        let decision = Decision { wanted: state.wanted, reason: self.reason(&state, change) };
        (state, decision)
    }

    fn step(&self, state: &mut State, seen: &Observation, bounds: Bounds, now: Duration) -> Change {
        let before = state.wanted;
        state.learn_service_time(seen);
        let rate = seen.arrivals_per_s.filter(|rate| rate.is_finite() && *rate >= 0.0);
        let is_over = match rate {
            Some(rate) => state.take_in(rate, now),
            None => {
                state.forecast.gap();
                state.at = None;
                return Change::NoData;
            }
        };
        if let Some((wanted, change)) = super::wake(before, seen, bounds) {
            state.wanted = wanted;
            return change;
        }
        // Before the first answer nobody knows how much work a request is, and so what the load is.
        if state.service_time.is_none() {
            return if seen.demand() { Change::NoData } else { Change::Inside };
        }
        if !is_over {
            return Change::Inside;
        }
        let scene = Scene::new(self, state, seen);
        if state.wishes.is_empty() {
            // What was there at the start stays at least as long as any other wish.
            state.wishes.push_back((now, scene.alive));
        }
        let wish = self.wish(state, &scene, now);
        // The last one stays while it has work: ending it would only wake it again.
        let needed = u32::from(seen.in_use());
        state.wanted = bounds.clamp(wish.max(needed));
        state.last = Some(scene.summary());
        super::change(before, wish, bounds, state.wanted)
    }

    /// The wish before bounds, a fall held back while it is fresh.
    fn wish(&self, state: &mut State, scene: &Scene, now: Duration) -> u32 {
        let alive = scene.alive;
        let more = scene.more(alive, scene.backlog_then);
        if more > alive {
            state.wishes.clear();
            state.wishes.push_back((now, more));
            return more;
        }
        // None is ended that would be launched again at once.
        let wish = scene.more(scene.fewer(), 0.0).min(alive);
        let steady = Duration::from_secs_f64(STEADY * scene.start);
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

/// Gains a second at each horizon.
type Course = [f64; HORIZONS];

/// All that one decision is made from.
struct Scene {
    outlooks: Vec<Outlook>,
    slots: f64,
    free: f64,
    late_price: f64,
    late_after: f64,
    service_time: f64,
    alive: u32,
    /// Seconds until a launch of now is ready, the first horizon that is no nearer, and what it costs until then.
    lead: f64,
    then: usize,
    start: f64,
    /// Work that waits now, and that will wait when a launch of now is ready, in seconds at one place.
    backlog_now: f64,
    backlog_then: f64,
    /// The load that is expected by then.
    later: f64,
}

impl Scene {
    fn new(config: &Config, state: &State, seen: &Observation) -> Self {
        let outlooks: Vec<_> = (0..HORIZONS).map(|horizon| state.forecast.outlook(horizon)).collect();
        let service_time = state.service_time.unwrap_or(1.0).max(1e-3);
        let alive = seen.ready + seen.starting;
        let is_local = seen.ready + seen.starting < config.free;
        let start = if is_local { LOCAL_START } else { seen.start_time.unwrap_or(ASSUMED_START) }.as_secs_f64();
        let lead = start + REACTION;
        let then = (0..HORIZONS).find(|horizon| Forecast::ahead(*horizon).as_secs_f64() >= lead);
        let then = then.unwrap_or(HORIZONS - 1);
        let later = outlooks[then].mean;
        let slots = f64::from(config.concurrency);
        let backlog_now = count(seen.queued) * service_time;
        // What is ready works the whole time, what starts from when it is ready.
        let places = f64::from(seen.ready) * lead
            + seen.starting_for.iter().map(|age| (REACTION + age.as_secs_f64()).min(lead)).sum::<f64>();
        let load = f64::midpoint(state.forecast.last(), later);
        Self {
            outlooks,
            slots,
            free: f64::from(config.free),
            late_price: config.late_price.map_or(f64::from(LATE_PRICE) * service_time, |price| price.as_secs_f64()),
            late_after: config.late_after.as_secs_f64(),
            service_time,
            alive,
            lead,
            then,
            start,
            backlog_now,
            backlog_then: (backlog_now + load * lead - places * slots).max(0.0),
            later,
        }
    }

    fn summary(&self) -> Last {
        let outlook = &self.outlooks[self.then];
        let basis = Basis::Forecast { ahead: Duration::from_secs_f64(self.lead), by: outlook.by };
        Last { expected: outlook.mean, basis }
    }

    /// What so many replicas cost a second.
    fn hire(&self, replicas: u32) -> f64 {
        let replicas = f64::from(replicas);
        (replicas - self.free).max(0.0) + FREE * replicas.min(self.free)
    }

    /// What so many cost a second at each horizon, late requests included.
    fn cost(&self, replicas: u32) -> Course {
        let places = f64::from(replicas) * self.slots;
        let hire = self.hire(replicas);
        std::array::from_fn(|horizon| {
            let outcomes = self.outlooks[horizon].outcomes.iter();
            let late: f64 = outcomes.map(|(load, odds)| odds * load * self.late_share(places, *load)).sum();
            self.late_price * late / self.service_time + hire
        })
    }

    /// The share of requests that wait too long.
    fn late_share(&self, places: f64, load: f64) -> f64 {
        let patience = self.late_after / self.service_time;
        let overload =
            if load > places { (1.0 - patience * places / ((load - places) * OVERLOAD)).max(0.0) } else { 0.0 };
        BY_OVERLOAD * overload + (1.0 - BY_OVERLOAD) * odds_of_waiting(places, load, patience)
    }

    /// How long a backlog takes to be worked off by so many replicas.
    fn working_off(&self, replicas: u32, backlog: f64) -> f64 {
        let spare = f64::from(replicas) * self.slots - self.later;
        match backlog > 0.0 {
            false => 0.0,
            true if spare > 0.0 => (backlog / spare).min(LONGEST_BACKLOG),
            true => LONGEST_BACKLOG,
        }
    }

    /// What `many` replicas save over `few` by working a backlog off earlier, their hire for that time taken off.
    fn relief(&self, many: u32, few: u32, backlog: f64) -> f64 {
        if backlog <= 0.0 {
            return 0.0;
        }
        let (sooner, later) = (self.working_off(many, backlog), self.working_off(few, backlog));
        self.late_price * self.later / self.service_time * (later - sooner)
            - sooner * (self.hire(many) - self.hire(few))
    }

    /// The count, at least `alive`, that saves most once it is ready.
    fn more(&self, alive: u32, backlog: f64) -> u32 {
        let here = self.cost(alive);
        let (mut best, mut most) = (alive, 0.0);
        for count in counts_above(alive) {
            let gain = difference(&here, &self.cost(count));
            let extra = self.hire(count) - self.hire(alive);
            let mut value = best_sum(&gain, self.lead);
            let is_due = backlog > 0.0 || at(&gain, self.lead) > 0.0;
            if backlog > 0.0 {
                value = value.max(0.0) + self.relief(count, alive, backlog);
            }
            value -= extra * self.start;
            if is_due && value > most {
                (best, most) = (count, value);
            }
            // Far beyond anything that pays.
            if f64::from(count) * self.slots > 60.0 && best < count / 3 {
                break;
            }
        }
        best
    }

    /// The count, at most what is alive, down to which it is better to end them now than to keep them.
    fn fewer(&self) -> u32 {
        let here = self.cost(self.alive);
        let (mut best, mut most) = (self.alive, 0.0);
        for count in counts_below(self.alive) {
            let gain = difference(&self.cost(count), &here);
            let extra = self.hire(self.alive) - self.hire(count);
            let keep = best_sum(&gain, 0.0) + self.relief(self.alive, count, self.backlog_now);
            let (again, is_at_once) = self.launching_again(&gain, extra);
            let saved = -(at(&gain, 2.0) + at(&gain, 6.0));
            if keep <= again && !is_at_once && saved > most {
                (best, most) = (count, saved);
            }
        }
        best
    }

    /// What is gained by launching them again when that is best, and whether that is now.
    fn launching_again(&self, gain: &Course, extra: f64) -> (f64, bool) {
        let mut best = (0.0, false);
        for wait in [0.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0] {
            let value = best_sum_until(gain, self.lead + wait, self.lead + REACH) - extra * self.start;
            if value > best.0 {
                best = (value, wait == 0.0);
            }
        }
        best
    }
}

/// Counts to look at above one: each of the next ones, then ever fewer.
fn counts_above(count: u32) -> impl Iterator<Item = u32> {
    steps().map(move |step| count.saturating_add(step)).take_while(|count| *count < 20_000)
}

/// Counts to look at below one, down to none.
fn counts_below(count: u32) -> impl Iterator<Item = u32> {
    let mut last = count;
    steps().map_while(move |step| {
        let next = count.saturating_sub(step);
        (next < std::mem::replace(&mut last, next)).then_some(next)
    })
}

/// 1, 2, 3, ..., then by a seventh more each.
fn steps() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1_u32), |step| Some(step.saturating_add((*step / 7).max(1))))
}

fn difference(a: &Course, b: &Course) -> Course {
    std::array::from_fn(|horizon| a[horizon] - b[horizon])
}

/// The gain a second at a moment, between horizons in a straight line.
fn at(gain: &Course, seconds: f64) -> f64 {
    let when = |horizon: usize| Forecast::ahead(horizon).as_secs_f64();
    let next = (0..HORIZONS).find(|horizon| seconds <= when(*horizon));
    match next {
        Some(0) => gain[0],
        Some(next) => {
            let share = (seconds - when(next - 1)) / (when(next) - when(next - 1));
            gain[next - 1] * (1.0 - share) + gain[next] * share
        }
        None => gain[HORIZONS - 1],
    }
}

/// The greatest sum of gains from a moment until any later one.
fn best_sum(gain: &Course, from: f64) -> f64 {
    best_sum_until(gain, from, from + REACH)
}

fn best_sum_until(gain: &Course, from: f64, until: f64) -> f64 {
    let (mut sum, mut best, mut moment, mut step) = (0.0, 0.0_f64, from, 4.0);
    while moment < until {
        sum += at(gain, moment + step / 2.0) * step;
        best = best.max(sum);
        moment += step;
        step *= 1.15;
    }
    best
}

/// The odds that a request waits longer than `patience` service times where the load is below the places, by Halfin and Whitt's approximation
/// of Erlang's formula.
fn odds_of_waiting(places: f64, load: f64, patience: f64) -> f64 {
    if load <= 0.0 {
        return 0.0;
    }
    if load >= places {
        return 1.0;
    }
    let spare = (places - load) / places.sqrt();
    if spare > 6.0 {
        return 0.0;
    }
    let density = (-spare * spare / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let odds = 1.0 / (1.0 + spare * normal_distribution(spare, density) / density);
    odds * (-(places - load) * patience).exp()
}

/// The standard normal distribution function at a positive value, by Abramowitz and Stegun 26.2.17.
fn normal_distribution(value: f64, density: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * value);
    let series =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    1.0 - density * series
}

#[expect(clippy::cast_precision_loss, reason = "requests are far fewer than 2^52")]
fn count(requests: u64) -> f64 {
    requests as f64
}

#[cfg(test)]
mod tests;
