//! Courses whose price can be told by hand.

use super::*;

#[test]
fn a_gap_shorter_than_a_start_is_paid_through_and_a_longer_one_is_not() {
    let world = World {
        tick: Duration::from_secs(2),
        local: 0,
        concurrency: 1,
        max_replicas: 5,
        slo_wait: Duration::from_secs(1),
        warmup: Duration::ZERO,
        providers: Vec::new(),
        seed: 1,
    };
    // One replica is needed (a hundred late requests without it) in slices 0, 2 and 9.
    let needed = vec![100, 0];
    let idle = vec![0];
    let lates: Vec<Vec<u32>> =
        (0..10).map(|i| if [0, 2, 9].contains(&i) { needed.clone() } else { idle.clone() }).collect();
    let counts = cheapest(&lates, &world, 10.0, 10.0, 30.0);
    assert_eq!(counts, [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]);
    // Late requests that cost less than a replica are let be late.
    assert_eq!(cheapest(&lates, &world, 10.0, 0.05, 30.0), [0; 10]);
}

#[test]
fn who_sees_no_rise_coming_launches_when_it_has_begun_and_only_for_one_that_lasts() {
    // A replica that saves 100 a slice in slices 2 to 7, and one slice later in the night a single time; a slice costs 10, a start takes two.
    let mut saved = vec![0.0; 20];
    saved[2..8].fill(100.0);
    saved[15] = 50.0;
    let on: Vec<_> = reacting(&saved, 10.0, 2).iter().enumerate().filter(|(_, on)| **on).map(|(at, _)| at).collect();
    assert_eq!(on, [2, 3, 4, 5, 6, 7]);
    // A pause shorter than a start is kept through, as launching again would come too late.
    saved[9] = 100.0;
    let on: Vec<_> = reacting(&saved, 10.0, 2).iter().enumerate().filter(|(_, on)| **on).map(|(at, _)| at).collect();
    assert_eq!(on, [2, 3, 4, 5, 6, 7, 8, 9]);
    // None that costs more than it saves.
    assert!(reacting(&saved, 1000.0, 2).iter().all(|on| !on));
}

#[test]
fn replicas_that_help_only_together_share_what_they_save() {
    assert_eq!(falls(&[30, 30, 30, 0]), [10.0; 3]);
    assert_eq!(falls(&[30, 10, 5, 0]), [20.0, 5.0, 5.0]);
    // One whose backlog makes others late is none that harms, where two help.
    assert_eq!(falls(&[10, 40, 0]), [5.0, 5.0]);
    assert_eq!(falls(&[0]), [0.0; 0]);
}

#[test]
fn what_is_needed_later_is_wanted_before() {
    let second = Duration::from_secs;
    let needed = [(second(0), 0), (second(10), 3), (second(20), 1), (second(30), 0)];
    let plan = ahead(&needed, second(5));
    assert_eq!(plan, [(second(0), 0), (second(5), 3), (second(20), 1), (second(30), 0)]);
}

#[test]
fn a_slice_without_places_is_not_charged_with_what_comes_after_it() {
    let second = Duration::from_secs;
    let requests: Vec<_> = (100..130).map(|at| Request { at: second(at), work: second(1) }).collect();
    let late_from = |from| late(&requests, second(from)..second(from + 10), 0, second(1));
    assert_eq!([80, 90, 100, 110].map(late_from), [0, 0, 10, 10]);
    // A backlog is of the slice that leaves it: at one place two a second are worked off as slowly.
    let twice: Vec<_> = requests.iter().flat_map(|request| [*request; 2]).collect();
    let (own, after) = (&twice[..20], &twice[..40]);
    let [own, after] = [own, after].map(|requests| late(requests, second(100)..second(110), 1, second(1)));
    assert!(own > 10 && after == own + 20, "{own} and {after}");
}
