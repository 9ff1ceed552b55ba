//! From a wanted replica count to what to start and what to end, where.
//!
//! Local replicas first, then the cheapest instances; on the way back the dearest instances first. The plan is
//! level-triggered: it is derived anew each tick from what exists, so an action that failed or a message that was lost
//! comes again by itself, and what is already on its way is not asked for twice.
//!
//! - Starting and ready replicas count as capacity, draining and failed ones do not. Draining ones still occupy their
//!   place, so a limit holds for processes and instances, not only for capacity.
//! - A ready replica is ended only when the ready ones that stay cover the wish; an instance that is still starting
//!   only when the ready ones and the other starting instances do. A local replica that is still starting covers
//!   nothing: were it to fail, the instance would have to be paid for twice.
//! - A limit that was lowered and a forbidden cloud are obeyed at once, even where that leaves less than wanted.
//! - The first instances, up to the on-demand floor, are bought where nobody takes them away, and go last.
//! - Replicas of peers are neither counted nor touched, and failed ones are left to whoever cleans them up.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use super::route::Placement;

mod launch;
mod wind_down;
pub use wind_down::order_of_leaving;

/// Where a replica stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Asked for, not ready yet.
    Starting,
    /// Takes requests.
    Ready,
    /// Finishes what it has, takes nothing new.
    Draining,
    /// Ended, or about to be ended, without having been asked to.
    Failed,
}

/// One replica as the plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaView {
    /// Replica id; unique in the service.
    pub id: String,
    /// Where it runs.
    pub placement: Placement,
    /// The adapter of an instance.
    pub adapter: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// What an instance costs; 0 for a local one.
    pub price_per_hour: f64,
    /// Since it was asked for.
    pub age: Duration,
}

/// One adapter as the plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterView {
    /// Name of the table in the configuration.
    pub name: String,
    /// What an instance there costs.
    pub price_per_hour: f64,
    /// Instances that exist there, of all services and in every phase.
    pub alive: u32,
    /// Most instances there.
    pub max: u32,
    /// Its instances may be taken away at short notice.
    pub spot: bool,
    /// Why no launch passes there now; `None` when one does.
    pub held_back: Option<String>,
    /// Launches there that the budget still bears, were all of it spent there.
    pub affordable: u32,
    /// How long a start there takes, as learnt; `None` before the first.
    pub start_time: Option<Duration>,
    /// An instance there is billed at least for this.
    pub minimum_billing: Duration,
    /// And in whole steps of this; zero for exactly what was used.
    pub billing_step: Duration,
}

impl AdapterView {
    /// How long an instance of that age has been paid for already: to end it earlier saves nothing.
    pub fn paid_ahead(&self, age: Duration) -> Duration {
        let step = self.billing_step.as_nanos();
        let used = if step == 0 { age.as_nanos() } else { age.as_nanos().div_ceil(step).saturating_mul(step) };
        let billed = Duration::from_nanos(u64::try_from(used).unwrap_or(u64::MAX)).max(self.minimum_billing);
        billed.saturating_sub(age)
    }
}

/// How long a replica has been paid for already.
pub fn paid_ahead(adapters: &[AdapterView], replica: &ReplicaView) -> Duration {
    let adapter = adapters.iter().find(|adapter| Some(&adapter.name) == replica.adapter.as_ref());
    adapter.map_or(Duration::ZERO, |adapter| adapter.paid_ahead(replica.age))
}

/// Which of two goes first: the dearest, then those that are still starting, then those that are paid for least far ahead, then the youngest (an
/// old one has warm caches), then by id.
fn first_to_go(adapters: &[AdapterView], a: &ReplicaView, b: &ReplicaView) -> std::cmp::Ordering {
    let dearest = b.price_per_hour.total_cmp(&a.price_per_hour);
    let paid_ahead = |replica: &ReplicaView| paid_ahead(adapters, replica);
    dearest
        .then(a.phase.cmp(&b.phase))
        .then_with(|| paid_ahead(a).cmp(&paid_ahead(b)))
        .then(a.age.cmp(&b.age))
        .then_with(|| a.id.cmp(&b.id))
}

/// Whether instances are allowed at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// As far as limits and budget go.
    #[default]
    Allowed,
    /// Not at all; the reason completes "bursting is forbidden: …".
    Forbidden(String),
}

/// All that a plan is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanInput {
    /// Replicas that the policy wants, local and cloud together.
    pub wanted: u32,
    /// Most local replicas.
    pub local_max: u32,
    /// Why the host can bear no further local replica, as the beginning of a sentence; `None` when it can.
    pub local_obstacle: Option<String>,
    /// Most instances of this service.
    pub burst_max: u32,
    /// So many instances first are to be ones that nobody takes away, where such can be had.
    pub on_demand_floor: u32,
    /// Whether instances are allowed.
    pub cloud: Cloud,
    /// The service's replicas, in any order.
    pub replicas: Vec<ReplicaView>,
    /// The adapters the service may use, in any order.
    pub adapters: Vec<AdapterView>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start so many local replicas.
    StartLocal {
        /// At least 1.
        count: u32,
    },
    /// Drain a local replica and end it.
    StopLocal {
        /// Its id.
        replica: String,
    },
    /// Launch one instance.
    Launch {
        /// At this adapter.
        adapter: String,
    },
    /// Drain an instance and terminate it.
    Drain {
        /// Its id.
        replica: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartLocal { count } => write!(f, "start {count} local"),
            Self::StopLocal { replica } => write!(f, "stop local {replica}"),
            Self::Launch { adapter } => write!(f, "launch at {adapter}"),
            Self::Drain { replica } => write!(f, "drain {replica}"),
        }
    }
}

/// What to do now, starts before ends, and what cannot be had.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Set when the actions, all done, leave less than wanted.
    pub shortfall: Option<Shortfall>,
}

/// Replicas that are wanted and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// At least 1.
    pub missing: u32,
    /// What stands in the way at the providers.
    pub why: Why,
    /// What stands in the way of a local replica, other than their limit.
    pub local: Option<String>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.missing == 1 { "replica" } else { "replicas" };
        write!(f, "{} {noun} short: ", self.missing)?;
        match (&self.local, &self.why) {
            (Some(local), _) => write!(f, "{local}, and ")?,
            (None, Why::LocalOnly(_) | Why::NoAdapter) => f.write_str("local replicas are at their limit, and ")?,
            (None, _) => {}
        }
        self.why.fmt(f)
    }
}

/// What stands in the way of a replica. With several adapters, the first in this order: money, failures, room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There can be no further local replica, and the cloud is forbidden for this reason.
    LocalOnly(String),
    /// There can be no further local replica, and the service has no adapter.
    NoAdapter,
    /// The service has as many instances as it may.
    BurstMaximum(u32),
    /// The place is still taken by a replica that drains.
    Draining,
    /// The budget bears no instance there.
    OverBudget {
        /// The cheapest such adapter.
        adapter: String,
    },
    /// Launches there are held back.
    HeldBack {
        /// The cheapest such adapter.
        adapter: String,
        /// Why, in words.
        why: String,
    },
    /// The adapter has as many instances as it may.
    NoRoom {
        /// The cheapest such adapter.
        adapter: String,
        /// Its limit.
        max: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalOnly(why) => write!(f, "bursting is forbidden: {why}"),
            Self::NoAdapter => f.write_str("the service has no adapter"),
            Self::BurstMaximum(max) => write!(f, "the service is at its limit of {max} instances"),
            Self::Draining => f.write_str("waiting for a draining replica to leave its place"),
            Self::OverBudget { adapter } => write!(f, "the budget bears no further instance at {adapter}"),
            Self::HeldBack { adapter, why } => write!(f, "launches at {adapter} are held back: {why}"),
            Self::NoRoom { adapter, max } => write!(f, "{adapter} is at its limit of {max} instances"),
        }
    }
}

/// What brings the service to the wanted count. Deterministic: the order of the input does not matter.
pub fn plan(input: &PlanInput) -> Plan {
    let census = Census::of(input);
    let target = Target::of(input, &census);
    let start_local = target.local_starts(input, &census);
    let launches = launch::launches(input, &census, target.cloud);
    let ends = wind_down::ends(input, &census, &target);

    let coming = census.alive() + start_local + launches.count();
    let missing = input.wanted.saturating_sub(coming.saturating_sub(ends.count()));
    let shortfall = (missing > 0).then(|| Shortfall {
        missing,
        why: why_missing(input, &target, &launches),
        local: input.local_obstacle.clone().filter(|_| target.local < input.wanted.min(input.local_max)),
    });
    let plan = Plan { actions: actions(start_local, launches.adapters, ends), shortfall };
    debug_assert!(check(input, &census, &plan).is_ok(), "{:?}: {plan:?} of {input:?}", check(input, &census, &plan));
    plan
}

/// Replicas by place and phase.
struct Census {
    local: Count,
    cloud: Count,
}

#[derive(Default)]
struct Count {
    starting: u32,
    ready: u32,
    draining: u32,
}

impl Census {
    fn of(input: &PlanInput) -> Self {
        let mut census = Self { local: Count::default(), cloud: Count::default() };
        for replica in &input.replicas {
            match replica.placement {
                Placement::Local => census.local.add(replica.phase),
                Placement::Cloud => census.cloud.add(replica.phase),
                Placement::Peer => {}
            }
        }
        census
    }

    fn alive(&self) -> u32 {
        self.local.alive() + self.cloud.alive()
    }

    fn ready(&self) -> u32 {
        self.local.ready + self.cloud.ready
    }
}

impl Count {
    fn add(&mut self, phase: Phase) {
        match phase {
            Phase::Starting => self.starting += 1,
            Phase::Ready => self.ready += 1,
            Phase::Draining => self.draining += 1,
            Phase::Failed => {}
        }
    }

    fn alive(&self) -> u32 {
        self.starting + self.ready
    }
}

/// How many replicas are to be where.
struct Target {
    local: u32,
    cloud: u32,
    /// Instances allowed, whatever is wanted.
    cloud_limit: u32,
}

impl Target {
    fn of(input: &PlanInput, census: &Census) -> Self {
        let local_limit =
            if input.local_obstacle.is_none() { input.local_max } else { input.local_max.min(census.local.alive()) };
        let local = input.wanted.min(local_limit);
        let cloud_limit = if input.cloud == Cloud::Allowed { input.burst_max } else { 0 };
        Self { local, cloud: (input.wanted - local).min(cloud_limit), cloud_limit }
    }

    /// A local replica that drains keeps its place until it is gone; no instance is paid for that short while.
    fn local_starts(&self, input: &PlanInput, census: &Census) -> u32 {
        let places = input.local_max.saturating_sub(census.local.draining);
        self.local.min(places).saturating_sub(census.local.alive())
    }
}

/// The obstacle to name when something is missing.
fn why_missing(input: &PlanInput, target: &Target, launches: &launch::Launches) -> Why {
    let overflow = input.wanted - target.local;
    if let Some(why) = &launches.obstacle {
        return why.clone();
    }
    match &input.cloud {
        Cloud::Forbidden(why) if overflow > 0 => Why::LocalOnly(why.clone()),
        Cloud::Allowed if overflow > target.cloud && input.adapters.is_empty() => Why::NoAdapter,
        Cloud::Allowed if overflow > target.cloud => Why::BurstMaximum(target.cloud_limit),
        _ => Why::Draining,
    }
}

fn actions(start_local: u32, launches: Vec<String>, ends: wind_down::Ends) -> Vec<Action> {
    let start = (start_local > 0).then_some(Action::StartLocal { count: start_local });
    let launches = launches.into_iter().map(|adapter| Action::Launch { adapter });
    let drains = ends.cloud.into_iter().map(|replica| Action::Drain { replica });
    let stops = ends.local.into_iter().map(|replica| Action::StopLocal { replica });
    start.into_iter().chain(launches).chain(drains).chain(stops).collect()
}

/// Whether an adapter's instances may be taken away; one that is not known any more is held for safe.
fn is_spot(adapters: &[AdapterView], adapter: Option<&str>) -> bool {
    adapters.iter().any(|known| known.spot && Some(known.name.as_str()) == adapter)
}

/// Cheapest first, then by name.
fn by_price(a: &AdapterView, b: &AdapterView) -> Ordering {
    a.price_per_hour.total_cmp(&b.price_per_hour).then_with(|| a.name.cmp(&b.name))
}

/// The contract of a plan, checked at the exit of [`plan`].
fn check(input: &PlanInput, census: &Census, plan: &Plan) -> Result<(), &'static str> {
    let ended: Vec<&str> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::StopLocal { replica } | Action::Drain { replica } => Some(replica.as_str()),
            Action::StartLocal { .. } | Action::Launch { .. } => None,
        })
        .collect();
    let ready_ended = |placement| {
        let ready = input.replicas.iter().filter(|r| r.phase == Phase::Ready && r.placement == placement);
        u32::try_from(ready.filter(|r| ended.contains(&r.id.as_str())).count()).unwrap_or(u32::MAX)
    };
    let forced = input.cloud != Cloud::Allowed
        || census.cloud.alive() > input.burst_max
        || census.local.alive() > input.local_max;
    let ready_after = census.ready() - ready_ended(Placement::Local) - ready_ended(Placement::Cloud);
    let launched = plan.actions.iter().filter(|action| matches!(action, Action::Launch { .. })).count();
    let instances = u64::from(census.cloud.alive() + census.cloud.draining) + launched as u64;
    if !forced && ready_after < input.wanted.min(census.ready()) {
        Err("a ready replica that is wanted is ended")
    } else if launched > 0 && (instances > u64::from(input.burst_max) || input.cloud != Cloud::Allowed) {
        Err("more instances than allowed")
    } else {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
