use std::collections::VecDeque;

use super::super::plan::tests::XorShift;
use super::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn money(units: f64) -> Money {
    Money::from_units(units).expect("an amount")
}

fn terms(price: f64, minimum: u64, step: u64) -> Terms {
    Terms { price_per_hour: money(price), minimum_billing: secs(minimum), billing_step: secs(step) }
}

/// One unit an hour, by the minute, at least ten minutes.
fn by_the_minute() -> Terms {
    terms(1.0, 600, 60)
}

fn hourly(cap: f64) -> Caps {
    Caps { per_hour: Some(money(cap)), per_day: None }
}

const TAIL: Duration = Duration::from_secs(300);

/// Late enough that a window back from it is not cut short.
const T0: u64 = 1_000_000;

#[test]
fn amounts_are_exact_and_shown_with_the_decimals_they_have() {
    assert_eq!(money(0.1).plus(money(0.2)), money(0.3));
    for (amount, shown) in
        [(0.0, "0.00"), (2.0, "2.00"), (0.4, "0.40"), (0.4125, "0.4125"), (1_234.000_001, "1234.000001")]
    {
        assert_eq!(money(amount).to_string(), shown);
    }
    for bad in [-0.01, f64::NAN, f64::INFINITY, 1e13] {
        assert_eq!(Money::from_units(bad), None, "{bad}");
    }
    assert_eq!((Money::from_micros(-5), money(1.0).minus(money(2.0))), (Money::ZERO, Money::ZERO));
}

#[test]
fn a_life_is_billed_in_whole_steps_and_at_least_the_minimum() {
    let terms = terms(3.6, 60, 10);
    let cost = |millis| terms.cost(Duration::from_millis(millis)).micros();
    assert_eq!([cost(0), cost(60_000), cost(60_001), cost(70_000)], [60_000, 60_000, 70_000, 70_000]);
}

#[test]
fn without_steps_what_was_used_is_billed_and_rounded_up() {
    let exact = Terms { billing_step: Duration::ZERO, ..terms(1.0, 0, 0) };
    assert_eq!(exact.cost(Duration::ZERO), Money::ZERO);
    assert_eq!(exact.cost(Duration::from_nanos(1)).micros(), 1, "a fraction of a millionth is a millionth");
    assert_eq!(exact.cost(secs(1800)), money(0.5));
}

#[test]
fn absurd_terms_saturate() {
    let absurd = Terms { price_per_hour: money(8e12), ..terms(1.0, 0, 1) };
    assert_eq!(absurd.cost(Duration::MAX).micros(), i64::MAX);
    let mut ledger = Ledger::new(hourly(1.0));
    assert!(ledger.open("a", Duration::MAX, absurd, Duration::MAX).is_err());
}

#[test]
fn committed_covers_the_minimum_and_the_whole_horizon() {
    let mut ledger = Ledger::new(hourly(2.0));
    ledger.open("a", secs(T0), by_the_minute(), TAIL).expect("within the cap");
    let committed = |ledger: &Ledger, now| ledger.committed(secs(now), Window::Hour);
    assert_eq!(committed(&ledger, T0), by_the_minute().cost(secs(600)), "the minimum billing of what starts");
    assert_eq!(ledger.spent(secs(T0), Window::Hour), by_the_minute().cost(secs(600)), "and it is due at the start");
    assert!(ledger.renew(secs(T0 + 900)).is_empty());
    assert_eq!(committed(&ledger, T0 + 900), by_the_minute().cost(secs(1200)), "until now, and TTL and drain");
    assert_eq!(ledger.spent(secs(T0 + 900), Window::Hour), by_the_minute().cost(secs(960)));
    ledger.close("a", secs(T0 + 905));
    assert_eq!(committed(&ledger, T0 + 910), by_the_minute().cost(secs(960)), "an end frees what was not used");
    assert_eq!(ledger.remaining(secs(T0 + 910), Window::Hour), Some(money(2.0).minus(by_the_minute().cost(secs(960)))));
    assert_eq!(ledger.remaining(secs(T0 + 910), Window::Day), None);
}

#[test]
fn what_fell_due_leaves_the_window_after_its_length() {
    let mut ledger = Ledger::new(hourly(2.0));
    ledger.open("a", secs(T0), terms(1.0, 60, 60), TAIL).expect("within the cap");
    ledger.close("a", secs(T0 + 120));
    let spent = |now, window| ledger.spent(secs(now), window).micros();
    assert_eq!(spent(T0 + 3599, Window::Hour), 33_334);
    assert_eq!(spent(T0 + 3600, Window::Hour), 16_667, "the first minute is an hour old");
    assert_eq!(spent(T0 + 3660, Window::Hour), 0);
    assert_eq!(spent(T0 + 3660, Window::Day), 33_334);
    let mut later = ledger.clone();
    assert!(later.renew(secs(T0 + 120 + 24 * 3600)).is_empty());
    assert_eq!(later.entries().count(), 0, "what no window sees is forgotten");
}

#[test]
fn a_launch_beyond_a_cap_is_refused_with_the_numbers() {
    let mut ledger = Ledger::new(Caps { per_hour: None, per_day: Some(money(1.0)) });
    let dear = terms(6.0, 300, 60);
    assert_eq!(ledger.affordable(secs(T0), dear, TAIL), 2);
    ledger.open("a", secs(T0), dear, TAIL).expect("half of the cap");
    ledger.open("b", secs(T0), dear, TAIL).expect("the other half");
    assert_eq!(ledger.affordable(secs(T0), dear, TAIL), 0);
    let refusal = ledger.open("c", secs(T0), dear, TAIL).expect_err("beyond the cap");
    assert_eq!((refusal.cap, refusal.committed), (Window::Day, money(1.0)));
    assert_eq!(refusal.to_string(), "the launch would commit 1.50 in 24 hours, of 1.00 allowed (1.00 without it)");
    assert_eq!(ledger.open("b", secs(T0 + 1), dear, TAIL), Ok(()), "the same launch again is the same launch");
    ledger.void("b");
    assert_eq!(ledger.affordable(secs(T0), dear, TAIL), 1, "what never ran costs nothing");
}

#[test]
fn a_launch_leaves_enough_to_renew_what_runs() {
    let mut ledger = Ledger::new(hourly(0.25));
    ledger.open("a", secs(T0), terms(1.2, 60, 60), TAIL).expect("0.10");
    let now = secs(T0 + 240);
    assert_eq!(ledger.affordable(now, terms(1.2, 60, 60), TAIL), 0, "0.18 with the renewal and 0.10 more");
    let refusal = ledger.admits(now, terms(1.2, 60, 60), TAIL).expect_err("it would end the first");
    assert_eq!((refusal.committed, refusal.would_be), (money(0.18), money(0.28)));
    ledger.drain("a");
    assert_eq!(ledger.admits(now, terms(1.2, 60, 60), TAIL), Ok(()), "what drains is not renewed");
}

#[test]
fn affordable_is_how_often_admits_says_yes() {
    let mut ledger = Ledger::new(Caps { per_hour: Some(money(2.0)), per_day: Some(money(3.0)) });
    let affordable = ledger.affordable(secs(T0), by_the_minute(), TAIL);
    let opened = (0..100).take_while(|n| ledger.open(&n.to_string(), secs(T0), by_the_minute(), TAIL).is_ok()).count();
    assert_eq!((affordable, opened), (11, 11));
}

#[test]
fn without_caps_or_price_nothing_is_refused() {
    assert_eq!(Ledger::new(Caps::default()).affordable(secs(T0), by_the_minute(), TAIL), u32::MAX);
    let mut spent = Ledger::unknown_before(hourly(1.0), secs(T0));
    assert_eq!(spent.affordable(secs(T0), terms(0.0, 60, 60), TAIL), u32::MAX);
    assert_eq!(spent.open("free", secs(T0), terms(0.0, 60, 60), TAIL), Ok(()));
    assert!(spent.must_drain(secs(T0)).is_empty());
}

#[test]
fn the_dearest_drain_first_then_the_youngest_and_only_as_many_as_it_takes() {
    let mut ledger = Ledger::new(hourly(10.0));
    for (launch, start, price) in [("old", 0, 1.0), ("young", 60, 1.0), ("dear", 30, 2.0), ("free", 90, 0.0)] {
        ledger.open(launch, secs(T0 + start), terms(price, 60, 60), TAIL).expect("within the cap");
    }
    assert!(ledger.renew(secs(T0 + 400)).is_empty());
    let now = secs(T0 + 600);
    let committed = ledger.renewed(now).next().unwrap().2.micros();
    // Three more minutes cost the dear one 0.10 and the others 0.05.
    for (over, drained) in [
        (0, &[][..]),
        (1, &["dear"]),
        (99_000, &["dear"]),
        (101_000, &["dear", "young"]),
        (149_000, &["dear", "young"]),
        (151_000, &["dear", "young", "old"]),
        (900_000, &["dear", "young", "old"]),
    ] {
        ledger.set_caps(Caps { per_hour: Some(Money::from_micros(committed - over)), per_day: None });
        assert_eq!(ledger.must_drain(now), drained, "{over} too much");
    }
}

#[test]
fn who_is_drained_is_not_renewed_and_not_named_again() {
    let mut ledger = Ledger::new(hourly(0.1));
    ledger.open("a", secs(T0), terms(1.0, 60, 60), TAIL).expect("within the cap");
    assert_eq!(ledger.renew(secs(T0 + 50)), [""; 0]);
    let drained = ledger.renew(secs(T0 + 100));
    assert_eq!((drained, ledger.renew(secs(T0 + 110))), (vec!["a".to_owned()], vec![]));
    assert_eq!(ledger.committed(secs(T0 + 110), Window::Hour), money(0.1), "it ends within what it has");
}

#[test]
fn an_instance_whose_end_saves_nothing_stays() {
    let mut ledger = Ledger::new(hourly(1.0));
    ledger.open("hour", secs(T0), terms(0.9, 3600, 3600), TAIL).expect("within the cap");
    ledger.open("minute", secs(T0), terms(0.6, 60, 60), TAIL).expect("within the cap");
    assert_eq!(ledger.must_drain(secs(T0 + 600)), ["minute"], "the dearer one has its hour paid");
}

#[test]
fn an_instance_that_overruns_goes_on_costing() {
    let mut ledger = Ledger::new(hourly(1.0));
    ledger.open("stuck", secs(T0), terms(0.6, 60, 60), TAIL).expect("within the cap");
    ledger.drain("stuck");
    assert_eq!(ledger.committed(secs(T0 + 1800), Window::Hour), money(0.3));
    ledger.close("stuck", secs(T0 + 1800));
    ledger.close("stuck", secs(T0 + 3600));
    assert_eq!(ledger.spent(secs(T0 + 1801), Window::Hour), money(0.3), "the first end counts");
}

#[test]
fn a_lost_ledger_counts_each_window_as_spent() {
    let caps = Caps { per_hour: Some(money(1.0)), per_day: Some(money(5.0)) };
    let mut ledger = Ledger::unknown_before(caps, secs(T0));
    assert_eq!(ledger.spent(secs(T0 + 3599), Window::Hour), money(1.0));
    assert_eq!(ledger.spent(secs(T0 + 3600), Window::Hour), Money::ZERO);
    assert_eq!(ledger.spent(secs(T0 + 3600), Window::Day), money(5.0));
    assert!(ledger.admits(secs(T0 + 3600), by_the_minute(), TAIL).is_err(), "the day is still spent");
    assert!(ledger.admits(secs(T0 + 24 * 3600), by_the_minute(), TAIL).is_ok());
    ledger.restore(Entry::started("found", secs(T0 - 500), terms(1.0, 60, 60), TAIL));
    assert_eq!(ledger.renew(secs(T0)), ["found"], "nothing is left to renew what was found");
    assert_eq!(ledger.spent(secs(T0), Window::Hour), money(1.0), "what it cost before is part of the lost past");
}

#[test]
fn a_lost_ledger_at_the_first_moment_of_an_epoch_is_spent_too() {
    let ledger = Ledger::unknown_before(hourly(1.0), Duration::ZERO);
    assert_eq!(ledger.spent(secs(10), Window::Hour), money(1.0));
    assert_eq!(ledger.spent(secs(3600), Window::Hour), Money::ZERO);
}

/// An account of its own, by single billing steps: what the invariant is checked against.
#[derive(Default)]
struct Auditor {
    day: VecDeque<(u64, i64)>,
}

impl Auditor {
    fn charge(&mut self, at: u64, micros: i64) {
        self.day.push_back((at, micros));
    }

    fn spent(&mut self, now: u64, window: u64) -> i64 {
        self.day.retain(|(at, _)| at + 24 * 3600 > now);
        self.day.iter().filter(|(at, _)| at + window > now).map(|(_, micros)| micros).sum()
    }
}

/// A real instance: it charges when a step begins, and its lease ends it, whatever the node does.
struct Instance {
    launch: String,
    start: u64,
    price: i64,
    minimum: u64,
    step: u64,
    billed: u64,
    dies: u64,
}

impl Instance {
    fn run(&mut self, until: u64, auditor: &mut Auditor) {
        if self.billed == 0 {
            self.bill(self.minimum.max(self.step), self.start, auditor);
        }
        while self.start + self.billed / self.step * self.step < until.min(self.dies) {
            let begins = self.start + self.billed / self.step * self.step;
            self.bill((self.billed / self.step + 1) * self.step, begins, auditor);
        }
    }

    fn bill(&mut self, billed: u64, at: u64, auditor: &mut Auditor) {
        let cost = |seconds: u64| (self.price * i64::try_from(seconds).expect("small") + 3599) / 3600;
        auditor.charge(at, cost(billed) - cost(self.billed));
        self.billed = billed;
    }
}

const KINDS: [(f64, u64, u64); 4] = [(0.4, 60, 60), (1.3, 600, 60), (0.7, 3600, 3600), (2.9, 30, 30)];

/// A node that bursts, drains, dies and comes back at random.
struct Sim {
    random: XorShift,
    ledger: Ledger,
    alive: Vec<Instance>,
    auditor: Auditor,
    launches: u32,
    refused: u32,
    drained: usize,
}

impl Sim {
    fn new(seed: u64, caps: Caps) -> Self {
        let random = XorShift::new(seed);
        let (alive, auditor) = (Vec::new(), Auditor::default());
        Self { random, ledger: Ledger::new(caps), alive, auditor, launches: 0, refused: 0, drained: 0 }
    }

    /// Time passes: steps begin, leases run out. An end is noted when it happened.
    fn pass(&mut self, now: u64) {
        for instance in &mut self.alive {
            instance.run(now, &mut self.auditor);
            if instance.dies <= now {
                self.ledger.close(&instance.launch, secs(instance.dies));
            }
        }
        self.alive.retain(|instance| instance.dies > now);
    }

    fn event(&mut self, now: u64) {
        match self.random.below(8) {
            0..3 => self.launch(now),
            3..6 => self.renew(now),
            6 => self.end(now),
            _ => self.drain(),
        }
    }

    fn launch(&mut self, now: u64) {
        let (price, minimum, step) = KINDS[self.random.below(4) as usize];
        self.launches += 1;
        let launch = format!("l{}", self.launches);
        let tail = TAIL + secs(u64::from(self.random.below(100)));
        if self.ledger.open(&launch, secs(now), terms(price, minimum, step), tail).is_err() {
            self.refused += 1;
            return;
        }
        let (price, dies) = (money(price).micros(), now + tail.as_secs());
        self.alive.push(Instance { launch, start: now, price, minimum, step, billed: 0, dies });
    }

    fn renew(&mut self, now: u64) {
        self.drained += self.ledger.renew(secs(now)).len();
        for instance in &mut self.alive {
            let entry = self.ledger.entries().find(|entry| entry.launch == instance.launch).expect("in the ledger");
            if !entry.draining {
                instance.dies = now + entry.tail.as_secs();
            }
        }
    }

    fn pick(&mut self) -> Option<usize> {
        let count = u32::try_from(self.alive.len()).expect("few");
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn end(&mut self, now: u64) {
        if let Some(index) = self.pick() {
            let mut instance = self.alive.swap_remove(index);
            instance.dies = now;
            instance.run(now, &mut self.auditor);
            self.ledger.close(&instance.launch, secs(now));
        }
    }

    fn drain(&mut self) {
        if let Some(index) = self.pick() {
            self.ledger.drain(&self.alive[index].launch);
        }
    }

    fn check(&mut self, now: u64, context: &str) {
        for (window, limit) in self.ledger.caps().each() {
            let audited = self.auditor.spent(now, window.length().as_secs());
            assert!(audited <= limit.micros(), "{context}: {audited} spent in {window:?}, of {limit}");
            let committed = self.ledger.committed(secs(now), window);
            assert!(committed <= limit, "{context}: {committed} committed in {window:?}, of {limit}");
            let spent = self.ledger.spent(secs(now), window);
            assert!(audited <= spent.micros() && spent <= committed, "{context}: {audited} {spent} {committed}");
        }
    }
}

/// A hundred thousand events in all, a test for each pair of caps, so that they share the processors.
fn assert_no_sequence_exceeds(seed: u64, per_hour: Option<f64>, per_day: Option<f64>) {
    let mut sim = Sim::new(seed, Caps { per_hour: per_hour.map(money), per_day: per_day.map(money) });
    let mut now = T0;
    for step in 0..25_000 {
        now += u64::from(if sim.random.one_in(50) { sim.random.below(7200) } else { sim.random.below(60) });
        sim.pass(now);
        sim.event(now);
        sim.check(now, &format!("seed {seed} step {step}"));
    }
    assert!(sim.refused > 100 && sim.drained > 20, "seed {seed}: the caps were hardly touched");
    assert!(sim.launches - sim.refused > 100, "seed {seed}: hardly anything ran");
}

#[test]
fn no_sequence_of_events_exceeds_caps_of_hour_and_day() {
    assert_no_sequence_exceeds(1, Some(4.0), Some(30.0));
}

#[test]
fn no_sequence_of_events_exceeds_a_cap_of_the_hour() {
    assert_no_sequence_exceeds(2, Some(1.0), None);
}

#[test]
fn no_sequence_of_events_exceeds_a_cap_of_the_day() {
    assert_no_sequence_exceeds(3, None, Some(25.0));
}

#[test]
fn no_sequence_of_events_exceeds_wide_caps() {
    assert_no_sequence_exceeds(4, Some(9.0), Some(90.0));
}

/// A provider that cannot be asked for an hour makes nothing dearer than what was bought, and no cap is overdrawn by it.
#[test]
fn what_is_found_gone_costs_no_longer_than_its_lease_let_it_live() {
    let caps = hourly(0.2);
    let launched = |mut ledger: Ledger| {
        ledger.open("l1", secs(T0), by_the_minute(), TAIL).unwrap();
        ledger.drain("l1");
        ledger
    };
    let mut silent = launched(Ledger::new(caps));
    silent.gone("l1", secs(T0 + 3_600));
    let entry = silent.entry("l1").unwrap();
    assert_eq!(entry.end, Some(secs(T0) + TAIL));
    assert!(silent.spent(secs(T0 + 3_600), Window::Hour) <= money(0.2));

    let mut early = launched(Ledger::new(caps));
    early.gone("l1", secs(T0 + 60));
    assert_eq!(early.entry("l1").unwrap().end, Some(secs(T0 + 60)), "seen gone before its lease was over");

    let mut overran = launched(Ledger::new(caps));
    overran.seen("l1", secs(T0 + 100));
    overran.seen("l1", secs(T0 + 301));
    overran.gone("l1", secs(T0 + 900));
    assert_eq!(overran.entry("l1").unwrap().end, Some(secs(T0 + 900)), "it was seen alive after its lease");
}
