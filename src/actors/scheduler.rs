//! Turns samples and snapshots into decisions, orders and the route table.
//!
//! Each tick derives everything anew. Orders carry numbers, and a service waits with its next plan until the snapshots
//! include its last orders, so that nothing is asked for twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient};

use super::burst::{Drain, Instances, Launch, Release};
use super::discovery::{Instances as Offered, Offers};
use super::local_runner::{LocalReplicas, StartLocal, StopLocal};
use super::publisher::{Identity, Publish, Report, Sampled};
use super::{MAILBOX, tell};
use crate::host::clock::Clock;
use crate::journal::Memory;
use crate::logic::fleet::Address;
use crate::logic::load::Window;
use crate::logic::plan::{Action, Phase, Plan, ReplicaView};
use crate::logic::policy::Decision;
use crate::logic::route::{
    Bearer, Candidate, Endpoint, EndpointCounters, Placement, PublicKeyPin, RouteTable, ServiceRoute, Spare, Transport,
};
use crate::logic::service::{ServiceScaling, ServiceSettings, Situation};
use crate::wire::ServiceStatus;
use crate::wire::board::Board;
use crate::wire::registry::{Peer, Registry};

mod tell;

/// What was learnt of loads is kept so often, beside at the stop: some hundred kilobytes for each service that is scaled by forecast.
const REMEMBER_EVERY: Duration = Duration::from_hours(1);

/// How far the samples reach back.
const HISTORY: Duration = Duration::from_secs(300);
/// If the providers do not tell what a former run left, scaling begins without them after this.
const RECONCILE_PATIENCE: Duration = Duration::from_secs(3);

/// An order is answered by a snapshot within a tick; one that is not by then was dropped at a full mailbox.
const ORDER_PATIENCE: Duration = Duration::from_secs(5);

/// Nobody has room for more than a replica may take at once; a claim of more is none.
const MOST_ROOM: u32 = 10_000;

/// Makes a table the one that requests go by; the node connects it to the gateway.
pub type Install = Box<dyn Fn(RouteTable) + Send>;

/// Keeps bytes of a service.
pub type Remember = Box<dyn Fn(&str, Vec<u8>) + Send>;

/// What was learnt of a service's load, where something was kept.
pub type Recall = Box<dyn Fn(&str) -> Option<Memory> + Send>;

/// Who gets the orders and the words.
pub struct Outputs {
    /// Starts.
    pub start_local: Recipient<StartLocal>,
    /// Stops.
    pub stop_local: Recipient<StopLocal>,
    /// Launches.
    pub launch: Recipient<Launch>,
    /// Drains.
    pub drain: Recipient<Drain>,
    /// Ends of drains.
    pub release: Recipient<Release>,
    /// What the node offers.
    pub offers: Recipient<Offers>,
    /// What its instances offer.
    pub instance_offers: Recipient<Offered>,
    /// Statuses.
    pub publish: Recipient<Publish>,
    /// Events.
    pub report: Recipient<Report>,
    /// Routes.
    pub install: Install,
    /// Keeps what was learnt of a service's load.
    pub remember: Remember,
    /// What was kept of it.
    pub recall: Recall,
    /// Lets go of what was kept of services other than these, once it is old.
    pub forget_others: Box<dyn Fn(BTreeSet<String>) + Send>,
    /// Keeps a recording of a service's decisions.
    pub record: Remember,
    /// Told after each round of decisions.
    pub decided: Box<dyn Fn() + Send>,
}

/// The scheduler's state.
pub struct Scheduler {
    identity: Identity,
    clock: Clock,
    currency: String,
    drain_timeout: Duration,
    outputs: Option<Outputs>,
    board: Arc<Board>,
    services: BTreeMap<String, Service>,
    window: Window,
    local: LocalReplicas,
    cloud: Instances,
    order: u64,
    /// When what was learnt was last kept.
    remembered_at: Duration,
    /// Who else is there.
    registry: Arc<Registry>,
    routed: BTreeMap<String, Vec<Arc<Endpoint>>>,
}

struct Service {
    scaling: ServiceScaling,
    /// Kept over tables, so that what was learned of a replica stays.
    endpoints: BTreeMap<String, Arc<Endpoint>>,
    /// What the fleet is told of the room for its requests.
    spare: Spare,
    /// The last local and the last cloud order; no plan is made before the snapshots include them.
    ordered_local: u64,
    ordered_cloud: u64,
    /// When the last order was given: one that got lost must not hold the service for ever.
    ordered_at: Duration,
    /// The last status that was published, without its time.
    published: Option<ServiceStatus>,
    shortfall: Option<String>,
}

/// Hands over the outputs, once the actors that depend on the scheduler exist.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Connect(pub Outputs);

/// Takes the outputs away: the node stops, and what ends now is no reason to start another or to announce anything.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Disconnect;

/// Takes up what a changed configuration says of its services.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Reconfigure {
    /// All that there are now.
    pub services: Vec<ServiceSettings>,
    /// Those of which a local replica runs something else now.
    pub changed_local: BTreeSet<String>,
    /// Those of which an instance does.
    pub changed_cloud: BTreeSet<String>,
}

impl Scheduler {
    /// Knows no replica yet, and orders nothing until [`Connect`].
    pub fn new(
        identity: Identity,
        clock: Clock,
        currency: String,
        drain_timeout: Duration,
        board: Arc<Board>,
        registry: Arc<Registry>,
        services: Vec<ServiceSettings>,
    ) -> Self {
        let services = services.into_iter().map(|settings| (settings.name.clone(), Service::new(settings)));
        Self {
            identity,
            clock,
            currency,
            drain_timeout,
            outputs: None,
            board,
            services: services.collect(),
            window: Window::new(HISTORY),
            local: LocalReplicas::default(),
            cloud: Instances::default(),
            order: 0,
            remembered_at: clock.now(),
            registry,
            routed: BTreeMap::new(),
        }
    }
}

impl Service {
    fn new(settings: ServiceSettings) -> Self {
        Self {
            scaling: ServiceScaling::new(settings),
            endpoints: BTreeMap::new(),
            spare: Spare::default(),
            ordered_local: 0,
            ordered_cloud: 0,
            ordered_at: Duration::ZERO,
            published: None,
            shortfall: None,
        }
    }
}

impl Service {
    /// Hands over what is to be there when it comes again.
    fn put_away(&mut self, name: &str, outputs: &Outputs) {
        if let Some(memory) = self.scaling.memory() {
            (outputs.remember)(name, memory);
        }
        self.scaling.recordings(true).into_iter().for_each(|recording| (outputs.record)(name, recording));
    }

    /// Requests that other nodes have room for, those that have just declined one left out.
    fn peer_slots(&self, now: Duration) -> u32 {
        let peers = self.endpoints.values().filter(|endpoint| endpoint.placement == Placement::Peer);
        let rooms = peers.filter(|peer| peer.is_available(now)).map(|peer| peer.concurrency);
        rooms.fold(0, u32::saturating_add)
    }

    /// The room for other nodes' requests, as the fleet is told.
    fn spare(&mut self, now: Duration) -> u32 {
        if !self.scaling.settings().guests {
            return 0;
        }
        let local = self.endpoints.values().filter(|endpoint| endpoint.placement == Placement::Local);
        let (own, capacity) = local.fold((0, 0), |(own, capacity), endpoint| {
            let counters = &endpoint.counters;
            (own + counters.in_flight().saturating_sub(counters.guests()), capacity + endpoint.concurrency)
        });
        self.spare.update(own, capacity, now)
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX * 4);
    }
}

impl Handler<Connect> for Scheduler {
    type Result = ();

    fn handle(&mut self, Connect(outputs): Connect, _: &mut Self::Context) {
        self.outputs = Some(outputs);
        let names: Vec<_> = self.services.keys().cloned().collect();
        names.iter().for_each(|name| self.recall(name));
    }
}

impl Handler<Disconnect> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: Disconnect, _: &mut Self::Context) {
        self.remember();
        self.record(true);
        self.outputs = None;
    }
}

impl Handler<Reconfigure> for Scheduler {
    type Result = ();

    fn handle(&mut self, changed: Reconfigure, _: &mut Self::Context) {
        let Reconfigure { services, changed_local, changed_cloud } = changed;
        let now = self.clock.now();
        changed_local.iter().for_each(|name| self.outdate(name, Placement::Local));
        changed_cloud.iter().for_each(|name| self.outdate(name, Placement::Cloud));
        let named: BTreeSet<String> = services.iter().map(|settings| settings.name.clone()).collect();
        // The gateway may have made a service anew, which has no route.
        self.routed.clear();
        for settings in services {
            if self.services.get(&settings.name).is_some_and(|service| service.scaling.is_retired()) {
                self.replace(&settings.name);
            }
            match self.services.get_mut(&settings.name) {
                Some(service) => service.scaling.reconfigure(settings),
                None => {
                    let name = settings.name.clone();
                    self.services.insert(name.clone(), Service::new(settings));
                    self.recall(&name);
                }
            }
        }
        for (name, service) in &mut self.services {
            if named.contains(name) || service.scaling.is_retired() {
                continue;
            }
            if let Some(outputs) = &self.outputs {
                service.put_away(name, outputs);
            }
            service.scaling.retire(now);
        }
        self.reroute();
    }
}

impl Handler<Sampled> for Scheduler {
    type Result = ();

    fn handle(&mut self, Sampled { sample, .. }: Sampled, _: &mut Self::Context) {
        self.window.push((*sample).clone());
        let names: Vec<_> = self.services.keys().cloned().collect();
        for name in &names {
            self.finish_drains(name);
            self.scale(name);
            self.publish_status(name, &sample);
            self.forget_retired(name);
        }
        if self.clock.now().saturating_sub(self.remembered_at) >= REMEMBER_EVERY {
            self.remember();
        }
        self.record(false);
        self.end_strangers();
        self.reroute();
        self.offer();
        self.show_replicas();
        if let Some(outputs) = &self.outputs {
            (outputs.decided)();
        }
    }
}

impl Handler<LocalReplicas> for Scheduler {
    type Result = ();

    fn handle(&mut self, replicas: LocalReplicas, _: &mut Self::Context) {
        self.local = replicas;
        self.reroute();
    }
}

impl Handler<Instances> for Scheduler {
    type Result = ();

    fn handle(&mut self, instances: Instances, _: &mut Self::Context) {
        if !instances.reconciled_at.is_subset(&self.cloud.reconciled_at) {
            // What a former run left there counts from now on, and is no surplus that has to go.
            self.services.values_mut().for_each(|service| service.scaling.begin_at_what_is_alive());
        }
        self.cloud = instances;
        self.reroute();
    }
}

impl Scheduler {
    /// Decides, plans, and gives the orders.
    fn scale(&mut self, name: &str) {
        let now = self.clock.now();
        let replicas = self.replicas(name);
        let ready_to_scale = self.cloud.reconciled || self.clock.uptime() >= RECONCILE_PATIENCE;
        let Some(service) = self.services.get_mut(name) else { return };
        let answered = service.ordered_local <= self.local.order && service.ordered_cloud <= self.cloud.order;
        let lost = now.saturating_sub(service.ordered_at) >= ORDER_PATIENCE;
        if !(answered || lost) || self.outputs.is_none() {
            return;
        }
        let alive: BTreeSet<String> = replicas.iter().map(|replica| replica.id.clone()).collect();
        service.scaling.forget_gone(&alive);
        if service.scaling.is_retired() {
            return self.leave(name, &replicas);
        }
        if !ready_to_scale {
            return self.start_first(name, &replicas);
        }
        let situation = Situation {
            replicas,
            adapters: self.cloud.adapters.get(name).map_or(&[], Vec::as_slice),
            local_broken: self.local.broken.get(name).cloned(),
            peer_slots: service.peer_slots(now),
        };
        let step = service.scaling.step(&self.window, situation, now);
        self.carry_out(name, &step.decision, &step.plan);
        if let Some(action) = &step.replaced {
            self.report_replacement(name, action);
            self.carry_out_action(name, tell::OUTDATED, action);
        }
    }

    /// Takes up what was learnt of its load before the node was started, or before it was out of the configuration.
    fn recall(&mut self, service: &str) {
        let Some(outputs) = &self.outputs else { return };
        let (Some(there), Some(memory)) = (self.services.get_mut(service), (outputs.recall)(service)) else { return };
        match (there.scaling.recall(&memory.bytes, memory.ago), memory.ago) {
            (true, Some(ago)) => {
                tracing::info!(service, ago_s = ago.as_secs(), "goes on with what was learnt of its load")
            }
            (true, None) => tracing::warn!(
                service,
                "goes on with what was learnt of its load, but for when it repeats: the calendar does not tell how long ago that was"
            ),
            (false, _) => {
                tracing::warn!(service, "what was learnt of its load is of another version, and is learnt anew")
            }
        }
    }

    /// Hands over the recordings that are complete; at the end also those that are under way.
    fn record(&mut self, at_end: bool) {
        let Some(outputs) = &self.outputs else { return };
        for (name, service) in &mut self.services {
            for recording in service.scaling.recordings(at_end) {
                (outputs.record)(name, recording);
            }
        }
    }

    fn remember(&mut self) {
        self.remembered_at = self.clock.now();
        let Some(outputs) = &self.outputs else { return };
        // What one that is going has learnt is as old as that.
        for (name, service) in self.services.iter().filter(|(_, service)| !service.scaling.is_retired()) {
            if let Some(memory) = service.scaling.memory() {
                (outputs.remember)(name, memory);
            }
        }
        (outputs.forget_others)(self.services.keys().cloned().collect());
    }

    /// What runs there now was started by a configuration that said something else.
    fn outdate(&mut self, name: &str, placement: Placement) {
        let there: Vec<_> = self.replicas(name).into_iter().filter(|replica| replica.placement == placement).collect();
        if let Some(service) = self.services.get_mut(name) {
            service.scaling.outdate(there.into_iter().map(|replica| replica.id));
        }
    }

    /// The configuration no longer has the service: its replicas go once nobody waits for an answer.
    fn leave(&mut self, name: &str, replicas: &[ReplicaView]) {
        let now = self.clock.now();
        let Some(service) = self.services.get_mut(name) else { return };
        for action in service.scaling.leave(&self.window, replicas, self.drain_timeout, now) {
            self.carry_out_action(name, tell::RETIRED, &action);
        }
    }

    /// The last replica has gone, as all snapshots say.
    fn forget_retired(&mut self, name: &str) {
        let is_over = |service: &Service| {
            let answered = service.ordered_local <= self.local.order && service.ordered_cloud <= self.cloud.order;
            let may_go = service.scaling.may_go(&self.window, self.drain_timeout, self.clock.now());
            answered && may_go && self.replicas(name).is_empty()
        };
        if self.services.get(name).is_some_and(is_over) {
            self.services.remove(name);
        }
    }

    /// A service that was going comes again: what runs of it was started by the configuration that it had.
    fn replace(&mut self, name: &str) {
        let (replicas, now) = (self.replicas(name), self.clock.now());
        let Some(service) = self.services.get_mut(name) else { return };
        for action in service.scaling.drain_all(&replicas, now) {
            self.carry_out_action(name, tell::RETIRED, &action);
        }
    }

    /// Instances and statuses of services that are gone: one may be found late, and a word may have been lost. Said again on every
    /// tick.
    fn end_strangers(&self) {
        let Some(outputs) = &self.outputs else { return };
        for instance in self.cloud.instances.iter().filter(|instance| !self.services.contains_key(&instance.service)) {
            let launch = instance.launch.clone();
            match instance.phase {
                Phase::Draining => tell(&outputs.release, Release { launch }),
                _ => tell(&outputs.drain, Drain { launch, reason: tell::RETIRED.to_owned() }),
            }
        }
        let told = self.board.service_names();
        told.iter().filter(|name| !self.services.contains_key(*name)).for_each(|name| self.clear_status(name));
    }

    /// Local serving does not wait for any provider: the fewest replicas start at once.
    fn start_first(&mut self, name: &str, replicas: &[ReplicaView]) {
        let Some(service) = self.services.get(name) else { return };
        let settings = service.scaling.settings();
        let first = settings.bounds.min.min(settings.local_max);
        let there =
            u32::try_from(replicas.iter().filter(|r| r.placement == Placement::Local).count()).unwrap_or(u32::MAX);
        if there < first {
            self.carry_out_action(
                name,
                "the fewest that the service has",
                &Action::StartLocal { count: first - there },
            );
        }
    }

    fn carry_out(&mut self, name: &str, decision: &Decision, plan: &Plan) {
        let reason = decision.reason.to_string();
        if !plan.actions.is_empty() {
            self.report_decision(name, decision, &reason, plan);
        }
        for action in &plan.actions {
            self.carry_out_action(name, &reason, action);
        }
        let shortfall = plan.shortfall.as_ref().map(ToString::to_string);
        self.report_shortfall(name, shortfall);
    }

    fn carry_out_action(&mut self, name: &str, reason: &str, action: &Action) {
        self.order += 1;
        let order = self.order;
        let (Some(outputs), Some(service)) = (&self.outputs, self.services.get_mut(name)) else { return };
        let (name, reason) = (name.to_owned(), reason.to_owned());
        service.ordered_at = self.clock.now();
        match action.clone() {
            Action::StartLocal { count } => {
                service.ordered_local = order;
                tell(&outputs.start_local, StartLocal { service: name, count, order });
            }
            Action::Launch { adapter } => {
                service.ordered_cloud = order;
                tell(&outputs.launch, Launch { service: name, adapter, reason, order });
            }
            Action::Drain { replica } => tell(&outputs.drain, Drain { launch: replica, reason }),
            // Out of the route with the next table; stopped once its last request is answered.
            Action::StopLocal { .. } => {}
        }
    }

    /// Ends the drains whose last request was answered. A drain is at least one tick old by then, so a request that was
    /// being routed by the former table has been counted.
    fn finish_drains(&mut self, name: &str) {
        let now = self.clock.now();
        let (Some(outputs), Some(service)) = (&self.outputs, self.services.get(name)) else { return };
        for (replica, since) in service.scaling.draining() {
            let idle = service.endpoints.get(replica).is_none_or(|endpoint| endpoint.counters.in_flight() == 0);
            let over = now.saturating_sub(*since) >= self.drain_timeout;
            let is_local = self.is_local(name, replica);
            if !is_local {
                // Said again on every tick: the first one may have been dropped, and a second changes nothing.
                let reason = "scaled in".to_owned();
                tell(&outputs.drain, Drain { launch: replica.clone(), reason });
            }
            if !(idle || over) || *since >= now {
                continue;
            }
            if is_local {
                tell(&outputs.stop_local, StopLocal { replica: replica.clone() });
            } else {
                tell(&outputs.release, Release { launch: replica.clone() });
            }
        }
    }

    fn is_local(&self, name: &str, replica: &str) -> bool {
        self.local.replicas.get(name).is_some_and(|replicas| replicas.iter().any(|local| local.id == replica))
    }

    fn replicas(&self, name: &str) -> Vec<ReplicaView> {
        let now = self.clock.now();
        let local = self.local.replicas.get(name).into_iter().flatten().map(|local| ReplicaView {
            id: local.id.clone(),
            placement: Placement::Local,
            adapter: None,
            phase: local.phase,
            price_per_hour: 0.0,
            age: now.saturating_sub(local.started_at),
        });
        let cloud =
            self.cloud.instances.iter().filter(|instance| instance.service == name).map(|instance| ReplicaView {
                id: instance.launch.clone(),
                placement: Placement::Cloud,
                adapter: Some(instance.adapter.clone()),
                phase: instance.phase,
                price_per_hour: instance.price_per_hour,
                age: now.saturating_sub(instance.since),
            });
        let draining = self.services.get(name).map(|service| service.scaling.draining());
        let mut all: Vec<_> = local.chain(cloud).collect();
        for replica in &mut all {
            if replica.phase != Phase::Failed && draining.is_some_and(|d| d.contains_key(&replica.id)) {
                replica.phase = Phase::Draining;
            }
        }
        all
    }

    /// Makes the table of what is ready now and installs it.
    fn reroute(&mut self) {
        let mut table = RouteTable::default();
        for name in self.services.keys().cloned().collect::<Vec<_>>() {
            let endpoints = self.endpoints(&name);
            table.services.insert(name.clone(), Arc::new(ServiceRoute { name, endpoints }));
        }
        let routed: BTreeMap<_, _> =
            table.services.iter().map(|(name, route)| (name.clone(), route.endpoints.clone())).collect();
        if !is_same(&self.routed, &routed)
            && let Some(outputs) = &self.outputs
        {
            (outputs.install)(table);
            self.routed = routed;
        }
    }

    fn endpoints(&mut self, name: &str) -> Vec<Arc<Endpoint>> {
        let routable = self.routable(name);
        let Some(service) = self.services.get_mut(name) else { return Vec::new() };
        let current: BTreeMap<_, _> =
            routable.iter().map(|f| (f.key(), (&f.authority, f.transport, f.concurrency))).collect();
        let draining = service.scaling.draining();
        service.endpoints.retain(|replica, endpoint| {
            let now = (&endpoint.authority, endpoint.transport, endpoint.concurrency);
            draining.contains_key(replica) || current.get(replica).is_some_and(|found| *found == now)
        });
        let known = &mut service.endpoints;
        let all = routable
            .into_iter()
            .map(|found| known.entry(found.key()).or_insert_with(|| Arc::new(found.endpoint())).clone());
        all.collect()
    }

    /// The replicas that requests may go to: this node's, then other nodes.
    fn routable(&self, name: &str) -> Vec<Routable> {
        let Some(service) = self.services.get(name) else { return Vec::new() };
        let draining = service.scaling.draining();
        let concurrency = service.scaling.settings().concurrency;
        let is_open = |id: &str| !draining.contains_key(id);
        let local = self.local.replicas.get(name).into_iter().flatten().filter(|replica| replica.phase == Phase::Ready);
        let local = local.filter(|replica| is_open(&replica.id)).map(|replica| Routable {
            replica: replica.id.clone(),
            placement: Placement::Local,
            authority: replica.authority.clone(),
            transport: Transport::Plain,
            bearer: None,
            concurrency,
        });
        let cloud =
            self.cloud.instances.iter().filter(|instance| instance.service == name && is_open(&instance.launch));
        let cloud = cloud.filter(|instance| instance.phase == Phase::Ready).filter_map(|instance| {
            let Address { authority, transport } = instance.address.clone()?;
            Some(Routable {
                replica: instance.launch.clone(),
                placement: Placement::Cloud,
                authority,
                transport,
                bearer: Some(instance.bearer.clone()),
                concurrency,
            })
        });
        local.chain(cloud).chain(self.peers(service)).collect()
    }

    /// The other nodes that may have a service's requests and say that they have room.
    fn peers(&self, service: &Service) -> Vec<Routable> {
        let settings = service.scaling.settings();
        let Some(rule) = &settings.peers else { return Vec::new() };
        let heard = self.registry.peers(&settings.name, self.clock.now());
        let chosen = rule.choose(&self.identity.node, heard, |peer| Candidate {
            node: &peer.node,
            protocol: &peer.offer.protocol,
            site: peer.site.as_deref(),
            region: peer.region.as_deref(),
        });
        let routable = chosen.into_iter().map(|Peer { node, authority, key, offer, .. }| Routable {
            replica: node,
            placement: Placement::Peer,
            authority,
            transport: Transport::Peer(PublicKeyPin(key)),
            bearer: None,
            concurrency: offer.spare.min(MOST_ROOM),
        });
        routable.collect()
    }
}

/// A replica that requests may go to.
struct Routable {
    replica: String,
    placement: Placement,
    authority: String,
    transport: Transport,
    bearer: Option<Bearer>,
    /// Requests that it takes at once.
    concurrency: u32,
}

/// Whether two tables lead to the same endpoints: the very same, with what was learned of them.
fn is_same(one: &BTreeMap<String, Vec<Arc<Endpoint>>>, other: &BTreeMap<String, Vec<Arc<Endpoint>>>) -> bool {
    let same = |one: &[Arc<Endpoint>], other: &[Arc<Endpoint>]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
    };
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, one), (other_name, other))| name == other_name && same(one, other))
}

impl Routable {
    /// Another node may be called as a replica of this one is: no id of a replica has a slash.
    fn key(&self) -> String {
        match self.placement {
            Placement::Peer => format!("peer/{}", self.replica),
            Placement::Local | Placement::Cloud => self.replica.clone(),
        }
    }

    fn endpoint(self) -> Endpoint {
        Endpoint {
            replica: self.replica,
            placement: self.placement,
            authority: self.authority,
            transport: self.transport,
            bearer: self.bearer,
            concurrency: self.concurrency,
            weight: 1,
            counters: EndpointCounters::default(),
        }
    }
}
