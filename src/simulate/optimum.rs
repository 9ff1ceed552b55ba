//! What could have been done by somebody who knew the trace, and by somebody who saw no rise coming.
//!
//! Time is cut into slices. For each slice and each count of replicas it is played how many requests would come too late; then the course of
//! counts is sought that costs least, late requests and starts at their price (dynamic programming). It is a plan that can be carried out, so
//! what it comes to bounds the best possible from above: a slice does not know the backlog of the one before. So several plans are made,
//! with and without what a slice's backlog makes late later, and at several prices; the one that does best when played counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use super::engine::World;
use super::trace::{Request, Trace};

/// A slice is no shorter than this, and none is so short that there are more than `MOST` of them.
const SLICE: Duration = Duration::from_secs(10);
const MOST: u32 = 20_000;
/// A slice is played with what came so long before it and with what is worked on still, so that it begins with replicas at work.
const RUN_UP: Duration = Duration::from_secs(10);
/// Plans are made with these shares of a late request's price too, since slices that are played alone count some twice.
const SHARES: [f64; 3] = [0.25, 0.5, 1.0];
/// How long after a slice a backlog is charged to it.
const AFTERMATH: Duration = Duration::from_secs(30);

/// From when on how many replicas are wanted.
pub type Plan = Vec<(Duration, u32)>;

/// What a slice is charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    /// Its own late requests.
    Own,
    /// And those of after it that its backlog makes late.
    Aftermath,
}

impl Charge {
    const ALL: [Self; 2] = [Self::Own, Self::Aftermath];
}

/// Plans of which the best counts. `late_price` is a late request's cost as the time of a replica that costs as much.
pub fn plans(trace: &Trace, world: &World, late_price: Duration) -> Vec<Plan> {
    let start = longest_start(world);
    let slice = slice(trace);
    let mut plans = Vec::new();
    for charge in Charge::ALL {
        let lates = lates(trace, world, slice, charge);
        for share in SHARES {
            let price = late_price.as_secs_f64() * share;
            let counts = cheapest(&lates, world, slice.as_secs_f64(), price, start.as_secs_f64());
            plans.push(ahead(&in_time(counts, slice), start + world.tick * 2));
        }
        plans.push(reactive(&lates, world, slice, late_price));
    }
    plans
}

fn slice(trace: &Trace) -> Duration {
    SLICE.max(trace.length() / MOST)
}

fn in_time(counts: Vec<u32>, slice: Duration) -> Plan {
    counts.into_iter().enumerate().map(|(at, count)| (slice * u32::try_from(at).unwrap_or(u32::MAX), count)).collect()
}

/// The same by somebody who sees no rise coming, but knows when one has begun how long it lasts: nothing is launched before it is needed. So
/// requests of bursts shorter than a start, and of the first start of longer ones, are late; who holds replicas for them can do better.
pub fn reactive_plans(trace: &Trace, world: &World, late_price: Duration) -> Vec<Plan> {
    let slice = slice(trace);
    Charge::ALL.map(|charge| reactive(&lates(trace, world, slice, charge), world, slice, late_price)).to_vec()
}

fn reactive(lates: &[Vec<u32>], world: &World, slice: Duration, late_price: Duration) -> Plan {
    let start = (longest_start(world) + world.tick * 2).div_duration_f64(slice).ceil();
    let falls: Vec<Vec<f64>> = lates.iter().map(|by_count| falls(by_count)).collect();
    let most = falls.iter().map(Vec::len).max().unwrap_or(0);
    let mut counts = vec![world.local; lates.len()];
    for level in 0..most {
        let fewer = falls.iter().map(|falls| falls.get(level).copied().unwrap_or(0.0));
        let saved: Vec<f64> = fewer.map(|fewer| fewer * late_price.as_secs_f64()).collect();
        let is_on = reacting(&saved, slice.as_secs_f64(), whole(start));
        counts.iter_mut().zip(is_on).for_each(|(count, is_on)| *count += u32::from(is_on));
    }
    in_time(counts, slice)
}

/// By how many the late requests fall with each replica, those that help only together sharing what they save: the first of ten that a crowd
/// needs may save nothing alone. So it is the greatest convex course that is nowhere above: from each count straight to the one to which they
/// fall most steeply.
fn falls(by_count: &[u32]) -> Vec<f64> {
    let mut falls = Vec::new();
    let mut at = 0;
    while at + 1 < by_count.len() {
        let fall = |to: usize| (f64::from(by_count[at]) - f64::from(by_count[to])) / index_f64(to - at);
        // Of equal ones the furthest: `max_by` takes the last.
        let to = (at + 1..by_count.len()).max_by(|a, b| fall(*a).total_cmp(&fall(*b))).unwrap_or(at + 1);
        falls.resize(to, fall(to).max(0.0));
        at = to;
    }
    falls
}

/// When a replica that saves so much in each slice while it is ready is best had, if it can be launched only in a slice in which it would save
/// something, and is ready so many slices later.
fn reacting(saved: &[f64], slice: f64, start: usize) -> Vec<bool> {
    let slices = saved.len();
    // The most that can be gained from each slice on, without it and with it ready.
    let (mut without, mut with) = (vec![0.0_f64; slices + 1], vec![0.0_f64; slices + 1]);
    let launched = |with: &[f64], at: usize| {
        let ready = (at + start).min(slices);
        if saved[at] > 0.0 { with[ready] - index_f64(ready - at) * slice } else { f64::NEG_INFINITY }
    };
    for at in (0..slices).rev() {
        with[at] = without[at + 1].max(saved[at] - slice + with[at + 1]);
        without[at] = without[at + 1].max(launched(&with, at));
    }
    let mut is_on = vec![false; slices];
    let (mut at, mut is_ready) = (0, false);
    while at < slices {
        if !is_ready && launched(&with, at) > without[at + 1] {
            let ready = (at + start).min(slices);
            is_on[at..ready].fill(true);
            (at, is_ready) = (ready, true);
            continue;
        }
        is_ready = is_ready && saved[at] - slice + with[at + 1] > without[at + 1];
        is_on[at] = is_ready;
        at += 1;
    }
    is_on
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and a start is not below 0")]
fn whole(slices: f64) -> usize {
    slices as usize
}

fn longest_start(world: &World) -> Duration {
    let slow = |spread: f64| (2.0 * spread).exp();
    let starts = world.providers.iter().map(|p| p.cold_start.median.mul_f64(slow(p.cold_start.spread)));
    starts.max().unwrap_or_default()
}

/// Late requests of each slice by the count of replicas, until there are none.
fn lates(trace: &Trace, world: &World, slice: Duration, charge: Charge) -> Vec<Vec<u32>> {
    let requests = trace.requests();
    let longest = requests.iter().map(|request| request.work).max().unwrap_or_default().max(RUN_UP);
    let most = world.most_replicas();
    let mut slices = Vec::new();
    let mut from = Duration::ZERO;
    while from <= trace.length() {
        let first = requests.partition_point(|request| request.at < from.saturating_sub(longest));
        let to = from + slice;
        let after = if charge == Charge::Aftermath { AFTERMATH } else { Duration::ZERO };
        let last = requests.partition_point(|request| request.at < to + after);
        let run_up = from.saturating_sub(RUN_UP);
        let is_of_it = |request: &&Request| request.at >= run_up || request.at + request.work > from;
        let of_it: Vec<Request> = requests[first..last].iter().filter(is_of_it).copied().collect();
        let mut by_count = Vec::new();
        for count in world.local..=most {
            let places = count.saturating_mul(world.concurrency);
            let late = late(&of_it, from..to, places, world.slo_wait);
            by_count.push(late);
            if late == 0 {
                break;
            }
        }
        slices.push(by_count);
        from += slice;
    }
    slices
}

/// How many of the requests of a slice, and of those that come while its backlog is worked off, wait too long at so many places.
fn late(requests: &[Request], slice: Range<Duration>, places: u32, slo_wait: Duration) -> u32 {
    let mut busy: BinaryHeap<Reverse<Duration>> = BinaryHeap::new();
    let mut late = 0;
    for request in requests {
        if places == 0 {
            // What comes later is late by itself, not by a backlog.
            late += u32::from(slice.contains(&request.at));
            continue;
        }
        let free =
            if busy.len() < places as usize { request.at } else { busy.peek().map_or(request.at, |Reverse(at)| *at) };
        let begins = free.max(request.at);
        // A backlog from before the slice is not of it.
        if request.at < slice.start && begins - request.at > slo_wait {
            continue;
        }
        if busy.len() >= places as usize {
            busy.pop();
        }
        if request.at >= slice.end && begins == request.at {
            break;
        }
        late += u32::from(request.at >= slice.start && begins - request.at > slo_wait);
        busy.push(Reverse(begins + request.work));
    }
    late
}

/// The course of counts that costs least.
fn cheapest(lates: &[Vec<u32>], world: &World, slice: f64, late_price: f64, start: f64) -> Vec<u32> {
    let most = lates.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let mut costs = vec![0.0; most];
    let mut came_from: Vec<Vec<u32>> = Vec::with_capacity(lates.len());
    for by_count in lates {
        let (entry, from) = entries(&costs, start);
        costs = (0..most)
            .map(|count| {
                let late = by_count.get(count).copied().unwrap_or(0);
                entry[count] + index_f64(count) * slice + f64::from(late) * late_price
            })
            .collect();
        came_from.push(from);
    }
    let best = (0..most).min_by(|a, b| costs[*a].total_cmp(&costs[*b])).unwrap_or(0);
    let mut count = u32::try_from(best).unwrap_or(u32::MAX);
    let mut counts = vec![0; lates.len()];
    for (index, from) in came_from.iter().enumerate().rev() {
        counts[index] = count + world.local;
        count = from[count as usize];
    }
    counts
}

/// The cheapest way into each count from the counts before: down is free, each one up costs a start.
fn entries(costs: &[f64], start: f64) -> (Vec<f64>, Vec<u32>) {
    let count = costs.len();
    let (mut entry, mut from) = (vec![f64::INFINITY; count], vec![0_u32; count]);
    let mut best = (f64::INFINITY, 0);
    for index in (0..count).rev() {
        if costs[index] < best.0 {
            best = (costs[index], index);
        }
        (entry[index], from[index]) = (best.0, u32::try_from(best.1).unwrap_or(0));
    }
    let mut up = (f64::INFINITY, 0);
    for index in 0..count {
        let value = up.0 + start;
        if value < entry[index] {
            (entry[index], from[index]) = (value, u32::try_from(up.1).unwrap_or(0));
        }
        up = if costs[index] < value { (costs[index], index) } else { (value, up.1) };
    }
    (entry, from)
}

/// Wants what is needed within `lead`, so that it is ready when it is.
fn ahead(needed: &[(Duration, u32)], lead: Duration) -> Plan {
    let mut plan = Vec::new();
    let mut moments: Vec<Duration> = needed.iter().flat_map(|(at, _)| [*at, at.saturating_sub(lead)]).collect();
    moments.sort_unstable();
    moments.dedup();
    let (mut first, mut last) = (0, 0);
    let mut window: std::collections::VecDeque<(usize, u32)> = std::collections::VecDeque::new();
    for moment in moments {
        while last < needed.len() && needed[last].0 <= moment + lead {
            while window.back().is_some_and(|(_, count)| *count <= needed[last].1) {
                window.pop_back();
            }
            window.push_back((last, needed[last].1));
            last += 1;
        }
        while first + 1 < needed.len() && needed[first + 1].0 <= moment {
            first += 1;
        }
        while window.front().is_some_and(|(index, _)| *index < first) {
            window.pop_front();
        }
        let wanted = window.front().map_or(0, |(_, count)| *count);
        if plan.last().is_none_or(|(_, before)| *before != wanted) {
            plan.push((moment, wanted));
        }
    }
    plan
}

#[expect(clippy::cast_precision_loss, reason = "counts of replicas are small")]
fn index_f64(index: usize) -> f64 {
    index as f64
}

#[cfg(test)]
mod tests;
