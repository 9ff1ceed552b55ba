//! Policies other than `threshold`, on a real node: out under load, back without it, and the reason in words.

mod support;

use std::time::Duration;

use support::{Home, Node, PATIENCE, Spec, wait_until};

/// Knative's takes nothing down for a minute.
const SLOW: Duration = Duration::from_secs(100);

fn ready(node: &Node) -> (u64, u64) {
    let row = node.service("digits");
    (row["ready_local"].as_u64().unwrap_or(0), row["ready_cloud"].as_u64().unwrap_or(0))
}

/// Eight clients ask until an instance answers, then nobody does. With what was said when it was launched.
fn burst_by(scaling: &str) -> (Home, Node, String) {
    let home = Home::new();
    let node = home.start(&Spec::scaled_by(scaling));
    let load = node.load(8);
    let launched = node.wait_for_event(PATIENCE, "burst.started");
    wait_until(PATIENCE, "an instance answers", || (ready(&node).1 >= 1).then_some(()));
    load.stop().assert_sound();
    let reason = launched["reason"].as_str().expect("a reason").to_owned();
    (home, node, reason)
}

fn end(home: &Home, node: Node) {
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    home.assert_empty_within(Duration::ZERO);
}

#[test]
fn requests_per_replica_burst_and_come_back() {
    let (home, node, reason) = burst_by("policy = \"concurrency\"");
    assert!(reason.contains("0.70 to each replica"), "{reason}");
    wait_until(SLOW, "one replica here and none there", || (ready(&node) == (1, 0)).then_some(()));
    wait_until(PATIENCE, "every instance's end is confirmed", || home.instances().is_empty().then_some(()));
    end(&home, node);
}

/// That it lets go is a matter of its memory, which is longer than a test: `it_falls_when_the_load_does…` has it.
#[test]
fn a_forecast_bursts_and_says_why() {
    let (home, node, reason) = burst_by("policy = \"predictive\"\nlate_after = \"5ms\"");
    assert!(reason.starts_with("offered_load ") && reason.contains(" is expected in "), "{reason}");
    end(&home, node);
}

#[test]
fn what_a_forecast_learnt_outlives_the_node() {
    let home = Home::new();
    let spec = Spec::scaled_by("policy = \"predictive\"");
    let node = home.start(&spec);
    assert!(!node.log().contains("what was learnt"), "{}", node.log());
    let load = node.load(2);
    // Two slots of four seconds, and the first answers before them.
    wait_until(PATIENCE, "the load is known", || {
        node.service("digits")["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(" is expected in "))
            .then_some(())
    });
    load.stop().assert_sound();
    // Nothing was judged yet.
    assert!(node.service("digits").get("forecast_error").is_some_and(serde_json::Value::is_null));
    assert_eq!(node.terminate().code, Some(0));
    let kept = home.state_dir().join("forecast/digits");
    assert!(kept.metadata().is_ok_and(|file| file.len() > 10_000), "{kept:?}");

    let node = home.start(&spec);
    wait_until(PATIENCE, "it goes on", || {
        node.log().contains("goes on with what was learnt of its load").then_some(())
    });
    assert_eq!(node.terminate().code, Some(0));
    // A file that holds something else costs what was learnt, and no start.
    std::fs::write(&kept, b"something else that is long enough for a time").unwrap();
    let node = home.start(&spec);
    wait_until(PATIENCE, "it says so", || {
        node.log().contains("what was learnt of its load is of another version").then_some(())
    });
    end(&home, node);
}

/// What was recorded is asked again, by the program that recorded it and with the same answers; and one decision is told in words.
#[test]
fn decisions_can_be_explained_and_asked_again() {
    let home = Home::new();
    let node = home.start(&Spec::scaled_by(
        "policy = [\"predictive\", \"threshold\"]\nscale_factor = 120\ninterval = \"1s\"\nwindow = \"1s\"",
    ));
    let load = node.load(8);
    node.wait_for_event(PATIENCE, "burst.started");
    load.stop().assert_sound();
    let console = node.console_url();
    let why = |arguments: &[&str]| home.command(&[&["service", "why"], arguments, &["--console", &console]].concat());
    let now = why(&["digits"]);
    assert_eq!(now.code, Some(0), "{}", now.stderr);
    for words in ["wanted: ", "ready at providers", "last change, "] {
        assert!(now.stdout.contains(words), "no {words:?}: {}", now.stdout);
    }
    let decided = node.get_json("/api/v1/decisions");
    let (time, reason) = (decided[0]["time"].as_str().unwrap(), decided[0]["data"]["reason"].as_str().unwrap());
    let then = why(&["digits", time]);
    assert!(
        then.stdout.starts_with(reason) && then.stdout.contains("the last change of replicas before that time"),
        "{}",
        then.stdout
    );
    let before = why(&["digits", "24h"]);
    assert_eq!(before.code, Some(1));
    assert!(before.stderr.contains("what it still knows begins at"), "{}", before.stderr);
    assert!(why(&["digit"]).stderr.contains("there is no service \"digit\"; there are: digits"));
    assert_eq!(why(&["digits", "soon"]).code, Some(2));
    assert_eq!(node.console("/api/v1/decisions?service=..").status, 404);
    end(&home, node);

    // What was decided before a restart is on disk.
    let node = home.start(&Spec::scaled_by("policy = \"predictive\""));
    wait_until(PATIENCE, "a decision", || node.service("digits").is_object().then_some(()));
    let console = node.console_url();
    let why = |arguments: &[&str]| home.command(&[&["service", "why"], arguments, &["--console", &console]].concat());
    let then = why(&["digits", time]);
    assert_eq!(then.code, Some(0), "{}", then.stderr);
    let sentence = reason.rsplit_once(": ").unwrap().0;
    assert!(then.stdout.starts_with(sentence), "{} and {reason}", then.stdout);
    assert_eq!(why(&["digits", "24h"]).code, Some(1));
    end(&home, node);

    let recordings = home.state_dir().join("recordings/digits");
    let replay = |path: &std::path::Path, json: bool| {
        let arguments = ["simulate", "--replay", path.to_str().unwrap(), "--json"];
        home.command(&arguments[..if json { 4 } else { 3 }])
    };
    let replayed = replay(&recordings, false);
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.stdout, replayed.stderr);
    assert!(replayed.stdout.contains(" decisions, all of them the same again"), "{}", replayed.stdout);
    let rows: serde_json::Value = serde_json::from_str(&replay(&recordings, true).stdout).unwrap();
    assert!(rows.as_array().unwrap().iter().any(|row| row["wanted"].as_u64() > Some(1)), "{rows}");
    assert!(rows.as_array().unwrap().iter().all(|row| row["same"] == true && row["now"].is_null()), "{rows}");

    let other = home.file("other.rec", "something else");
    let refused = replay(&other, false);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("other.rec: it is no recording of a node of this version"), "{}", refused.stderr);
}

#[test]
fn a_trace_is_played_and_a_wrong_one_refused() {
    let home = Home::new();
    let trace = home.file("trace.csv", (0..600).map(|n| format!("{},0.5\n", n % 300)).collect::<String>());
    let trace = trace.to_str().unwrap();
    let arguments = ["simulate", "--trace", trace, "--policy", "predictive,static:3,optimum", "--json"];
    let played = home.command(&arguments);
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    let rows: serde_json::Value = serde_json::from_str(&played.stdout).unwrap();
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["predictive", "static:3", "optimum"]);
    let members = ["violations_pct", "wait_p99_s", "cloud_hours", "spend", "peak_replicas", "launches", "reversals"];
    assert!(members.iter().all(|member| rows[0][member].is_number()), "{rows}");
    assert_eq!(rows[1]["launches"], 2);
    assert!(played.stderr.contains("1 requests stood after a later one"), "{}", played.stderr);
    assert_eq!(home.command(&arguments).stdout, played.stdout, "the same again");

    let plot = home.path().join("plot.svg");
    let drawn = home.command(&[&arguments[..5], &["--plot", plot.to_str().unwrap()]].concat());
    assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);
    let picture = std::fs::read_to_string(&plot).unwrap();
    assert!(picture.contains("predictive") && picture.contains("static:3"), "{picture}");
    let plot = home.path().join("plot.PNG");
    let drawn = home.command(&[&arguments[..5], &["--plot", plot.to_str().unwrap()]].concat());
    assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);
    assert!(std::fs::read(&plot).unwrap().starts_with(b"\x89PNG\r\n"));

    let providers =
        ["--provider", "name=few,price=0.5,capacity=1,cold-start=5s", "--provider", "name=many,price=2,cold-start=5s"];
    let several =
        home.command(&[&["simulate", "--trace", trace, "--policy", "static:4", "--json"], &providers[..]].concat());
    assert_eq!(several.code, Some(0), "{}", several.stderr);
    let rows: serde_json::Value = serde_json::from_str(&several.stdout).unwrap();
    // One at 0.5 and two at 2 an hour.
    let price = rows[0]["spend"].as_f64().unwrap() / rows[0]["cloud_hours"].as_f64().unwrap();
    assert!((price - 4.5 / 3.0).abs() < 0.01, "{rows}");

    let tuned = home.command(&["simulate", "--trace", trace, "--policy", "hpa,predictive", "--tune", "--json"]);
    assert_eq!(tuned.code, Some(0), "{}", tuned.stderr);
    let rows: serde_json::Value = serde_json::from_str(&tuned.stdout).unwrap();
    assert!(rows[0]["parameters"].as_str().is_some_and(|found| found.starts_with("target ")), "{rows}");
    assert!(rows[1]["parameters"].is_null(), "{rows}");
    assert_eq!(rows[0]["requests"], 300, "the second half alone is scored");

    let wrong = home.file("wrong.csv", "1,1\n2,NaN\n");
    let refused = home.command(&["simulate", "--trace", wrong.to_str().unwrap()]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("wrong.csv: line 2: the work NaN is not a number"), "{}", refused.stderr);
    for (arguments, said) in [
        (&["simulate"][..], "--trace"),
        (&["simulate", "--generate", "saw"], "there are constant, diurnal"),
        (&["simulate", "--generate", "burst", "--policy", "knative"], "there is no policy"),
        (&["simulate", "--generate", "burst", "--local", "5", "--max-replicas", "3"], "which includes them"),
        (&["simulate", "--generate", "burst", "--local", "2", "--policy", "static:1"], "which are always there"),
        (&["simulate", "--generate", "burst", "--tick", "1ms"], "from 50ms to 5m"),
        (&["simulate", "--generate", "burst", "--length", "1h", "--warmup", "2h"], "leaves nothing"),
        (&["simulate", "--generate", "burst", "--rate", "NaN"], "not a finite number"),
        (&["simulate", "--generate", "burst", "--launch-failures", "2"], "at most 1"),
        (&["simulate", "--generate", "burst", "--plot", "plot.jpeg"], "must end in .svg or .png"),
        (&["simulate", "--replay", "/nowhere"], "/nowhere: No such file"),
        (&["simulate", "--generate", "burst", "--provider", "name=x"], "x needs a price"),
        (
            &["simulate", "--generate", "burst", "--length", "2h", "--warmup", "1h", "--tune"],
            "leaves nothing of the first half",
        ),
        (&["simulate", "--generate", "burst", "--cold-start-spread", "30"], "at most 3"),
        (&["simulate", "--generate", "burst", "--rate", "1e308"], "lower one of them"),
        (&["simulate", "--generate", "burst", "--length", "10000d"], "at most a year"),
    ] {
        let refused = home.command(arguments);
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{arguments:?}: {}", refused.stderr);
    }
}
