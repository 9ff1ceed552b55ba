use super::*;
use crate::breaker;
use crate::budget::Caps;
use crate::fleet::{Address, Seen};
use crate::route::Transport;

mod reconfigure;

const HOUR: Duration = Duration::from_hours(1);
/// Long enough after zero that what happened yesterday has a time too.
const START: f64 = 200_000.0;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(START + seconds)
}

fn settings() -> Settings {
    let adapter = AdapterSettings {
        terms: Terms {
            price_per_hour: Money::from_micros(1_000_000),
            minimum_billing: Duration::ZERO,
            billing_step: Duration::from_secs(1),
        },
        lease_ttl: Some(Duration::from_secs(20)),
        start_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(10),
        max: 10,
        spot: false,
        max_life: None,
        circuit: breaker::Config {
            failures: 3,
            open: Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(300) },
            probe_timeout: Duration::from_secs(60),
        },
        full: Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(300) },
        list_every: Duration::from_secs(30),
    };
    Settings {
        session: 7,
        journal_since: 1,
        step: Duration::from_millis(25),
        adapters: BTreeMap::from([("cloud".to_owned(), adapter)]),
        services: BTreeMap::from([("digits".to_owned(), BTreeSet::from(["cloud".to_owned()]))]),
    }
}

/// An engine and what its provider really runs.
struct Play {
    engine: Engine,
    now: f64,
    alive: BTreeMap<String, Listed>,
    events: Vec<Event>,
    ended: Vec<String>,
}

impl Play {
    fn new(settings: Settings, records: Vec<Record>) -> Self {
        let mut engine = Engine::new(settings, Ledger::new(Caps::default()));
        let events = engine.recover(records, Vec::new(), at(0.0));
        Self { engine, now: 0.0, alive: BTreeMap::new(), events, ended: Vec::new() }
    }

    fn found(&mut self, launch: &str, service: &str, session: u64) {
        let age = Some(Duration::from_secs(100));
        let listed = Listed {
            launch: launch.into(),
            service: service.into(),
            session,
            age,
            address: None,
            ended: false,
            notice: None,
        };
        self.alive.insert(launch.to_owned(), listed);
    }

    fn order(&mut self, launch: &str) -> Result<(), NotLaunched> {
        let order =
            Order { launch: launch.into(), service: "digits".into(), adapter: "cloud".into(), reason: "load".into() };
        self.engine.launch(&order, at(self.now))
    }

    /// Plays on with a sound provider.
    fn on(&mut self, seconds: f64) {
        self.on_with(seconds, |_| None);
    }

    /// Plays on with a provider that answers some operations otherwise.
    fn on_with(&mut self, seconds: f64, mut answer: impl FnMut(Operation) -> Option<Outcome>) {
        let until = self.now + seconds;
        while self.now < until {
            let (tasks, events) = self.engine.due(at(self.now));
            self.events.extend(events);
            for task in tasks {
                let events = match task {
                    Task::List(adapter) => {
                        let listed = self.alive.values().cloned().collect();
                        self.engine.listed(&adapter, Ok(listed), at(self.now), 0.5)
                    }
                    Task::Instance(launch, operation) => {
                        let outcome = answer(operation).unwrap_or_else(|| self.sound(&launch, operation));
                        self.engine.done(&launch, operation, outcome, at(self.now), 0.5)
                    }
                };
                self.events.extend(events);
            }
            self.now += 0.05;
        }
    }

    fn sound(&mut self, launch: &str, operation: Operation) -> Outcome {
        match operation {
            Operation::Launch => {
                self.found(launch, "digits", 7);
                Outcome::Accepted
            }
            Operation::Describe if !self.alive.contains_key(launch) => Outcome::Seen(Seen::Unknown),
            Operation::Describe => {
                let address = Address { authority: "127.0.0.1:9".into(), transport: Transport::Plain };
                Outcome::Seen(Seen::Running { address, notice: None })
            }
            Operation::Renew => Outcome::Renewed { ready: true, draining: false },
            Operation::Terminate => {
                self.alive.remove(launch);
                self.ended.push(launch.to_owned());
                Outcome::Done
            }
            Operation::Intend | Operation::RecordEnding | Operation::Close => Outcome::Done,
        }
    }

    fn stage(&self, launch: &str) -> Option<Stage> {
        self.engine.fleet().get(launch).map(|instance| instance.stage)
    }
}

fn record(launch: &str, stage: Recorded) -> Record {
    Record {
        launch: launch.into(),
        service: "digits".into(),
        adapter: "cloud".into(),
        session: 6,
        reason: "load".into(),
        stage,
        started_at: at(-100.0),
        start_took: Some(Duration::from_secs(2)),
        ending_at: None,
        ended_at: None,
        terms: settings().adapters["cloud"].terms,
        cost: None,
    }
}

#[test]
fn nothing_is_launched_before_the_journal_and_the_lists_are_read() {
    let mut engine = Engine::new(settings(), Ledger::new(Caps::default()));
    let order = Order { launch: "l1".into(), service: "digits".into(), adapter: "cloud".into(), reason: "load".into() };
    let held = |engine: &mut Engine| match engine.launch(&order, at(0.0)) {
        Err(NotLaunched::HeldBack(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(held(&mut engine).contains("journal"));
    assert_eq!(engine.due(at(0.0)).0, [], "no list before the journal is read: its rows are needed to understand it");
    engine.recover(Vec::new(), Vec::new(), at(0.0));
    assert!(held(&mut engine).contains("list"));
    assert_eq!(engine.due(at(0.0)).0, [Task::List("cloud".into())]);
    engine.listed("cloud", Err("wrong credentials".into()), at(0.1), 0.5);
    assert!(held(&mut engine).contains("its list: wrong credentials"), "{}", held(&mut engine));
    assert_eq!(engine.due(at(0.2)).0, [], "not at once");
    assert_eq!(engine.due(at(2.0)).0, [Task::List("cloud".into())]);
    engine.listed("cloud", Ok(Vec::new()), at(2.1), 0.5);
    assert_eq!(engine.launch(&order, at(2.2)), Ok(()));
}

#[test]
fn after_a_restart_the_wanted_are_adopted_and_the_others_end() {
    let mut records = vec![record("wanted", Recorded::Ready), record("ending", Recorded::Ending)];
    records.push(Record { service: "gone".into(), ..record("unwanted", Recorded::Ready) });
    let mut play = Play::new(settings(), records);
    play.found("wanted", "digits", 6);
    play.found("ending", "digits", 6);
    play.found("unwanted", "gone", 6);
    play.on(3.0);
    assert_eq!(play.stage("wanted"), Some(Stage::Ready));
    play.ended.sort();
    assert_eq!(play.ended, ["ending", "unwanted"]);
    assert!(play.events.contains(&Event::Adopted("wanted".into())));
    assert_eq!(play.engine.fleet().instances().count(), 1);
}

#[test]
fn a_row_that_the_list_lacks_is_asked_about_before_it_is_given_up() {
    let mut play = Play::new(settings(), vec![record("l1", Recorded::Ready), record("l2", Recorded::Ready)]);
    play.found("l1", "digits", 6);
    let hidden = play.alive.clone();
    play.alive.clear();
    let (tasks, _) = play.engine.due(at(0.0));
    assert_eq!(tasks, [Task::List("cloud".into())]);
    play.engine.listed("cloud", Ok(Vec::new()), at(0.0), 0.5);
    play.alive = hidden;
    play.on(3.0);
    assert_eq!(play.stage("l1"), Some(Stage::Ready), "the list was stale");
    assert_eq!(play.stage("l2"), None, "the provider does not know it");
    assert_eq!(play.engine.ledger().entries().find(|entry| entry.launch == "l1").unwrap().end, None);
}

#[test]
fn an_intent_that_no_list_shows_costs_until_its_end_is_confirmed_and_again_if_it_appears_later() {
    let mut play = Play::new(settings(), vec![record("l1", Recorded::Intended)]);
    play.on(2.0);
    assert!(play.engine.fleet().is_empty());
    let spent = |play: &Play| play.engine.ledger().spent(at(play.now), crate::budget::Window::Hour);
    let until_confirmed = spent(&play);
    let terms = settings().adapters["cloud"].terms;
    // The former run may have launched it, and its lease have ended it, while nobody looked.
    assert!(until_confirmed >= terms.cost(Duration::from_secs(100)), "{until_confirmed}");
    play.found("l1", "digits", 6);
    play.on(40.0);
    assert!(play.alive.is_empty(), "the sweep found it");
    assert!(spent(&play) > until_confirmed, "it ran");
}

#[test]
fn what_a_former_run_left_is_committed_for_a_whole_lease_from_now() {
    let play = Play::new(settings(), vec![record("l1", Recorded::Ready)]);
    let tail = Duration::from_secs(30) + settings().step;
    let committed = play.engine.ledger().committed(at(0.0), crate::budget::Window::Hour);
    assert_eq!(committed, settings().adapters["cloud"].terms.cost(Duration::from_secs(100) + tail));
}

/// Billed in whole minutes: what a former run bought is not known, so it must not pass for a minute that is paid.
#[test]
fn the_assumed_lease_of_a_former_run_buys_nothing() {
    let mut settings = settings();
    let terms = Terms { billing_step: Duration::from_secs(60), ..settings.adapters["cloud"].terms };
    settings.adapters.get_mut("cloud").unwrap().terms = terms;
    // Two minutes fit and three do not; it runs for 100 seconds.
    let caps = Caps { per_hour: Some(terms.cost(Duration::from_secs(120))), per_day: None };
    let mut engine = Engine::new(settings, Ledger::new(caps));
    engine.recover(vec![Record { terms, ..record("l1", Recorded::Ready) }], Vec::new(), at(0.0));
    assert_eq!(engine.due(at(0.0)).1, [], "nobody renews it yet");
    let age = Some(Duration::from_secs(100));
    let found = Listed {
        launch: "l1".into(),
        service: "digits".into(),
        session: 6,
        age,
        address: None,
        ended: false,
        notice: None,
    };
    engine.listed("cloud", Ok(vec![found]), at(0.1), 0.5);
    assert_eq!(engine.due(at(0.1)).1, [Event::OverBudget("l1".into())]);
}

#[test]
fn what_a_former_run_left_and_the_budget_does_not_bear_is_ended_when_it_is_found_and_never_renewed() {
    for is_listed in [true, false] {
        let caps = Caps { per_hour: Some(Money::from_micros(1)), per_day: None };
        let mut engine = Engine::new(settings(), Ledger::new(caps));
        let events = engine.recover(vec![record("l1", Recorded::Ready)], Vec::new(), at(0.0));
        let mut play = Play { engine, now: 0.0, alive: BTreeMap::new(), events, ended: Vec::new() };
        play.found("l1", "digits", 6);
        assert_eq!(play.engine.due(at(0.0)).0, [Task::List("cloud".into())]);
        let listed = if is_listed { play.alive.values().cloned().collect() } else { Vec::new() };
        play.engine.listed("cloud", Ok(listed), at(5.1), 0.5);
        play.now = 5.2;
        let mut renewed = false;
        play.on_with(3.0, |operation| {
            renewed |= operation == Operation::Renew;
            None
        });
        assert_eq!((play.alive.len(), play.stage("l1"), renewed), (0, None, false), "listed: {is_listed}");
        assert!(play.events.contains(&Event::OverBudget("l1".into())));
    }
}

#[test]
fn what_nobody_reaches_any_more_is_not_drained_by_the_budget_too() {
    let terms = settings().adapters["cloud"].terms;
    // Far more than its lease and drain, which end it after 30 s, and less than the minute that it is watched for.
    let caps = Caps { per_hour: Some(terms.cost(Duration::from_secs(75))), per_day: None };
    let mut engine = Engine::new(settings(), Ledger::new(caps));
    engine.recover(Vec::new(), Vec::new(), at(0.0));
    let mut play = Play { engine, now: 0.0, alive: BTreeMap::new(), events: Vec::new(), ended: Vec::new() };
    play.on(0.1);
    play.order("l1").unwrap();
    play.on(1.0);
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
    // A renewal that is answered no more: the end waits for it.
    let asked = |play: &mut Play| {
        play.now += 0.5;
        let (tasks, events) = play.engine.due(at(play.now));
        play.events.extend(events);
        tasks.contains(&Task::Instance("l1".into(), Operation::Renew))
    };
    while !asked(&mut play) {
        assert!(play.now < 30.0, "it is renewed");
    }
    while play.now < 60.0 {
        asked(&mut play);
    }
    assert_eq!(play.stage("l1"), Some(Stage::Ending));
    assert!(!play.events.contains(&Event::OverBudget("l1".into())), "{:?}", play.events);
}

#[test]
fn rows_of_an_adapter_that_is_down_cost_until_their_leases_end_and_no_longer() {
    let play = Play::new(settings(), vec![record("l1", Recorded::Ready)]);
    let mut engine = play.engine;
    let window = crate::budget::Window::Hour;
    let at_start = engine.ledger().committed(at(0.0), window);
    for second in 0..30 {
        engine.due(at(f64::from(second)));
        engine.listed("cloud", Err("unreachable".into()), at(f64::from(second)), 0.5);
    }
    assert_eq!(engine.ledger().committed(at(30.0), window), at_start, "nobody renews it");
}

#[test]
fn a_row_of_a_service_that_is_gone_or_may_not_go_there_any_more_is_ended_though_no_list_shows_it() {
    let mut settings = settings();
    settings.services.insert("moved".to_owned(), BTreeSet::from(["another".to_owned()]));
    let of = |launch: &str, service: &str| Record { service: service.into(), ..record(launch, Recorded::Ready) };
    let mut play = Play::new(settings, vec![of("l1", "gone"), of("l2", "moved"), of("l3", "digits")]);
    ["l1", "l2", "l3"]
        .iter()
        .zip(["gone", "moved", "digits"])
        .for_each(|(launch, service)| play.found(launch, service, 6));
    assert_eq!(play.engine.due(at(0.0)).0, [Task::List("cloud".into())]);
    play.engine.listed("cloud", Ok(Vec::new()), at(0.0), 0.5);
    play.on(3.0);
    play.ended.sort();
    assert_eq!(play.ended, ["l1", "l2"]);
    assert_eq!(play.stage("l3"), Some(Stage::Ready));
}

#[test]
fn a_journal_that_cannot_be_read_makes_our_own_instances_ours_and_all_money_spent() {
    let caps = Caps { per_hour: Some(Money::from_micros(50_000_000)), per_day: None };
    let mut engine = Engine::new(settings(), Ledger::new(caps));
    engine.recover_blind(at(0.0));
    let mut play = Play { engine, now: 0.0, alive: BTreeMap::new(), events: Vec::new(), ended: Vec::new() };
    play.found("l1", "digits", 6);
    play.on(2.0);
    assert!(play.events.iter().all(|event| !matches!(event, Event::Duplicate(_))), "{:?}", play.events);
    assert!(matches!(play.order("l2"), Err(NotLaunched::Budget(_))), "what was spent is not known");
}

#[test]
fn an_adopted_instance_is_not_given_up_while_its_lease_may_run() {
    let mut settings = settings();
    settings.adapters.get_mut("cloud").unwrap().start_timeout = Duration::from_secs(1);
    let mut play = Play::new(settings, vec![record("l1", Recorded::Ready)]);
    play.found("l1", "digits", 6);
    play.on_with(20.0, |o| (o == Operation::Describe).then(|| Outcome::Failed("timeout".into())));
    assert_eq!(play.stage("l1"), Some(Stage::Starting));
    play.on(10.0);
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
}

#[test]
fn a_look_at_a_ready_instance_waits_for_no_other_call() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(1.0);
    play.order("l1").unwrap();
    play.on(2.0);
    play.on_with(6.0, |o| (o == Operation::Renew).then(|| Outcome::Failed("timeout".into())));
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
    play.on_with(4.0, |o| (o == Operation::Describe).then(|| Outcome::Failed("the provider hangs".into())));
    let instance = play.engine.fleet().get("l1").unwrap();
    assert!(instance.is_routable(), "renewed although the provider does not answer: {instance:?}");
}

#[test]
fn an_instance_of_a_lost_journal_is_adopted_recorded_and_paid_since_its_age() {
    let mut play = Play::new(Settings { journal_since: 7, ..settings() }, Vec::new());
    play.found("l1", "digits", 6);
    play.on(2.0);
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
    assert!(play.events.contains(&Event::Unrecorded("l1".into())));
    let entry = play.engine.ledger().entries().next().unwrap();
    assert_eq!(entry.start, at(0.0).saturating_sub(Duration::from_secs(100)));
}

#[test]
fn what_a_whole_journal_does_not_know_is_another_boxs_and_is_not_touched() {
    for session in [6, 7, 8] {
        let mut play = Play::new(settings(), Vec::new());
        play.found("theirs", "digits", session);
        play.on(65.0);
        assert!(play.alive.contains_key("theirs") && play.engine.fleet().is_empty(), "session {session}");
        let told = play.events.iter().filter(|event| matches!(event, Event::Duplicate(_))).count();
        assert_eq!(told, 1, "once: {:?}", play.events);
        assert!(matches!(play.order("l1"), Err(NotLaunched::HeldBack(why)) if why.contains("another box")));
    }
}

#[test]
fn an_instance_that_is_listed_after_its_confirmed_end_is_ended_again_and_costs_until_then() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(1.0);
    play.order("l1").unwrap();
    play.on(2.0);
    let kept = play.alive.clone();
    play.engine.drain("l1", "scaled in", at(play.now));
    play.engine.release("l1", at(play.now));
    play.on(2.0);
    assert!(play.engine.fleet().is_empty());
    play.alive = kept;
    play.on(60.0);
    assert_eq!(play.ended, ["l1", "l1"]);
    let ends: Vec<(Money, Money)> = play
        .events
        .iter()
        .filter_map(|e| if let Event::Ended(_, _, cost, news) = e { Some((*cost, *news)) } else { None })
        .collect();
    let [(first, all_of_first), (second, added)] = ends[..] else { panic!("{ends:?}") };
    assert!(second > first, "{ends:?}");
    assert_eq!((all_of_first, added), (first, second.minus(first)), "no money is told twice");
}

#[test]
fn a_full_provider_is_left_alone_and_a_misconfigured_one_until_somebody_changes_something() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(1.0);
    play.order("l1").unwrap();
    play.on_with(1.0, |o| (o == Operation::Launch).then(|| Outcome::NoCapacity("no room".into())));
    assert!(matches!(play.order("l2"), Err(NotLaunched::HeldBack(why)) if why.contains("full")));
    assert_eq!(play.engine.ledger().entries().count(), 0, "what was refused costs nothing");
    play.on(10.0);
    play.order("l3").unwrap();
    play.on_with(1.0, |o| (o == Operation::Launch).then(|| Outcome::Misconfigured("no such image".into())));
    play.on(1000.0);
    assert!(matches!(play.order("l4"), Err(NotLaunched::HeldBack(why)) if why.contains("no such image")));
    assert_eq!(play.engine.adapters()["cloud"].held_back("another", at(play.now)), None, "services are told apart");
}

#[test]
fn failures_open_the_circuit_and_a_start_closes_it() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(1.0);
    for n in 0..3 {
        play.order(&format!("l{n}")).unwrap();
        play.on_with(8.0, |o| (o == Operation::Launch).then(|| Outcome::Failed("timeout".into())));
    }
    play.on(10.0);
    play.order("probe").unwrap();
    assert!(matches!(play.order("second"), Err(NotLaunched::HeldBack(_))), "one probe");
    play.on(2.0);
    assert_eq!(play.stage("probe"), Some(Stage::Ready));
    play.order("third").unwrap();
}

#[test]
fn a_launch_that_the_budget_refuses_takes_no_probe() {
    let caps = Caps { per_hour: Some(Money::from_micros(1)), per_day: None };
    let mut engine = Engine::new(settings(), Ledger::new(caps));
    engine.recover(Vec::new(), Vec::new(), at(0.0));
    engine.due(at(0.0));
    engine.listed("cloud", Ok(Vec::new()), at(0.0), 0.5);
    let order = Order { launch: "l1".into(), service: "digits".into(), adapter: "cloud".into(), reason: "load".into() };
    assert!(matches!(engine.launch(&order, at(0.1)), Err(NotLaunched::Budget(_))));
    assert_eq!(engine.adapters()["cloud"].held_back("digits", at(0.1)), None);
    assert!(engine.fleet().is_empty());
}

#[test]
fn a_row_whose_adapter_is_gone_is_closed_at_the_price_of_the_longest_lease() {
    let play = Play::new(settings(), vec![Record { adapter: "former".into(), ..record("l1", Recorded::Ready) }]);
    let [Event::Abandoned(record, end, cost)] = &play.events[..] else { panic!("{:?}", play.events) };
    assert_eq!((record.launch.as_str(), *end), ("l1", at(210.0)));
    assert_eq!(*cost, record.terms.cost(Duration::from_secs(310)));
    assert!(play.engine.fleet().is_empty());
}

#[test]
fn a_lease_without_a_setting_outlasts_what_starts_take() {
    let mut settings = settings();
    settings.adapters.get_mut("cloud").unwrap().lease_ttl = None;
    let lease = |start_timeout: u64, starts: u32| {
        let mut settings = settings.clone();
        settings.adapters.get_mut("cloud").unwrap().start_timeout = Duration::from_secs(start_timeout);
        let slow = |n: u32| Record {
            start_took: Some(Duration::from_secs(600)),
            ..record(&format!("l{n}"), Recorded::Closed)
        };
        Play::new(settings, (0..starts).map(slow).collect()).engine.adapters()["cloud"].timing().lease_ttl
    };
    assert_eq!(lease(900, 0), Duration::from_secs(180));
    assert!(lease(900, 10) >= Duration::from_secs(600));
    assert_eq!(lease(60, 10), Duration::from_secs(180), "a start that was given up long before is none");
}

#[test]
fn a_notice_in_the_list_drains_and_is_told() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(1.0);
    play.order("l1").unwrap();
    play.on(2.0);
    play.alive.get_mut("l1").unwrap().notice = Some("spot capacity is needed".into());
    play.on(31.0);
    assert!(play.events.iter().any(|e| matches!(e, Event::Instance(_, FleetEvent::Preempted(..)))));
    play.on(15.0);
    assert!(play.engine.fleet().is_empty() && play.alive.is_empty());
}

#[test]
fn the_end_of_the_node_ends_everything_and_takes_over_nothing() {
    let mut play = Play::new(settings(), vec![record("found", Recorded::Ready)]);
    play.engine.end_all("shutdown", at(0.0));
    play.found("found", "digits", 6);
    assert!(play.engine.fleet().is_empty() && !play.engine.nothing_is_left(), "no list was read yet");
    play.on(2.0);
    assert!(play.alive.is_empty() && play.engine.nothing_is_left());
    assert!(matches!(play.order("l1"), Err(NotLaunched::HeldBack(why)) if why.contains("stops")));
}

/// A thousand orphans, a thousand owned, and lists that are a while old: every orphan ends and nothing else.
#[test]
fn a_sweep_over_a_thousand_orphans_ends_each_and_nothing_else_with_few_lists() {
    let owned: Vec<String> = (0..1000).map(|n| format!("owned-{n}")).collect();
    let mut play = Play::new(settings(), owned.iter().map(|launch| record(launch, Recorded::Ready)).collect());
    owned.iter().for_each(|launch| play.found(launch, "digits", 6));
    (0..1000).for_each(|n| play.found(&format!("orphan-{n}"), "gone", 6));
    (0..1000).for_each(|n| assert!(play.engine.known.insert(&format!("orphan-{n}"), 6)));
    let mut stale: Option<Vec<Listed>> = None;
    let mut lists = 0;
    while play.now < 60.0 {
        let (tasks, _) = play.engine.due(at(play.now));
        for task in tasks {
            match task {
                Task::List(adapter) => {
                    lists += 1;
                    let fresh: Vec<Listed> = play.alive.values().cloned().collect();
                    // Every other list is what the one before it saw.
                    let told = if lists % 2 == 0 { stale.take().unwrap_or(fresh.clone()) } else { fresh.clone() };
                    stale = Some(fresh);
                    play.engine.listed(&adapter, Ok(told), at(play.now), 0.5);
                }
                Task::Instance(launch, operation) => {
                    let outcome = play.sound(&launch, operation);
                    play.engine.done(&launch, operation, outcome, at(play.now), 0.5);
                }
            }
        }
        play.now += 0.1;
    }
    assert_eq!(play.alive.len(), 1000);
    assert!(owned.iter().all(|launch| play.alive.contains_key(launch)));
    assert!(play.ended.iter().all(|launch| launch.starts_with("orphan-")));
    assert!(lists < 300, "{lists} lists for 1000 ends");
    assert_eq!(play.engine.fleet().instances().count(), 1000);
    assert!(HOUR > at(play.now) - at(0.0));
}

/// Otherwise it would be drained as soon as it runs, and the next one launched in its place.
#[test]
fn a_launch_needs_room_in_the_budget_for_a_renewal_and_lives_for_a_lease_more_at_least() {
    let settings = settings();
    let (terms, step) = (settings.adapters["cloud"].terms, settings.step);
    let adapter = Adapter::new(settings.adapters["cloud"].clone());
    assert_eq!(adapter.stay(step), adapter.tail(step) + Duration::from_secs(20));
    let with = |per_hour: Money| {
        let caps = Caps { per_hour: Some(per_hour), per_day: None };
        let mut play = Play::new(settings.clone(), Vec::new());
        play.engine.ledger.set_caps(caps);
        play.on(1.0);
        play
    };
    let mut play = with(terms.cost(adapter.stay(step)).minus(Money::from_micros(1)));
    assert!(play.engine.affordable("cloud", at(play.now)) == 0);
    assert!(matches!(play.order("l1"), Err(NotLaunched::Budget(_))));
    let mut play = with(terms.cost(adapter.stay(step)));
    play.order("l1").unwrap();
    play.on(19.0);
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
    play.on(5.0);
    assert!(play.stage("l1").is_none_or(|stage| stage >= Stage::Draining), "the budget bears it no longer");
    assert!(play.engine.affordable("cloud", at(play.now)) == 0, "and no other in its place");
}

/// Thousands are taken over at a start, and a provider that is asked about each of them takes longer than their leases.
#[test]
fn an_instance_whose_list_says_where_it_is_is_renewed_without_asking_about_it() {
    let mut play = Play::new(settings(), vec![record("l1", Recorded::Ready)]);
    play.found("l1", "digits", 6);
    play.alive.get_mut("l1").unwrap().address =
        Some(Address { authority: "127.0.0.1:9".into(), transport: Transport::Plain });
    play.on_with(2.0, |operation| (operation == Operation::Describe).then(|| Outcome::Failed("too slow".into())));
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
}

#[test]
fn what_was_ending_before_a_restart_costs_no_longer_than_the_lease_that_it_had_then() {
    let cost = |ending_at: Option<Duration>| {
        let record = Record { ending_at, ..record("l1", Recorded::Ending) };
        let (started_at, terms) = (record.started_at, record.terms);
        let mut play = Play::new(settings(), vec![record]);
        play.on(5.0);
        let told = play.events.iter().find_map(|event| match event {
            Event::Ended(_, _, cost, _) => Some(*cost),
            _ => None,
        });
        let tail = play.engine.tail("cloud");
        (told.expect("its end is confirmed"), move |end: Duration| terms.cost(end.saturating_sub(started_at) + tail))
    };
    let (decided, until) = cost(Some(at(-90.0)));
    let (undecided, _) = cost(None);
    assert_eq!(decided, until(at(-90.0)));
    assert!(decided < undecided, "{decided:?} {undecided:?}: without it the last renewal may have been a moment ago");
    let (ahead, _) = cost(Some(at(90.0)));
    assert_eq!(ahead, undecided, "a date that is to come proves nothing");
}
