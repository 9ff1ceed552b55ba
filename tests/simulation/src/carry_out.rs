//! One call at a time: what it meets on its way to the disk, the provider or the instance, and the crash that may come
//! before it, during it, or right after its answer.

use std::time::Duration;

use crate::instance::Permit;
use crate::journal::{Row, Write, calendar};
use crate::logic::burst::{RECORD_DEADLINE, RENEWAL_DEADLINE, Recorded};
use crate::logic::fleet::{Instance, Operation, Outcome};
use crate::node::NodeEvent;
use crate::provider::{InstanceEvent, LaunchCall, ProviderEvent, RenewalCall};
use crate::weather::Fault;
use crate::world::{Happening, World};

/// A provider's answer is waited for so long.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// From the disk to the actor.
const ACKNOWLEDGED: Duration = Duration::from_micros(200);

/// A call around which the node may crash.
#[derive(Clone, Copy, Debug)]
enum Call {
    Intend,
    Launch,
    RecordLaunched,
    Describe,
    Renew,
    RecordReady,
    RecordEnding,
    Terminate,
    Close,
    List,
}

impl Call {
    /// The names of a crash before, during and after it.
    fn crashes(self) -> [&'static str; 3] {
        match self {
            Self::Intend => ["crash before intend", "crash during intend", "crash after intend"],
            Self::Launch => ["crash before launch", "crash during launch", "crash after launch"],
            Self::RecordLaunched => {
                ["crash before record launched", "crash during record launched", "crash after record launched"]
            }
            Self::Describe => ["crash before describe", "crash during describe", "crash after describe"],
            Self::Renew => ["crash before renew", "crash during renew", "crash after renew"],
            Self::RecordReady => ["crash before record ready", "crash during record ready", "crash after record ready"],
            Self::RecordEnding => {
                ["crash before record ending", "crash during record ending", "crash after record ending"]
            }
            Self::Terminate => ["crash before terminate", "crash during terminate", "crash after terminate"],
            Self::Close => ["crash before close", "crash during close", "crash after close"],
            Self::List => ["crash before list", "crash during list", "crash after list"],
        }
    }

    /// How often it happens against the others: a crash at it is to be as likely as at them.
    fn weight(self) -> f64 {
        match self {
            Self::Renew => 0.004,
            Self::List | Self::Describe => 0.05,
            _ => 1.0,
        }
    }
}

impl World {
    /// Carries out one operation; its end comes as [`NodeEvent::Finished`].
    pub(crate) fn carry_out(&mut self, launch: &str, operation: Operation) {
        let Some(instance) = self.node.run.as_ref().and_then(|run| run.instance(launch)).cloned() else { return };
        match operation {
            Operation::Intend => self.around(Call::Intend, |world| world.intend(&instance)),
            Operation::Launch => self.around(Call::Launch, |world| world.launch(&instance)),
            Operation::Describe => self.around(Call::Describe, |world| world.ask_about(&instance)),
            Operation::Renew => self.around(Call::Renew, |world| world.renew(&instance)),
            Operation::RecordEnding => self.around(Call::RecordEnding, |world| world.record_ending(&instance)),
            Operation::Terminate => self.around(Call::Terminate, |world| world.terminate(&instance)),
            Operation::Close => self.around(Call::Close, |world| world.close(&instance)),
        }
    }

    pub(crate) fn carry_out_list(&mut self, adapter: &str) {
        self.around(Call::List, |world| world.ask_for_list(adapter));
    }

    pub(crate) fn record_launched(&mut self, launch: String) {
        self.around(Call::RecordLaunched, |world| {
            let write = Write::Reached(launch.clone(), Recorded::Launched, calendar(world.node_now()));
            world.write(write, Some((launch, Operation::Launch)))
        });
    }

    pub(crate) fn record_ready(&mut self, launch: &str, adapter: &str) {
        if self.instance(adapter, launch).is_none_or(|instance| instance.ready_at.is_none()) {
            self.fail(format!("{launch} counts as ready and never was"));
        }
        self.around(Call::RecordReady, |world| {
            let write = Write::Reached(launch.to_owned(), Recorded::Ready, calendar(world.node_now()));
            world.write(write, None)
        });
    }

    /// What was taken over without a row gets one.
    pub(crate) fn record_found(&mut self, launch: &str) {
        let Some(instance) = self.node.run.as_ref().and_then(|run| run.instance(launch)).cloned() else { return };
        if let Some(row) = self.row(&instance) {
            self.write(Write::Intend(Box::new(row)), None);
        }
    }

    /// Makes a call, with a crash around it now and then. The call gives the time of its answer.
    fn around(&mut self, call: Call, make: impl FnOnce(&mut Self) -> Duration) {
        if self.node.run.is_none() {
            return;
        }
        let chance = self.scenario.trouble.crash * call.weight();
        let moment = (self.is_troubled() && self.chance.hits(chance)).then(|| self.chance.below(3));
        let [before, during, after] = call.crashes();
        if moment == Some(0) {
            self.coverage.count(before);
            return self.crash();
        }
        let epoch = self.node.epoch;
        let answered_at = make(self);
        match moment {
            Some(1) => {
                self.coverage.count(during);
                let at = self.now + answered_at.saturating_sub(self.now).mul_f64(self.chance.unit());
                self.at(at, Happening::Crash(epoch));
            }
            Some(_) => {
                self.coverage.count(after);
                self.at(answered_at + Duration::from_micros(1), Happening::Crash(epoch));
            }
            None => {}
        }
    }

    fn row(&self, instance: &Instance) -> Option<Row> {
        let engine = &self.node.run.as_ref()?.engine;
        Some(Row {
            launch: instance.launch.clone(),
            adapter: instance.adapter.clone(),
            service: instance.service.clone(),
            session: self.node.session,
            reason: instance.reason.clone(),
            stage: Recorded::Intended,
            intended_at: calendar(engine.since(instance)),
            ready_at: None,
            ending_at: None,
            ended_at: None,
            terms: engine.terms(&instance.adapter),
            cost: None,
        })
    }

    fn intend(&mut self, instance: &Instance) -> Duration {
        let Some(row) = self.row(instance) else { return self.now };
        self.write(Write::Intend(Box::new(row)), Some((instance.launch.clone(), Operation::Intend)))
    }

    fn record_ending(&mut self, instance: &Instance) -> Duration {
        self.check_release(instance);
        let launch = instance.launch.clone();
        let write = Write::Reached(launch.clone(), Recorded::Ending, calendar(self.node_now()));
        self.write(write, Some((launch, Operation::RecordEnding)))
    }

    fn close(&mut self, instance: &Instance) -> Duration {
        let now = self.node_now();
        let Some(run) = &self.node.run else { return self.now };
        let cost = run.engine.cost(instance, now);
        let ended = run.engine.costs_until(instance, now);
        let launch = instance.launch.clone();
        self.write(Write::Close(launch.clone(), calendar(ended), cost), Some((launch, Operation::Close)))
    }

    /// Queues a write behind the others; gives the time of its acknowledgement, or of the end of the patience with it.
    fn write(&mut self, write: Write, operation: Option<(String, Operation)>) -> Duration {
        let slow = self.disk.weather.is(Fault::DiskSlow, self.now);
        let takes = if slow { self.chance.seconds(1.0, 15.0) } else { self.chance.spread(0.001, 0.2) };
        if slow {
            self.coverage.count("disk slow");
        }
        let durable_at = self.disk.free_at.max(self.now) + takes;
        self.disk.free_at = durable_at;
        let is_patient = !matches!(operation, Some((_, Operation::RecordEnding | Operation::Launch)));
        if is_patient || durable_at <= self.now + RECORD_DEADLINE {
            self.at_node(durable_at, NodeEvent::Written(write, operation));
            return durable_at + ACKNOWLEDGED;
        }
        self.at_node(durable_at, NodeEvent::Written(write, None));
        let given_up_at = self.now + RECORD_DEADLINE;
        if let Some((launch, operation)) = operation {
            self.at_node(given_up_at, NodeEvent::Finished(launch, operation, recorded(operation, false)));
        }
        given_up_at
    }

    /// A write is through: on the disk, unless that is full.
    pub(crate) fn written(&mut self, write: Write, operation: Option<(String, Operation)>) {
        let full = self.disk.weather.is(Fault::DiskFull, self.now);
        if full {
            self.coverage.count("disk full");
        } else if self.scenario.nets.sync || self.chance.hits(0.5) {
            self.disk.apply(write);
        }
        if let Some((launch, operation)) = operation {
            let event = NodeEvent::Finished(launch, operation, recorded(operation, !full));
            self.at_node(self.now + ACKNOWLEDGED, event);
        }
    }

    fn launch(&mut self, instance: &Instance) -> Duration {
        self.check_launch(&instance.launch);
        let (adapter, launch) = (instance.adapter.clone(), instance.launch.clone());
        let (timing, weather) = (instance.timing(), self.weather(&adapter));
        let leased = self.scenario.nets.lease && self.scenario.adapters.get(&adapter).is_some_and(|known| known.leased);
        let overrun = self.scenario.lease_overrun;
        let permit = Permit { ttl: timing.lease_ttl, drain_timeout: timing.drain_timeout, leased, overrun };
        let (there, back) = self.travel(&weather);
        let answered_at = self.now + there + back;
        let call = |answer, late| {
            ProviderEvent::Launch(LaunchCall {
                launch: launch.clone(),
                session: self.node.session,
                permit,
                answer,
                late,
            })
        };
        let finish = |outcome| NodeEvent::Finished(launch.clone(), Operation::Launch, outcome);
        if weather.refuses {
            self.coverage.count("launch refused");
            self.at_node(answered_at, finish(Outcome::Failed("internal error".into())));
        } else if weather.misconfigured {
            self.coverage.count("launch misconfigured");
            self.at_node(answered_at, finish(Outcome::Misconfigured("no such image".into())));
        } else if weather.late || weather.times_out {
            let event = call(None, weather.late);
            let timed_out = finish(Outcome::Failed("no answer in time".into()));
            if weather.late || self.chance.hits(0.5) {
                self.coverage.count("launch timed out and happened");
                let after = if weather.late { self.chance.seconds(30.0, 200.0) } else { there };
                self.at(self.now + after, Happening::Provider(adapter, event));
            } else {
                self.coverage.count("launch timed out and nothing happened");
            }
            self.at_node(self.now + CALL_DEADLINE, timed_out);
            return self.now + CALL_DEADLINE;
        } else {
            let event = call(Some((self.node.epoch, answered_at)), false);
            self.at(self.now + there, Happening::Provider(adapter, event));
        }
        answered_at
    }

    fn ask_about(&mut self, instance: &Instance) -> Duration {
        let weather = self.weather(&instance.adapter);
        let (there, back) = self.travel(&weather);
        let outcome = if weather.refuses || weather.times_out {
            Outcome::Failed("internal error".into())
        } else {
            Outcome::Seen(self.describe(&instance.adapter, &instance.launch))
        };
        let answered_at = self.now + there + back;
        self.at_node(answered_at, NodeEvent::Finished(instance.launch.clone(), Operation::Describe, outcome));
        answered_at
    }

    fn renew(&mut self, instance: &Instance) -> Duration {
        let Some(run) = &mut self.node.run else { return self.now };
        run.sequence += 1;
        let call = RenewalCall {
            session: self.node.session,
            sequence: run.sequence,
            ttl: instance.timing().lease_ttl,
            sent_at: self.now,
            answer: None,
        };
        let (adapter, launch) = (instance.adapter.clone(), instance.launch.clone());
        let (there, back) = (self.chance.spread(0.002, 1.9), self.chance.spread(0.002, 0.1));
        let noise = if self.is_troubled() { self.scenario.trouble.renewal_noise } else { 0.0 };
        let deaf = self.providers.get(&adapter).is_some_and(|p| p.weather.is(Fault::Deaf, self.now));
        let failed = |why: &str| NodeEvent::Finished(launch.clone(), Operation::Renew, Outcome::Failed(why.into()));
        if self.chance.hits(if deaf { 0.9 } else { noise }) {
            self.coverage.count("renewal lost");
            let failed = failed("no answer in time");
            self.at_node(self.now + RENEWAL_DEADLINE, failed);
            return self.now + RENEWAL_DEADLINE;
        }
        let answer = Some((self.node.epoch, back));
        let arrives = |call| Happening::Instance(adapter.clone(), launch.clone(), InstanceEvent::Renewal(call));
        self.at(self.now + there, arrives(RenewalCall { answer, ..call }));
        if self.chance.hits(noise) {
            self.coverage.count("renewal duplicated");
            self.at(self.now + there, arrives(call));
        }
        if self.chance.hits(noise) {
            self.coverage.count("renewal replayed late");
            let at = self.now + there + self.chance.spread(1.0, 600.0);
            self.at(at, arrives(call));
        }
        self.now + there + back
    }

    fn terminate(&mut self, instance: &Instance) -> Duration {
        self.check_terminate(instance);
        let weather = self.weather(&instance.adapter);
        let (there, back) = self.travel(&weather);
        let answered_at = self.now + there + back;
        let outcome = if weather.refuses || weather.keeps {
            self.coverage.count("terminate failed");
            Outcome::Failed("internal error".into())
        } else if weather.lies {
            self.coverage.count("terminate lie");
            Outcome::Done
        } else {
            let event = ProviderEvent::Terminate(instance.launch.clone());
            self.at(self.now + there, Happening::Provider(instance.adapter.clone(), event));
            if weather.times_out { Outcome::Failed("no answer in time".into()) } else { Outcome::Done }
        };
        self.at_node(answered_at, NodeEvent::Finished(instance.launch.clone(), Operation::Terminate, outcome));
        answered_at
    }

    /// The provider's state is read when half of the time is over, and told later.
    fn ask_for_list(&mut self, adapter: &str) -> Duration {
        let weather = self.weather(adapter);
        let (there, back) = self.travel(&weather);
        let answered_at = self.now + there + back;
        self.at(
            self.now + there,
            Happening::Provider(adapter.to_owned(), ProviderEvent::List(self.node.epoch, answered_at)),
        );
        answered_at
    }

    /// The provider answers a list.
    pub(crate) fn answer_list(&mut self, adapter: &str, epoch: u64, at: Duration) {
        let weather = self.weather(adapter);
        let Some(provider) = self.providers.get_mut(adapter) else { return };
        let lists = provider.listed_in.entry(epoch).or_insert(0);
        *lists += 1;
        let listed = match (self.scenario.nets.sweep, *lists) {
            _ if weather.refuses || weather.times_out || weather.list_fails => {
                self.coverage.count("list failed");
                Err("internal error".to_owned())
            }
            (true, _) => Ok(self.list(adapter)),
            (false, 1) => Ok(Vec::new()),
            (false, _) => Err("the sweep is switched off".to_owned()),
        };
        self.at(at, Happening::Node(epoch, NodeEvent::Listed(adapter.to_owned(), listed)));
    }

    /// There and back again.
    fn travel(&mut self, weather: &Now) -> (Duration, Duration) {
        let longest = if weather.slow { 8.0 } else { 0.6 };
        (self.chance.spread(0.02, longest), self.chance.spread(0.01, longest))
    }

    fn weather(&self, adapter: &str) -> Now {
        let is = |fault| self.providers.get(adapter).is_some_and(|provider| provider.weather.is(fault, self.now));
        Now {
            refuses: is(Fault::Refuses),
            times_out: is(Fault::TimesOut),
            late: is(Fault::Late),
            misconfigured: is(Fault::Misconfigured),
            slow: is(Fault::Slow),
            list_fails: is(Fault::ListFails),
            lies: is(Fault::Lies),
            keeps: is(Fault::Keeps),
        }
    }
}

/// What is wrong with a provider now.
#[expect(clippy::struct_excessive_bools, reason = "faults come in any combination")]
struct Now {
    refuses: bool,
    times_out: bool,
    late: bool,
    misconfigured: bool,
    slow: bool,
    list_fails: bool,
    lies: bool,
    keeps: bool,
}

/// What a write means for the operation that waits for it.
fn recorded(operation: Operation, written: bool) -> Outcome {
    match operation {
        Operation::Launch => Outcome::Accepted,
        Operation::Intend | Operation::Close if !written => Outcome::Failed("the disk is full".into()),
        _ => Outcome::Done,
    }
}
