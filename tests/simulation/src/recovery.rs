//! How the node goes and comes back, and how everything mends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::instance::{Instance, Label, Permit};
use crate::logic::budget::Ledger;
use crate::logic::burst::{Engine, RENEWAL_DEADLINE, Settings};
use crate::logic::fleet::Stage;
use crate::node::{NodeEvent, Run};
use crate::provider::SERVICE;
use crate::scenario::STEP;
use crate::world::{Happening, World};

impl World {
    /// The node ends without a word.
    pub(crate) fn crash(&mut self) {
        let Some(run) = self.node.run.take() else { return };
        self.node.epoch += 1;
        self.node.paused_until = Duration::ZERO;
        self.node.crashed_at = self.now;
        let ready = run.engine.fleet().instances().filter(|i| i.stage == Stage::Ready);
        self.node.had = ready.map(|i| i.launch.clone()).collect();
        // Until this moment they were owned, also where the run was shorter than from one scan to the next.
        self.was_owned(run.engine.fleet().instances().map(|i| i.launch.as_str()));
        self.requests.node_is_gone();
        self.trace.note(self.now, "crash", "", self.node.had.len() as u64);
        if !self.scenario.nets.journal || self.chance.hits(self.scenario.trouble.corrupt) {
            self.coverage.count("journal corrupt");
            self.disk.is_corrupt = true;
        }
        if !self.node.is_gone {
            let at = self.now + self.chance.spread(1.0, self.scenario.trouble.away);
            self.at(at, Happening::Restart);
        }
    }

    pub(crate) fn crash_sometime(&mut self) {
        let mean = self.scenario.trouble.crash_every;
        let next = self.now + self.chance.wait(mean);
        if next < self.scenario.calm_at {
            self.at(next, Happening::CrashSometime);
        }
        if self.node.run.is_some() {
            self.coverage.count("crash at random");
            self.crash();
        }
    }

    /// The node goes for good.
    pub(crate) fn leave(&mut self) {
        self.coverage.count("node never returned");
        self.node.is_gone = true;
        self.crash();
    }

    pub(crate) fn restart(&mut self) {
        if self.node.is_gone || self.node.run.is_some() {
            return;
        }
        self.node.epoch += 1;
        self.node.session += 1;
        let (now, session) = (self.node_now(), self.node.session);
        self.disk.open(session, now);
        let settings = Settings {
            session,
            journal_since: self.disk.first_session,
            step: STEP + RENEWAL_DEADLINE,
            adapters: self.scenario.adapters.iter().map(|(n, a)| (n.clone(), a.settings.clone())).collect(),
            services: BTreeMap::from([(SERVICE.to_owned(), self.scenario.adapters.keys().cloned().collect())]),
        };
        let caps = self.scenario.caps;
        let ledger = self.disk.lost_at.map_or_else(|| Ledger::new(caps), |at| Ledger::unknown_before(caps, at));
        self.node.run = Some(Run::new(Engine::new(settings, ledger), self.now));
        self.trace.note(self.now, "restart", "", session);
        if session > 1 {
            self.coverage.count("restart");
        }
        if !self.node.had.is_empty() {
            self.coverage.count("restart in mid-burst");
        }
        let read_at = self.now + self.chance.spread(0.005, 0.5);
        self.at_node(read_at, NodeEvent::Recovered);
        self.at_node(self.now, NodeEvent::Look);
    }

    pub(crate) fn recovered(&mut self) {
        let (records, known) = self.disk.read();
        let now = self.node_now();
        let Some(run) = &mut self.node.run else { return };
        let events = run.engine.recover(records, known, now);
        self.watch.budget.found = true;
        self.hear(events);
        self.step();
    }

    /// Nothing goes wrong any more, and somebody has mended what only people can.
    pub(crate) fn calm(&mut self) {
        self.trace.note(self.now, "calm", "", 0);
        let now = self.now;
        self.providers.values_mut().for_each(|provider| provider.weather.calm(now));
        self.disk.weather.calm(now);
        self.wish = self.chance.count(1, self.scenario.burst_max);
        self.node.paused_until = now.min(self.node.paused_until);
        let engine = self.node.run.as_ref().map(|run| &run.engine);
        let misconfigured = engine.is_some_and(|e| e.adapters().values().any(|a| !a.misconfigured().is_empty()));
        if misconfigured {
            self.crash();
        }
        self.restart();
    }

    pub(crate) fn empty(&mut self) {
        self.check_wish();
        self.trace.note(self.now, "nothing is wanted", "", 0);
        self.wish = 0;
    }

    /// A box with a copy of our state directory launches under our id.
    pub(crate) fn another_box_launches(&mut self) {
        let Some(adapter) = self.scenario.adapters.keys().next().cloned() else { return };
        let session = self.node.session + self.chance.below(2);
        let launch = format!("n-{session}-clone");
        let label = Label { launch: launch.clone(), session, foreign: true };
        let permit = Permit { ttl: STEP, drain_timeout: STEP, leased: false, overrun: Duration::ZERO };
        let instance = Instance::new(label, permit, self.now, self.now, 1.0);
        self.trace.note(self.now, "another box launches", &launch, session);
        if let Some(provider) = self.providers.get_mut(&adapter) {
            provider.instances.insert(launch, instance);
        }
    }
}
