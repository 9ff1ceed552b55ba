//! Which replicas to end: instances first, the dearest first, and never one whose work is still needed.

use super::super::route::Placement;
use super::{AdapterView, Census, Phase, PlanInput, ReplicaView, Target, first_to_go, is_spot};

/// Replicas to end, by id.
pub(super) struct Ends {
    pub(super) cloud: Vec<String>,
    pub(super) local: Vec<String>,
}

impl Ends {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.cloud.len() + self.local.len()).unwrap_or(u32::MAX)
    }
}

/// What is beyond the target and can be spared.
pub(super) fn ends(input: &PlanInput, census: &Census, target: &Target) -> Ends {
    let mut cover = Cover {
        wanted: input.wanted,
        ready: census.ready(),
        ready_or_paid: census.ready() + census.cloud.starting,
        alive: census.alive(),
    };
    let cloud = Surplus {
        beyond_target: census.cloud.alive().saturating_sub(target.cloud),
        beyond_limit: census.cloud.alive().saturating_sub(target.cloud_limit),
    };
    let local = Surplus {
        beyond_target: census.local.alive().saturating_sub(target.local),
        beyond_limit: census.local.alive().saturating_sub(input.local_max),
    };
    let order = |placement| order_of_leaving(&input.replicas, &input.adapters, input.on_demand_floor, placement);
    let cloud = cloud.pick(order(Placement::Cloud), &mut cover);
    let local = local.pick(order(Placement::Local), &mut cover);
    Ends { cloud, local }
}

/// The replicas of a place that count as capacity, in the order in which they go. What fills the on-demand floor goes last.
pub fn order_of_leaving<'a>(
    replicas: &'a [ReplicaView],
    adapters: &[AdapterView],
    on_demand_floor: u32,
    placement: Placement,
) -> Vec<&'a ReplicaView> {
    let alive = |replica: &&ReplicaView| matches!(replica.phase, Phase::Starting | Phase::Ready);
    let here = replicas.iter().filter(|replica| replica.placement == placement);
    let mut candidates: Vec<&ReplicaView> = here.filter(alive).collect();
    candidates.sort_by(|a, b| first_to_go(adapters, a, b));
    if placement == Placement::Cloud { floor_last(candidates, adapters, on_demand_floor) } else { candidates }
}

fn floor_last<'a>(candidates: Vec<&'a ReplicaView>, adapters: &[AdapterView], floor: u32) -> Vec<&'a ReplicaView> {
    let steady = |replica: &&ReplicaView| !is_spot(adapters, replica.adapter.as_deref());
    let beyond_floor = candidates.iter().filter(|r| steady(r)).count().saturating_sub(floor as usize);
    let mut seen = 0;
    let (floor, others): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|replica| {
        seen += usize::from(steady(replica));
        steady(replica) && seen > beyond_floor
    });
    others.into_iter().chain(floor).collect()
}

/// How many of a place are too many.
struct Surplus {
    /// To go once they can be spared.
    beyond_target: u32,
    /// To go at once: a limit was lowered, or the cloud is forbidden.
    beyond_limit: u32,
}

impl Surplus {
    fn pick(&self, candidates: Vec<&ReplicaView>, cover: &mut Cover) -> Vec<String> {
        let mut picked = Vec::new();
        for (rank, replica) in (0..self.beyond_target).zip(candidates) {
            if rank < self.beyond_limit || cover.can_spare(replica) {
                cover.remove(replica);
                picked.push(replica.id.clone());
            }
        }
        picked
    }
}

/// What stays, as replicas are picked.
struct Cover {
    wanted: u32,
    ready: u32,
    /// Ready ones, and instances that are starting.
    ready_or_paid: u32,
    alive: u32,
}

impl Cover {
    fn can_spare(&self, replica: &ReplicaView) -> bool {
        let stays = match (replica.phase, replica.placement) {
            (Phase::Ready, _) => self.ready,
            (_, Placement::Cloud) => self.ready_or_paid,
            _ => self.alive,
        };
        stays > self.wanted
    }

    fn remove(&mut self, replica: &ReplicaView) {
        let ready = u32::from(replica.phase == Phase::Ready);
        let paid = u32::from(replica.placement == Placement::Cloud);
        self.ready -= ready;
        self.ready_or_paid -= ready.max(paid);
        self.alive -= 1;
    }
}
