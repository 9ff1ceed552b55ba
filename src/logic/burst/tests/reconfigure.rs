//! Other settings while instances run.

use super::*;

#[test]
fn another_configuration_is_taken_up_by_what_runs_and_by_what_comes() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(0.1);
    play.order("l1").unwrap();
    play.on(2.0);
    assert_eq!(play.stage("l1"), Some(Stage::Ready));
    let reconfigure = |play: &mut Play, change: &dyn Fn(&mut Settings, &mut Caps)| {
        let (mut settings, mut caps) = (settings(), Caps::default());
        change(&mut settings, &mut caps);
        play.engine.reconfigure(settings.adapters, settings.services, caps, at(play.now));
    };
    // What was launched keeps the lease and the price that it was launched with.
    reconfigure(&mut play, &|settings, _| {
        let adapter = settings.adapters.get_mut("cloud").unwrap();
        adapter.lease_ttl = Some(Duration::from_secs(99));
        adapter.terms.price_per_hour = Money::from_micros(7_000_000);
        adapter.max = 2;
    });
    play.order("l2").unwrap();
    assert!(matches!(play.order("l3"), Err(NotLaunched::HeldBack(why)) if why.contains("limit of 2")));
    play.on(2.0);
    let lease = |play: &Play, launch: &str| play.engine.fleet().get(launch).unwrap().timing().lease_ttl.as_secs();
    assert_eq!((lease(&play, "l1"), lease(&play, "l2")), (20, 99));
    let price = |play: &Play, launch: &str| play.engine.ledger().entry(launch).unwrap().terms.price_per_hour;
    assert_eq!((price(&play, "l1").micros(), price(&play, "l2").micros()), (1_000_000, 7_000_000));
    // Caps that bear nothing of it drain all of it.
    reconfigure(&mut play, &|_, caps| caps.per_hour = Some(Money::from_micros(1)));
    play.on(1.0);
    assert!(["l1", "l2"].iter().all(|launch| play.events.contains(&Event::OverBudget((*launch).into()))));
    play.on(15.0);
    assert!(play.engine.fleet().is_empty() && play.alive.is_empty());

    // A service that may not go there any more.
    reconfigure(&mut play, &|_, _| ());
    play.order("l4").unwrap();
    play.on(2.0);
    reconfigure(&mut play, &|settings, _| settings.services.clear());
    assert_eq!(play.stage("l4"), Some(Stage::Draining));
    play.on(15.0);
    assert!(play.engine.fleet().is_empty() && play.alive.is_empty());
}

#[test]
fn an_adapter_that_comes_is_read_before_anything_is_launched_there_and_one_that_goes_is_until_its_last_instance_is_gone()
 {
    let mut play = Play::new(settings(), Vec::new());
    play.on(1.0);
    play.order("l1").unwrap();
    play.on(2.0);
    let Settings { mut adapters, mut services, .. } = settings();
    adapters.insert("more".into(), adapters["cloud"].clone());
    services.values_mut().for_each(|allowed| allowed.extend(["more".to_owned()]));
    play.engine.reconfigure(adapters.clone(), services.clone(), Caps::default(), at(play.now));
    let order = |launch: &str| Order {
        launch: launch.into(),
        service: "digits".into(),
        adapter: "more".into(),
        reason: "load".into(),
    };
    let unread = play.engine.launch(&order("m1"), at(play.now));
    assert!(
        matches!(unread, Err(NotLaunched::HeldBack(why)) if why.contains("has not been read")),
        "{:?}",
        play.events
    );
    play.on(1.0);
    play.engine.launch(&order("m1"), at(play.now)).unwrap();
    play.on(1.0);
    adapters.remove("cloud");
    services.values_mut().for_each(|allowed| allowed.retain(|name| name != "cloud"));
    play.engine.reconfigure(adapters, services, Caps::default(), at(play.now));
    assert_eq!(play.stage("l1"), Some(Stage::Draining));
    play.on(0.1);
    assert!(play.engine.adapters().contains_key("cloud"), "an instance is there yet");
    play.on(15.0);
    assert_eq!(play.engine.adapters().keys().collect::<Vec<_>>(), ["more"]);
    assert!(play.stage("l1").is_none() && play.stage("m1").is_some());
}

#[test]
fn what_was_misconfigured_is_tried_again_once_somebody_changed_something() {
    let mut play = Play::new(settings(), Vec::new());
    play.on(0.1);
    play.order("l1").unwrap();
    play.on_with(1.0, |operation| {
        (operation == Operation::Launch).then(|| Outcome::Misconfigured("no such image".into()))
    });
    assert!(matches!(play.order("l2"), Err(NotLaunched::HeldBack(why)) if why.contains("no such image")));
    let Settings { adapters, services, .. } = settings();
    play.engine.reconfigure(adapters, services, Caps::default(), at(play.now));
    play.order("l2").unwrap();
}

#[test]
fn an_adapter_that_goes_before_it_was_ever_read_is_read_first() {
    let mut engine = Play::new(settings(), vec![record("found", Recorded::Ready)]).engine;
    let Settings { services, .. } = settings();
    engine.reconfigure(BTreeMap::new(), services, Caps::default(), at(0.0));
    let (tasks, _) = engine.due(at(0.1));
    assert!(tasks.contains(&Task::List("cloud".into())), "{tasks:?}");
    engine.listed("cloud", Ok(Vec::new()), at(0.2), 0.5);
    assert!(engine.adapters().contains_key("cloud") || engine.fleet().is_empty());
}
