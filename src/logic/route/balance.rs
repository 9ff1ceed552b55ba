//! The choice among the endpoints that have a free slot.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Endpoint, Placement};

/// How a service's requests are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// One after the other, by weight, spread evenly: nginx's smooth algorithm.
    WeightedRoundRobin,
    /// Where the fewest requests are for the weight; chance among equals.
    LeastRequest,
    /// Of two drawn by chance (Mitzenmacher, "The power of two choices", 2001), the one with less expected waiting:
    /// its latency (`PeakEwma`) times the requests it would then have.
    #[default]
    PeakEwma,
}

/// What one request asks of the choice.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Only replicas there; `None` for any.
    pub placement: Option<Placement>,
    /// Whether other nodes will do where this node's own replicas are busy.
    pub peers: bool,
    /// The endpoint that has just failed this request.
    pub avoid: Option<&'a Arc<Endpoint>>,
    /// Time since the process's epoch.
    pub now: Duration,
    /// Sixty-four random bits.
    pub random: u64,
}

impl Ask<'_> {
    /// Whether the endpoint could answer this request at some time, now full or not.
    #[must_use]
    pub fn admits(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.placement.is_none_or(|placement| placement == endpoint.placement)
            && (self.peers || endpoint.placement != Placement::Peer)
            && !self.avoid.is_some_and(|avoided| Arc::ptr_eq(avoided, endpoint))
    }
}

/// Whose turn it is, for the two that take turns. It outlives the routing table.
#[derive(Debug, Default)]
pub struct Rotation {
    next: AtomicUsize,
    weighing: Mutex<()>,
}

/// Picks an endpoint that has a free slot, or `None` when all that the request admits are full. Other nodes come after this
/// node's own replicas. Ejected endpoints are left out, unless all own replicas that the request admits are ejected and no
/// other node will do: a doubtful answer is better than none.
#[must_use]
pub fn pick<'a>(
    balance: Balance,
    rotation: &Rotation,
    endpoints: &'a [Arc<Endpoint>],
    ask: &Ask<'_>,
) -> Option<&'a Arc<Endpoint>> {
    let is_own = |endpoint: &Arc<Endpoint>| endpoint.placement != Placement::Peer;
    let is_healthy = |endpoint: &Arc<Endpoint>| endpoint.is_available(ask.now);
    let is_free = |endpoint: &Arc<Endpoint>| endpoint.has_slot() && ask.admits(endpoint);
    let among = |tier: &dyn Fn(&Arc<Endpoint>) -> bool| {
        choose(balance, rotation, endpoints, &|endpoint: &&Arc<Endpoint>| is_free(endpoint) && tier(endpoint), ask)
    };
    let own = among(&|endpoint| is_own(endpoint) && is_healthy(endpoint));
    own.or_else(|| among(&|endpoint| !is_own(endpoint) && is_healthy(endpoint))).or_else(|| {
        let stands = |endpoint: &Arc<Endpoint>| is_own(endpoint) && ask.admits(endpoint) && is_healthy(endpoint);
        if endpoints.iter().any(stands) { None } else { among(&is_own) }
    })
}

fn choose<'a>(
    balance: Balance,
    rotation: &Rotation,
    endpoints: &'a [Arc<Endpoint>],
    is_usable: &dyn Fn(&&'a Arc<Endpoint>) -> bool,
    ask: &Ask<'_>,
) -> Option<&'a Arc<Endpoint>> {
    match balance {
        Balance::RoundRobin => next_in_turn(rotation, endpoints, is_usable),
        Balance::WeightedRoundRobin => next_by_weight(rotation, endpoints.iter().filter(is_usable)),
        Balance::LeastRequest => least_loaded(endpoints, is_usable, ask.random),
        Balance::PeakEwma => better_of_two(endpoints.iter().filter(is_usable), ask),
    }
}

fn next_in_turn<'a>(
    rotation: &Rotation,
    endpoints: &'a [Arc<Endpoint>],
    is_usable: impl Fn(&&'a Arc<Endpoint>) -> bool,
) -> Option<&'a Arc<Endpoint>> {
    let count = endpoints.len().max(1);
    let first = rotation.next.load(Ordering::Relaxed) % count;
    let chosen = (first..count).chain(0..first).find(|&index| endpoints.get(index).is_some_and(|e| is_usable(&e)))?;
    rotation.next.store(chosen + 1, Ordering::Relaxed);
    endpoints.get(chosen)
}

/// nginx's smooth weighted round robin: each gains its weight, the one that has most is chosen and pays the sum. Over a
/// full round each is chosen as often as its weight says, and never twice in a row where it can be helped.
fn next_by_weight<'a>(
    rotation: &Rotation,
    usable: impl Iterator<Item = &'a Arc<Endpoint>>,
) -> Option<&'a Arc<Endpoint>> {
    let _one_at_a_time = rotation.weighing.lock().unwrap_or_else(PoisonError::into_inner);
    let mut total = 0;
    let mut best: Option<(i64, &Arc<Endpoint>)> = None;
    for endpoint in usable {
        let weight = i64::from(endpoint.weight.max(1));
        total += weight;
        let running = endpoint.counters.running_weight.fetch_add(weight, Ordering::Relaxed) + weight;
        if best.is_none_or(|(most, _)| running > most) {
            best = Some((running, endpoint));
        }
    }
    let (_, chosen) = best?;
    chosen.counters.running_weight.fetch_sub(total, Ordering::Relaxed);
    Some(chosen)
}

fn least_loaded<'a>(
    endpoints: &'a [Arc<Endpoint>],
    is_usable: impl Fn(&&'a Arc<Endpoint>) -> bool,
    random: u64,
) -> Option<&'a Arc<Endpoint>> {
    let load =
        |endpoint: &Arc<Endpoint>| f64::from(endpoint.counters.in_flight() + 1) / f64::from(endpoint.weight.max(1));
    let (after, before) = endpoints.split_at(below(random, endpoints.len()));
    let rotated = before.iter().chain(after);
    rotated.filter(is_usable).min_by(|one, other| load(one).total_cmp(&load(other)))
}

fn better_of_two<'a>(usable: impl Iterator<Item = &'a Arc<Endpoint>>, ask: &Ask<'_>) -> Option<&'a Arc<Endpoint>> {
    match draw_two(usable, ask.random) {
        (Some(one), Some(other)) if expected_wait(other, ask.now) < expected_wait(one, ask.now) => Some(other),
        (one, _) => one,
    }
}

/// Two different ones with equal chances, in one pass and without collecting them (reservoir sampling, Vitter 1985).
fn draw_two<'a>(
    usable: impl Iterator<Item = &'a Arc<Endpoint>>,
    random: u64,
) -> (Option<&'a Arc<Endpoint>>, Option<&'a Arc<Endpoint>>) {
    let mut drawn = (None, None);
    let mut bits = random;
    for (seen, endpoint) in usable.enumerate() {
        bits = next_random(bits);
        match if seen < 2 { seen } else { below(bits, seen + 1) } {
            0 => drawn.0 = Some(endpoint),
            1 => drawn.1 = Some(endpoint),
            _ => {}
        }
    }
    // Of two that wait equally long the first drawn is taken; chance must say which is first.
    if next_random(bits) & 1 == 1 && drawn.1.is_some() { (drawn.1, drawn.0) } else { drawn }
}

/// Latency times the requests it would then have, in seconds. An endpoint that has not answered yet is tried first, but
/// by one request only: until its first answer a second one goes elsewhere, if there is an elsewhere.
fn expected_wait(endpoint: &Endpoint, now: Duration) -> f64 {
    let in_flight = endpoint.counters.in_flight();
    match endpoint.counters.latency(now) {
        Some(latency) => latency.as_secs_f64() * f64::from(in_flight + 1),
        None if in_flight == 0 => 0.0,
        None => f64::MAX / 2.0,
    }
}

/// A number below `count`, by the high half of a product (Lemire 2019); zero when `count` is.
#[allow(clippy::cast_possible_truncation)] // The product's high half is below `count`.
fn below(random: u64, count: usize) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}

/// The next bits of the sequence (SplitMix64, Steele et al. 2014).
fn next_random(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
