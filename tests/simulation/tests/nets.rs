//! Each net alone ends what nobody owns any more within its bound; without it the same worlds leak, so that a net that
//! does nothing is noticed.

use std::time::Duration;

use burst_simulation::chance::Chance;
use burst_simulation::scenario::{Nets, Scenario};
use burst_simulation::trace::Detail;
use burst_simulation::world::{Report, World};

/// Enough for crashes around each kind of call, and over in a second.
const SEEDS: u64 = 300;
/// In a third of the worlds nothing is wanted when the node goes: those have nothing to leak.
const LEAKS_AT_LEAST: u64 = SEEDS / 4;

fn play(seed: u64, nets: Nets, change: impl Fn(&mut Scenario, &mut Chance)) -> Report {
    let mut chance = Chance::new(seed);
    let bounded = nets.max_life;
    let mut scenario = Scenario::quiet(&mut chance, nets, bounded);
    change(&mut scenario, &mut chance);
    World::new(scenario, chance, Detail::Last).run()
}

fn leaks(nets: Nets, change: impl Fn(&mut Scenario, &mut Chance)) -> u64 {
    let broken = (1..=SEEDS).filter_map(|seed| play(seed, nets, &change).violation);
    broken.inspect(|what| assert!(what.contains("is an orphan"), "another failure than a leak: {what}")).count() as u64
}

fn holds(nets: Nets, change: impl Fn(&mut Scenario, &mut Chance)) {
    for seed in 1..=SEEDS {
        let report = play(seed, nets, &change);
        assert_eq!(report.violation, None, "seed {seed}\n{}", report.lines);
    }
}

fn the_node_leaves(scenario: &mut Scenario, chance: &mut Chance) {
    scenario.leaves_at = Some(chance.seconds(60.0, 1_200.0));
}

fn the_node_comes_back(_: &mut Scenario, _: &mut Chance) {}

#[test]
fn the_journal_alone_finds_what_a_former_run_left_and_without_it_that_leaks() {
    holds(Nets { journal: true, ..Nets::NONE }, the_node_comes_back);
    let leaked = leaks(Nets::NONE, the_node_comes_back);
    assert!(leaked >= LEAKS_AT_LEAST, "{leaked} of {SEEDS} worlds leak without any net");
}

#[test]
fn the_sweep_alone_finds_what_a_lost_journal_forgot() {
    holds(Nets { sweep: true, ..Nets::NONE }, the_node_comes_back);
}

#[test]
fn the_lease_alone_ends_what_a_node_left_that_never_comes_back_and_without_it_that_leaks() {
    holds(Nets { lease: true, ..Nets::NONE }, the_node_leaves);
    let leaked = leaks(Nets::NONE, the_node_leaves);
    assert!(leaked >= LEAKS_AT_LEAST, "{leaked} of {SEEDS} worlds leak without any net");
}

#[test]
fn the_providers_bound_alone_ends_what_a_node_left_and_one_that_is_only_declared_leaks() {
    holds(Nets { max_life: true, ..Nets::NONE }, the_node_leaves);
    let only_declared = |scenario: &mut Scenario, chance: &mut Chance| {
        the_node_leaves(scenario, chance);
        scenario.nets.max_life = false;
    };
    let leaked = leaks(Nets { max_life: true, ..Nets::NONE }, only_declared);
    assert!(leaked >= LEAKS_AT_LEAST, "{leaked} of {SEEDS} worlds leak though the provider declares a bound");
}

#[test]
fn a_journal_that_forgets_what_it_acknowledged_is_caught_even_with_every_net_there() {
    let forgetful = Nets { sync: false, ..Nets::ALL };
    let caught = (1..=SEEDS).filter_map(|seed| play(seed, forgetful, the_node_comes_back).violation);
    let caught = caught.filter(|what| what.contains("is not on the disk")).count() as u64;
    assert!(caught >= LEAKS_AT_LEAST, "caught in {caught} of {SEEDS} worlds");
}

#[test]
fn the_bound_of_an_orphan_is_the_lease_and_no_more() {
    // A world whose instances take their lease for longer than the engine granted must be caught by the same check.
    let slow = |scenario: &mut Scenario, chance: &mut Chance| {
        the_node_leaves(scenario, chance);
        scenario.lease_overrun = Duration::from_secs(30);
    };
    let caught = (1..=SEEDS).filter_map(|seed| play(seed, Nets { lease: true, ..Nets::NONE }, slow).violation);
    let caught = caught.filter(|what| what.contains("outlived its lease")).count() as u64;
    assert!(caught >= LEAKS_AT_LEAST, "caught in {caught} of {SEEDS} worlds");
}
