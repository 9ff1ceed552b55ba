//! Whether the demo held: each condition with what was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::play::Play;
use super::surge::Record;
use crate::logic::route::Placement;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// What had to hold.
    pub(super) what: &'static str,
    /// What was seen.
    pub(super) seen: String,
    /// Whether it held.
    pub(super) held: bool,
}

/// Judges the play with burst against the one without.
pub(super) fn judge(without: &Play, with: &Play, judge_timing: bool) -> Vec<Check> {
    let lost = with.records.iter().filter(|record| !record.answered()).count();
    let (compared, different) = agreement(&with.records);
    let cloud = answered_by(&with.records, Placement::Cloud).count();
    let left: Vec<_> = [&without.left_processes[..], &with.left_processes[..]].concat();
    let mut checks = vec![
        check("no request was lost", lost == 0, format!("{lost} of {}", with.records.len())),
        check(
            "local and cloud answers agree",
            different == 0 && compared > 0,
            format!("{different} of {compared} images differ"),
        ),
        check(
            "a burst happened",
            cloud > 0 && !with.bursts.is_empty(),
            format!("{} instances gave {cloud} answers", with.bursts.len()),
        ),
        check(
            "the node returned to its baseline",
            with.returned,
            format!("began with {} local and {} cloud", with.baseline.0, with.baseline.1),
        ),
        check("no process is left", left.is_empty(), if left.is_empty() { "none".to_owned() } else { left.join("; ") }),
    ];
    if judge_timing {
        let (before, after) = (percentile(&without.records, 0.95), percentile(&with.records, 0.95));
        let seen = format!("{after:.0?} against {before:.0?}");
        checks.push(check("p95 is better with burst", after < before, seen));
    }
    checks
}

fn check(what: &'static str, held: bool, seen: String) -> Check {
    Check { what, seen, held }
}

/// The good answers of one placement.
pub(super) fn answered_by(records: &[Record], placement: Placement) -> impl Iterator<Item = &Record> {
    records.iter().filter(move |record| record.answered() && record.placement == Some(placement))
}

/// How many images were answered by both, and how many of them differently.
pub(super) fn agreement(records: &[Record]) -> (usize, usize) {
    let mut local = BTreeMap::new();
    for record in answered_by(records, Placement::Local) {
        local.insert(record.image, record.digit);
    }
    let mut compared = BTreeMap::new();
    for record in answered_by(records, Placement::Cloud) {
        if let Some(digit) = local.get(&record.image) {
            *compared.entry(record.image).or_insert(true) &= *digit == record.digit && digit.is_some();
        }
    }
    (compared.len(), compared.values().filter(|same| !**same).count())
}

/// Latency by nearest rank over all requests; one that was lost counts as long as it was waited for.
pub(super) fn percentile(records: &[Record], part: f64) -> Duration {
    let mut latencies: Vec<_> = records.iter().map(|record| record.latency).collect();
    latencies.sort_unstable();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    let rank = (part * latencies.len() as f64).ceil() as usize;
    latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::BurstStatus;
    use crate::wire::board::Spend;

    fn record(image: usize, placement: Placement, digit: u8, millis: u64) -> Record {
        Record {
            image,
            due: Duration::ZERO,
            latency: Duration::from_millis(millis),
            status: 200,
            placement: Some(placement),
            digit: Some(digit),
            label: digit,
        }
    }

    fn play(records: Vec<Record>) -> Play {
        Play {
            burst: true,
            records,
            crossed_at: None,
            first_cloud_at: None,
            utilisation: 0.5,
            peak: (2, 1),
            baseline: (1, 0),
            returned: true,
            bursts: vec![BurstStatus::default()],
            spend: Spend::default(),
            took: Duration::from_secs(1),
            left_processes: Vec::new(),
        }
    }

    fn good() -> Play {
        play(vec![record(0, Placement::Local, 3, 10), record(0, Placement::Cloud, 3, 12)])
    }

    fn failed(with: &Play) -> Vec<&'static str> {
        let slow = play(vec![record(0, Placement::Local, 3, 500)]);
        judge(&slow, with, true).into_iter().filter(|check| !check.held).map(|check| check.what).collect()
    }

    #[test]
    fn a_good_play_holds() {
        assert_eq!(failed(&good()), Vec::<&str>::new());
    }

    #[test]
    fn each_condition_can_fail_alone() {
        let mut lost = good();
        lost.records.push(Record { status: 503, ..record(1, Placement::Local, 3, 1) });
        assert_eq!(failed(&lost), ["no request was lost"]);
        let mut late = good();
        late.records.push(record(1, Placement::Local, 3, 10_001));
        assert!(failed(&late).contains(&"no request was lost"));
        let differs = play(vec![record(0, Placement::Local, 3, 10), record(0, Placement::Cloud, 8, 12)]);
        assert_eq!(failed(&differs), ["local and cloud answers agree"]);
        let away = Play { returned: false, ..good() };
        assert_eq!(failed(&away), ["the node returned to its baseline"]);
        let leak = Play { left_processes: vec!["7 x".into()], ..good() };
        assert_eq!(failed(&leak), ["no process is left"]);
        let slow = play(vec![record(0, Placement::Local, 3, 10), record(0, Placement::Cloud, 3, 900)]);
        assert_eq!(failed(&slow), ["p95 is better with burst"]);
        let local_only = play(vec![record(0, Placement::Local, 3, 10)]);
        assert_eq!(failed(&local_only), ["local and cloud answers agree", "a burst happened"]);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let records: Vec<_> = (1..=100).map(|ms| record(0, Placement::Local, 1, ms)).collect();
        let millis = |part| percentile(&records, part).as_millis();
        assert_eq!((millis(0.50), millis(0.95), millis(0.99)), (50, 95, 99));
    }
}
