//! What exists at the providers beside what the journal and this run know: whom to adopt, whom to end, whom to leave alone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Engine, Event, FleetEvent, Known, LIST_RETRY, Stage};
use crate::budget::{Entry, Ledger, Money, Terms};
use crate::fleet::{Address, Timing};

/// Instances that end within this time are confirmed by one list: a thousand orphans must not cost a thousand lists.
const CONFIRM_TOGETHER: Duration = Duration::from_millis(50);

/// The recorded stages of a launch, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recorded {
    /// Written before the provider is asked.
    Intended,
    /// The provider has accepted.
    Launched,
    /// It answered as ready.
    Ready,
    /// Its end was decided, and written before the provider is asked.
    Ending,
    /// The provider lists it no more.
    Closed,
}

/// One launch as the journal has it, its times on the clock of this run.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Launch id.
    pub launch: String,
    /// The service it serves.
    pub service: String,
    /// The adapter that was asked.
    pub adapter: String,
    /// The session that intended it.
    pub session: u64,
    /// Why it was launched.
    pub reason: String,
    /// The last stage that was recorded.
    pub stage: Recorded,
    /// When its intent was written.
    pub started_at: Duration,
    /// From the intent to ready.
    pub start_took: Option<Duration>,
    /// When its end was decided, where that is known: its lease was not renewed after that.
    pub ending_at: Option<Duration>,
    /// When its end was confirmed.
    pub ended_at: Option<Duration>,
    /// How it is billed.
    pub terms: Terms,
    /// What it cost, once it ended.
    pub cost: Option<Money>,
}

/// One instance of this node in a provider's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Launch id.
    pub launch: String,
    /// The service it runs.
    pub service: String,
    /// The session that launched it.
    pub session: u64,
    /// How long it has run, where the provider knows.
    pub age: Option<Duration>,
    /// Where it is reached, where the list tells that: it need not be asked about one by one.
    pub address: Option<Address>,
    /// It does not run any more.
    pub ended: bool,
    /// The provider will take it away soon, for this reason.
    pub notice: Option<String>,
}

impl Engine {
    /// Takes in the journal: its rows of the last day and all that are open, and every launch that it knows
    /// with its session, the oldest first.
    /// Called once, at the start; an unreadable journal gives nothing.
    pub fn recover(&mut self, records: Vec<Record>, known: Vec<(String, u64)>, now: Duration) -> Vec<Event> {
        self.recovered = true;
        for (launch, session) in known {
            self.known.insert(&launch, session);
        }
        // What starts take decides how long leases are, which the rows' money is counted by.
        records.iter().for_each(|record| self.learn(record, now));
        let mut events = Vec::new();
        for record in records {
            self.known.insert(&record.launch, record.session);
            self.account_for(&record, now);
            if record.stage == Recorded::Closed {
                self.told.extend(record.cost.map(|cost| (record.launch, cost)));
                continue;
            }
            if self.adapters.contains_key(&record.adapter) {
                self.open.insert(record.launch.clone(), record);
            } else {
                events.push(self.abandon(record, now));
            }
        }
        events
    }

    /// Goes on without a journal that cannot be read: nothing is known of the time before, so that all of every cap counts
    /// as spent, and what the lists show under this node's id was a former run's.
    pub fn recover_blind(&mut self, now: Duration) {
        self.recovered = true;
        self.known = Known::since(self.settings.session);
        self.ledger = Ledger::unknown_before(self.ledger.caps(), now);
    }

    /// Takes in an adapter's list, by a call that began at `began`, or why there is none.
    pub fn listed(
        &mut self,
        adapter: &str,
        listed: Result<Vec<Listed>, String>,
        now: Duration,
        random: f64,
    ) -> Vec<Event> {
        let Some(state) = self.adapters.get_mut(adapter) else { return Vec::new() };
        let Some(began) = state.listing.take() else { return Vec::new() };
        state.list_error = listed.as_ref().err().cloned();
        let Ok(listed) = listed else {
            state.list_at = now + LIST_RETRY.delay(state.failed_lists, random).max(LIST_RETRY.base / 2);
            state.failed_lists = state.failed_lists.saturating_add(1);
            return Vec::new();
        };
        state.failed_lists = 0;
        state.list_at = now + state.settings.list_every;
        state.reconciled = true;
        let mut events = self.confirm(adapter, &listed, began, now, random);
        for instance in &listed {
            events.extend(self.compare(adapter, instance, began, now, random));
        }
        self.miss(adapter, &listed, now);
        events
    }

    /// The adapters whose list is to be read now; each is under way until [`Engine::listed`].
    pub(super) fn lists_due(&mut self, now: Duration) -> Vec<String> {
        if !self.recovered {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (name, adapter) in &mut self.adapters {
            // Whoever waits for a confirmation does not wait for the next round, unless lists fail.
            let waited = self.fleet.confirming_since(name).map(|since| now.saturating_sub(since));
            let is_waited_for = adapter.failed_lists == 0 && waited.is_some_and(|waited| waited >= CONFIRM_TOGETHER);
            if adapter.listing.is_none() && (now >= adapter.list_at || is_waited_for) {
                adapter.listing = Some(now);
                due.push(name.clone());
            }
        }
        due
    }

    fn confirm(&mut self, adapter: &str, listed: &[Listed], began: Duration, now: Duration, random: f64) -> Vec<Event> {
        let alive: BTreeSet<&str> = listed.iter().filter(|l| !l.ended).map(|l| l.launch.as_str()).collect();
        let waiting: Vec<_> = self.fleet.instances().filter(|i| i.stage == Stage::Confirming).cloned().collect();
        let told = self.fleet.listed(adapter, &alive, began, now, random);
        for instance in waiting {
            if self.fleet.get(&instance.launch).is_some_and(|after| after.stage == Stage::Closing) {
                self.ledger.gone(&instance.launch, now);
            }
        }
        let about = |event| match &event {
            FleetEvent::Stuck(launch, _) => {
                self.fleet.get(launch).map(|i| Event::Instance(Box::new(i.clone()), event.clone()))
            }
            _ => None,
        };
        told.into_iter().filter_map(about).collect()
    }

    /// One listed instance: is it known, is it ours, and what becomes of it?
    fn compare(&mut self, adapter: &str, listed: &Listed, began: Duration, now: Duration, random: f64) -> Vec<Event> {
        if !listed.ended {
            self.ledger.seen(&listed.launch, began);
        }
        if let Some(before) = self.fleet.get(&listed.launch).cloned() {
            let Some(why) = listed.notice.as_deref().filter(|_| !listed.ended) else { return Vec::new() };
            let events = self.fleet.notice(&listed.launch, why, now);
            return self.took_place(&before, events, now, random);
        }
        let was_closed = self.known.contains(&listed.launch) && !self.open.contains_key(&listed.launch);
        if listed.ended && was_closed {
            // Some providers keep a record for a while; it costs nothing and ends nothing.
            return Vec::new();
        }
        if let Some(why) = self.is_anothers(listed) {
            return self.another_box(why);
        }
        // Confirmed as ended while this list was on its way: the next one tells whether that is true.
        if self.ledger.entry(&listed.launch).and_then(|entry| entry.end).is_some_and(|end| end >= began) {
            return Vec::new();
        }
        self.take_over(adapter, listed, now)
    }

    /// Whether an instance under this node's id was launched by another box, and why that must be.
    fn is_anothers(&self, listed: &Listed) -> Option<String> {
        let Listed { launch, session, .. } = listed;
        let ours = self.settings.session;
        if *session > ours {
            return Some(format!("{launch} is of session {session} under this node's id, and this is session {ours}"));
        }
        // Every launch is in the journal before its provider is asked, so what is not in a whole journal is not ours.
        let unknown = !self.known.contains(launch) && self.known.is_whole_for(*session);
        unknown.then(|| format!("{launch} runs under this node's id, and the journal of this node does not know it"))
    }

    /// Another box was seen that runs as this node: nothing is launched any more, and what runs stays as it is.
    pub fn seen_elsewhere(&mut self, seen: String) -> Vec<Event> {
        self.another_box(seen)
    }

    fn another_box(&mut self, seen: String) -> Vec<Event> {
        if self.duplicate.is_some() {
            return Vec::new();
        }
        let why = format!(
            "{seen}: another box runs with a copy of this state directory; give one of them another node.id and an empty \
             state directory. Nothing is launched here until this node is restarted"
        );
        self.duplicate = Some(why.clone());
        vec![Event::Duplicate(why)]
    }

    fn take_over(&mut self, adapter: &str, listed: &Listed, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        let Listed { launch, service, .. } = listed;
        let record = self.open.remove(launch);
        // Two adapters may be names for one account; the journal knows by which one it was launched.
        let recorded = record.as_ref().map(|record| record.adapter.clone());
        let adapter = &recorded.filter(|name| self.adapters.contains_key(name)).unwrap_or_else(|| adapter.to_owned());
        let why_not = self.why_not_wanted(adapter, listed, record.as_ref());
        if self.known.insert(launch, listed.session) {
            events.push(Event::Unrecorded(launch.clone()));
        }
        self.account_for_found(adapter, listed, now);
        let timing = self.timing(adapter);
        let reason = record.as_ref().map_or("found at the provider", |record| record.reason.as_str());
        match why_not {
            None => {
                self.ledger.own(launch, self.tail(adapter));
                self.fleet.adopt(launch, service, adapter, reason, timing, now);
                self.fleet.reached_at(launch, listed.address.clone());
                events.insert(0, Event::Adopted(launch.clone()));
            }
            Some(why) => {
                self.ledger.drain(launch);
                self.fleet.adopt_to_end(launch, service, adapter, why, timing, now);
            }
        }
        events
    }

    fn why_not_wanted(&self, adapter: &str, listed: &Listed, record: Option<&Record>) -> Option<&'static str> {
        let is_closed = record.is_none() && self.known.contains(&listed.launch);
        if listed.ended {
            Some("ended by itself while the node was away")
        } else if listed.notice.is_some() {
            Some("the provider takes it away")
        } else if is_closed {
            Some("the provider lists it, though it had been confirmed as ended")
        } else if record.is_some_and(|record| record.stage == Recorded::Ending) {
            Some("its end had been decided before the restart")
        } else {
            self.why_not(adapter, &listed.service)
        }
    }

    /// Why an instance is not to be taken over, whatever its provider says of it.
    pub(super) fn why_not(&self, adapter: &str, service: &str) -> Option<&'static str> {
        let may_use = self.settings.services.get(service);
        if self.ending {
            Some("the node stops")
        } else if may_use.is_none() {
            Some("its service does not burst any more")
        } else if may_use.is_some_and(|adapters| !adapters.contains(adapter)) {
            Some("its service may not use this adapter any more")
        } else {
            None
        }
    }

    /// Open rows that a list lacks: asked about by name once more, or ended where nothing was ever promised.
    fn miss(&mut self, adapter: &str, listed: &[Listed], now: Duration) {
        let lacks = |record: &Record| record.adapter == adapter && !listed.iter().any(|l| l.launch == record.launch);
        let missing: Vec<Record> = self.open.values().filter(|record| lacks(record)).cloned().collect();
        for Record { launch, service, adapter, reason, stage, .. } in missing {
            self.open.remove(&launch);
            let timing = self.timing(&adapter);
            match stage {
                // A list may be stale or short; the provider's word on this very one decides, before anything is ended.
                Recorded::Launched | Recorded::Ready => match self.why_not(&adapter, &service) {
                    None => {
                        self.ledger.own(&launch, self.tail(&adapter));
                        self.fleet.adopt(&launch, &service, &adapter, &reason, timing, now);
                    }
                    Some(why) => {
                        self.ledger.drain(&launch);
                        self.fleet.adopt_to_end(&launch, &service, &adapter, why, timing, now);
                    }
                },
                Recorded::Intended => {
                    // The provider may have been asked, and the answer lost with the former run: it may have run and
                    // ended by its lease, or launch still. So it costs until its end is confirmed.
                    self.ledger.drain(&launch);
                    let why = "a former run of this node did not come back for it";
                    self.fleet.adopt_to_end(&launch, &service, &adapter, why, timing, now);
                }
                Recorded::Ending | Recorded::Closed => {
                    let why = "its end had been decided before the restart";
                    self.ledger.drain(&launch);
                    self.fleet.adopt_to_end(&launch, &service, &adapter, why, timing, now);
                }
            }
        }
    }

    /// An open row of an adapter that is no longer configured: nobody can be asked, and its lease ends it. It is closed at
    /// the price of the longest lease, since it must not hold the budget for ever.
    fn abandon(&mut self, record: Record, now: Duration) -> Event {
        let Timing { lease_ttl, drain_timeout, .. } = self.timing(&record.adapter);
        let end = now + lease_ttl + drain_timeout;
        self.ledger.close(&record.launch, end);
        let cost = record.terms.cost(end.saturating_sub(record.started_at));
        Event::Abandoned(record, end, cost)
    }

    /// What is found costs money again. One that a lost journal does not know has cost since its age.
    fn account_for_found(&mut self, adapter: &str, listed: &Listed, now: Duration) {
        let start = now.saturating_sub(listed.age.unwrap_or_default());
        if self.ledger.entry(&listed.launch).is_some() {
            // The journal of a box without a date may not know since when.
            self.ledger.began(&listed.launch, start);
            return self.ledger.reopen(&listed.launch);
        }
        let Some(state) = self.adapters.get(adapter) else { return };
        let entry = Entry::started(&listed.launch, start, state.settings.terms, state.tail(self.settings.step));
        self.ledger.restore(entry.found(now));
    }

    /// What a row says of the money. The last renewal of an open one is not in the journal and may have been a moment ago,
    /// so that it counts with a whole lease from now; from its end on, where that had been decided.
    fn account_for(&mut self, record: &Record, now: Duration) {
        if record.cost == Some(Money::ZERO) || self.ledger.entry(&record.launch).is_some() {
            return;
        }
        let started = Entry::started(&record.launch, record.started_at, record.terms, self.tail(&record.adapter));
        let renewed_until = record.ending_at.map_or(now, |ending_at| ending_at.min(now));
        self.ledger.restore(Entry { end: record.ended_at, ..started.found(renewed_until) });
    }

    /// The longest that an instance lives on when the node dies at this moment.
    pub(super) fn tail(&self, adapter: &str) -> Duration {
        let step = self.settings.step;
        let Timing { lease_ttl, drain_timeout, .. } = self.timing(adapter);
        self.adapters.get(adapter).map_or(lease_ttl + drain_timeout + step, |adapter| adapter.tail(step))
    }

    /// No start takes longer than the times after which its launch and its readiness are given up. What says so was written at an
    /// adoption, in the place of a record that was lost in a crash, or the calendar was set in between: neither teaches anything.
    fn learn(&mut self, record: &Record, now: Duration) {
        let (Some(took), Some(adapter)) = (record.start_took, self.adapters.get_mut(&record.adapter)) else { return };
        if took <= adapter.settings.start_timeout * 2 {
            adapter.starts.observe(took, (record.started_at + took).min(now));
        }
    }
}
