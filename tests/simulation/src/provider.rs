//! What really exists: the instances of each provider, and what the provider says of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::instance::{Answer, Instance, Label, Permit, Step, Why};
use crate::logic::burst::{Listed, RENEWAL_DEADLINE};
use crate::logic::fleet::{Address, Operation, Outcome, Seen};
use crate::logic::route::Transport;
use crate::node::NodeEvent;
use crate::scenario::AdapterWorld;
use crate::weather::{Fault, Weather};
use crate::world::{Happening, World};

/// The one service there is.
pub(crate) const SERVICE: &str = "digits";
/// A provider waits for the drain of what it was asked to end, and then so much longer.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// A list that shows what is gone shows it for so long.
const GONE_SHOWN: Duration = Duration::from_secs(300);

/// One provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provider {
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) weather: Weather,
    /// Lists asked for by each run of the node.
    pub(crate) listed_in: BTreeMap<u64, u32>,
}

/// A launch on its way.
#[derive(Clone, Debug)]
pub(crate) struct LaunchCall {
    pub(crate) launch: String,
    pub(crate) session: u64,
    pub(crate) permit: Permit,
    /// When the node hears of it, and which run; nobody does where a call timed out.
    pub(crate) answer: Option<(u64, Duration)>,
    /// Minutes late.
    pub(crate) late: bool,
}

/// A renewal on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RenewalCall {
    pub(crate) session: u64,
    pub(crate) sequence: u64,
    pub(crate) ttl: Duration,
    pub(crate) sent_at: Duration,
    /// Which run waits, and how long the answer travels.
    pub(crate) answer: Option<(u64, Duration)>,
}

/// Something at a provider.
#[derive(Clone, Debug)]
pub(crate) enum ProviderEvent {
    Launch(LaunchCall),
    Terminate(String),
    /// Its drain was waited for long enough.
    Kill(String),
    Die(String),
    /// It will be taken away.
    Notice(String),
    /// It is taken away.
    Evict(String),
    TooOld(String),
    /// A list is asked for, by a run of the node that hears of it then.
    List(u64, Duration),
}

/// Something at an instance.
#[derive(Clone, Debug)]
pub(crate) enum InstanceEvent {
    Begin,
    Ready,
    Wake,
    Renewal(RenewalCall),
    Request(u64, Duration),
    Answered(u64),
}

impl World {
    /// All instances of ours that live, with their adapters.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&String, &Instance)> {
        let all = self.providers.iter().flat_map(|(name, p)| p.instances.values().map(move |i| (name, i)));
        all.filter(|(_, instance)| instance.is_alive() && !instance.label.foreign)
    }

    pub(crate) fn instance(&self, adapter: &str, launch: &str) -> Option<&Instance> {
        self.providers.get(adapter)?.instances.get(launch)
    }

    pub(crate) fn instance_mut(&mut self, adapter: &str, launch: &str) -> Option<&mut Instance> {
        self.providers.get_mut(adapter)?.instances.get_mut(launch)
    }

    pub(crate) fn at_a_provider(&mut self, adapter: &str, event: ProviderEvent) {
        match event {
            ProviderEvent::Launch(call) => self.take_launch(adapter, call),
            ProviderEvent::Terminate(launch) => self.take_terminate(adapter, &launch),
            ProviderEvent::Kill(launch) => self.end_instance(adapter, &launch, Why::Killed),
            ProviderEvent::Die(launch) => self.end_instance(adapter, &launch, Why::Died),
            ProviderEvent::Evict(launch) => self.end_instance(adapter, &launch, Why::Preempted),
            ProviderEvent::TooOld(launch) => self.end_instance(adapter, &launch, Why::MaxLife),
            ProviderEvent::List(epoch, at) => self.answer_list(adapter, epoch, at),
            ProviderEvent::Notice(launch) => {
                let at = self.now + self.chance.seconds(20.0, 120.0);
                if let Some(instance) = self.instance_mut(adapter, &launch).filter(|i| i.is_alive()) {
                    instance.noticed = true;
                    self.at(at, Happening::Provider(adapter.to_owned(), ProviderEvent::Evict(launch)));
                }
            }
        }
    }

    fn take_launch(&mut self, adapter: &str, call: LaunchCall) {
        let outcome = self.launched(adapter, &call);
        self.trace.note(self.now, "provider launch", &call.launch, u64::from(outcome == Outcome::Accepted));
        let Some((epoch, at)) = call.answer else { return };
        let event = match outcome {
            Outcome::Accepted => NodeEvent::Accepted(call.launch),
            other => NodeEvent::Finished(call.launch, Operation::Launch, other),
        };
        self.at(at, Happening::Node(epoch, event));
    }

    fn launched(&mut self, adapter: &str, call: &LaunchCall) -> Outcome {
        let (Some(provider), Some(known)) = (self.providers.get(adapter), self.scenario.adapters.get(adapter)) else {
            return Outcome::Failed("no such provider".into());
        };
        if provider.instances.contains_key(&call.launch) {
            // The launch id is the idempotency token, for ever.
            return Outcome::Accepted;
        }
        let alive = provider.instances.values().filter(|instance| instance.is_alive()).count();
        if provider.weather.is(Fault::Full, self.now) || alive >= known.room as usize {
            self.coverage.count("launch full");
            return Outcome::NoCapacity("no room".into());
        }
        let known = known.clone();
        self.create(adapter, &known, call);
        Outcome::Accepted
    }

    fn create(&mut self, adapter: &str, known: &AdapterWorld, call: &LaunchCall) {
        let begins_at = self.now + self.chance.seconds(0.05, known.pull.max(0.06));
        let rate = if self.scenario.skewed { self.chance.spread(0.5, 2.0).as_secs_f64() } else { 1.0 };
        let label = Label { launch: call.launch.clone(), session: call.session, foreign: false };
        let mut instance = Instance::new(label, call.permit, self.now, begins_at, rate);
        if call.late {
            self.coverage.count("launch late");
            instance.excuse = Some("it was launched long after the call");
        }
        let starts = self.watch.began(&call.launch, begins_at);
        self.trace.note(self.now, "created", &call.launch, u64::try_from(starts.as_millis()).unwrap_or(0));
        if let Some(provider) = self.providers.get_mut(adapter) {
            provider.instances.insert(call.launch.clone(), instance);
        }
        self.at(begins_at, Happening::Instance(adapter.to_owned(), call.launch.clone(), InstanceEvent::Begin));
        if let Some(max_life) = known.settings.max_life.filter(|_| self.scenario.nets.max_life) {
            let event = ProviderEvent::TooOld(call.launch.clone());
            self.at(begins_at + max_life, Happening::Provider(adapter.to_owned(), event));
        }
    }

    fn take_terminate(&mut self, adapter: &str, launch: &str) {
        let now = self.now;
        let Some(instance) = self.instance_mut(adapter, launch) else { return };
        instance.deleted = true;
        if !instance.is_alive() {
            return;
        }
        if !instance.has_begun() {
            return self.end_instance(adapter, launch, Why::Asked);
        }
        let kill_at = now + instance.drain_timeout() + KILL_GRACE;
        if now >= instance.paused_until {
            instance.terminate(now);
        }
        self.at(kill_at, Happening::Provider(adapter.to_owned(), ProviderEvent::Kill(launch.to_owned())));
        self.look_at(adapter, launch);
    }

    pub(crate) fn at_an_instance(&mut self, adapter: String, launch: String, event: InstanceEvent) {
        let now = self.now;
        let Some(instance) = self.instance_mut(&adapter, &launch) else { return };
        if instance.label.foreign {
            return self.fail(format!("{launch} is another box's and is spoken to"));
        }
        if !instance.is_alive() {
            return self.nobody_is_there(&launch, event);
        }
        if now < instance.paused_until {
            let until = instance.paused_until;
            return self.wait_for_it(until, adapter, launch, event);
        }
        match event {
            InstanceEvent::Begin => self.begin_instance(&adapter, &launch),
            InstanceEvent::Ready => instance.server_is_ready(now),
            InstanceEvent::Wake => instance.woke(now),
            InstanceEvent::Renewal(call) => self.take_renewal(&adapter, &launch, call),
            InstanceEvent::Request(id, takes) => self.take_request(&adapter, &launch, id, takes),
            InstanceEvent::Answered(id) => self.answer_request(&adapter, &launch, id),
        }
        self.look_at(&adapter, &launch);
    }

    fn nobody_is_there(&mut self, launch: &str, event: InstanceEvent) {
        match event {
            InstanceEvent::Renewal(RenewalCall { answer: Some((epoch, travels)), .. }) => {
                let outcome = Outcome::Failed("connection refused".into());
                let event = NodeEvent::Finished(launch.to_owned(), Operation::Renew, outcome);
                self.at(self.now + travels, Happening::Node(epoch, event));
            }
            InstanceEvent::Request(id, _) => self.refuse_request(id),
            _ => {}
        }
    }

    /// A suspended instance gets what waits in its sockets when it goes on; the node does not wait that long.
    fn wait_for_it(&mut self, until: Duration, adapter: String, launch: String, event: InstanceEvent) {
        let event = match event {
            InstanceEvent::Renewal(RenewalCall { answer: Some((epoch, _)), sent_at, .. }) => {
                let outcome = Outcome::Failed("no answer in time".into());
                let failed = NodeEvent::Finished(launch.clone(), Operation::Renew, outcome);
                self.at(sent_at + RENEWAL_DEADLINE, Happening::Node(epoch, failed));
                let InstanceEvent::Renewal(call) = event else { return };
                InstanceEvent::Renewal(RenewalCall { answer: None, ..call })
            }
            other => other,
        };
        self.at(until, Happening::Instance(adapter, launch, event));
    }

    fn begin_instance(&mut self, adapter: &str, launch: &str) {
        let Some(known) = self.scenario.adapters.get(adapter) else { return };
        let (start, never_ready) = (known.start, if self.is_troubled() { known.never_ready } else { 0.0 });
        if self.chance.hits(never_ready) {
            self.coverage.count("instance never ready");
        } else {
            let at = self.now + self.chance.seconds(0.2, start.max(0.3));
            self.at(at, Happening::Instance(adapter.to_owned(), launch.to_owned(), InstanceEvent::Ready));
        }
        if let Some(instance) = self.instance_mut(adapter, launch) {
            instance.begin();
        }
    }

    fn take_renewal(&mut self, adapter: &str, launch: &str, call: RenewalCall) {
        let now = self.now;
        let Some(instance) = self.instance_mut(adapter, launch) else { return };
        let answer = instance.renew(call.session, call.sequence, call.ttl, now);
        if answer != Answer::Stale && now.saturating_sub(call.sent_at) > RENEWAL_DEADLINE {
            instance.excuse = Some("a renewal waited in its socket while it was suspended");
        }
        let outcome = match answer {
            Answer::Stale => Outcome::Failed("stale".into()),
            Answer::Starting => Outcome::Renewed { ready: false, draining: false },
            Answer::Ready => Outcome::Renewed { ready: true, draining: false },
            Answer::Draining => Outcome::Renewed { ready: false, draining: true },
        };
        if answer == Answer::Stale {
            self.coverage.count("renewal refused as stale");
        }
        if let Some((epoch, travels)) = call.answer {
            let event = NodeEvent::Finished(launch.to_owned(), Operation::Renew, outcome);
            self.at(now + travels, Happening::Node(epoch, event));
        }
    }

    /// Lets an instance decide what is next.
    pub(crate) fn look_at(&mut self, adapter: &str, launch: &str) {
        let now = self.now;
        let Some(instance) = self.instance_mut(adapter, launch).filter(|i| i.is_alive()) else { return };
        match instance.next(now) {
            Step::At(at) => {
                if instance.wake(at) {
                    self.at(at, Happening::Instance(adapter.to_owned(), launch.to_owned(), InstanceEvent::Wake));
                }
            }
            Step::End(why) => self.end_instance(adapter, launch, why),
        }
    }

    fn end_instance(&mut self, adapter: &str, launch: &str, why: Why) {
        let now = self.now;
        let Some(instance) = self.instance_mut(adapter, launch).filter(|i| i.is_alive()) else { return };
        instance.ended_at = Some(now);
        let ended = instance.clone();
        self.trace.note(now, "instance ends", launch, why as u64);
        match why {
            Why::Lease => self.coverage.count("lease expired"),
            Why::Died if ended.in_flight == 0 => self.coverage.count("idle instance death"),
            Why::Died => self.coverage.count("instance death"),
            Why::Preempted => self.coverage.count("preemption"),
            Why::MaxLife => self.coverage.count("max life reached"),
            Why::Asked | Why::NeverReady | Why::Killed => {}
        }
        self.check_instance_end(&ended, why);
        self.lose_requests_of(launch);
    }

    /// The provider's word on one instance.
    pub(crate) fn describe(&mut self, adapter: &str, launch: &str) -> Seen {
        let as_of = self.as_of(adapter);
        let Some(instance) = self.instance(adapter, launch).filter(|i| i.accepted_at <= as_of) else {
            return Seen::Unknown;
        };
        match instance.ended_at {
            Some(at) if at <= as_of && instance.deleted => Seen::Unknown,
            Some(at) if at <= as_of => Seen::Ended("it ended".into()),
            _ if instance.begins_at > as_of => Seen::Pending,
            _ => {
                let address = Address { authority: launch.to_owned(), transport: Transport::Plain };
                let notice = instance.noticed.then(|| "room is needed".to_owned());
                Seen::Running { address, notice }
            }
        }
    }

    /// What the provider lists.
    pub(crate) fn list(&mut self, adapter: &str) -> Vec<Listed> {
        let (now, as_of) = (self.now, self.as_of(adapter));
        let Some(provider) = self.providers.get(adapter) else { return Vec::new() };
        let keeps_ended = self.scenario.adapters.get(adapter).map_or(Duration::ZERO, |known| known.keeps_ended);
        let shows_gone = provider.weather.is(Fault::ShowsGone, now);
        let forgets = provider.weather.is(Fault::Forgets, now);
        let mut listed = Vec::new();
        for instance in provider.instances.values().filter(|instance| instance.accepted_at <= as_of) {
            let since_end = instance.ended_at.filter(|at| *at <= as_of).map(|at| as_of.saturating_sub(at));
            let is_shown = since_end.is_some_and(|since| shows_gone && since < GONE_SHOWN);
            if is_shown {
                self.coverage.count("list shows what is gone");
            } else if since_end.is_some_and(|since| instance.deleted || since >= keeps_ended) {
                continue;
            } else if forgets && since_end.is_none() && self.chance.hits(0.5) {
                self.coverage.count("list forgot what lives");
                continue;
            }
            listed.push(Listed {
                address: None,
                launch: instance.label.launch.clone(),
                service: SERVICE.into(),
                session: instance.label.session,
                age: Some(as_of.saturating_sub(instance.begins_at)),
                ended: since_end.is_some() && !is_shown,
                notice: instance.noticed.then(|| "room is needed".to_owned()),
            });
        }
        listed
    }

    /// The time of which a provider speaks.
    fn as_of(&mut self, adapter: &str) -> Duration {
        let stale = self.providers.get(adapter).is_some_and(|provider| provider.weather.is(Fault::Stale, self.now));
        if !stale {
            return self.now;
        }
        self.coverage.count("list stale");
        self.now.saturating_sub(self.chance.seconds(0.0, 60.0))
    }
}
