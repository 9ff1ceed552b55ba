//! What it costs to have so many replicas: their hire and the late requests to expect, from now on into the future.
//!
//! The future is cut into moments, short ones first, and anew from when a launch of now would be ready; for each there is a distribution
//! of loads from the forecast.

use std::sync::LazyLock;
use std::time::Duration;

use super::{ASSUMED_START, Config, FREE, LATE_PRICE, LOCAL_START, Part, REACTION, STEADY};
use crate::forecast::{Forecast, Forecaster, Lengths, Outlook, SLOT};
use crate::policy::Observation;

/// How far ahead of a launch gains and costs are added up, in seconds.
const REACH: f64 = 1280.0;
/// The first moment, in seconds, and how much longer the next one is.
const FIRST_MOMENT: f64 = 4.0;
const LONGER: f64 = 1.15;
/// A backlog that grows is taken to last so long, in seconds.
const LONGEST_BACKLOG: f64 = 600.0;
/// Of the late requests, so many by what overload lets wait, and the rest by the odds of a queue in balance.
const BY_OVERLOAD: f64 = 0.9;
/// From the wish to end an instance until it is not paid for any more, in seconds: two slots, its last requests, the provider's call.
const END: f64 = 20.0;
/// Nobody waits where so many times the square root of the places are free.
const AMPLE: f64 = 4.0;

/// All that one decision is made from.
pub(super) struct Scene {
    moments: Vec<Moment>,
    /// What is to be expected; several moments may share one.
    outlooks: Vec<Outlook>,
    excursions: Lengths,
    /// What those that are alive cost.
    here: Course,
    slots: f64,
    /// So many replicas cost (almost) nothing: the local ones.
    free: u32,
    late_price: f64,
    late_after: f64,
    service_time: f64,
    pub(super) alive: u32,
    ready: u32,
    starting_for: Vec<Duration>,
    /// Seconds for which each instance has been paid already, the one that is to go next first.
    paid_ahead: Vec<f64>,
    /// The load as it just was.
    now: f64,
    /// Work that waits now, in seconds at one place.
    backlog: f64,
    /// Whether it counts that what is ended may have to be launched again.
    keeps: bool,
    local: Launch,
    cloud: Launch,
}

/// A part of the future, in seconds.
#[derive(Clone, Copy, Debug)]
struct Moment {
    from: f64,
    length: f64,
    outlook: usize,
}

/// What so many replicas offer, and cost a second.
struct Places {
    count: f64,
    per_root: f64,
    /// How long a load above them stays above them, in seconds.
    excursion: f64,
    hire: f64,
}

impl Places {
    /// The load up to which as good as nobody waits.
    fn none_waits_below(&self) -> f64 {
        self.count - AMPLE * self.count.sqrt()
    }
}

/// Something a second at each moment.
type Course = Vec<f64>;

/// The start of a replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    /// Seconds that it takes.
    pub(super) start: f64,
    /// Seconds until one of now is ready, and the moment that begins then.
    lead: f64,
    then: usize,
    /// Seconds for which it is paid at least.
    least_paid: f64,
}

impl Launch {
    /// Seconds that it pays for in which it does no good: while it starts, and what is left of the least that is paid for one that is of use
    /// for so long.
    fn paid_for_nothing(&self, lasts: f64) -> f64 {
        self.start.max(self.least_paid - lasts)
    }
}

/// The future from now on, with a moment that begins with each of these.
fn moments(config: &Config, forecast: &Forecast, leads: [f64; 2]) -> (Vec<Moment>, Vec<Outlook>) {
    let (mut moments, mut outlooks) = (Vec::with_capacity(64), Vec::<Outlook>::with_capacity(16));
    let end = leads[0].max(leads[1]) + REACH;
    let bests = forecast.bests(&config.forecasters_left_out());
    let bests = if config.has(Part::Age) { bests } else { bests.of_any_age() };
    let (mut from, mut length) = (0.0, FIRST_MOMENT);
    while from < end {
        let next_lead = leads.into_iter().filter(|lead| *lead > from + 1e-9).fold(f64::INFINITY, f64::min);
        let to = (from + length).min(next_lead);
        let ahead = if config.has(Part::Horizon) { slots_until(f64::midpoint(from, to)) } else { 1 };
        let view = forecast.view(&bests, ahead);
        if outlooks.last().is_none_or(|last| !last.is_of(&view)) {
            outlooks.push(if config.has(Part::Spread) {
                forecast.outlook_of(view, &bests)
            } else {
                view.for_certain()
            });
        }
        moments.push(Moment { from, length: to - from, outlook: outlooks.len() - 1 });
        length = if to == next_lead { FIRST_MOMENT } else { length * LONGER };
        from = to;
    }
    (moments, outlooks)
}

/// The slot in which a moment lies, the first being the next one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred slots")]
fn slots_until(seconds: f64) -> u32 {
    (seconds / SLOT.as_secs_f64()) as u32 + 1
}

impl Scene {
    pub(super) fn new(config: &Config, forecast: &Forecast, service_time: f64, seen: &Observation) -> Self {
        let starts = [LOCAL_START, seen.start_time.unwrap_or(ASSUMED_START)].map(|start| start.as_secs_f64());
        let is_local_of_interest = seen.ready + seen.starting <= seen.local;
        let leads = starts.map(|start| start + REACTION);
        let (moments, outlooks) = moments(config, forecast, if is_local_of_interest { leads } else { [leads[1]; 2] });
        let least_paid = [0.0, seen.minimum_billing.as_secs_f64()];
        let launch = |which: usize| {
            let then = moments.iter().position(|moment| moment.from + 1e-9 >= leads[which]);
            let then = then.unwrap_or(moments.len() - 1);
            Launch { start: starts[which], lead: leads[which], then, least_paid: least_paid[which] }
        };
        let mut scene = Self {
            here: Course::new(),
            slots: f64::from(config.concurrency),
            free: seen.local,
            late_price: config.late_price.map_or(f64::from(LATE_PRICE) * service_time, |price| price.as_secs_f64()),
            late_after: config.late_after.as_secs_f64(),
            service_time,
            alive: seen.ready + seen.starting,
            ready: seen.ready,
            starting_for: seen.starting_for.clone(),
            paid_ahead: seen.paid_ahead.iter().map(Duration::as_secs_f64).collect(),
            now: forecast.last(),
            backlog: if config.has(Part::Backlog) { count(seen.queued) * service_time } else { 0.0 },
            keeps: config.has(Part::Keeping),
            local: launch(0),
            cloud: launch(1),
            moments,
            outlooks,
            excursions: forecast.excursions(),
        };
        scene.here = scene.cost(scene.alive, 0);
        scene
    }

    /// How the next replica after so many starts.
    pub(super) fn launch(&self, after: u32) -> &Launch {
        if after < self.free { &self.local } else { &self.cloud }
    }

    /// How the last of those that are alive would come back: where instances are among what ends, not as quickly as the local ones with them.
    fn launch_again(&self) -> &Launch {
        self.launch(self.alive.saturating_sub(1))
    }

    /// For how many seconds a wish must have been lower until it falls.
    pub(super) fn steady(&self) -> f64 {
        (STEADY * self.launch(self.alive).start).max(self.service_time)
    }

    /// What is to be expected when a launch of now is ready.
    fn later(&self, launch: &Launch) -> &Outlook {
        &self.outlooks[self.moments[launch.then].outlook]
    }

    /// The load that is expected when a launch of now is ready, when that is, and who says so.
    pub(super) fn expected(&self) -> (f64, Duration, Forecaster) {
        let launch = self.launch(self.alive);
        let outlook = self.later(launch);
        (outlook.mean, Duration::from_secs_f64(launch.lead), outlook.by)
    }

    /// Work that will wait when a launch of now is ready, if so many of those that are alive stay, and so many local ones join them.
    fn backlog_then(&self, launch: &Launch, staying: u32, joining: u32) -> f64 {
        // What is ready works the whole time, what starts from when it is ready.
        let ready = self.ready.min(staying);
        let starting = self.starting_for.iter().take((staying - ready) as usize);
        let started = starting.map(|age| (REACTION + age.as_secs_f64()).min(launch.lead));
        let joined = f64::from(joining) * (launch.lead - self.local.lead).max(0.0);
        let places = (f64::from(ready) * launch.lead + started.sum::<f64>() + joined) * self.slots;
        let backlog = self.backlog + f64::midpoint(self.now, self.later(launch).mean) * launch.lead - places;
        // Less than one request is none.
        if backlog < self.service_time { 0.0 } else { backlog }
    }

    /// What so many replicas cost a second.
    fn hire(&self, replicas: u32) -> f64 {
        f64::from(replicas.saturating_sub(self.free)) + FREE * f64::from(replicas.min(self.free))
    }

    /// What so many cost a second at each moment from this one on, late requests included, and nothing before: a launch is judged by what comes
    /// once it is ready.
    fn cost(&self, replicas: u32, from: usize) -> Course {
        let places = self.places(replicas);
        let mut costs = Course::with_capacity(self.moments.len());
        costs.resize(from, 0.0);
        let mut last = (usize::MAX, 0.0);
        costs.extend(self.moments[from..].iter().map(|moment| {
            if moment.outlook != last.0 {
                last = (moment.outlook, self.cost_at(&places, &self.outlooks[moment.outlook]));
            }
            last.1
        }));
        costs
    }

    fn places(&self, replicas: u32) -> Places {
        let count = f64::from(replicas) * self.slots;
        let excursion = self.excursions.above(count);
        Places { count, per_root: 1.0 / count.sqrt(), excursion, hire: self.hire(replicas) }
    }

    /// What these cost a second where this is to be expected, late requests included.
    fn cost_at(&self, places: &Places, outlook: &Outlook) -> f64 {
        let none_waits_below = places.none_waits_below();
        let busy = outlook.outcomes.iter().rev().take_while(|(load, _)| *load > none_waits_below);
        let late: f64 = busy.map(|(load, odds)| odds * self.late(places, *load)).sum();
        self.late_price * late / self.service_time + places.hire
    }

    /// Of so much load the part that waits too long.
    fn late(&self, places: &Places, load: f64) -> f64 {
        if load <= places.count {
            let free = places.count - load;
            let patience = self.late_after / self.service_time;
            return load * (1.0 - BY_OVERLOAD) * odds_of_waiting(free * places.per_root) * (-free * patience).exp();
        }
        // A queue grows for as long as the load stays above: who comes before it has grown to the patience is in time.
        let overload = load - places.count;
        let grown = overload * places.excursion;
        load * (BY_OVERLOAD * grown / (grown + self.late_after * places.count) + (1.0 - BY_OVERLOAD))
    }

    /// The greatest load that may come.
    fn greatest(&self) -> f64 {
        let loads = self.outlooks.iter().filter_map(|outlook| outlook.outcomes.last()).map(|(load, _)| *load);
        loads.fold(0.0, f64::max)
    }

    /// How long a backlog takes to be worked off by so many replicas; no request of it takes less than its own time.
    fn working_off(&self, replicas: u32, backlog: f64, load: f64) -> f64 {
        let spare = f64::from(replicas) * self.slots - load;
        let longest = LONGEST_BACKLOG.max(2.0 * self.service_time);
        match backlog > 0.0 {
            false => 0.0,
            true if spare > 0.0 => (backlog / spare).max(self.service_time).min(longest),
            true => longest,
        }
    }

    /// What `many` replicas save over `few` by working a backlog off earlier, their hire for that time taken off as far as it is not counted
    /// already, for so many seconds. What waits is no reason to have fewer.
    fn relief(&self, many: u32, few: u32, backlog: f64, load: f64, counted: f64) -> f64 {
        if backlog <= 0.0 {
            return 0.0;
        }
        let (sooner, longer) = (self.working_off(many, backlog, load), self.working_off(few, backlog, load));
        let saved = self.late_price * load / self.service_time * (longer - sooner);
        (saved - (sooner - counted).max(0.0) * (self.hire(many) - self.hire(few))).max(0.0)
    }

    /// The count, at least `alive`, that saves most once it is ready: of local ones, and where all of those are wanted of instances.
    pub(super) fn more(&self, alive: u32) -> u32 {
        let here = if alive < self.free {
            self.more_by(alive, self.free, &self.local, self.backlog_then(&self.local, alive, 0))
        } else {
            alive
        };
        // Where it takes many, the local ones alone may help nobody.
        let all_here = here.max(self.free);
        let backlog = self.backlog_then(&self.cloud, alive, all_here.saturating_sub(alive));
        let beyond = self.more_by(all_here, u32::MAX, &self.cloud, backlog);
        if beyond > all_here { beyond } else { here }
    }

    /// The same of a count to which all others would end, up to what is alive.
    pub(super) fn more_than(&self, count: u32) -> u32 {
        if !self.keeps {
            return count;
        }
        let launch = self.launch_again();
        self.more_by(count, self.alive, launch, self.backlog_then(launch, count, 0))
    }

    /// The count from `alive` to `most` that saves most, all of them launched so.
    fn more_by(&self, alive: u32, most: u32, launch: &Launch, backlog: f64) -> u32 {
        if most <= alive {
            return alive;
        }
        let elsewhere = if alive == self.alive { None } else { Some(self.cost(alive, launch.then)) };
        let here = elsewhere.as_ref().unwrap_or(&self.here);
        let load = self.later(launch).mean;
        let most_relief = self.late_price * load / self.service_time * self.working_off(alive, backlog, load);
        let greatest = self.greatest();
        let (mut best, mut saved) = (alive, 0.0);
        for count in counts_above(alive).take_while(|count| *count <= most) {
            // Neither this many nor more could save as much.
            if self.most_saved(here, alive, count, launch) + most_relief <= saved {
                break;
            }
            if backlog > 0.0 || here[launch.then] > self.cost_at(&self.places(count), self.later(launch)) {
                let there = self.cost(count, launch.then);
                let gain = here.iter().zip(&there).map(|(here, there)| here - there);
                let extra = self.hire(count) - self.hire(alive);
                let (mut value, lasts) = self.best_sum(gain, launch.then);
                value += self.relief(count, alive, backlog, load, lasts) - extra * launch.paid_for_nothing(lasts);
                if value > saved {
                    (best, saved) = (count, value);
                }
            }
            // Nobody is late any more, whatever comes.
            if backlog <= 0.0 && self.places(count).none_waits_below() >= greatest {
                break;
            }
        }
        best
    }

    /// What a count would save over `alive` if with it nobody were late any more. Mostly that is nothing, and no more needs to be looked at.
    fn most_saved(&self, here: &Course, alive: u32, count: u32, launch: &Launch) -> f64 {
        let hire = self.hire(count);
        self.best_sum(here.iter().map(|cost| cost - hire), launch.then).0 - (hire - self.hire(alive)) * launch.start
    }

    /// The count, at most what is alive, down to which it is better to end them now than to keep them.
    pub(super) fn fewer(&self) -> u32 {
        let load = self.later(self.launch(self.alive)).mean;
        let (mut best, mut most) = (self.alive, 0.0);
        for count in counts_below(self.alive) {
            // Mostly it is seen at once that fewer would not do, and that even fewer, with whom no fewer are late, could not either.
            let saved_at_once = self.saves_at_once(count);
            if saved_at_once + 2.0 * (self.hire(count) - self.hire(0)) <= most {
                break;
            }
            if saved_at_once <= most {
                continue;
            }
            let mut gain = difference(&self.cost(count, 0), &self.here);
            self.add_what_is_paid(&mut gain, self.alive - count);
            let extra = self.hire(self.alive) - self.hire(count);
            let (gained, lasts) = self.best_sum(gain.iter().copied(), 0);
            let keep = gained + self.relief(self.alive, count, self.backlog, load, lasts);
            let (again, is_at_once) = self.launching_again(&gain, extra, self.launch_again());
            let saved = -(gain[0] + gain[1]);
            if (keep <= again && !is_at_once || !self.keeps) && saved > most {
                (best, most) = (count, saved);
            }
        }
        best
    }

    /// What is saved over the first two moments by ending all beyond a count now, were none of them paid already.
    fn saves_at_once(&self, count: u32) -> f64 {
        let [first, second] = [self.moments[0].outlook, self.moments[1].outlook];
        let places = self.places(count);
        let costs = self.cost_at(&places, &self.outlooks[first]);
        let costs_then = if second == first { costs } else { self.cost_at(&places, &self.outlooks[second]) };
        self.here[0] - costs + self.here[1] - costs_then
    }

    /// What is gained by launching them again when that is best, and whether that is now.
    fn launching_again(&self, gain: &Course, extra: f64, launch: &Launch) -> (f64, bool) {
        // The best sum from each later moment on, from the last one back.
        let mut best = (0.0, false);
        let (mut sum, mut lasts) = (0.0_f64, 0.0);
        for (index, moment) in self.moments.iter().enumerate().skip(launch.then).rev() {
            sum += gain[index] * moment.length;
            lasts += moment.length;
            if sum <= 0.0 {
                (sum, lasts) = (0.0, 0.0);
            }
            let value = sum - extra * launch.paid_for_nothing(lasts);
            if value > best.0 {
                best = (value, index == launch.then);
            }
        }
        best
    }

    /// While what is ended is paid for already, keeping it costs nothing.
    fn add_what_is_paid(&self, gain: &mut Course, ended: u32) {
        // A fall is held back for a while, and then takes its time: one that is to be over before the next step begins is due before.
        let due_before = self.steady() + END;
        let ended = self.paid_ahead.iter().take(ended as usize).map(|ahead| ahead - due_before);
        for ahead in ended.filter(|ahead| *ahead > 0.0) {
            for (moment, gain) in self.moments.iter().zip(gain.iter_mut()) {
                *gain += ((ahead - moment.from) / moment.length).clamp(0.0, 1.0);
            }
        }
    }

    /// The greatest sum of gains from a moment until any later one, and how long that is.
    fn best_sum(&self, gain: impl Iterator<Item = f64>, from: usize) -> (f64, f64) {
        let (mut sum, mut lasts, mut best) = (0.0, 0.0, (0.0, 0.0));
        for (moment, gain) in self.moments.iter().zip(gain).skip(from) {
            sum += gain * moment.length;
            lasts += moment.length;
            if sum > best.0 {
                best = (sum, lasts);
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
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// The odds that a request has to wait where the load is below the places by so many times their square root, by Halfin and Whitt's
/// approximation of Erlang's formula. With them it waits longer than t service times, e^(-t) times as often for each free place.
pub(super) fn odds_of_waiting(spare: f64) -> f64 {
    let at = spare.clamp(0.0, AMPLE) * ODDS_A_UNIT;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 4 times 64")]
    let below = at as usize;
    let share = at - small(below);
    ODDS[below] * (1.0 - share) + ODDS[below + 1] * share
}

/// Odds of a wait, so many for each unit of what is spare; in between they are nearly straight.
static ODDS: LazyLock<[f64; 258]> = LazyLock::new(|| {
    let halfin_whitt = |spare: f64| {
        let density = (-spare * spare / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        1.0 / (1.0 + spare * normal_distribution(spare, density) / density)
    };
    std::array::from_fn(|index| halfin_whitt(small(index) / ODDS_A_UNIT))
});
const ODDS_A_UNIT: f64 = 64.0;

/// The standard normal distribution function at a positive value, by Abramowitz and Stegun 26.2.17.
fn normal_distribution(value: f64, density: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * value);
    let series =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    1.0 - density * series
}

#[expect(clippy::cast_precision_loss, reason = "some hundred")]
fn small(index: usize) -> f64 {
    index as f64
}

#[expect(clippy::cast_precision_loss, reason = "requests are far fewer than 2^52")]
fn count(requests: u64) -> f64 {
    requests as f64
}

#[cfg(test)]
mod tests;
