//! What must hold at each step, whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::instance::{Instance as Real, WRAPPER_TICK, Why};
use crate::logic::budget::{Caps, Window};
use crate::logic::burst::Adapter;
use crate::logic::fleet::{Instance, Stage};
use crate::provider::SERVICE;
use crate::scenario::STEP;
use crate::world::{Happening, World};

/// What needs no event is looked at so often.
pub(crate) const SCAN_EVERY: Duration = Duration::from_secs(5);
/// The bill is added up each so many scans.
const BILL_EVERY: u64 = 6;
/// The node's looks are this far apart at most, unless it was suspended.
const LOOKS_APART: Duration = Duration::from_secs(5);
/// After a start everything that is wanted is adopted by then, where providers are honest.
const RESTARTED: Duration = Duration::from_secs(60);
/// Troubles that are so long over have no consequence any more: the oldest list is a minute old.
const TROUBLE_LASTS: Duration = Duration::from_secs(120);
/// An instance that the budget bears is kept for so long at least, or the budget is what stands in the way.
const BUDGET_COMES_AND_GOES: Duration = Duration::from_secs(300);
/// A wish is met within this time where everything works: the longest hold after failures, and a start.
const WISH_WAITS: Duration = Duration::from_secs(180);

/// What is remembered to judge by.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) violation: Option<String>,
    pub(crate) budget: BudgetWatch,
    wanted: BTreeMap<String, Wanted>,
    unowned_since: BTreeMap<String, Duration>,
    longest_start: Duration,
    scans: u64,
    wish_met_at: Duration,
}

/// The ledger's past.
#[derive(Debug, Default)]
pub(crate) struct BudgetWatch {
    /// This step took in a list or the journal: what exists costs money, whatever the caps say.
    pub(crate) found: bool,
    over: [bool; 2],
    looked_at: Duration,
    /// When it last took an instance away that it had borne at the launch.
    pub(crate) drained_at: Duration,
}

/// One launch.
#[derive(Debug)]
struct Wanted {
    at: Duration,
    accepted: bool,
    ending: bool,
}

impl Watch {
    pub(crate) fn wanted(&mut self, launch: &str, at: Duration) {
        self.wanted.insert(launch.to_owned(), Wanted { at, accepted: false, ending: false });
    }

    pub(crate) fn accepted(&mut self, launch: &str) {
        if let Some(wanted) = self.wanted.get_mut(launch) {
            wanted.accepted = true;
        }
    }

    /// The bill of a launch begins; gives the time since it was wanted.
    pub(crate) fn began(&mut self, launch: &str, at: Duration) -> Duration {
        let took = self.wanted.get(launch).map_or(Duration::ZERO, |wanted| at.saturating_sub(wanted.at));
        self.longest_start = self.longest_start.max(took);
        took
    }

    pub(crate) fn longest_start(&self) -> Duration {
        self.longest_start
    }
}

impl World {
    /// Something happened that must not.
    pub(crate) fn fail(&mut self, what: String) {
        let what = format!("at {:.6} s: {what}", self.now.as_secs_f64());
        self.trace.say(self.now, || format!("VIOLATION {what}"));
        self.watch.violation.get_or_insert(what);
    }

    /// Committed stays within the caps, but for what nobody can refuse: instances that were found, and ones that live past
    /// their horizon.
    pub(crate) fn check_budget(&mut self) {
        let now = self.node_now();
        let Some(run) = &self.node.run else { return };
        let ledger = run.engine.ledger();
        let was_suspended = now.saturating_sub(self.watch.budget.looked_at) > LOOKS_APART;
        let overran = || ledger.entries().any(|entry| entry.end.is_none() && entry.renewed_at + entry.tail < now);
        let mut broken = None;
        for (index, window) in Window::ALL.into_iter().enumerate() {
            let Some(limit) = ledger.caps().limit(window) else { continue };
            let committed = ledger.committed(now, window);
            let is_over = committed > limit;
            if is_over && !self.watch.budget.over[index] && !self.watch.budget.found && !was_suspended && !overran() {
                broken = Some(format!("{committed} is committed in {}, of {limit}: {ledger:#?}", window.as_str()));
            }
            self.watch.budget.over[index] = is_over;
        }
        (self.watch.budget.found, self.watch.budget.looked_at) = (false, now);
        if let Some(broken) = broken {
            self.fail(broken);
        }
    }

    /// The provider is asked only after the intent is on the disk, and never for a launch that it had or that is ending.
    pub(crate) fn check_launch(&mut self, launch: &str) {
        if !self.disk.has(launch) {
            self.fail(format!("{launch} is launched and its intent is not on the disk"));
        }
        let used = self.watch.wanted.get(launch).is_none_or(|wanted| wanted.accepted || wanted.ending);
        if used {
            self.fail(format!("{launch} is launched again"));
        }
    }

    /// Nobody else's instance is ended, and a restart ends nothing that is wanted and well.
    pub(crate) fn check_terminate(&mut self, instance: &Instance) {
        let launch = &instance.launch;
        if let Some(wanted) = self.watch.wanted.get_mut(launch) {
            wanted.ending = true;
        }
        let Some(real) = self.instance(&instance.adapter, launch) else { return };
        if real.label.foreign {
            return self.fail(format!("{launch} is another box's and is ended"));
        }
        let is_well =
            real.is_alive() && !real.noticed && real.takes_requests() && real.paused_until < self.node.crashed_at;
        let Some(run) = &self.node.run else { return };
        let was_suspended = self.node.paused_until > self.node.crashed_at;
        let restarted_lately =
            self.node.had.contains(launch) && self.now.saturating_sub(run.since) < RESTARTED && !was_suspended;
        let asked = run.asked_to_end.contains(launch);
        if is_well && restarted_lately && !asked && !self.is_provider_troubled(&instance.adapter, self.node.crashed_at)
        {
            self.fail(format!("after a restart {launch} is ended, well and wanted: {:?}", instance.end_reason));
        }
    }

    fn is_provider_troubled(&self, adapter: &str, since: Duration) -> bool {
        let since = since.saturating_sub(TROUBLE_LASTS);
        let is_troubled = self.providers.get(adapter).is_none_or(|provider| provider.weather.was_troubled(since));
        is_troubled || !self.scenario.nets.sweep
    }

    /// What drains keeps its requests until they are answered or its time is over.
    pub(crate) fn check_release(&mut self, instance: &Instance) {
        let now = self.node_now();
        let Some(run) = &self.node.run else { return };
        let Some(since) = run.drains_since.get(&instance.launch).filter(|_| !run.is_idle(&instance.launch)) else {
            return;
        };
        if now.saturating_sub(*since) + STEP * 2 >= instance.timing().drain_timeout {
            self.coverage.count("drain timed out");
        } else {
            self.fail(format!("{} is released with requests in flight", instance.launch));
        }
    }

    /// An instance ended: not too late, and not with requests that it still had time for.
    pub(crate) fn check_instance_end(&mut self, real: &Real, why: Why) {
        self.check_lease(real);
        let cut_off = matches!(why, Why::Lease | Why::Asked)
            && real.in_flight > 0
            && real.drained_for(self.now) < real.drain_timeout();
        if cut_off {
            self.fail(format!("{} ended with requests that had time left", real.label.launch));
        }
    }

    fn check_lease(&mut self, real: &Real) {
        // One that was suspended begins to drain when it goes on, and its clock may run at half speed.
        let is_awake = self.now > real.paused_until + 2 * real.drain_timeout() + WRAPPER_TICK;
        if real.is_leased() && is_awake && !real.overdue(self.now).is_zero() {
            let late = real.overdue(self.now);
            self.fail(format!("{} outlived its lease and drain by {late:?} of its clock", real.label.launch));
        }
    }

    /// A list closed nothing that lives, unless the provider lied.
    pub(crate) fn check_closed(&mut self, adapter: &str) {
        let Some(run) = &self.node.run else { return };
        let is_closed =
            |real: &&Real| run.engine.ledger().entry(&real.label.launch).is_none_or(|entry| entry.end.is_some());
        let Some(provider) = self.providers.get(adapter) else { return };
        let ours = provider.instances.values().filter(|r| r.is_alive() && !r.label.foreign && r.excuse.is_none());
        let closed: Vec<String> = ours.filter(is_closed).map(|real| real.label.launch.clone()).collect();
        for launch in closed {
            if !self.is_provider_troubled(adapter, self.now) {
                self.fail(format!("{launch} lives, and costs nothing in the ledger"));
            } else if let Some(real) = self.instance_mut(adapter, &launch) {
                real.excuse = Some("the provider denied it");
            }
        }
    }

    /// A duplicate is claimed only when there is one.
    pub(crate) fn check_duplicate(&mut self) {
        if let Some(run) = &mut self.node.run {
            run.is_duplicate = true;
        }
        if self.scenario.clone_at.is_none_or(|at| self.now < at) {
            self.fail("another box is claimed, and there is none".into());
        }
    }

    /// Everything that needs no event.
    pub(crate) fn scan(&mut self) {
        self.at(self.now + SCAN_EVERY, Happening::Scan);
        self.watch.scans += 1;
        if self.watch.scans.is_multiple_of(BILL_EVERY) {
            self.check_bill();
        }
        if !self.is_troubled() && self.is_wish_met() {
            self.watch.wish_met_at = self.now;
        }
        let alive: Vec<(String, Real)> = self.alive().map(|(a, real)| (a.clone(), real.clone())).collect();
        self.watch.unowned_since.retain(|launch, _| alive.iter().any(|(_, real)| real.label.launch == *launch));
        for (adapter, real) in alive {
            self.check_lease(&real);
            self.check_owned(&adapter, &real);
        }
    }

    /// An owner goes: whether what it leaves is an orphan counts from now.
    pub(crate) fn was_owned<'a>(&mut self, launches: impl Iterator<Item = &'a str>) {
        launches.for_each(|launch| {
            self.watch.unowned_since.remove(launch);
        });
    }

    /// What nobody owns ends within the bound of the nets that are there for it.
    fn check_owned(&mut self, adapter: &str, real: &Real) {
        let launch = &real.label.launch;
        if self.node.run.as_ref().is_some_and(|run| run.instance(launch).is_some()) {
            self.watch.unowned_since.remove(launch);
            return;
        }
        let since = *self.watch.unowned_since.entry(launch.clone()).or_insert(self.now);
        let Some(known) = self.scenario.adapters.get(adapter) else { return };
        // Twice: its clock may run at half speed.
        let of_lease = 2 * (real.ttl() + real.drain_timeout() + WRAPPER_TICK) + 2 * SCAN_EVERY;
        let by_lease = since.max(real.paused_until).max(real.begins_at) + of_lease;
        let by_age = known.settings.max_life.map_or(Duration::ZERO, |life| real.begins_at + life + SCAN_EVERY);
        if self.now > by_lease.max(by_age) {
            self.fail(format!("{launch} is an orphan: nobody owns it since {:.1} s", since.as_secs_f64()));
        }
    }

    /// What is wanted is there, when everything has worked for a while.
    pub(crate) fn check_wish(&mut self) {
        if self.node.run.is_none() && !self.node.is_gone {
            self.fail("the node is not back".into());
        }
        // Without lists no end is confirmed, and what is not confirmed keeps its place.
        let can_meet = self.node.run.is_some() && self.scenario.nets.sweep;
        if can_meet && self.now.saturating_sub(self.watch.wish_met_at) > WISH_WAITS {
            let since = self.watch.wish_met_at.as_secs();
            self.fail(format!("{} are wanted since {since} s, fewer are ready, and more could be", self.wish));
        }
    }

    /// Whether as many are ready as are wanted, or something stands in the way that no engine can help.
    fn is_wish_met(&self) -> bool {
        let now = self.node_now();
        let Some(run) = self.node.run.as_ref().filter(|run| !run.is_duplicate) else { return true };
        let fleet = run.engine.fleet();
        // What the budget bears for one lease and not for the next comes and goes.
        let by_budget = self.now.saturating_sub(self.watch.budget.drained_at) < BUDGET_COMES_AND_GOES;
        let has_room = |(name, adapter): (&String, &Adapter)| {
            let owned = fleet.instances().filter(|i| i.adapter == *name && !i.refused).count();
            let known = self.scenario.adapters.get(name).map_or(0, |known| known.room.min(known.settings.max));
            let misconfigured = adapter.misconfigured().contains_key(SERVICE);
            // The engine's word on money counts only where there is a cap.
            let is_affordable = self.scenario.caps == Caps::default() || run.engine.affordable(name, now) > 0;
            owned < known as usize && !misconfigured && is_affordable
        };
        let ready = fleet.instances().filter(|i| i.stage == Stage::Ready).count();
        ready >= self.wish as usize || by_budget || !run.engine.adapters().iter().any(has_room)
    }

    /// At the end nothing is wanted, so nothing is there.
    pub(crate) fn check_end(&mut self) {
        self.check_bill();
        let left: Vec<String> = self.alive().map(|(_, real)| real.label.launch.clone()).collect();
        if !left.is_empty() {
            self.fail(format!("left at the end: {left:?}"));
        }
        let Some(run) = self.node.run.as_ref().filter(|_| self.scenario.nets.sweep) else { return };
        let owned: Vec<String> =
            run.engine.fleet().instances().map(|i| format!("{} {:?}", i.launch, i.stage)).collect();
        let open: Vec<String> = self.disk.open_rows().map(|row| row.launch.clone()).collect();
        if !owned.is_empty() || !open.is_empty() {
            self.fail(format!("owned at the end: {owned:?}; rows that are not closed: {open:?}"));
        }
    }
}
