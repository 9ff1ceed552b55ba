//! What each way of balancing promises.

use std::collections::BTreeMap;

use super::*;
use crate::route::{EndpointCounters, Transport, Verdict};

const NOW: Duration = Duration::from_secs(100);

fn endpoint(replica: &str, weight: u32, placement: Placement) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        replica: replica.into(),
        placement,
        authority: "127.0.0.1:1".into(),
        transport: Transport::Plain,
        bearer: None,
        concurrency: 4,
        weight,
        counters: EndpointCounters::default(),
    })
}

fn three() -> Vec<Arc<Endpoint>> {
    vec![endpoint("a", 5, Placement::Local), endpoint("b", 1, Placement::Local), endpoint("c", 1, Placement::Cloud)]
}

fn ask(random: u64) -> Ask<'static> {
    Ask { placement: None, peers: true, avoid: None, now: NOW, random }
}

fn sequence(balance: Balance, endpoints: &[Arc<Endpoint>], count: u64) -> String {
    let rotation = Rotation::default();
    (0..count)
        .map(|n| pick(balance, &rotation, endpoints, &ask(next_random(n))).map_or("-", |e| e.replica.as_str()))
        .collect()
}

fn shares(picked: &str) -> BTreeMap<char, usize> {
    let mut shares = BTreeMap::new();
    for replica in picked.chars() {
        *shares.entry(replica).or_default() += 1;
    }
    shares
}

fn take(endpoint: &Endpoint, count: u32) {
    for _ in 0..count {
        assert!(endpoint.try_take(NOW));
    }
}

fn answer(endpoint: &Endpoint, latency_ms: u64) {
    endpoint.learn(NOW - Duration::from_millis(latency_ms), NOW, Verdict::Answered);
}

fn eject(endpoint: &Endpoint) {
    endpoint.learn(NOW, NOW, Verdict::Draining);
}

#[test]
fn nothing_to_pick_from_is_no_panic() {
    for balance in [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastRequest, Balance::PeakEwma] {
        assert_eq!(sequence(balance, &[], 2), "--");
    }
}

#[test]
fn round_robin_takes_turns_and_skips_the_full() {
    let endpoints = three();
    assert_eq!(sequence(Balance::RoundRobin, &endpoints, 7), "abcabca");
    take(&endpoints[1], 4);
    assert_eq!(sequence(Balance::RoundRobin, &endpoints, 4), "acac");
}

/// The example of nginx's commit that introduced the algorithm: weights 5, 1, 1.
#[test]
fn weighted_round_robin_is_smooth_as_in_nginx() {
    assert_eq!(sequence(Balance::WeightedRoundRobin, &three(), 14), "aabacaaaabacaa");
}

#[test]
fn weighted_round_robin_keeps_its_shares_for_any_weights() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..50 {
        let weights: Vec<u32> = (0..random.usize(1..6)).map(|_| random.u32(1..9)).collect();
        let endpoints: Vec<_> =
            weights.iter().zip('a'..).map(|(&w, name)| endpoint(&name.to_string(), w, Placement::Local)).collect();
        let round = u64::from(weights.iter().sum::<u32>());
        let picked = shares(&sequence(Balance::WeightedRoundRobin, &endpoints, 3 * round));
        for (&weight, name) in weights.iter().zip('a'..) {
            assert_eq!(picked[&name], 3 * weight as usize, "weights {weights:?}");
        }
    }
}

#[test]
fn a_weight_of_zero_counts_as_one() {
    let endpoints = [endpoint("a", 0, Placement::Local), endpoint("b", 0, Placement::Local)];
    assert_eq!(sequence(Balance::WeightedRoundRobin, &endpoints, 4), "abab");
}

#[test]
fn least_request_goes_where_the_fewest_are_and_spreads_equals() {
    let endpoints: Vec<_> = ["a", "b", "c"].iter().map(|name| endpoint(name, 1, Placement::Local)).collect();
    take(&endpoints[0], 2);
    take(&endpoints[1], 1);
    assert_eq!(sequence(Balance::LeastRequest, &endpoints, 5), "ccccc");
    take(&endpoints[2], 1);
    let picked = shares(&sequence(Balance::LeastRequest, &endpoints, 300));
    assert!(picked[&'b'] > 60 && picked[&'c'] > 60 && !picked.contains_key(&'a'), "{picked:?}");
}

#[test]
fn two_choices_prefer_the_less_loaded() {
    let endpoints = [endpoint("a", 1, Placement::Local), endpoint("b", 1, Placement::Local)];
    endpoints.iter().for_each(|endpoint| answer(endpoint, 10));
    take(&endpoints[0], 2);
    assert_eq!(sequence(Balance::PeakEwma, &endpoints, 20), "b".repeat(20));
}

#[test]
fn two_choices_prefer_the_faster_until_it_is_loaded_enough() {
    let endpoints = [endpoint("a", 1, Placement::Local), endpoint("b", 1, Placement::Cloud)];
    answer(&endpoints[0], 10);
    answer(&endpoints[1], 25);
    take(&endpoints[0], 1);
    assert_eq!(sequence(Balance::PeakEwma, &endpoints, 5), "aaaaa", "10 ms × 2 is less than 25 ms × 1");
    take(&endpoints[0], 1);
    assert_eq!(sequence(Balance::PeakEwma, &endpoints, 5), "bbbbb", "10 ms × 3 is more");
}

#[test]
fn two_choices_leave_only_the_worst_of_equals_unpicked_and_spread_the_rest() {
    let endpoints: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| endpoint(name, 1, Placement::Local)).collect();
    endpoints.iter().for_each(|endpoint| answer(endpoint, 10));
    take(&endpoints[3], 3);
    let picked = shares(&sequence(Balance::PeakEwma, &endpoints, 3_000));
    assert!(!picked.contains_key(&'d'), "whatever it is drawn with is better: {picked:?}");
    assert!(picked.values().all(|&count| (900..1_100).contains(&count)), "{picked:?}");
}

#[test]
fn a_new_endpoint_is_tried_by_one_request_first() {
    let endpoints = [endpoint("a", 1, Placement::Local), endpoint("b", 1, Placement::Cloud)];
    answer(&endpoints[0], 10);
    assert_eq!(sequence(Balance::PeakEwma, &endpoints, 3), "bbb");
    take(&endpoints[1], 1);
    assert_eq!(sequence(Balance::PeakEwma, &endpoints, 3), "aaa");
    take(&endpoints[0], 4);
    assert_eq!(sequence(Balance::PeakEwma, &endpoints, 3), "bbb", "it is used when nothing else has a slot");
}

#[test]
fn a_request_that_must_stay_local_stays() {
    let endpoints = three();
    for random in 0..50 {
        let ask = Ask { placement: Some(Placement::Local), ..ask(next_random(random)) };
        let chosen = pick(Balance::PeakEwma, &Rotation::default(), &endpoints, &ask).expect("two are local");
        assert_eq!(chosen.placement, Placement::Local);
    }
}

#[test]
fn the_endpoint_that_failed_is_avoided_even_when_it_is_the_only_one() {
    let endpoints = [endpoint("a", 1, Placement::Local)];
    let ask = Ask { avoid: Some(&endpoints[0]), ..ask(1) };
    assert!(pick(Balance::PeakEwma, &Rotation::default(), &endpoints, &ask).is_none());
}

#[test]
fn the_ejected_are_left_out_but_never_all_of_them() {
    let endpoints = three();
    eject(&endpoints[0]);
    eject(&endpoints[1]);
    assert_eq!(sequence(Balance::RoundRobin, &endpoints, 3), "ccc");
    take(&endpoints[2], 4);
    assert_eq!(sequence(Balance::RoundRobin, &endpoints, 2), "--", "full is no reason to use an ejected one");
    eject(&endpoints[2]);
    endpoints[2].release();
    assert_eq!(sequence(Balance::RoundRobin, &endpoints, 3), "abc");
}
