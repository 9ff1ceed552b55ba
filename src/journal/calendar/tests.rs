use std::cell::RefCell;

use super::super::store::Store;
use super::super::{Closing, LaunchRow, Stage};
use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
/// A day on which somebody may run this.
const TODAY: i64 = NOT_SET_BEFORE_MS + 200 * DAY;

thread_local! {
    static CLOCKS: RefCell<Moment> =
        const { RefCell::new(Moment { boot: String::new(), since_boot_ms: 0, at_ms: 0 }) };
}

fn clocks() -> Moment {
    CLOCKS.with_borrow(Clone::clone)
}

/// A box, its clocks, and what runs on it.
struct Gateway {
    home: tempfile::TempDir,
    session: u64,
    store: Option<Store>,
}

impl Gateway {
    /// Boots, and starts a first session.
    fn boot_at(at_ms: i64) -> Self {
        let mut gateway = Self { home: tempfile::tempdir().unwrap(), session: 0, store: None };
        gateway.reboot_at(at_ms);
        gateway
    }

    fn reboot_at(&mut self, at_ms: i64) {
        let boot = format!("boot-{}", fastrand::u64(..));
        CLOCKS.set(Moment { boot, since_boot_ms: 20_000, at_ms });
        self.restart();
    }

    /// As after a crash: nothing was said beforehand.
    fn restart(&mut self) {
        self.store = None;
        self.session += 1;
        let path = self.home.path().join("journal.sqlite");
        self.store = Some(Store::open_or_set_aside(&path, self.session, &clocks()).unwrap());
    }

    fn pass(&self, ms: i64) {
        CLOCKS.with_borrow_mut(|now| (now.since_boot_ms, now.at_ms) = (now.since_boot_ms + ms, now.at_ms + ms));
    }

    fn set_calendar(&self, at_ms: i64) {
        CLOCKS.with_borrow_mut(|now| now.at_ms = at_ms);
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn intend(&mut self, launch: &str) {
        let row = LaunchRow {
            launch: launch.into(),
            service: "digits".into(),
            adapter: "cloud".into(),
            session: self.session,
            reason: "load".into(),
            stage: Stage::Intended,
            intended_at_ms: clocks().at_ms,
            ready_at_ms: None,
            ending_at_ms: None,
            ended_at_ms: None,
            end_reason: None,
            price_per_hour_micro: 1,
            minimum_billing_ms: 1,
            billing_step_ms: 1,
            cost_micro: None,
            currency: None,
        };
        self.store().insert(&row, &clocks()).unwrap();
    }

    fn ready(&mut self, launch: &str) {
        self.store().advance(launch, Stage::Ready, clocks().at_ms, &clocks()).unwrap();
    }

    fn close(&mut self, launch: &str) {
        let closing = Closing { ended_at_ms: clocks().at_ms, reason: "load fell".into(), cost_micro: 1 };
        self.store().close(launch, &closing, &clocks()).unwrap();
    }

    /// How long ago each closed launch of the last while began and ended, in minutes.
    fn closed_within(&mut self, while_ms: i64) -> Vec<(String, i64, i64)> {
        let now = clocks().at_ms;
        let rows = self.store().rows_since(now - while_ms, &clocks()).unwrap();
        let ago = |at: i64| (now - at + MINUTE / 2) / MINUTE;
        let closed =
            rows.into_iter().filter_map(|row| Some((row.launch, ago(row.intended_at_ms), ago(row.ended_at_ms?))));
        closed.collect()
    }
}

#[test]
fn what_was_launched_in_1970_is_of_today_once_the_date_is_known() {
    let mut gateway = Gateway::boot_at(1_000);
    gateway.intend("l1");
    gateway.pass(MINUTE);
    gateway.ready("l1");
    gateway.set_calendar(TODAY);
    gateway.pass(9 * MINUTE);
    gateway.close("l1");
    gateway.pass(5 * MINUTE);
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 15, 5)]);
    let ready_at = gateway.store().rows_since(0, &clocks()).unwrap()[0].ready_at_ms.unwrap();
    assert_eq!((clocks().at_ms - ready_at) / MINUTE, 14);
    gateway.restart();
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 15, 5)]);
}

#[test]
fn a_calendar_that_runs_a_year_ahead_and_comes_back_forgets_and_doubles_nothing() {
    let mut gateway = Gateway::boot_at(TODAY);
    gateway.intend("before");
    gateway.close("before");
    gateway.pass(10 * MINUTE);
    gateway.set_calendar(TODAY + YEAR);
    // The node crashed before it had noticed.
    gateway.restart();
    assert_eq!(gateway.closed_within(HOUR), [("before".into(), 10, 10)]);
    gateway.intend("ahead");
    gateway.pass(10 * MINUTE);
    gateway.set_calendar(TODAY + 20 * MINUTE);
    gateway.close("ahead");
    let both = [("before".into(), 20, 20), ("ahead".into(), 10, 0)];
    assert_eq!(gateway.closed_within(HOUR), both);
    gateway.restart();
    assert_eq!(gateway.closed_within(HOUR), both);
    // One of an earlier session is closed by a later one.
    gateway.intend("left");
    gateway.set_calendar(TODAY + 2 * YEAR);
    gateway.restart();
    gateway.pass(10 * MINUTE);
    gateway.close("left");
    assert_eq!(gateway.closed_within(5 * MINUTE), [("left".into(), 10, 0)]);
}

#[test]
fn what_another_boot_says_is_believed_unless_it_cannot_be() {
    let mut gateway = Gateway::boot_at(TODAY);
    gateway.intend("right");
    gateway.close("right");
    gateway.reboot_at(TODAY + 2 * HOUR);
    assert_eq!(gateway.closed_within(HOUR), [], "it was two hours ago");
    assert_eq!(gateway.closed_within(3 * HOUR), [("right".into(), 120, 120)]);

    gateway.reboot_at(1_000);
    gateway.intend("undated");
    gateway.pass(MINUTE);
    gateway.close("undated");
    gateway.reboot_at(TODAY + 4 * HOUR);
    assert_eq!(gateway.closed_within(HOUR), [("undated".into(), 1, 0)], "it may have been a moment ago");
    gateway.pass(2 * HOUR);
    gateway.restart();
    assert_eq!(gateway.closed_within(HOUR), [], "and is not for ever");

    let all = gateway.closed_within(DAY);
    assert_eq!(all.iter().map(|(launch, ..)| launch.as_str()).collect::<Vec<_>>(), ["right", "undated"]);
}

#[test]
fn what_another_boot_began_and_this_one_ended_has_the_dates_of_both() {
    let mut gateway = Gateway::boot_at(TODAY);
    gateway.intend("l1");
    gateway.reboot_at(1_000);
    gateway.pass(MINUTE);
    gateway.close("l1");
    gateway.set_calendar(TODAY + 10 * MINUTE);
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 10, 0)]);
    gateway.restart();
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 10, 0)]);
}

#[test]
fn a_step_between_a_call_and_its_write_moves_nothing() {
    let mut gateway = Gateway::boot_at(1_000);
    gateway.intend("l1");
    gateway.pass(MINUTE);
    let (before, closing) = (clocks(), Closing { ended_at_ms: clocks().at_ms, reason: "x".into(), cost_micro: 1 });
    gateway.set_calendar(TODAY);
    gateway.store().close("l1", &closing, &before).unwrap();
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 1, 0)]);
}

#[test]
fn a_step_that_nobody_wrote_after_is_noted_by_looking() {
    let mut gateway = Gateway::boot_at(1_000);
    gateway.intend("l1");
    gateway.close("l1");
    gateway.set_calendar(TODAY);
    gateway.store().keep_up(&clocks());
    gateway.reboot_at(TODAY + 3 * DAY);
    assert_eq!(gateway.closed_within(DAY), [], "three days ago");
    assert_eq!(gateway.closed_within(4 * DAY), [("l1".into(), 3 * 24 * 60, 3 * 24 * 60)]);
}

#[test]
fn a_box_without_a_battery_keeps_the_dates_of_its_former_boots() {
    let mut gateway = Gateway::boot_at(TODAY);
    gateway.intend("l1");
    gateway.close("l1");
    gateway.reboot_at(1_000);
    assert_eq!(gateway.store().rows_since(0, &clocks()).unwrap()[0].intended_at_ms, TODAY);
    gateway.set_calendar(TODAY + DAY);
    assert_eq!(gateway.closed_within(2 * DAY), [("l1".into(), 24 * 60, 24 * 60)]);
}

#[test]
fn what_an_undated_boot_ended_is_placed_although_it_began_nothing() {
    let mut gateway = Gateway::boot_at(TODAY);
    gateway.intend("l1");
    gateway.reboot_at(1_000);
    gateway.pass(MINUTE);
    gateway.close("l1");
    gateway.reboot_at(TODAY + HOUR);
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 60, 0)]);
}

#[test]
fn an_undated_boot_is_placed_when_the_date_comes_and_not_at_a_later_start() {
    let mut gateway = Gateway::boot_at(1_000);
    gateway.intend("l1");
    gateway.close("l1");
    gateway.reboot_at(1_000);
    gateway.set_calendar(TODAY);
    gateway.store().keep_up(&clocks());
    assert_eq!(gateway.closed_within(HOUR), [("l1".into(), 0, 0)]);
    gateway.pass(30 * DAY);
    gateway.restart();
    assert_eq!(gateway.closed_within(DAY), []);
}
