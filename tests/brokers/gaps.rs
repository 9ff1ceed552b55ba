//! Runs the cases against a broker, and the one table of what a broker is known to lack. A gap must be there: the day a
//! broker has it mended, the suite says so, and the row goes with whatever was done about it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::cases::CASES;
use crate::site::Site;

/// What a case found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The broker has it.
    Has,
    /// It does not, as was observed: in words.
    Lacks(String),
}

/// Broker, case, and what is observed there. `docs/brokers.md` says what Tidegate does about each.
const GAPS: &[(&str, &str, &str)] = &[
    ("rabbitmq", "mqtt 5", "MQTT 3.1.1 is spoken"),
    ("rabbitmq", "wildcard retained", "nothing is given to a wildcard"),
    ("rabbitmq", "ten thousand retained", "nothing is given to a wildcard"),
    ("rabbitmq", "expiry", "it stays"),
    ("rabbitmq", "shared subscription", "nothing is given to the group"),
];

/// Runs every case, says how long each took, and fails with all that was not as it should be.
pub(crate) fn run(site: &mut dyn Site) {
    let name = site.name();
    let mut problems = Vec::new();
    for (case, check) in CASES {
        let started = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(|| check(site)));
        println!("{name}: {case}: {found:.0?}, {:.1?}", started.elapsed());
        problems.extend(judge(name, case, found.ok()));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// None for a case that panicked; its words are above.
fn judge(broker: &str, case: &str, found: Option<Finding>) -> Option<String> {
    let gap = GAPS.iter().find(|gap| (gap.0, gap.1) == (broker, case)).map(|gap| gap.2);
    match (found, gap) {
        (Some(Finding::Has), None) => None,
        (Some(Finding::Lacks(observed)), Some(expected)) if observed == expected => None,
        (Some(Finding::Has), Some(gap)) => Some(format!("{broker}: {case}: works now; take \"{gap}\" off the table")),
        (Some(Finding::Lacks(observed)), _) => Some(format!("{broker}: {case}: {observed}")),
        (None, _) => Some(format!("{broker}: {case}: failed")),
    }
}

#[test]
fn the_table_names_cases_that_exist() {
    for (broker, case, _) in GAPS {
        assert!(["embedded", "mosquitto", "rabbitmq"].contains(broker), "{broker}");
        assert!(CASES.iter().any(|(name, _)| name == case), "{case}");
    }
}

#[test]
fn a_gap_that_is_mended_and_one_that_is_new_are_told() {
    let lacks = |what: &str| Some(Finding::Lacks(what.to_owned()));
    assert_eq!(judge("rabbitmq", "mqtt 5", lacks("MQTT 3.1.1 is spoken")), None);
    assert!(judge("rabbitmq", "mqtt 5", Some(Finding::Has)).unwrap().contains("works now"));
    assert!(judge("rabbitmq", "mqtt 5", lacks("no answer")).is_some(), "another gap than the known one");
    assert!(judge("mosquitto", "mqtt 5", lacks("MQTT 3.1.1 is spoken")).is_some());
    assert!(judge("mosquitto", "mqtt 5", None).is_some());
}
