//! Which adapters to launch at: the cheapest that can, again and again, until there is enough.

use super::super::route::Placement;
use super::{AdapterView, Census, Phase, PlanInput, Why, by_price, is_spot};

/// Slack for a sum of shares of the budget: three thirds are one.
const TOLERANCE: f64 = 1e-9;

/// What to launch, and what stands in the way of more.
pub(super) struct Launches {
    /// One entry for each launch.
    pub(super) adapters: Vec<String>,
    /// Set when fewer than needed.
    pub(super) obstacle: Option<Why>,
}

impl Launches {
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.adapters.len()).unwrap_or(u32::MAX)
    }
}

/// Launches that bring the instances to `target`.
pub(super) fn launches(input: &PlanInput, census: &Census, target: u32) -> Launches {
    let needed = target.saturating_sub(census.cloud.alive());
    let places = input.burst_max.saturating_sub(census.cloud.alive() + census.cloud.draining);
    let mut market = Market::of(&input.adapters, input.on_demand_floor.saturating_sub(on_demand(input)));
    let adapters: Vec<String> = (0..needed.min(places)).map_while(|_| market.buy()).collect();
    let mut launches = Launches { adapters, obstacle: None };
    if launches.count() < needed {
        let wholly_launched = launches.count() == places;
        launches.obstacle = Some(if wholly_launched { Why::Draining } else { market.obstacle() });
    }
    launches
}

/// The instances that nobody takes away, ready or on their way.
fn on_demand(input: &PlanInput) -> u32 {
    let alive = |phase| matches!(phase, Phase::Starting | Phase::Ready);
    let instances = input.replicas.iter().filter(|r| r.placement == Placement::Cloud && alive(r.phase));
    u32::try_from(instances.filter(|r| !is_spot(&input.adapters, r.adapter.as_deref())).count()).unwrap_or(u32::MAX)
}

/// The adapters by price, with what this plan has bought so far.
struct Market<'a> {
    stalls: Vec<Stall<'a>>,
    /// Share of the remaining budget that this plan uses. An adapter that affords n launches sells each for 1/n of it:
    /// launches at several adapters draw on one purse.
    spent: f64,
    /// So many of the next ones are to be ones that nobody takes away.
    on_demand: u32,
}

struct Stall<'a> {
    adapter: &'a AdapterView,
    alive: u32,
}

impl<'a> Market<'a> {
    fn of(adapters: &'a [AdapterView], on_demand: u32) -> Self {
        let mut stalls: Vec<Stall<'a>> =
            adapters.iter().map(|adapter| Stall { adapter, alive: adapter.alive }).collect();
        stalls.sort_by(|a, b| by_price(a.adapter, b.adapter));
        Self { stalls, spent: 0.0, on_demand }
    }

    /// The name of the cheapest adapter that can launch one more. Where none can launch what nobody takes away, the
    /// others are better than nothing.
    fn buy(&mut self) -> Option<String> {
        let spent = self.spent;
        let can = |stall: &Stall<'_>| stall.obstacle(spent).is_none();
        let steady = self.stalls.iter().position(|stall| can(stall) && !stall.adapter.spot);
        let any = self.stalls.iter().position(can)?;
        let stall = &mut self.stalls[steady.filter(|_| self.on_demand > 0).unwrap_or(any)];
        self.on_demand = self.on_demand.saturating_sub(1);
        stall.alive += 1;
        self.spent += stall.share();
        Some(stall.adapter.name.clone())
    }

    /// What to tell when nothing can be bought: what an operator can least expect comes first.
    fn obstacle(&self) -> Why {
        let obstacles = self.stalls.iter().filter_map(|stall| stall.obstacle(self.spent));
        obstacles.min_by_key(severity).unwrap_or(Why::NoAdapter)
    }
}

impl Stall<'_> {
    fn obstacle(&self, spent: f64) -> Option<Why> {
        let adapter = self.adapter.name.clone();
        if let Some(why) = self.adapter.held_back.clone() {
            Some(Why::HeldBack { adapter, why })
        } else if self.alive >= self.adapter.max {
            Some(Why::NoRoom { adapter, max: self.adapter.max })
        } else if self.adapter.affordable == 0 || spent + self.share() > 1.0 + TOLERANCE {
            Some(Why::OverBudget { adapter })
        } else {
            None
        }
    }

    fn share(&self) -> f64 {
        match self.adapter.affordable {
            u32::MAX => 0.0,
            launches => 1.0 / f64::from(launches),
        }
    }
}

fn severity(why: &Why) -> u8 {
    match why {
        Why::OverBudget { .. } => 0,
        Why::HeldBack { .. } => 1,
        _ => 2,
    }
}
