//! Between the journal's rows, which have calendar times, and the engine's records, which have the run's clock.

use std::time::Duration;

use super::Burst;
use crate::host::clock::{Clock, rfc3339, unix_ms_now};
use crate::journal::{Closing, Journal, JournalError, LaunchRow, Stage};
use crate::logic::budget::{Money, Terms};
use crate::logic::burst::{Dates, Engine, Record};
use crate::logic::fleet::Instance;
use crate::wire::{BurstState, BurstStatus};

/// The longest budget window: what ended before it matters to no decision.
const HISTORY: Duration = Duration::from_hours(24);

/// Every open row and those of the last day, and all launches that the journal knows with their sessions.
pub(super) async fn read(journal: &Journal) -> Result<(Vec<LaunchRow>, Vec<(String, u64)>), JournalError> {
    let rows = journal.rows_since(unix_ms_now() - in_millis(HISTORY)).await?;
    Ok((rows, journal.launches().await?))
}

/// What is said of a journal that cannot be read.
pub(super) fn tell_unreadable(error: &JournalError) {
    tracing::error!(%error, "the journal cannot be read; going by the providers' lists alone, and all caps count as spent");
}

/// Rows on this run's clock: all that are open, and those that ended within the last day.
pub(super) fn records(rows: &[LaunchRow], clock: Clock) -> Vec<Record> {
    let times = |row: &LaunchRow| [Some(row.intended_at_ms), row.ended_at_ms].map(|at| Some((row.session, at?)));
    let dates = Dates::new(unix_ms_now(), rows.iter().flat_map(times).flatten());
    let counts = |row: &&LaunchRow| row.ended_at_ms.is_none_or(|at| dates.ago(row.session, at) < HISTORY);
    rows.iter().filter(counts).map(|row| record(row, clock.now(), &dates)).collect()
}

fn record(row: &LaunchRow, now: Duration, dates: &Dates) -> Record {
    let at = |at_ms: i64| now.saturating_sub(dates.ago(row.session, at_ms));
    let (ended_at, terms) = (row.ended_at_ms.map(at), terms_of(row));
    let started_at = match (ended_at, row.ended_at_ms) {
        // From the end back: the two may have been dated by different calendars.
        (Some(end), Some(at_ms)) => {
            let dated = millis(at_ms.saturating_sub(row.intended_at_ms));
            end.saturating_sub(row.cost_micro.map_or(dated, |cost| terms.life(dated, Money::from_micros(cost))))
        }
        _ => at(row.intended_at_ms),
    };
    Record {
        launch: row.launch.clone(),
        service: row.service.clone(),
        adapter: row.adapter.clone(),
        session: row.session,
        reason: row.reason.clone(),
        stage: row.stage,
        started_at,
        start_took: row.ready_at_ms.map(|ready| millis(ready.saturating_sub(row.intended_at_ms))),
        ending_at: row.ending_at_ms.map(at),
        ended_at,
        terms,
        cost: row.cost_micro.map(Money::from_micros),
    }
}

/// What a row was launched at.
fn terms_of(row: &LaunchRow) -> Terms {
    Terms {
        price_per_hour: Money::from_micros(row.price_per_hour_micro),
        minimum_billing: millis(row.minimum_billing_ms),
        billing_step: millis(row.billing_step_ms),
    }
}

/// The row that an instance's life begins with.
pub(super) fn intent(engine: &Engine, instance: &Instance, clock: Clock, currency: &str) -> LaunchRow {
    let terms = engine.terms_of(instance);
    LaunchRow {
        launch: instance.launch.clone(),
        service: instance.service.clone(),
        adapter: instance.adapter.clone(),
        session: engine.session(),
        reason: instance.reason.clone(),
        stage: Stage::Intended,
        intended_at_ms: clock.to_unix_ms(engine.since(instance)),
        ready_at_ms: None,
        ending_at_ms: None,
        ended_at_ms: None,
        end_reason: None,
        price_per_hour_micro: terms.price_per_hour.micros(),
        minimum_billing_ms: in_millis(terms.minimum_billing),
        billing_step_ms: in_millis(terms.billing_step),
        currency: Some(currency.to_owned()),
        cost_micro: None,
    }
}

/// An instance that was found gets the row that a lost journal does not have.
pub(super) async fn record_found(journal: &Journal, row: LaunchRow) {
    let launch = row.launch.clone();
    if let Err(error) = journal.intend(row).await {
        tracing::warn!(launch, %error, "an instance that was found was not recorded");
    }
}

/// A row as it is told to people: where it stands, from the last stage that was recorded.
pub fn status(row: &LaunchRow, node: &str) -> BurstStatus {
    let state = match row.stage {
        Stage::Intended => BurstState::Launching,
        Stage::Launched => BurstState::Starting,
        Stage::Ready => BurstState::Ready,
        Stage::Ending => BurstState::Terminating,
        Stage::Closed => BurstState::Ended,
    };
    BurstStatus {
        node: node.to_owned(),
        session: row.session,
        launch: row.launch.clone(),
        service: row.service.clone(),
        adapter: row.adapter.clone(),
        state,
        reason: row.reason.clone(),
        end_reason: row.end_reason.clone(),
        started_at: rfc3339(row.intended_at_ms),
        ready_at: row.ready_at_ms.map(rfc3339),
        ended_at: row.ended_at_ms.map(rfc3339),
        cost: Money::from_micros(row.cost_micro.unwrap_or(0)).units(),
        currency: row.currency.clone(),
        price_per_hour: Some(Money::from_micros(row.price_per_hour_micro).units()),
        ..BurstStatus::default()
    }
}

impl Burst {
    /// The row of an intent.
    pub(super) fn row(&self, instance: &Instance) -> LaunchRow {
        intent(&self.engine, instance, self.parts.clock, &self.parts.currency)
    }

    /// An instance that was taken over gets the row that a lost journal does not have.
    pub(super) fn record_found(&self, launch: &str) {
        let Some(row) = self.engine.fleet().get(launch).map(|instance| self.row(instance)) else { return };
        let journal = self.parts.journal.clone();
        actix::spawn(async move { record_found(&journal, row).await });
    }

    /// Closes a row whose adapter is not configured any more.
    pub(super) fn close_abandoned(&self, record: &Record, end: Duration, cost: Money) {
        let reason = format!("its adapter {} is no longer configured; its lease ends it", record.adapter);
        tracing::warn!(launch = record.launch, "{reason}");
        let ended_at_ms = self.parts.clock.to_unix_ms(end);
        let (journal, launch) = (self.parts.journal.clone(), record.launch.clone());
        actix::spawn(async move {
            let closing = Closing { ended_at_ms, reason, cost_micro: cost.micros() };
            if let Err(error) = journal.close_row(&launch, closing).await {
                tracing::warn!(launch, %error, "a row was not closed");
            }
        });
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn in_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

    /// A closed row that ended at, and lived for, so many minutes, at 1 an hour.
    fn closed(launch: &str, ended_at_ms: i64, life_minutes: i64) -> LaunchRow {
        LaunchRow {
            launch: launch.into(),
            service: "digits".into(),
            adapter: "cloud".into(),
            session: 1,
            reason: "load".into(),
            stage: Stage::Closed,
            intended_at_ms: ended_at_ms - life_minutes * MINUTE_MS,
            ready_at_ms: None,
            ending_at_ms: None,
            ended_at_ms: Some(ended_at_ms),
            end_reason: None,
            price_per_hour_micro: 1_000_000,
            minimum_billing_ms: 0,
            billing_step_ms: 1_000,
            cost_micro: Some(life_minutes * 1_000_000 / 60),
            currency: None,
        }
    }

    /// The minutes ago that each launch ended and began.
    fn told(rows: &[LaunchRow]) -> Vec<(String, u64, u64)> {
        let clock = Clock::start();
        let ago = |at: Duration| (clock.now().saturating_sub(at).as_secs() + 30) / 60;
        let told = records(rows, clock).into_iter();
        told.map(|record| (record.launch, ago(record.ended_at.unwrap()), ago(record.started_at))).collect()
    }

    #[tokio::test]
    async fn a_calendar_that_is_behind_counts_the_latest_day_of_the_journal_and_not_all_of_it() {
        let months_ahead = unix_ms_now() + 90 * DAY_MS;
        let rows = [
            closed("months before", months_ahead - 60 * DAY_MS, 5),
            closed("an hour before", months_ahead - 60 * MINUTE_MS, 5),
            closed("latest", months_ahead, 5),
            closed("now", unix_ms_now() - 10 * MINUTE_MS, 5),
            closed("yesterday", unix_ms_now() - DAY_MS - MINUTE_MS, 5),
        ];
        assert_eq!(told(&rows), [("an hour before".into(), 60, 65), ("latest".into(), 0, 5), ("now".into(), 10, 15)]);
    }

    #[tokio::test]
    async fn one_date_that_is_far_ahead_does_not_hide_what_later_sessions_spent() {
        let rows = [
            closed("far ahead", unix_ms_now() + 365 * DAY_MS, 5),
            LaunchRow { session: 2, ..closed("an hour ahead", unix_ms_now() + 60 * MINUTE_MS, 5) },
        ];
        assert_eq!(told(&rows), [("far ahead".into(), 0, 5), ("an hour ahead".into(), 0, 5)]);
    }

    #[tokio::test]
    async fn a_life_that_spans_a_wrong_date_is_as_long_as_what_it_has_cost() {
        for intended_at_ms in [1_000, unix_ms_now() + 300 * DAY_MS] {
            let row = LaunchRow { intended_at_ms, ..closed("l1", unix_ms_now(), 5) };
            assert_eq!(told(&[row]), [("l1".into(), 0, 5)]);
        }
    }
}
