//! A box whose calendar is wrong: it boots in 1970, learns the date, wakes up a year ahead, and comes back. What counts is
//! how long things took.

use std::path::PathBuf;

use super::support::{Home, Node, PATIENCE, Spec, wait_until};
use super::{SURGE, launches, start_in_shell, wait_for_answers, wait_for_cloud};

/// The calendar of a node and of all that it starts, which a file says; clocks that only count are left alone.
struct Calendar {
    file: PathBuf,
}

impl Calendar {
    fn new(home: &Home, offset: &str) -> Self {
        Self { file: home.file("calendar", offset) }
    }

    fn set(&self, offset: &str) {
        // In one step: the node reads it each time that it asks for the date.
        let next = self.file.with_extension("next");
        std::fs::write(&next, offset).unwrap();
        std::fs::rename(&next, &self.file).unwrap();
    }

    /// `faketime` itself would stay between the node and its signals; only its library is taken.
    fn start(&self, home: &Home, spec: &Spec) -> Node {
        let script = format!(
            "export FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1\n\
             export LD_PRELOAD=$(faketime -f +0 sh -c 'echo \"$LD_PRELOAD\"')\n\
             exec \"$0\" run -c \"$1\"",
            self.file.display()
        );
        start_in_shell(home, spec, &script)
    }
}

/// The year in which a launch began, as the node tells it.
fn years(node: &Node) -> Vec<String> {
    let bursts = node.get_json("/api/v1/bursts?days=30");
    bursts.as_array().unwrap().iter().map(|burst| burst["started_at"].as_str().unwrap()[..4].to_owned()).collect()
}

#[test]
fn a_calendar_that_is_decades_behind_and_a_year_ahead_costs_no_instance_no_request_and_no_money() {
    let home = Home::new();
    let spec = Spec::new().with("[service.digits.burst]\nmax_replicas = 1");
    let calendar = Calendar::new(&home, "-56y");
    let node = calendar.start(&home, &spec);
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    let began = launches(&home);
    assert!(years(&node).iter().all(|year| year.starts_with("19")), "{:?}", years(&node));
    calendar.set("+0");
    wait_for_answers(&load, 100);
    calendar.set("+1y");
    wait_for_answers(&load, 100);
    assert_eq!(launches(&home), began, "nothing was ended, and nothing launched");
    load.stop().assert_sound();
    node.kill9();

    calendar.set("+0");
    let node = calendar.start(&home, &spec);
    wait_until(PATIENCE, "the tide falls", || home.instances().is_empty().then_some(()));
    let spend = wait_until(PATIENCE, "what was spent is known", || {
        let spend = node.get_json("/api/v1/spend");
        (spend["hour"].as_f64()? > 0.0 && spend["committed"] == spend["hour"]).then_some(spend)
    });
    // 0.40 an hour, for some minutes at the most, and nothing like a year.
    assert!(spend["hour"].as_f64().unwrap() < 0.1 && spend["day"] == spend["hour"], "{spend}");
    let this_year = humantime::format_rfc3339(std::time::SystemTime::now()).to_string()[..4].to_owned();
    assert!(years(&node).iter().all(|year| *year == this_year), "{:?}", years(&node));
    assert_eq!(node.terminate().code, Some(0));

    let node = calendar.start(&home, &spec);
    assert_eq!(node.get_json("/api/v1/spend")["hour"], spend["hour"], "known after a restart, too");
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(PATIENCE);
}

#[test]
fn a_calendar_that_steps_is_told_in_words_that_say_what_to_do() {
    let home = Home::new();
    let calendar = Calendar::new(&home, "+1y");
    let node = calendar.start(&home, &Spec::new().with("[service.digits.burst]\nmax_replicas = 1"));
    let load = node.load(SURGE);
    wait_for_cloud(&node, 1);
    calendar.set("+0");
    load.stop().assert_sound();
    wait_until(PATIENCE, "the step is told", || {
        let log = node.log();
        (log.contains("the calendar of this box has stepped") && log.contains("timedatectl status")).then_some(())
    });
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(PATIENCE);
}
