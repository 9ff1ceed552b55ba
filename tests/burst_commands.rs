//! `tidegate burst`, `spend` and `adapter`: what an operator asks of a node, and of an adapter without one.

#[path = "burst_commands/fetched.rs"]
mod fetched;
mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Finished, Home, Node, PATIENCE, Spec, wait_until};

fn wait_for_cloud(node: &Node, at_least: u64) {
    wait_until(PATIENCE, "instances are ready", || {
        (node.service("digits")["ready_cloud"].as_u64()? >= at_least).then_some(())
    });
}

/// What a command printed as JSON.
fn json(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// A node after a burst that is over, with its console.
fn after_a_burst(home: &Home) -> (Node, String) {
    // One instance, waited for: a second could be ended before it was ever ready.
    let node = home.start(&Spec::new().with("[service.digits.burst]\nmax_replicas = 1"));
    let load = node.load(8);
    wait_for_cloud(&node, 1);
    load.stop().assert_sound();
    wait_until(PATIENCE, "the tide falls", || home.instances().is_empty().then_some(()));
    wait_until(PATIENCE, "the rows are closed", || {
        let bursts = node.get_json("/api/v1/bursts");
        bursts.as_array()?.iter().all(|burst| burst["state"] == "ended").then_some(())
    });
    let console = node.console_url();
    (node, console)
}

#[test]
fn every_instance_is_listed_shown_exported_and_summed_up_also_after_a_restart() {
    let home = Home::new();
    let (node, console) = after_a_burst(&home);
    let ask = |words: &[&str]| home.command(&[words, &["--console", &console]].concat());
    let listed = json(&ask(&["burst", "list", "--days", "1", "--json"]));
    let bursts = listed.as_array().unwrap();
    assert!(!bursts.is_empty());
    let first = bursts[0]["launch"].as_str().unwrap().to_owned();
    for burst in bursts {
        assert!(burst["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{burst}");
        assert!(burst["ready_at"].is_string() && burst["ended_at"].is_string(), "{burst}");
        assert!(burst["cost"].as_f64().is_some_and(|cost| cost > 0.0) && burst["currency"] == "EUR", "{burst}");
    }
    let shown = ask(&["burst", "show", &first]).stdout;
    assert!(shown.contains(&format!("launch             {first}")) && shown.contains("cost"), "{shown}");
    let unknown = ask(&["burst", "show", "nothing"]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.stderr.contains("knows no instance nothing; `tidegate burst list --days 30`"),
        "{}",
        unknown.stderr
    );

    let csv = ask(&["burst", "export", "--csv"]).stdout;
    assert!(csv.starts_with("launch,node,session,service,adapter,state,"), "{csv}");
    assert_eq!(csv.trim_end().lines().count(), 1 + bursts.len());
    assert_eq!(ask(&["burst", "export"]).code, Some(2), "the format is asked for by name");

    let sums = json(&ask(&["spend", "--by", "service,adapter,day", "--json"]));
    let whole: f64 = bursts.iter().filter_map(|burst| burst["cost"].as_f64()).sum();
    let summed: f64 = sums.as_array().unwrap().iter().filter_map(|sum| sum["cost"].as_f64()).sum();
    assert!((whole - summed).abs() < 1e-9, "{sums} of {listed}");
    assert_eq!((&sums[0]["service"], &sums[0]["adapter"]), (&"digits".into(), &"cloud".into()));
    let spend = json(&ask(&["spend", "--json"]));
    assert!((spend["hour"].as_f64().unwrap() - whole).abs() < 1e-9, "the ledger and the rows say the same: {spend}");
    assert!(ask(&["spend", "--by", "service"]).stdout.starts_with("SERVICE  INSTANCES  HOURS"), "a table for people");

    let adapters = json(&ask(&["adapter", "list", "--json"]));
    let cloud = &adapters[0];
    assert_eq!((&cloud["adapter"], &cloud["price_per_hour"]), (&"cloud".into(), &0.4.into()));
    assert!(cloud["start_p95_s"].as_f64().is_some_and(|start| start > 0.0 && start < 30.0), "{cloud}");
    assert_eq!(cloud["held_back"], serde_json::json!({}));

    assert_eq!(node.terminate().code, Some(0));
    let node = home.start(&Spec::new());
    let console = format!("http://{}", node.addresses.console);
    let again = json(&home.command(&["burst", "list", "--days", "1", "--json", "--console", &console]));
    assert_eq!(again.as_array().unwrap().len(), bursts.len(), "the journal remembers");
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn an_adapter_is_checked_in_words_and_with_an_instance_that_is_gone_afterwards() {
    let home = Home::new();
    let config = home.config(&Spec::new()).display().to_string();
    let checked = home.command(&["adapter", "check", "cloud", "-c", &config]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for subject in ["credentials", "quota", "image", "network"] {
        assert!(checked.stdout.lines().any(|line| line.starts_with(subject) && line.contains(" ok ")), "{checked:?}");
    }
    home.assert_empty_within(Duration::ZERO);

    let launched = json(&home.command(&["adapter", "check", "cloud", "-c", &config, "--launch", "--json"]));
    let launch = &launched["launch"];
    assert!(launch["ready_s"].as_f64().is_some_and(|ready| ready > 0.0), "{launched}");
    assert!((launch["cost"].as_f64().unwrap() - 0.40 / 60.0).abs() < 1e-4, "the minimum of a minute: {launched}");
    home.assert_empty_within(Duration::from_secs(2));

    let said = home.command(&["adapter", "check", "cloud", "-c", &config, "--launch"]).stdout;
    assert!(said.contains("was ready after") && said.contains(" EUR"), "{said}");
}

#[test]
fn what_is_wrong_with_an_adapter_is_told_with_what_to_do() {
    let home = Home::new();
    let config = home.config(&Spec::new()).display().to_string();
    let unknown = home.command(&["adapter", "check", "clod", "-c", &config]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("there is no adapter clod; the configuration has cloud"), "{}", unknown.stderr);

    let never = Spec::new()
        .with("[service.digits.burst]\ncommand = ['/nonexistent/server']\n[adapter.cloud]\nstart_timeout = '5s'");
    let config = home.config(&never).display().to_string();
    let failed = home.command(&["adapter", "check", "cloud", "-c", &config, "--launch"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("'/nonexistent/server' is installed and executable"), "{}", failed.stderr);
    home.assert_empty_within(Duration::from_secs(2));

    let service = home.command(&["adapter", "check", "cloud", "-c", &config, "--launch", "--service", "none"]);
    assert!(service.stderr.contains("no service none bursts"), "{}", service.stderr);
}

/// What an operator forbids to a node is forbidden to a trial too.
#[test]
fn a_trial_keeps_to_the_prohibitions_of_the_node() {
    let home = Home::new();
    let check = |spec: &Spec, more: &[&str], env: &[(&str, &str)]| {
        let config = home.config(spec).display().to_string();
        home.command_with(&[&["adapter", "check", "abroad", "-c", &config, "--launch"], more].concat(), env)
    };
    let both = "[adapter.abroad]\nkind = 'process'\nfree = true\nsite = false\n\
                [service.digits]\nplacement = 'site'\n[service.digits.burst]\nadapters = ['cloud', 'abroad']";
    let refused = check(&Spec::new().with(both), &["--service", "digits"], &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("service digits may not use adapter abroad"), "{}", refused.stderr);
    let none = check(&Spec::new().with(both), &[], &[]);
    assert!(none.stderr.contains("and may use it by placement and residency"), "{}", none.stderr);

    let allowed = Spec::new().with(&both.replace("site = false", "site = true"));
    let forbidden = check(&allowed, &[], &[("TIDEGATE_NO_CLOUD", "1")]);
    assert_eq!(forbidden.code, Some(1), "{forbidden:?}");
    assert!(forbidden.stderr.contains("bursting is forbidden: TIDEGATE_NO_CLOUD is set"), "{}", forbidden.stderr);
    let demo = home.command_with(&["demo"], &[("TIDEGATE_NO_CLOUD", "1")]);
    assert!(demo.code == Some(1) && demo.stderr.contains("TIDEGATE_NO_CLOUD is set"), "{demo:?}");
    home.assert_empty_within(Duration::ZERO);
}

/// A copy of the state directory on another box: what the first one launches is under the second one's id.
#[test]
fn a_node_with_a_copy_of_the_state_directory_launches_nothing_and_touches_nothing() {
    let home = Home::new();
    let first = home.start(&Spec::new());
    let copy = home.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["journal.sqlite", "journal.sqlite-wal", "session", "secret"] {
        let _absent = std::fs::copy(home.state_dir().join(name), copy.join(name));
    }
    let load = first.load(8);
    wait_for_cloud(&first, 1);
    // One account for both, as two boxes have at a real provider.
    std::os::unix::fs::symlink(home.state_dir().join("adapters"), copy.join("adapters")).unwrap();
    let second = home.start(&Spec::new().with(&format!("[node]\nstate_dir = {:?}", copy.display().to_string())));
    let told = second.wait_for_event(PATIENCE, "node.duplicate");
    let why = told["error"].as_str().unwrap();
    assert!(
        why.contains("another box runs with a copy of this state directory; give one of them another node.id"),
        "{why}"
    );
    let overload = second.load(8);
    wait_until(PATIENCE, "the second one says why it is short", || {
        let adapters = second.get_json("/api/v1/adapters");
        adapters[0]["held_back"]["digits"].as_str()?.contains("another box").then_some(())
    });
    load.stop().assert_sound();
    overload.stop().assert_sound();
    assert_eq!(second.events("burst.started"), Vec::<Value>::new());
    assert_eq!(second.events("burst.adopted"), Vec::<Value>::new());
    assert_eq!(second.terminate().code, Some(0));
    assert!(first.events("burst.failed").is_empty(), "{:?}", first.events("burst.failed"));
    assert_eq!(first.terminate().code, Some(0));
    home.assert_empty_within(Duration::ZERO);
}
