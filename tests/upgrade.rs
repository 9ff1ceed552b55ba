//! One release apart: a node takes over from the version before in the middle of a burst, each runs the other's instances, and the
//! way back is as the refusal says. Played where `TIDEGATE_OLDER` names the older program, as the lane `upgrade` of tests/run does; what
//! older versions wrote (messages, leases, the journal's tables) is read in every run, by the tests of `wire` and `journal`.

mod support;

use std::path::Path;

use support::account::Account;
use support::{Home, Node, PATIENCE, Spec, older, wait_until};

const NEWER: &str = env!("CARGO_BIN_EXE_tidegate");

/// A node whose instances run the program `wrapped`, and do so on when it is gone.
fn spec(account: &Account, wrapped: &Path) -> Spec {
    let cloud = "[adapter.cloud]\nkind = 'exec'\nprice_per_hour = 1.0\nminimum_billing = '60s'\nlease_ttl = '30s'";
    let mut spec = Spec::new();
    spec.remove("adapter", "cloud");
    account.joined(spec.with(cloud), "cloud").with(&format!("[adapter.cloud.env]\nTIDEGATE_PROGRAM = {wrapped:?}"))
}

/// Load until instances have answered so many more requests, all of them right.
fn burst(node: &Node, answers: f64) {
    let load = node.load(8);
    let before = answered_by_instances(node);
    wait_until(PATIENCE, "instances answer", || (answered_by_instances(node) >= before + answers).then_some(()));
    let tally = load.stop();
    tally.assert_sound();
    assert!(tally.from("cloud") > 0, "{:?}", tally.answers);
}

fn answered_by_instances(node: &Node) -> f64 {
    let metrics = node.console("/metrics").text();
    let start = "tidegate_requests_total{service=\"digits\",placement=\"cloud\",code=\"200\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(start)).map_or(0.0, |count| count.parse().unwrap())
}

fn wait_for_ebb(account: &Account) {
    wait_until(PATIENCE, "no instance is left", || account.alive().is_empty().then_some(()));
}

#[test]
fn a_newer_node_adopts_what_the_older_one_launched_with_its_wrappers() {
    let Some(program) = older::program() else { return };
    let home = Home::new();
    let account = Account::new(&home);
    let spec = spec(&account, &program);
    let node = older::start(&home, &program, &spec);
    burst(&node, 20.0);
    node.kill9();
    let launched = account.alive();
    assert!(!launched.is_empty());
    let node = home.start(&spec);
    wait_until(PATIENCE, "all are adopted", || {
        let adopted = node.events("burst.adopted").len();
        (adopted + node.events("burst.ended").len() >= launched.len()).then_some(())
    });
    burst(&node, 20.0);
    wait_for_ebb(&account);
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn an_older_node_runs_instances_of_the_newer_program() {
    let Some(program) = older::program() else { return };
    let home = Home::new();
    let account = Account::new(&home);
    let node = older::start(&home, &program, &spec(&account, Path::new(NEWER)));
    burst(&node, 20.0);
    wait_for_ebb(&account);
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn the_way_back_is_refused_while_the_journal_is_newer_and_open_with_the_copy_that_was_made() {
    let Some(program) = older::program() else { return };
    let home = Home::new();
    let account = Account::new(&home);
    let spec = spec(&account, &program);
    let node = older::start(&home, &program, &spec);
    burst(&node, 1.0);
    wait_for_ebb(&account);
    assert_eq!(node.terminate().code, Some(0));
    assert_eq!(home.start(&spec).terminate().code, Some(0));
    let copies: Vec<_> = std::fs::read_dir(home.state_dir()).unwrap().flatten().map(|entry| entry.path()).collect();
    let Some(copy) = copies.iter().find(|path| path.to_string_lossy().contains("journal.schema-")) else {
        println!("the older program reads the newer one's journal");
        let node = older::start(&home, &program, &spec);
        assert_eq!(node.terminate().code, Some(0));
        return;
    };
    let refused = home.finish(older::command(&home, &program, &spec));
    assert!(refused.code == Some(1) && refused.stderr.contains("install the newer version again"), "{refused:?}");
    for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _absent = std::fs::remove_file(home.state_dir().join(file));
    }
    std::fs::rename(copy, home.state_dir().join("journal.sqlite")).unwrap();
    let node = older::start(&home, &program, &spec);
    let known = node.get_json("/api/v1/bursts");
    assert!(!known.as_array().unwrap().is_empty(), "it knows what it had launched before");
    assert_eq!(node.terminate().code, Some(0));
}
