//! Between the journal's rows, which have calendar times, and the engine's records, which have the run's clock.

use std::time::Duration;

use super::Burst;
use crate::host::clock::{Clock, rfc3339, unix_ms_now};
use crate::journal::{Closing, Journal, JournalError, LaunchRow, Stage};
use crate::logic::budget::{Money, Terms};
use crate::logic::burst::{Engine, Record};
use crate::logic::fleet::Instance;
use crate::wire::{BurstState, BurstStatus};

/// The longest budget window: what ended before it matters to no decision.
const HISTORY_MS: i64 = 24 * 3_600_000;

/// Every open row and those of the last day, and all launches that the journal knows with their sessions.
pub(super) async fn read(journal: &Journal) -> Result<(Vec<LaunchRow>, Vec<(String, u64)>), JournalError> {
    let rows = journal.rows_since(unix_ms_now() - HISTORY_MS).await?;
    Ok((rows, journal.launches().await?))
}

/// What is said of a journal that cannot be read.
pub(super) fn tell_unreadable(error: &JournalError) {
    tracing::error!(%error, "the journal cannot be read; going by the providers' lists alone, and all caps count as spent");
}

/// A row on this run's clock.
pub(super) fn record(row: &LaunchRow, clock: Clock) -> Record {
    let ended_at = row.ended_at_ms.map(|at| clock.from_unix_ms(at));
    // From the end back, so that a calendar that was wrong at both times still gives the right life.
    let started_at = match (ended_at, row.ended_at_ms) {
        (Some(end), Some(at)) => end.saturating_sub(millis(at.saturating_sub(row.intended_at_ms))),
        _ => clock.from_unix_ms(row.intended_at_ms),
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
        ended_at,
        terms: terms_of(row),
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
    let terms = engine.terms(&instance.adapter);
    LaunchRow {
        launch: instance.launch.clone(),
        service: instance.service.clone(),
        adapter: instance.adapter.clone(),
        session: engine.session(),
        reason: instance.reason.clone(),
        stage: Stage::Intended,
        intended_at_ms: clock.to_unix_ms(engine.since(instance)),
        ready_at_ms: None,
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
