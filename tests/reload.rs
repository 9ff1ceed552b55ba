//! A changed configuration is taken up while the node serves, as a whole; a wrong one leaves the former in force. Both are said:
//! at the command, on MQTT, in the API.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edge_config::models::heldout;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::http::Client;
use support::{Finished, Home, Node, PATIENCE, Spec, free_port, images, wait_until};

/// One node whose file can be written anew.
struct Setup {
    home: Home,
    console: u16,
    file: PathBuf,
}

impl Setup {
    fn start() -> (Self, Node) {
        let (home, console) = (Home::new(), free_port());
        let spec = base(console);
        let node = home.start(&spec);
        let file = home.config(&spec);
        (Self { home, console, file }, node)
    }

    /// What `config apply` says once the file has this beside.
    fn apply(&self, more: &str) -> Finished {
        self.write(more);
        self.home.command(&["config", "apply", "--console", &format!("http://127.0.0.1:{}", self.console)])
    }

    fn write(&self, more: &str) {
        let written = self.home.config(&base(self.console).with(more));
        assert_eq!(written, self.file, "the node's own file is written over");
    }
}

/// Two local replicas at most, no limit in the way.
fn base(console: u16) -> Spec {
    Spec::new().with(&format!(
        "[console]\nlisten = '127.0.0.1:{console}'\n[service.digits.local]\nmax_replicas = 2\n\
         [service.digits.scaling]\nmin_replicas = 1"
    ))
}

fn config(node: &Node) -> Value {
    node.get_json("/api/v1/node")["config"].clone()
}

fn ready_local(node: &Node) -> u64 {
    node.service("digits")["ready_local"].as_u64().unwrap_or_default()
}

#[test]
fn what_decisions_are_made_from_changes_while_the_node_serves() {
    let (home, node) = Setup::start();
    wait_until(PATIENCE, "one replica is there", || (ready_local(&node) == 1).then_some(()));
    let (pid, digest) = (node.get_json("/api/v1/node")["pid"].clone(), config(&node)["digest"].clone());
    let load = node.load(2);
    let applied = home.apply("[service.digits.scaling]\nmin_replicas = 2");
    assert_eq!(applied.code, Some(0), "{applied:?}");
    wait_until(PATIENCE, "the second replica that is the fewest now", || (ready_local(&node) == 2).then_some(()));
    let told = node.wait_for_event(PATIENCE, "config.applied");
    assert_eq!(told["reason"], "changed: service.digits.scaling.min_replicas");
    load.stop().assert_sound();
    let after = node.get_json("/api/v1/node");
    assert_eq!((&after["pid"], &after["session"]), (&pid, &Value::from(1)), "the same node");
    assert_ne!(after["config"]["digest"], digest);
    assert_eq!(after["config_digest"], after["config"]["digest"]);
    for told in ["taken up: service.digits.scaling.min_replicas", after["config"]["digest"].as_str().unwrap()] {
        assert!(applied.stdout.contains(told), "{told}: {applied:?}");
    }
    wait_until(PATIENCE, "the fleet reads the new digest", || {
        let all = node.get_json("/api/v1/discovery");
        let own = all.as_array()?.iter().find(|one| one["own"] == true)?.clone();
        (own["config_digest"] == after["config_digest"]).then_some(())
    });

    // And the way back; the same once more changes nothing.
    assert_eq!(home.apply("").code, Some(0));
    assert_eq!(config(&node)["digest"], digest);
    assert_eq!(home.apply("").code, Some(0));
    let reasons: Vec<_> = node.events("config.applied").iter().map(|told| told["reason"].clone()).collect();
    assert_eq!(reasons.last(), Some(&"nothing has changed".into()), "{reasons:?}");
    assert_eq!(config(&node)["attempts"], 3);
}

#[test]
fn requests_are_treated_by_the_new_limits_from_the_next_one_on() {
    let (home, node) = Setup::start();
    let image = heldout().next().unwrap().0;
    assert_eq!(node.infer(image).status, 200);
    assert_eq!(home.apply("[gateway]\nmax_body_bytes = 64").code, Some(0));
    assert_eq!(node.infer(image).status, 413);
    assert_eq!(home.apply("[node]\nlog = 'info,tidegate=debug'").code, Some(0));
    assert_eq!(node.infer(image).status, 200);
    wait_until(PATIENCE, "the log speaks at debug", || node.log().contains("DEBUG").then_some(()));
}

#[test]
fn a_wrong_file_leaves_the_former_in_force_and_says_so() {
    let (home, node) = Setup::start();
    let before = config(&node)["digest"].clone();
    let wrong = home.apply("[service.digits.scaling]\nthreshold = -3");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("the former configuration stays in force"), "{wrong:?}");
    assert!(wrong.stderr.contains("service.digits.scaling.threshold"), "{wrong:?}");
    let told = node.wait_for_event(PATIENCE, "config.rejected");
    assert!(told["error"].as_str().unwrap().contains("service.digits.scaling.threshold"), "{told}");
    let missing = home.apply("[service.digits.local]\nmodel = '/nowhere.onnx'");
    assert!(missing.code == Some(2) && missing.stderr.contains("service.digits.local.model"), "{missing:?}");
    assert_eq!(config(&node)["digest"], before);
    let status = home.home.command(&["status", "--console", &node.console_url()]);
    assert!(status.stdout.contains("NOT taken up, the former stays in force: "), "{status:?}");
    assert!(status.stdout.contains("service.digits.local.model"), "{status:?}");
    let doctor = || home.home.command(&["doctor", "-c", home.file.to_str().unwrap()]).stdout;
    home.write("");
    assert!(doctor().contains("the running node did not take it up"), "{}", doctor());

    assert_eq!(home.apply("").code, Some(0));
    assert_eq!(config(&node)["problems"], Value::Array(Vec::new()), "what was mended is not told any more");
    assert!(!doctor().contains("the running node"), "{}", doctor());
    home.write("[budget]\nper_hour = 9.0");
    assert!(doctor().contains("has another than this one"), "{}", doctor());
    home.write("");
    assert_eq!(node.infer(heldout().next().unwrap().0).status, 200);
}

#[test]
fn what_a_node_has_only_at_its_start_is_named_and_nothing_of_the_file_is_taken_up() {
    let (home, node) = Setup::start();
    wait_until(PATIENCE, "one is wanted", || (node.service("digits")["wanted"] == 1).then_some(()));
    let mixed = "[service.digits.scaling]\nmin_replicas = 2\n[mqtt]\nkeepalive = '7s'\n\
                 [service.asked.local]\nruntime = 'onnx'\nmodel = 'builtin:digits'\n[service.asked.mqtt]\nenabled = true";
    let refused = home.apply(mixed);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for key in ["mqtt.keepalive", "service.asked"] {
        assert!(refused.stderr.contains(&format!("{key} changes only with a restart of the node")), "{refused:?}");
    }
    assert!(!refused.stderr.contains("min_replicas"), "that alone could be: {refused:?}");
    node.wait_for_event(PATIENCE, "config.rejected");
    // What was taken up by halves would show with the next decisions.
    let uptime = || node.get_json("/api/v1/node")["uptime_s"].as_u64();
    let told_at = uptime();
    wait_until(PATIENCE, "some ticks pass", || (uptime() > told_at.map(|at| at + 2)).then_some(()));
    assert_eq!((config(&node)["attempts"].clone(), node.service("digits")["wanted"].clone()), (1.into(), 1.into()));
}

const EXTRA: &str = "[service.extra.local]\nruntime = 'onnx'\nmodel = 'builtin:digits'\nmax_replicas = 1\n\
                     [service.extra.scaling]\nmin_replicas = 1";

/// One picture to the service `extra`, again and again, until it is gone: every status. Counts the answers.
fn ask_until_it_is_gone(gateway: &str, answered: &AtomicU64) -> Vec<u16> {
    let (mut client, image) = (Client::new(gateway), images(&[heldout().next().unwrap().0]));
    let mut all = Vec::new();
    while all.last() != Some(&404) {
        all.push(client.post("/v2/models/extra/infer", &image).status);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    all
}

#[test]
fn a_service_comes_and_goes_while_the_other_serves_and_no_request_is_lost() {
    let (home, node) = Setup::start();
    wait_until(PATIENCE, "one replica is there", || (ready_local(&node) == 1).then_some(()));
    let load = node.load(1);
    for _ in 0..2 {
        let applied = home.apply(EXTRA);
        assert!(applied.code == Some(0) && applied.stdout.contains("taken up: service.extra"), "{applied:?}");
        // One that comes before the first replica waits for it.
        let image = images(&[heldout().next().unwrap().0]);
        assert_eq!(node.client().post("/v2/models/extra/infer", &image).status, 200);
        wait_until(PATIENCE, "the fleet is told of it", || {
            let all = node.get_json("/api/v1/discovery");
            all.as_array()?.iter().find(|one| one["own"] == true && one["services"][1]["name"] == "extra").map(|_| ())
        });
        let (gateway, answered) = (node.addresses.gateway.clone(), Arc::new(AtomicU64::new(0)));
        let counted = answered.clone();
        let asking = std::thread::spawn(move || ask_until_it_is_gone(&gateway, &counted));
        wait_until(PATIENCE, "it answers", || (answered.load(Ordering::Relaxed) >= 20).then_some(()));
        let applied = home.apply("");
        assert!(applied.code == Some(0) && applied.stdout.contains("taken up: service.extra"), "{applied:?}");
        let statuses = asking.join().unwrap();
        let answered = statuses.iter().filter(|status| **status == 200).count();
        assert!(answered + 1 == statuses.len(), "{statuses:?}");
        wait_until(PATIENCE, "its status is gone with its last replica", || {
            node.service("extra").is_null().then_some(())
        });
        let replicas = node.get_json("/api/v1/replicas");
        assert!(replicas.as_array().unwrap().iter().all(|replica| replica["service"] != "extra"), "{replicas}");
        let metrics = node.console("/metrics").text();
        let of_it = |line: &&str| line.starts_with("tidegate_replicas") && line.contains("service=\"extra\"");
        assert!(
            metrics.lines().any(|line| of_it(&line)) && metrics.lines().filter(of_it).all(|line| line.ends_with(" 0"))
        );
    }
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
}

fn replicas_of(node: &Node, service: &str) -> Vec<String> {
    let replicas = node.get_json("/api/v1/replicas");
    let ours = replicas.as_array().unwrap().iter().filter(|replica| replica["service"] == service);
    ours.filter(|replica| replica["state"] == "ready")
        .map(|replica| replica["replica"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_service_that_comes_again_goes_on_with_what_was_learnt_of_its_load() {
    let (home, node) = Setup::start();
    assert_eq!(home.apply(EXTRA).code, Some(0));
    let image = images(&[heldout().next().unwrap().0]);
    wait_until(PATIENCE, "its load is known", || {
        assert_eq!(node.client().post("/v2/models/extra/infer", &image).status, 200);
        let reason = node.service("extra")["reason"].as_str().map(str::to_owned);
        reason.is_some_and(|reason| reason.contains(" is expected in ")).then_some(())
    });
    assert_eq!(home.apply("").code, Some(0));
    wait_until(PATIENCE, "it is gone", || node.service("extra").is_null().then_some(()));
    let goes_on = "goes on with what was learnt of its load";
    assert!(!node.log().contains(goes_on), "{}", node.log());
    assert_eq!(home.apply(EXTRA).code, Some(0));
    wait_until(PATIENCE, "it goes on", || node.log().contains(goes_on).then_some(()));
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn a_service_that_comes_again_at_once_runs_what_the_new_configuration_says() {
    let (home, node) = Setup::start();
    assert_eq!(home.apply(EXTRA).code, Some(0));
    let before =
        wait_until(PATIENCE, "it is there", || Some(replicas_of(&node, "extra")).filter(|all| !all.is_empty()));
    assert_eq!(home.apply("").code, Some(0));
    let other = home.apply(&EXTRA.replace("max_replicas = 1", "max_replicas = 1\nthreads = 2"));
    assert_eq!(other.code, Some(0), "{other:?}");
    let after = wait_until(PATIENCE, "another is in its place", || {
        Some(replicas_of(&node, "extra")).filter(|all| all.len() == 1 && *all != before)
    });
    assert_ne!(after, before);
    let image = images(&[heldout().next().unwrap().0]);
    assert_eq!(node.client().post("/v2/models/extra/infer", &image).status, 200);
}

#[test]
fn a_changed_program_replaces_its_replicas_one_after_the_other_and_no_request_is_lost() {
    let (home, node) = Setup::start();
    assert_eq!(home.apply("[service.digits.scaling]\nmin_replicas = 2").code, Some(0));
    let both = || Some(replicas_of(&node, "digits")).filter(|all| all.len() >= 2);
    let before = wait_until(PATIENCE, "two replicas are there", both);
    let load = node.load(1);
    let more = "[service.digits.scaling]\nmin_replicas = 2\n[service.digits.local]\nthreads = 2\n[service.digits.local.env]\nA = 'b'";
    let applied = home.apply(more);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    for key in ["service.digits.local.threads", "service.digits.local.env"] {
        assert!(applied.stdout.contains(key), "{applied:?}");
    }
    let after = wait_until(PATIENCE, "others are in their place", || {
        assert!(!replicas_of(&node, "digits").is_empty(), "one serves all the time");
        both().filter(|all| all.iter().all(|replica| !before.contains(replica)))
    });
    assert!(after.len() >= 2);
    let answered = load.answered() + 20;
    wait_until(PATIENCE, "they answer", || (load.answered() >= answered).then_some(()));
    load.stop().assert_sound();
    let told = node.events("scale.decided");
    assert!(told.iter().any(|event| event["reason"].as_str().unwrap().contains("says another program")), "{told:?}");
    assert_eq!(node.terminate().code, Some(0));
}

/// Two here and two there, and then others in all four places: an instance whose successor has no place goes first, and the others serve
/// meanwhile.
#[test]
fn changed_instances_are_replaced_one_after_the_other_and_no_request_is_lost() {
    let (home, node) = Setup::start();
    let full = "[service.digits.scaling]\nmin_replicas = 4";
    assert_eq!(home.apply(full).code, Some(0));
    let instances = || {
        let replicas = node.get_json("/api/v1/replicas");
        let is_instance = |row: &&Value| row["placement"] == "cloud" && row["state"] == "ready";
        let ids = replicas.as_array().unwrap().iter().filter(is_instance).map(|row| row["replica"].to_string());
        ids.collect::<Vec<_>>()
    };
    let before = wait_until(PATIENCE, "two instances are there", || Some(instances()).filter(|all| all.len() == 2));
    wait_until(PATIENCE, "two are here", || (replicas_of(&node, "digits").len() == 4).then_some(()));
    let load = node.load(2);
    let applied = home.apply(&format!("{full}\n[service.digits.local.env]\nA = 'b'"));
    assert!(applied.code == Some(0) && applied.stdout.contains("service.digits.local.env"), "{applied:?}");
    let mut most_away = 0;
    let after = wait_until(PATIENCE * 2, "other instances are in their place", || {
        let there = replicas_of(&node, "digits").len();
        most_away = most_away.max(4_usize.saturating_sub(there));
        Some(instances()).filter(|all| all.len() == 2 && all.iter().all(|instance| !before.contains(instance)))
    });
    assert!(most_away <= 2, "{most_away} of four were away at a time");
    assert_eq!(after.len(), 2);
    let answered = load.answered() + 50;
    wait_until(PATIENCE, "they answer", || (load.answered() >= answered).then_some(()));
    load.stop().assert_sound();
    let ended = node.events("burst.ended");
    assert!(ended.len() >= 2, "{ended:?}");
    assert!(ended.iter().all(|event| event["reason"].as_str().unwrap().contains("says another program")), "{ended:?}");
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn an_adapter_comes_and_goes_and_its_instances_with_it() {
    let (home, node) = Setup::start();
    let more = "[adapter.more]\nkind = 'process'\nprice_per_hour = 0.1\nminimum_billing = '1s'\nlease_ttl = '20s'\n\
                [service.digits.burst]\nadapters = ['cloud', 'more']";
    let applied = home.apply(more);
    assert!(applied.code == Some(0) && applied.stdout.contains("adapter.more"), "{applied:?}");
    let load = node.load(8);
    let at_more = || {
        let replicas = node.get_json("/api/v1/replicas");
        replicas
            .as_array()
            .unwrap()
            .iter()
            .filter(|replica| replica["adapter"] == "more" && replica["state"] == "ready")
            .count()
    };
    wait_until(PATIENCE, "the cheaper one is burst to", || (at_more() > 0).then_some(()));
    let answered = load.answered() + 100;
    wait_until(PATIENCE, "requests are answered", || (load.answered() >= answered).then_some(()));
    assert_eq!(home.apply("").code, Some(0));
    wait_until(PATIENCE, "its last instance is gone, and so is it", || {
        let adapters = node.get_json("/api/v1/adapters");
        adapters.as_array()?.iter().all(|adapter| adapter["adapter"] != "more").then_some(())
    });
    load.stop().assert_sound();
    let ended = node.events("burst.ended");
    assert!(ended.iter().any(|event| event["adapter"] == "more"), "{ended:?}");
    let metrics = node.console("/metrics").text();
    let of_it = |line: &&str| line.starts_with("tidegate_replicas{") && line.contains("adapter=\"more\"");
    assert!(metrics.lines().any(|line| of_it(&line)) && metrics.lines().filter(of_it).all(|line| line.ends_with(" 0")));
    // Its name is free again.
    let again = home.apply(more);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn a_hangup_reads_the_file_again_and_a_node_elsewhere_is_not_signalled() {
    let (home, node) = Setup::start();
    home.write("[budget]\nper_hour = 7.5");
    node.signal(Signal::SIGHUP);
    let told = node.wait_for_event(PATIENCE, "config.applied");
    assert_eq!(told["reason"], "changed: budget.per_hour");
    let cap = |line: &str| {
        line.starts_with("tidegate_budget_limit{") && line.contains("\"60 minutes\"") && line.ends_with(" 7.5")
    };
    wait_until(PATIENCE, "the cap is the new one", || node.console("/metrics").text().lines().any(cap).then_some(()));
    let nobody = home.home.command(&["config", "apply", "--console", &format!("http://127.0.0.1:{}", free_port())]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("no node answers"), "{nobody:?}");
}
