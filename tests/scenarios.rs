//! Scenario files: plain-text traces through the decisions of `logic`, with their answers written beneath them.
//!
//! Each `tests/scenarios/*.txt` is replayed, and the lines that begin with `=` have to come out as they stand. After a
//! wanted change of behaviour, `BLESS=1 cargo test --test scenarios` writes them anew; read the difference.
//!
//! ```text
//! policy threshold metric=utilisation threshold=0.80 scale_factor=2 interval=60 band=0.10 min=1 max=8 alive=2
//! at 0 utilisation=0.85 ready=2            seconds, then what is seen
//! service wanted=4 local_max=2 burst_max=4 headroom=yes cloud=allowed    (or a reason why not, with ~ for spaces)
//! replica l1 local ready age=60
//! replica c1 cloud starting price=0.40 age=10
//! adapter a price=0.40 alive=1 max=4 affordable=any circuit=closed
//! plan
//! ```

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tidegate::logic::plan::{AdapterView, Cloud, Phase, PlanInput, ReplicaView, plan};
use tidegate::logic::policy::{Bounds, Metric, Observation, Policy, PolicyState, threshold};
use tidegate::logic::route::Placement;

#[test]
fn every_scenario_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(files.len() >= 2, "{} holds no scenarios", folder.display());
    let differing: Vec<String> = files.iter().filter_map(|file| difference(file)).collect();
    assert!(differing.is_empty(), "{}\nBLESS=1 writes them anew", differing.join("\n"));
}

/// What a file says differently from the code, or nothing.
fn difference(file: &Path) -> Option<String> {
    let written = std::fs::read_to_string(file).expect("a readable scenario");
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let replayed = replay(&name, &written);
    assert!(replayed.contains("\n= "), "{name} asks nothing");
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(file, &replayed).expect("a writable scenario");
        return None;
    }
    let mut lines = written.lines().chain(std::iter::repeat("(end of file)")).zip(replayed.lines()).enumerate();
    let differs = lines.find(|(_, (written, replayed))| written != replayed);
    if let Some((index, (written, replayed))) = differs {
        return Some(format!("{name}:{}\n  written: {written}\n  now:     {replayed}", index + 1));
    }
    (written != replayed).then(|| format!("{name} has lines beyond its answers"))
}

/// The file with its answers made anew.
fn replay(name: &str, written: &str) -> String {
    let mut scene = Scene::default();
    let mut replayed = String::new();
    for (index, line) in written.lines().enumerate().filter(|(_, line)| !line.starts_with('=')) {
        replayed.push_str(line);
        replayed.push('\n');
        let words = Words::of(line, format!("{name}:{}", index + 1));
        for answer in words.map(|words| scene.act(words)).unwrap_or_default() {
            replayed.push_str(&format!("= {answer}\n"));
        }
    }
    replayed
}

/// One line: its plain words and its `key=value` words, each of which has to be asked for.
struct Words<'a> {
    place: String,
    plain: Vec<&'a str>,
    keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    /// Nothing for a blank line or a comment.
    fn of(line: &'a str, place: String) -> Option<Self> {
        let line = line.split('#').next().unwrap_or_default();
        let (keyed, plain): (Vec<&str>, Vec<&str>) = line.split_whitespace().partition(|word| word.contains('='));
        let keyed = keyed.into_iter().filter_map(|word| word.split_once('=')).collect();
        (!plain.is_empty()).then_some(Self { place, plain, keyed })
    }

    fn plain(&self, index: usize) -> &'a str {
        self.plain.get(index).unwrap_or_else(|| panic!("{}: word {} is missing", self.place, index + 1))
    }

    fn parsed<T: FromStr<Err: Display>>(&self, word: &str) -> T {
        word.parse().unwrap_or_else(|error| panic!("{}: {word}: {error}", self.place))
    }

    fn maybe<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<T> {
        let word = self.keyed.remove(key)?;
        Some(self.parsed(word))
    }

    fn value<T: FromStr<Err: Display>>(&mut self, key: &str) -> T {
        self.maybe(key).unwrap_or_else(|| panic!("{}: {key}= is missing", self.place))
    }

    fn choice<T: Clone>(&self, word: &str, choices: &[(&str, T)]) -> T {
        let found = choices.iter().find(|(name, _)| *name == word);
        found.map(|(_, choice)| choice.clone()).unwrap_or_else(|| panic!("{}: what is {word}?", self.place))
    }

    fn choice_of<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let word: String = self.value(key);
        self.choice(&word, choices)
    }

    fn end(&self) {
        assert!(self.keyed.is_empty(), "{}: unknown {:?}", self.place, self.keyed);
    }
}

/// What the lines so far have set up.
#[derive(Default)]
struct Scene {
    policy: Option<(Policy, PolicyState, Bounds)>,
    service: Option<PlanInput>,
}

impl Scene {
    /// The answers to a line.
    fn act(&mut self, mut words: Words<'_>) -> Vec<String> {
        let answers = match words.plain(0) {
            "policy" => self.set_policy(&mut words),
            "bounds" => self.set_bounds(&mut words),
            "at" => self.observe(&mut words),
            "service" => self.set_service(&mut words),
            "replica" => self.add_replica(&mut words),
            "adapter" => self.add_adapter(&mut words),
            "plan" => self.plan(&words),
            other => panic!("{}: what is {other}?", words.place),
        };
        words.end();
        answers
    }

    fn set_policy(&mut self, words: &mut Words<'_>) -> Vec<String> {
        assert_eq!(words.plain(1), "threshold", "{}", words.place);
        let metrics = Metric::ALL.map(|metric| (metric.as_str(), metric));
        let policy = Policy::Threshold(threshold::Config {
            metric: words.choice_of("metric", &metrics),
            threshold: words.value("threshold"),
            scale_factor: words.value("scale_factor"),
            interval: Duration::from_secs_f64(words.value("interval")),
            band: words.value("band"),
        });
        let state = policy.start(words.value("alive"));
        self.policy = Some((policy, state, Bounds { min: words.value("min"), max: words.value("max") }));
        vec![]
    }

    fn set_bounds(&mut self, words: &mut Words<'_>) -> Vec<String> {
        let (_, _, bounds) = self.policy.as_mut().expect("a policy line comes first");
        *bounds = Bounds { min: words.value("min"), max: words.value("max") };
        vec![]
    }

    fn observe(&mut self, words: &mut Words<'_>) -> Vec<String> {
        let (policy, state, bounds) = self.policy.as_mut().expect("a policy line comes first");
        let now = Duration::from_secs_f64(words.parsed(words.plain(1)));
        let seen = Observation {
            utilisation: words.maybe("utilisation"),
            cpu: words.maybe("cpu"),
            memory: words.maybe("memory"),
            network: words.maybe("network"),
            request_rate: words.maybe("request_rate"),
            latency_p95: words.maybe("latency_p95"),
            ready: words.maybe("ready").unwrap_or_default(),
            starting: words.maybe("starting").unwrap_or_default(),
            in_flight: words.maybe("in_flight").unwrap_or_default(),
            queued: words.maybe("queued").unwrap_or_default(),
            ..Observation::default()
        };
        let (next, decision) = policy.decide(state.clone(), &seen, *bounds, now);
        *state = next;
        vec![format!("{} {}: {}", decision.wanted, decision.reason.change.as_str(), decision.reason)]
    }

    fn set_service(&mut self, words: &mut Words<'_>) -> Vec<String> {
        let cloud: String = words.value("cloud");
        self.service = Some(PlanInput {
            wanted: words.value("wanted"),
            local_max: words.value("local_max"),
            local_obstacle: words.choice_of("headroom", &[("yes", None), ("no", Some("memory is at 95 %".to_owned()))]),
            on_demand_floor: words.maybe("floor").unwrap_or_default(),
            burst_max: words.value("burst_max"),
            cloud: if cloud == "allowed" { Cloud::Allowed } else { Cloud::Forbidden(cloud.replace('~', " ")) },
            replicas: vec![],
            adapters: vec![],
        });
        vec![]
    }

    fn add_replica(&mut self, words: &mut Words<'_>) -> Vec<String> {
        let phases = [Phase::Starting, Phase::Ready, Phase::Draining, Phase::Failed];
        let phases = ["starting", "ready", "draining", "failed"].into_iter().zip(phases).collect::<Vec<_>>();
        let places = [Placement::Local, Placement::Peer, Placement::Cloud].map(|place| (place.as_str(), place));
        let replica = ReplicaView {
            id: words.plain(1).to_owned(),
            placement: words.choice(words.plain(2), &places),
            adapter: words.maybe("adapter"),
            phase: words.choice(words.plain(3), &phases),
            price_per_hour: words.maybe("price").unwrap_or_default(),
            age: Duration::from_secs_f64(words.value("age")),
        };
        self.service.as_mut().expect("a service line comes first").replicas.push(replica);
        vec![]
    }

    fn add_adapter(&mut self, words: &mut Words<'_>) -> Vec<String> {
        let affordable: String = words.value("affordable");
        let adapter = AdapterView {
            name: words.plain(1).to_owned(),
            price_per_hour: words.value("price"),
            alive: words.value("alive"),
            max: words.value("max"),
            spot: false,
            held_back: words
                .choice_of("circuit", &[("closed", None), ("open", Some("launches failed lately"))])
                .map(ToOwned::to_owned),
            affordable: if affordable == "any" { u32::MAX } else { words.parsed(&affordable) },
            start_time: None,
            minimum_billing: Duration::ZERO,
            billing_step: Duration::ZERO,
        };
        self.service.as_mut().expect("a service line comes first").adapters.push(adapter);
        vec![]
    }

    fn plan(&self, words: &Words<'_>) -> Vec<String> {
        let input = self.service.as_ref().unwrap_or_else(|| panic!("{}: a service line comes first", words.place));
        let plan = plan(input);
        let actions = plan.actions.iter().map(ToString::to_string);
        let answers: Vec<String> = actions.chain(plan.shortfall.iter().map(ToString::to_string)).collect();
        if answers.is_empty() { vec!["nothing".to_owned()] } else { answers }
    }
}
