use super::Worth::{Must, Standing, Telemetry};
use super::*;

/// Long enough to leave the interval alone.
const REFRESH: Duration = Duration::from_secs(86_400);
const INTERVAL: Duration = Duration::from_secs(10);
const DAILY: u64 = 1_000_000;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_topic_speaks_once_an_interval_and_the_newest_wins() {
    let mut thrift = Thrift::new(INTERVAL, REFRESH, None, at(0));
    assert_eq!(thrift.offer("load", Telemetry, 100, 0, at(0)), Some(0), "the first goes at once");
    for second in 1..10 {
        assert_eq!(thrift.offer("load", Telemetry, 100, second, at(second)), None);
        assert_eq!(thrift.due(at(second)), Vec::<u64>::new());
    }
    assert_eq!(thrift.offer("service", Telemetry, 100, 77, at(9)), Some(77), "each topic has its own");
    assert_eq!(thrift.due(at(10)), [9]);
    assert_eq!(thrift.due(at(30)), Vec::<u64>::new(), "nothing is said twice");
}

#[test]
fn what_must_be_said_goes_at_once_and_takes_the_place_of_what_waits() {
    let mut thrift = Thrift::new(INTERVAL, REFRESH, Some(DAILY), at(0));
    assert_eq!(thrift.offer("discovery", Standing, 100, "there", at(0)), Some("there"));
    assert_eq!(thrift.offer("discovery", Standing, 100, "busy", at(1)), None);
    assert_eq!(thrift.offer("discovery", Must, 100, "gone", at(2)), Some("gone"));
    assert_eq!(thrift.due(at(60)), Vec::<&str>::new(), "it is not said to be busy after it went");
}

/// A node that says so much each second, of every kind, for so many days: the bytes of each kind, by hour.
fn play(days: u64, must: u64) -> Vec<[u64; 3]> {
    let mut thrift = Thrift::new(INTERVAL, REFRESH, Some(DAILY), at(0));
    let (mut wire, mut hours) = (0, vec![[0_u64; 3]]);
    for second in 0..days * 86_400 {
        if second % 3_600 == 0 && second > 0 {
            hours.push([0; 3]);
        }
        let offers = [("event", Must, must), ("discovery", Standing, 500), ("load", Telemetry, 700)];
        let mut gone: Vec<(Worth, u64)> = Vec::new();
        for (topic, worth, bytes) in offers {
            gone.extend(thrift.offer(topic, worth, bytes, (worth, bytes), at(second)).filter(|_| bytes > 0));
        }
        gone.extend(thrift.due(at(second)));
        for (worth, bytes) in gone {
            wire += bytes;
            hours.last_mut().unwrap()[worth as usize] += bytes;
        }
        thrift.went(wire, at(second));
    }
    hours
}

fn sum(hours: &[[u64; 3]]) -> [u64; 3] {
    hours.iter().fold([0; 3], |sum, hour| [0, 1, 2].map(|kind| sum[kind] + hour[kind]))
}

#[test]
fn no_day_has_more_than_the_budget_and_none_wastes_it() {
    let hours = play(3, 0);
    for (hour, day) in hours.windows(24).enumerate() {
        let [must, standing, telemetry] = sum(day);
        let all = must + standing + telemetry;
        assert!(all <= DAILY, "{all} bytes in the 24 hours from hour {hour}");
        assert!(all > DAILY * 7 / 10, "only {all} bytes in the 24 hours from hour {hour}");
        assert!(standing > 0, "hour {hour}");
    }
}

#[test]
fn telemetry_yields_first_then_standing_values_and_what_must_be_said_never_does() {
    // Events take four fifths of what flows in, then more than all of it.
    let [must, standing, telemetry] = sum(&play(2, 7)[24..]);
    assert_eq!(must, 7 * 86_400);
    assert!(standing > 100_000 && telemetry < 1_000, "{standing} of standing, {telemetry} of telemetry");
    let [must, standing, telemetry] = sum(&play(2, 12)[24..]);
    assert_eq!((must, standing, telemetry), (12 * 86_400, 0, 0));
}

#[test]
fn bytes_that_were_let_go_are_charged_once_and_whatever_else_went_is_too() {
    let mut thrift = Thrift::new(INTERVAL, REFRESH, Some(DAILY), at(0));
    let whole = thrift.left().unwrap();
    assert!(thrift.offer("load", Telemetry, 1_000, (), at(0)).is_some());
    assert!((whole - thrift.left().unwrap() - 1_000.0).abs() < 1e-6);
    // On the wire with a ping and a subscription.
    thrift.went(1_234, at(0));
    assert!((whole - thrift.left().unwrap() - 1_234.0).abs() < 1e-6);
    thrift.went(1_234, at(0));
    assert!((whole - thrift.left().unwrap() - 1_234.0).abs() < 1e-6);
}

#[test]
fn a_flood_is_paid_back_for_a_day_and_a_bit() {
    let mut thrift = Thrift::new(INTERVAL, REFRESH, Some(DAILY), at(0));
    thrift.went(50 * DAILY, at(0));
    assert!(thrift.is_short());
    assert_eq!(thrift.offer("load", Telemetry, 700, 1, at(1)), None);
    let hours = (1..100).find(|hour| !thrift.due(at(hour * 3_600)).is_empty());
    assert!(hours.is_some_and(|hours| (24..40).contains(&hours)), "{hours:?}");
}

#[test]
fn a_clock_that_stands_gives_nothing_twice() {
    let mut thrift: Thrift<()> = Thrift::new(INTERVAL, REFRESH, Some(DAILY), at(100));
    thrift.went(DAILY, at(100));
    let left = thrift.left().unwrap();
    thrift.went(DAILY, at(50));
    thrift.went(DAILY, at(100));
    assert!((thrift.left().unwrap() - left).abs() < 1e-6);
}

#[test]
fn what_stands_is_said_again_with_each_refresh_however_long_the_interval() {
    let refresh = Duration::from_secs(30);
    let mut thrift = Thrift::new(Duration::from_secs(300), refresh, None, at(0));
    assert_eq!(thrift.offer("discovery", Worth::Standing, 1, 1, at(0)), Some(1));
    assert_eq!(thrift.offer("discovery", Worth::Standing, 1, 2, at(10)), None, "not with each change");
    assert_eq!(thrift.offer("discovery", Worth::Standing, 1, 3, at(23)), Some(3));
    assert_eq!(thrift.offer("load", Worth::Telemetry, 1, 4, at(0)), Some(4));
    assert_eq!(thrift.offer("load", Worth::Telemetry, 1, 5, at(23)), None);
}
