//! The power goes in the middle of a burst: what a disk was not told to keep is gone, and so is the node. Its instances run on
//! elsewhere. Whatever the moment, the node that comes back knows each of them, itself, and what it has spent.
//!
//! The disk is a filesystem of the test's own that is shut down in the way that its makers test it: at once, without its journal or
//! anything else that waits in memory being written. What was written and not yet flushed stays, so this is no test of a card
//! that lies about its cache. The lane `faults` repeats it: `TIDEGATE_FAULT_ROUNDS` rounds of four cuts.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cloud_adapters::contract::is_left_out_without_root;
use nix::sys::signal::{Signal, kill};
use support::account::Account;
use support::disk::Disk;
use support::{Home, Node, PATIENCE, Spec, wait_until};

/// From the surge to the cut, at most: a decision, a launch, and the first renewals fall into it.
const LONGEST_BURST: Duration = Duration::from_secs(4);
const CUTS: u32 = 4;

fn cuts() -> u32 {
    CUTS * std::env::var("TIDEGATE_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("a number of rounds"))
}

/// What must outlive the power.
#[derive(Debug)]
struct Known {
    session: u64,
    /// The key that it signs with.
    key: Vec<u8>,
    launches: BTreeSet<String>,
    spent: f64,
}

fn known(node: &Node, disk: &Disk) -> Known {
    let (own, spend) = (node.get_json("/api/v1/node"), node.get_json("/api/v1/spend"));
    let bursts = node.get_json("/api/v1/bursts");
    let launches = bursts.as_array().unwrap().iter().map(|burst| burst["launch"].as_str().unwrap().to_owned());
    Known {
        session: own["session"].as_u64().unwrap(),
        key: std::fs::read(disk.mounted.join("state/credentials/node.key")).unwrap(),
        launches: launches.collect(),
        spent: spend["hour"].as_f64().unwrap(),
    }
}

/// Until the node that came back has read its journal.
fn wait_to_know(node: &Node, disk: &Disk, what: &str, enough: impl Fn(&Known) -> bool) {
    wait_until(PATIENCE, what, || enough(&known(node, disk)).then_some(()));
}

fn spec(disk: &Disk, account: &Account) -> Spec {
    let state = format!("[node]\nstate_dir = {:?}", disk.mounted.join("state"));
    let cloud = "[adapter.cloud]\nkind = 'exec'\nprice_per_hour = 1.0\nminimum_billing = '60s'\nlease_ttl = '30s'";
    let mut spec = Spec::new();
    spec.remove("adapter", "cloud");
    account.joined(spec.with(&state).with(cloud), "cloud")
}

/// One burst that ends with the power, and the node that comes back after it.
fn cut_once(home: &Home, disk: &Disk, account: &Account, before: Option<&Known>) -> Known {
    let node = home.start(&spec(disk, account));
    let taken: BTreeSet<String> = account.launches().into_iter().collect();
    wait_to_know(&node, disk, "what the account has taken, since the intent was on the disk before", |here| {
        taken.is_subset(&here.launches)
    });
    if let Some(before) = before {
        wait_to_know(&node, disk, "what it has launched", |here| before.launches.is_subset(&here.launches));
        wait_to_know(&node, disk, "what it has spent", |here| here.spent >= before.spent);
        let here = known(&node, disk);
        assert!(here.session > before.session, "no session twice: {here:?} after {before:?}");
        assert_eq!(here.key, before.key, "it is who it was");
    }
    assert!(!node.log().contains("set aside"), "{}", node.log());
    let load = node.load(8);
    // delay: the moment of the cut is under test
    std::thread::sleep(LONGEST_BURST.mul_f64(fastrand::f64()));
    let here = known(&node, disk);
    disk.cut();
    node.kill9();
    drop(load);
    disk.unplug();
    disk.plug_in();
    here
}

/// As if the provider had lost them all.
fn end_instances(home: &Home, account: &Account) {
    wait_until(PATIENCE, "the instances end", || {
        for wrapper in home.instances() {
            let _gone = kill(wrapper.pid, Signal::SIGKILL);
        }
        account.alive().is_empty().then_some(())
    });
}

#[test]
fn whenever_the_power_goes_the_node_that_comes_back_knows_its_instances_itself_and_what_it_spent() {
    if is_left_out_without_root("a disk of its own") {
        return;
    }
    let home = Home::new();
    let (disk, account) = (Disk::make(&home), Account::new(&home));
    let mut before = None;
    for cut in 0..cuts() {
        if cut % 2 == 0 {
            // Else the first burst's instances would be adopted for ever, and nothing launched.
            end_instances(&home, &account);
        }
        before = Some(cut_once(&home, &disk, &account, before.as_ref()));
    }
    let node = home.start(&spec(&disk, &account));
    let taken: BTreeSet<String> = account.launches().into_iter().collect();
    wait_to_know(&node, &disk, "what the account has taken", |here| taken.is_subset(&here.launches));
    let launched = known(&node, &disk).launches.len();
    println!("{} cuts, {launched} launches, {} alive after the last", cuts(), account.alive().len());
    assert!(launched > 0, "nothing was launched in {} bursts", cuts());
    wait_until(PATIENCE, "no instance is left", || account.alive().is_empty().then_some(()));
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn a_cut_loses_what_was_not_flushed_and_keeps_what_was() {
    if is_left_out_without_root("a disk of its own") {
        return;
    }
    let home = Home::new();
    let disk = Disk::make(&home);
    let at = |name: &str| disk.mounted.join(name);
    std::fs::write(at("kept"), "kept").unwrap();
    let sync = |path: &Path| std::fs::File::open(path).unwrap().sync_all().unwrap();
    sync(&at("kept"));
    sync(&disk.mounted);
    std::fs::write(at("lost"), "lost").unwrap();
    disk.cut();
    disk.unplug();
    disk.plug_in();
    assert_eq!(std::fs::read_to_string(at("kept")).unwrap(), "kept");
    assert!(!at("lost").exists() || std::fs::read(at("lost")).unwrap().is_empty(), "the disk was not cut off");
    disk.unplug();
}
