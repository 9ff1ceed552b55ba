//! One service's scaling: samples in, a decision with its reason and a plan out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::archive;
use super::load::{LoadSample, ServiceLoad, Window};
use super::plan::{
    Action, AdapterView, Cloud, Phase, Plan, PlanInput, ReplicaView, order_of_leaving, paid_ahead, plan,
};
use super::policy::{Bounds, Change, Decision, Observation, Policy, PolicyState, utilisation};
use super::record::Recorder;
use super::route::{PeerRule, Placement};

mod replacement;
use replacement::{Replacement, Room};

/// What the configuration says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSettings {
    /// The service's name.
    pub name: String,
    /// How it scales.
    pub policy: Policy,
    /// The metric is averaged over this time.
    pub window: Duration,
    /// Whether the custom metric is of all replicas together, and to be shared out among those that are ready.
    pub custom_per_replica: bool,
    /// Fewest and most replicas, local and cloud together.
    pub bounds: Bounds,
    /// Requests that one replica takes at once.
    pub concurrency: u32,
    /// Most local replicas.
    pub local_max: u32,
    /// Most instances.
    pub burst_max: u32,
    /// So many instances first are to be ones that nobody takes away.
    pub on_demand_floor: u32,
    /// Whether instances are allowed, and if not, why.
    pub cloud: Cloud,
    /// Adapters that it may use.
    pub adapters: BTreeSet<String>,
    /// Which other nodes may have its requests; none where they stay with this one.
    pub peers: Option<PeerRule>,
    /// Whether other nodes' requests are taken.
    pub guests: bool,
}

/// Above this share of memory in use no further local replica is started: the next one could make the kernel kill.
const MEMORY_HEADROOM: f64 = 0.90;

/// As long as other nodes and own replicas together are busier than this, another node's room is about to run out, and what
/// starts now comes none too early. Of a policy that watches another measure than utilisation.
const PEERS_SUFFICE_BELOW: f64 = 0.80;

/// The state of one service's scaling.
#[derive(Clone, Debug)]
pub struct ServiceScaling {
    settings: ServiceSettings,
    state: Option<PolicyState>,
    /// The next decision begins at what is alive then.
    begins_anew: bool,
    recorder: Recorder,
    decision: Option<Decision>,
    draining: BTreeMap<String, Duration>,
    /// Since when the configuration no longer has it.
    retired_since: Option<Duration>,
    replacement: Replacement,
}

/// What a step is made from, beside the samples.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Its replicas; those that this service decided to drain are marked by the step itself.
    pub replicas: Vec<ReplicaView>,
    /// The adapters as they are now.
    pub adapters: &'a [AdapterView],
    /// Why its supervisor starts no further local replica for now: what became of the last one.
    pub local_broken: Option<String>,
    /// Requests that other nodes have room for now, this node's that they have already included.
    pub peer_slots: u32,
}

/// What a step came to.
#[derive(Clone, Debug)]
pub struct Step {
    /// The wish and its reason.
    pub decision: Decision,
    /// What to do about it.
    pub plan: Plan,
    /// The end of a replica that the next step replaces, since it runs what the configuration no longer says.
    pub replaced: Option<Action>,
}

/// What ends a replica.
fn end_of(replica: &ReplicaView) -> Action {
    match replica.placement {
        Placement::Cloud => Action::Drain { replica: replica.id.clone() },
        Placement::Local | Placement::Peer => Action::StopLocal { replica: replica.id.clone() },
    }
}

impl ServiceScaling {
    /// Begins without a wish: the first step begins at what is alive, so that a restart in mid-burst ends nothing.
    pub fn new(settings: ServiceSettings) -> Self {
        Self {
            settings,
            state: None,
            begins_anew: false,
            recorder: Recorder::default(),
            decision: None,
            draining: BTreeMap::new(),
            retired_since: None,
            replacement: Replacement::default(),
        }
    }

    /// Takes up other settings. Another policy begins at what is alive; the same one goes on where it was.
    pub fn reconfigure(&mut self, settings: ServiceSettings) {
        if settings.policy != self.settings.policy {
            self.begins_anew = true;
        }
        self.settings = settings;
        self.retired_since = None;
    }

    /// These run what the configuration no longer says: they are replaced, one after the other.
    pub fn outdate(&mut self, replicas: impl IntoIterator<Item = String>) {
        self.replacement.outdate(replicas);
    }

    /// The configuration no longer has it: it scales no more, and goes.
    pub fn retire(&mut self, now: Duration) {
        self.retired_since.get_or_insert(now);
    }

    /// Whether it goes.
    pub fn is_retired(&self) -> bool {
        self.retired_since.is_some()
    }

    /// What a service that goes does with its replicas: nothing while what it has taken is not answered, and no longer than
    /// `patience`; then all of them leave. Such a replica gets no requests from now on.
    pub fn leave(
        &mut self,
        window: &Window,
        replicas: &[ReplicaView],
        patience: Duration,
        now: Duration,
    ) -> Vec<Action> {
        if !self.may_go(window, patience, now) {
            return Vec::new();
        }
        self.drain_all(replicas, now)
    }

    /// Whether a service that goes has answered what it has taken, or has had the time for it.
    pub fn may_go(&self, window: &Window, patience: Duration, now: Duration) -> bool {
        let Some(since) = self.retired_since else { return false };
        let load = window.latest().and_then(|sample| sample.services.get(&self.settings.name));
        load.is_none_or(|load| load.unanswered_now == 0) || now.saturating_sub(since) >= patience
    }

    /// All of its replicas are on their way out from now on; what is to be done about those that were not before.
    pub fn drain_all(&mut self, replicas: &[ReplicaView], now: Duration) -> Vec<Action> {
        let staying = replicas.iter().filter(|replica| !self.draining.contains_key(&replica.id));
        let actions: Vec<_> = staying.map(end_of).collect();
        for replica in replicas {
            self.draining.entry(replica.id.clone()).or_insert(now);
        }
        actions
    }

    /// What was learnt of its load, to be kept over a restart; `None` where its policy learns nothing.
    pub fn memory(&self) -> Option<Vec<u8>> {
        self.state.as_ref().filter(|state| state.has_learnt()).map(archive::to_bytes)
    }

    /// Recordings of decisions that are to be kept, each given once; at the end also the one that is under way.
    pub fn recordings(&mut self, at_end: bool) -> Vec<Vec<u8>> {
        if at_end {
            self.recorder.end();
        }
        self.recorder.take()
    }

    /// Goes on with what was learnt before a restart, so long ago as is known. False where these are no such bytes.
    pub fn recall(&mut self, memory: &[u8], away: Option<Duration>) -> bool {
        let Some(mut state) = PolicyState::from_bytes(memory) else { return false };
        state.resume(away);
        (self.state, self.begins_anew) = (Some(state), true);
        true
    }

    /// What it was made from.
    pub fn settings(&self) -> &ServiceSettings {
        &self.settings
    }

    /// The last decision.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// How much the forecast that decides has erred lately, as a share of 1 + what came; `None` without one.
    pub fn forecast_error(&self) -> Option<f64> {
        self.state.as_ref().and_then(PolicyState::forecast_error)
    }

    /// The replicas that are on their way out, with the time since when.
    pub fn draining(&self) -> &BTreeMap<String, Duration> {
        &self.draining
    }

    /// Forgets the wish, not what was learnt: the next step begins at what is alive then.
    pub fn begin_at_what_is_alive(&mut self) {
        self.begins_anew = true;
    }

    /// Forgets the drains of replicas that are gone.
    pub fn forget_gone(&mut self, alive: &BTreeSet<String>) {
        self.draining.retain(|replica, _| alive.contains(replica));
        self.replacement.forget_gone(alive);
    }

    /// Decides and plans. The drains of the plan are remembered: such a replica gets no requests from now on.
    pub fn step(&mut self, window: &Window, mut situation: Situation<'_>, now: Duration) -> Step {
        for replica in &mut situation.replicas {
            if self.draining.contains_key(&replica.id) && replica.phase != Phase::Failed {
                replica.phase = Phase::Draining;
            }
        }
        let decision = self.held().unwrap_or_else(|| self.decide(window, &situation, now));
        let rooms = (self.local_room(window, &situation), self.cloud_room(&situation));
        let wanted = decision.wanted + self.replacement.surge(rooms);
        let replicas = situation.replicas.clone();
        let plan = plan(&self.plan_input(wanted, window, situation));
        let replaced =
            if plan.actions.is_empty() { self.replacement.next(&replicas, decision.wanted, rooms) } else { None };
        if let Some(replaced) = replaced {
            self.draining.entry(replaced.id.clone()).or_insert(now);
        }
        let replaced = replaced.map(end_of);
        for action in &plan.actions {
            if let Action::Drain { replica } | Action::StopLocal { replica } = action {
                self.draining.entry(replica.clone()).or_insert(now);
            }
        }
        self.decision = Some(decision.clone());
        Step { decision, plan, replaced }
    }

    /// The wish as it was, while one that is replaced is on its way out: that the others have more to do is no reason to grow.
    fn held(&self) -> Option<Decision> {
        let is_replacing = self.draining.keys().any(|replica| self.replacement.is_outdated(replica));
        self.decision.clone().filter(|_| is_replacing)
    }

    fn local_room(&self, window: &Window, situation: &Situation<'_>) -> Room {
        let memory = window.latest().and_then(|sample| sample.host.memory);
        let can_start = self.settings.local_max > 0 && local_obstacle(situation.local_broken.clone(), memory).is_none();
        let there = situation.replicas.iter().filter(|replica| replica.placement == Placement::Local).count();
        Room { can_start, has_place: can_start && there < self.settings.local_max as usize }
    }

    fn cloud_room(&self, situation: &Situation<'_>) -> Room {
        let is_open = |adapter: &&AdapterView| {
            self.settings.adapters.contains(&adapter.name) && adapter.held_back.is_none() && adapter.affordable > 0
        };
        let mut open = situation.adapters.iter().filter(is_open).peekable();
        let can_start = self.settings.cloud == Cloud::Allowed && open.peek().is_some();
        let there = situation.replicas.iter().filter(|replica| replica.placement == Placement::Cloud).count();
        let has_place = there < self.settings.burst_max as usize && open.any(|adapter| adapter.alive < adapter.max);
        Room { can_start, has_place: can_start && has_place }
    }

    fn decide(&mut self, window: &Window, situation: &Situation<'_>, now: Duration) -> Decision {
        let observation = self.observe(window, situation);
        let alive = observation.ready + observation.starting;
        let policy = &self.settings.policy;
        let begins_anew = std::mem::take(&mut self.begins_anew);
        let state = match self.state.take() {
            Some(state) if begins_anew => state.begin_at(alive),
            Some(state) => state,
            None => policy.start(alive),
        };
        let bounds = self.bounds(window, situation, state.wanted());
        if begins_anew || !self.recorder.is_open(now) {
            self.recorder.begin(policy, &state);
        }
        let (state, mut decision) = policy.decide(state, &observation, bounds, now);
        self.state = Some(state);
        self.recorder.note(observation, bounds, now, &decision);
        if decision.reason.change == Change::AtMaximum && bounds.max < self.settings.bounds.max {
            decision.reason.change = Change::LeftToPeers;
        }
        decision
    }

    /// The bounds of a decision: nothing is launched while other nodes have room for what is too much here. What was
    /// launched before stays until the policy gives it up.
    fn bounds(&self, window: &Window, situation: &Situation<'_>, wanted: u32) -> Bounds {
        let bounds = self.settings.bounds;
        if !self.peers_suffice(window, situation) {
            return bounds;
        }
        Bounds { max: self.most_local(window, situation).max(wanted).max(bounds.min).min(bounds.max), ..bounds }
    }

    /// Local replicas that there can be: of those that the service may have, no more than run where the box bears no further one.
    fn most_local(&self, window: &Window, situation: &Situation<'_>) -> u32 {
        let memory = window.latest().and_then(|sample| sample.host.memory);
        match local_obstacle(situation.local_broken.clone(), memory) {
            None => self.settings.local_max,
            Some(_) => {
                count(&situation.replicas, Placement::Local, Phase::Ready)
                    + count(&situation.replicas, Placement::Local, Phase::Starting)
            }
        }
    }

    fn peers_suffice(&self, window: &Window, situation: &Situation<'_>) -> bool {
        let (in_flight, queued) = self.load(window);
        let ready = situation.replicas.iter().filter(|replica| replica.phase == Phase::Ready).count();
        let own = u32::try_from(ready).unwrap_or(u32::MAX).saturating_mul(self.settings.concurrency);
        let (Some(in_flight), Some(queued)) = (in_flight, queued) else { return false };
        let together = utilisation(in_flight, queued, own.saturating_add(situation.peer_slots), 1);
        let enough = self.settings.policy.target_utilisation().unwrap_or(PEERS_SUFFICE_BELOW);
        // What waits although others have room cannot go there: a body too large to be sent twice, a client that wants this node.
        let nobody_waits = queued < 1.0;
        situation.peer_slots > 0 && nobody_waits && together.is_some_and(|together| together < enough)
    }

    /// Requests in flight and waiting, over the service's window.
    fn load(&self, window: &Window) -> (Option<f64>, Option<f64>) {
        let mean = |field: fn(&ServiceLoad) -> f64| {
            window.mean(self.settings.window, |sample| sample.services.get(&self.settings.name).map(field))
        };
        (mean(|load| load.in_flight), mean(|load| load.queued))
    }

    fn observe(&self, window: &Window, situation: &Situation<'_>) -> Observation {
        let replicas = &situation.replicas;
        let count = |phase| u32::try_from(replicas.iter().filter(|r| r.phase == phase).count()).unwrap_or(u32::MAX);
        let (ready, starting) = (count(Phase::Ready), count(Phase::Starting));
        let span = self.settings.window;
        let name = &self.settings.name;
        let next = self.next_adapter(situation.adapters);
        let floor = self.settings.on_demand_floor;
        let allowed = self.allowed(situation.adapters);
        let instances = order_of_leaving(replicas, &allowed, floor, Placement::Cloud);
        let paid_ahead = instances.iter().map(|replica| paid_ahead(&allowed, replica)).collect();
        let mean = |field: fn(&ServiceLoad) -> f64| {
            window.mean(span, |sample: &LoadSample| sample.services.get(name).map(field))
        };
        let (in_flight, queued) = self.load(window);
        let now = window.latest().and_then(|sample| sample.services.get(name));
        let requests = |span: Option<Duration>| {
            let load = |load: &ServiceLoad| load.in_flight + load.queued;
            span.and_then(|span| window.mean(span, |sample| sample.services.get(name).map(load)))
        };
        Observation {
            utilisation: in_flight
                .zip(queued)
                .and_then(|(in_flight, queued)| utilisation(in_flight, queued, ready, self.settings.concurrency)),
            cpu: window.mean(span, |sample| sample.host.cpu),
            memory: window.mean(span, |sample| sample.host.memory),
            network: window.mean(span, |sample| sample.host.network),
            // Per ready replica, as T is what one replica bears; a rate of the whole service would never come down.
            request_rate: mean(|s| s.arrivals_per_s).map(|rate| rate / f64::from(ready.max(1))),
            latency_p95: window.mean(span, |s| Some(s.services.get(name)?.latency_p95?.as_secs_f64())),
            custom: self.custom(window, ready),
            ready,
            starting,
            in_flight: now.map_or(0, |s| s.in_flight_now),
            queued: now.map_or(0, |s| s.queued_now),
            requests: requests(self.settings.policy.windows().map(|(long, _)| long)),
            requests_short: requests(self.settings.policy.windows().map(|(_, short)| short)),
            arrivals_per_s: now.map(|s| s.arrivals_per_s),
            service_time: now.and_then(|s| s.service_time).map(|time| time.as_secs_f64()),
            completed: now.map_or(0.0, |s| s.completed_per_s) * window.last_interval().as_secs_f64(),
            starting_for: replicas.iter().filter(|r| r.phase == Phase::Starting).map(|r| r.age).collect(),
            start_time: next.and_then(|adapter| adapter.start_time),
            minimum_billing: next.map_or(Duration::ZERO, |adapter| adapter.minimum_billing),
            paid_ahead,
            local: self.most_local(window, situation),
        }
    }

    /// The mean of the custom metric while it is heard of; of each replica where it is to be shared out.
    fn custom(&self, window: &Window, ready: u32) -> Option<f64> {
        let of = |sample: &LoadSample| sample.services.get(&self.settings.name).and_then(|load| load.custom);
        window.latest().and_then(of)?;
        let mean = window.mean(self.settings.window, of)?;
        Some(if self.settings.custom_per_replica { mean / f64::from(ready.max(1)) } else { mean })
    }

    /// Where the next instance is launched: at the cheapest adapter that takes launches now, or else at the cheapest.
    fn next_adapter<'a>(&self, adapters: &'a [AdapterView]) -> Option<&'a AdapterView> {
        let mine = adapters.iter().filter(|adapter| self.settings.adapters.contains(&adapter.name));
        mine.min_by(|a, b| {
            let key = |adapter: &AdapterView| (adapter.held_back.is_some(), adapter.price_per_hour);
            key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
        })
    }

    /// The adapters that the service may use.
    fn allowed(&self, adapters: &[AdapterView]) -> Vec<AdapterView> {
        adapters.iter().filter(|adapter| self.settings.adapters.contains(&adapter.name)).cloned().collect()
    }

    fn plan_input(&self, wanted: u32, window: &Window, situation: Situation<'_>) -> PlanInput {
        let memory = window.latest().and_then(|sample| sample.host.memory);
        PlanInput {
            wanted,
            local_max: self.settings.local_max,
            local_obstacle: local_obstacle(situation.local_broken, memory),
            burst_max: self.settings.burst_max,
            on_demand_floor: self.settings.on_demand_floor,
            cloud: self.settings.cloud.clone(),
            adapters: self.allowed(situation.adapters),
            replicas: situation.replicas,
        }
    }
}

/// Why the box can bear no further local replica, as the beginning of a sentence. `memory` is the share in use.
fn local_obstacle(broken: Option<String>, memory: Option<f64>) -> Option<String> {
    let failing = broken.map(|why| format!("local replicas keep failing ({why})"));
    let crowded = || memory.filter(|used| *used >= MEMORY_HEADROOM);
    failing
        .or_else(|| crowded().map(|used| format!("memory is at {:.0} %, too full for a local replica", used * 100.0)))
}

/// How many replicas are in a phase at a placement.
pub fn count(replicas: &[ReplicaView], placement: Placement, phase: Phase) -> u32 {
    let matching = replicas.iter().filter(|r| r.placement == placement && r.phase == phase);
    u32::try_from(matching.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
