//! What exists at the providers beside what the journal knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context};
use cloud_adapters::{CloudAdapter, Owner};

use super::{Burst, RECONCILE, STEP, millis};
use crate::actors::publisher::Report;
use crate::actors::tell;
use crate::host::clock::unix_ms_now;
use crate::journal::{Closing, Journal, LaunchRow, Stage};
use crate::logic::budget::{Entry, Money, Terms};
use crate::logic::fleet::Fleet;
use crate::wire::{EventData, EventKind};

/// The longest budget window: what ended before it matters to nobody.
const HISTORY_MS: i64 = 24 * 3_600_000;

/// One listed instance of this node.
pub(super) struct Listed {
    pub(super) launch: String,
    pub(super) service: String,
    pub(super) adapter: String,
    pub(super) session: u64,
    pub(super) reason: String,
    /// How long it has run, where the provider knows.
    pub(super) age: Option<Duration>,
    pub(super) ended: bool,
    /// The journal says that it was to end.
    pub(super) ending: bool,
}

/// What one look found.
#[derive(Default)]
pub(super) struct Found {
    /// The adapters that answered.
    pub(super) answered: BTreeSet<String>,
    pub(super) listed: Vec<Listed>,
    /// The journal's rows, on the first look only.
    pub(super) rows: Vec<LaunchRow>,
}

impl Burst {
    /// Compares with the providers' lists: adopts what is healthy and wanted, ends what is not.
    pub(super) fn reconcile(&mut self, context: &mut Context<Self>) {
        let adapters: Vec<_> =
            self.parts.adapters.iter().map(|(name, slot)| (name.clone(), slot.adapter.clone())).collect();
        let (journal, owner) = (self.parts.journal.clone(), self.operator.owner.clone());
        let first = !self.unreconciled.is_empty();
        let look = async move { find(&journal, adapters, &owner, first).await }.into_actor(self);
        context.spawn(look.map(|found, burst, context| {
            burst.found(found);
            burst.step(context);
            burst.tell_scheduler();
        }));
    }

    pub(super) fn found(&mut self, found: Found) {
        let now = self.parts.clock.now();
        for row in &found.rows {
            self.restore(row);
        }
        self.give_up_unconfigured(&found.rows, now);
        for listed in &found.listed {
            if listed.session > self.parts.identity.session {
                self.duplicate_session(listed.session);
            } else if self.fleet.get(&listed.launch).is_none() {
                self.take_over(listed, now);
            }
        }
        for row in found.rows.iter().filter(|row| row.stage != Stage::Closed) {
            let unlisted =
                found.answered.contains(&row.adapter) && !found.listed.iter().any(|l| l.launch == row.launch);
            if unlisted && self.fleet.get(&row.launch).is_none() && row.session < self.parts.identity.session {
                let timing = self.timing(&row.adapter);
                let why = "a former run of this node did not come back for it, and the provider lists it no more";
                if row.stage == Stage::Intended {
                    // The provider was never asked, or never said yes.
                    self.free.insert(row.launch.clone());
                    self.parts.ledger.void(&row.launch);
                }
                self.fleet.adopt_to_end(&row.launch, &row.service, &row.adapter, why, timing, now);
            }
        }
        self.unreconciled.retain(|adapter| !found.answered.contains(adapter));
    }

    pub(super) fn take_over(&mut self, listed: &Listed, now: Duration) {
        let timing = self.timing(&listed.adapter);
        let (launch, service, adapter) = (&listed.launch, &listed.service, &listed.adapter);
        if !self.parts.ledger.entries().any(|entry| entry.launch == *launch) {
            self.account_for_unknown(listed, now);
        }
        if self.has_just_ended(launch, now) {
            return;
        }
        let wanted = !listed.ended
            && !self.has_ended(launch)
            && !listed.ending
            && !self.ending
            && self.parts.workloads.contains_key(service);
        if wanted {
            self.fleet.adopt(launch, service, adapter, &listed.reason, timing, now);
            let data = EventData { reason: Some("adopted from a former run".into()), ..self.about(launch) };
            tell(&self.parts.events, Report { kind: EventKind::BurstAdopted, data });
        } else {
            let why =
                if listed.ended { "ended by itself while the node was away" } else { "not wanted after a restart" };
            self.fleet.adopt_to_end(launch, service, adapter, why, timing, now);
        }
    }

    /// Open rows of an adapter that is no longer configured: nobody can be asked, and their leases end them. They are
    /// closed at the price of the longest lease, since they must not hold the budget for ever.
    fn give_up_unconfigured(&mut self, rows: &[LaunchRow], now: Duration) {
        let unconfigured =
            |row: &&LaunchRow| row.stage != Stage::Closed && !self.parts.adapters.contains_key(&row.adapter);
        for row in rows.iter().filter(unconfigured).cloned().collect::<Vec<_>>() {
            let timing = self.timing(&row.adapter);
            let end = now + timing.lease_ttl + timing.drain_timeout;
            self.parts.ledger.close(&row.launch, end);
            let lived = end.saturating_sub(self.parts.clock.from_unix_ms(row.intended_at_ms));
            let cost_micro = terms_of(&row).cost(lived).micros();
            let reason = format!("its adapter {} is no longer configured; its lease ends it", row.adapter);
            tracing::warn!(launch = row.launch, "{reason}");
            let (journal, launch) = (self.parts.journal.clone(), row.launch);
            actix::spawn(async move {
                let closing = Closing { ended_at_ms: unix_ms_now(), reason, cost_micro };
                if let Err(error) = journal.close_row(&launch, closing).await {
                    tracing::warn!(launch, %error, "a row was not closed");
                }
            });
        }
    }

    /// Confirmed as ended while the list was on its way; the next list tells whether it is true.
    fn has_just_ended(&self, launch: &str, now: Duration) -> bool {
        self.ended_at(launch).is_some_and(|end| now.saturating_sub(end) < RECONCILE / 2)
    }

    /// Confirmed as ended, though a provider lists it again.
    fn has_ended(&self, launch: &str) -> bool {
        self.ended_at(launch).is_some()
    }

    fn ended_at(&self, launch: &str) -> Option<Duration> {
        self.parts.ledger.entries().find(|entry| entry.launch == launch)?.end
    }

    /// An instance of ours that the journal does not know: it was lost, so a row and a cost begin at the instance's age.
    pub(super) fn account_for_unknown(&mut self, listed: &Listed, now: Duration) {
        let Some(slot) = self.parts.adapters.get(&listed.adapter) else { return };
        let tail = slot.timing.lease_ttl + slot.timing.drain_timeout + STEP;
        let start = now.saturating_sub(listed.age.unwrap_or_default());
        self.parts.ledger.restore(Entry::started(&listed.launch, start, slot.terms, tail));
        let mut instance = Fleet::default();
        instance.adopt(&listed.launch, &listed.service, &listed.adapter, &listed.reason, slot.timing, start);
        let row = instance.get(&listed.launch).map(|instance| self.row(instance));
        let row = row.map(|row| LaunchRow { intended_at_ms: self.parts.clock.to_unix_ms(start), ..row });
        let journal = self.parts.journal.clone();
        actix::spawn(async move {
            if let Some(row) = row
                && let Err(error) = journal.intend(row).await
            {
                tracing::warn!(%error, "an adopted instance was not recorded");
            }
        });
    }

    pub(super) fn duplicate_session(&mut self, session: u64) {
        if !self.duplicate {
            let why = format!(
                "instances of session {session} under this node's id exist, and this is session {}: another box runs with a \
                 copy of this state directory; give it another node.id. No launches until then",
                self.parts.identity.session
            );
            let data = EventData { error: Some(why), ..EventData::default() };
            tell(&self.parts.events, Report { kind: EventKind::NodeDuplicate, data });
        }
        self.duplicate = true;
    }

    /// Takes a row of the journal into the ledger, once: what this run launched is there already.
    pub(super) fn restore(&mut self, row: &LaunchRow) {
        if self.parts.ledger.entries().any(|entry| entry.launch == row.launch) {
            return;
        }
        let clock = self.parts.clock;
        let tail = self.timing(&row.adapter).lease_ttl + self.timing(&row.adapter).drain_timeout + STEP;
        let terms = terms_of(row);
        if row.cost_micro != Some(0) {
            let end = row.ended_at_ms.map(|at| clock.from_unix_ms(at));
            // From the end back, so that a calendar that was wrong at both times still gives the right life.
            let start = match (end, row.ended_at_ms) {
                (Some(end), Some(at)) => end.saturating_sub(millis(at - row.intended_at_ms)),
                _ => clock.from_unix_ms(row.intended_at_ms),
            };
            self.parts.ledger.restore(Entry { end, ..Entry::started(&row.launch, start, terms, tail) });
        }
        if row.stage == Stage::Closed {
            self.parts.board.remember_burst(self.status_of_row(row));
        }
    }
}

/// Reads the journal (on the first look) and every adapter's list.
pub(super) async fn find(
    journal: &Journal,
    adapters: Vec<(String, Arc<dyn CloudAdapter>)>,
    owner: &Owner,
    first: bool,
) -> Found {
    let mut found = Found::default();
    if first {
        found.rows = journal.rows_since(unix_ms_now() - HISTORY_MS).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the journal cannot be read; going by the providers' lists alone");
            Vec::new()
        });
    }
    for (name, adapter) in adapters {
        match adapter.list(owner).await {
            Ok(instances) => {
                let listed = instances.into_iter().map(|instance| {
                    let row = found.rows.iter().find(|row| row.launch == instance.launch.as_str());
                    Listed {
                        launch: instance.launch.to_string(),
                        service: instance.service.clone(),
                        adapter: name.clone(),
                        session: instance.owner.session,
                        reason: row.map_or_else(|| "found at the provider".to_owned(), |row| row.reason.clone()),
                        age: instance.age,
                        ended: instance.is_ended(),
                        ending: row.is_some_and(|row| row.stage >= Stage::Ending),
                    }
                });
                let listed: Vec<_> = listed.collect();
                found.listed.extend(listed);
                found.answered.insert(name);
            }
            Err(error) => {
                tracing::warn!(adapter = name, %error, "the provider does not list our instances; asking again");
            }
        }
    }
    found
}

/// What a row was launched at.
fn terms_of(row: &LaunchRow) -> Terms {
    Terms {
        price_per_hour: Money::from_micros(row.price_per_hour_micro),
        minimum_billing: millis(row.minimum_billing_ms),
        billing_step: millis(row.billing_step_ms),
    }
}
