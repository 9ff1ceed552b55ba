//! What the world of a seed is like: prices, limits, clocks, and how much goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chance::Chance;
use crate::logic::breaker::{self, Backoff};
use crate::logic::budget::{Caps, Money, Terms};
use crate::logic::burst::{AdapterSettings, RENEWAL_DEADLINE};

/// The time between two looks at what is due. Production's is 25 ms; with a second a seed plays in milliseconds, and the
/// horizon that the budget counts with includes it all the same.
pub const STEP: Duration = Duration::from_secs(1);

/// What ends an instance that nobody wants any more. Each can be switched off, to see the others do it alone.
#[derive(Clone, Copy, Debug)]
pub struct Nets {
    /// What was acknowledged by the journal is there at the next start.
    pub journal: bool,
    /// The wrapper ends what is not renewed.
    pub lease: bool,
    /// The providers list what lives.
    pub sweep: bool,
    /// The provider ends what is too old.
    pub max_life: bool,
    /// What the journal acknowledges is on the disk. Beneath all nets: without it nothing is launched safely.
    pub sync: bool,
}

impl Nets {
    /// All of them.
    pub const ALL: Self = Self { journal: true, lease: true, sweep: true, max_life: true, sync: true };
    /// None of them.
    pub const NONE: Self = Self { journal: false, lease: false, sweep: false, max_life: false, sync: true };
}

/// One provider and its adapter.
#[derive(Clone, Debug)]
pub struct AdapterWorld {
    /// What the engine knows.
    pub settings: AdapterSettings,
    /// Instances that the provider has room for.
    pub room: u32,
    /// From the acceptance to the wrapper's start, the longest, in seconds.
    pub pull: f64,
    /// From the wrapper's start to ready, the longest, in seconds.
    pub start: f64,
    /// Share of instances that never become ready.
    pub never_ready: f64,
    /// How long it lists what ended.
    pub keeps_ended: Duration,
    /// Whether instances hold a lease; others end at the provider's bound.
    pub leased: bool,
}

/// How often what goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Mean seconds between two faults somewhere.
    pub fault_every: f64,
    /// Chance of a crash at each journal write and provider call; a hundredth of it at each renewal.
    pub crash: f64,
    /// Mean seconds between two crashes at any moment.
    pub crash_every: f64,
    /// The longest time until the node is back, in seconds.
    pub away: f64,
    /// Chance that a crash tears the journal.
    pub corrupt: f64,
    /// Mean seconds between two pauses of the node, and of some instance.
    pub pause_every: f64,
    /// Mean seconds between two deaths of some instance, or preemptions where it is a spot one.
    pub death_every: f64,
    /// Share of renewals that are lost, doubled, or repeated late.
    pub renewal_noise: f64,
}

/// The whole world of one seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// By name.
    pub adapters: BTreeMap<String, AdapterWorld>,
    /// The budget.
    pub caps: Caps,
    /// Most instances at once.
    pub burst_max: u32,
    /// Seconds of the node's clock in a true one.
    pub node_rate: f64,
    /// Clocks run at up to twice or half their speed; where not, the true bill is checked too.
    pub skewed: bool,
    /// The nets.
    pub nets: Nets,
    /// When the node goes for good.
    pub leaves_at: Option<Duration>,
    /// When it crashes, apart from all chance.
    pub crash_at: Vec<Duration>,
    /// When another box with a copy of the state directory launches.
    pub clone_at: Option<Duration>,
    /// Wrappers that take each lease for so much longer than it was granted: none do, but for the test of this check.
    pub lease_overrun: Duration,
    /// How much goes wrong until `calm_at`.
    pub trouble: Trouble,
    /// From here on everything works again.
    pub calm_at: Duration,
    /// From here on nothing is wanted.
    pub empty_at: Duration,
    /// The end.
    pub ends_at: Duration,
}

impl Scenario {
    /// A seed's world: two hours, of which the last half is calm enough to see everything mend.
    pub fn of(chance: &mut Chance) -> Self {
        let skewed = chance.hits(0.4);
        let names = &["alpha", "beta", "gamma"][..usize::try_from(chance.count(1, 3)).unwrap_or(1)];
        let adapters: BTreeMap<String, AdapterWorld> =
            names.iter().map(|name| ((*name).to_owned(), AdapterWorld::of(chance))).collect();
        let burst_max = chance.count(1, 6);
        let caps = caps(chance, &adapters);
        let intensity = chance.seconds(0.3, 2.0).as_secs_f64();
        let clone_at = chance.hits(0.04).then(|| chance.seconds(600.0, 4_000.0));
        Self {
            adapters,
            caps,
            burst_max,
            node_rate: if skewed { chance.spread(0.5, 2.0).as_secs_f64() } else { 1.0 },
            skewed,
            nets: Nets::ALL,
            leaves_at: chance.hits(0.1).then(|| chance.seconds(300.0, 5_000.0)),
            crash_at: Vec::new(),
            lease_overrun: Duration::ZERO,
            clone_at,
            trouble: Trouble {
                fault_every: 150.0 / intensity,
                crash: 0.004 * intensity,
                crash_every: 3_000.0 / intensity,
                away: 400.0,
                // Without its journal a node cannot tell a clone's instances from its own.
                corrupt: if clone_at.is_some() { 0.0 } else { 0.1 },
                pause_every: 900.0 / intensity,
                death_every: 2_000.0 / intensity,
                renewal_noise: 0.02 * intensity,
            },
            calm_at: Duration::from_secs(5_000),
            empty_at: Duration::from_secs(6_200),
            ends_at: Duration::from_secs(7_200),
        }
    }

    /// A world without trouble but crashes, for the nets: one provider, no budget, one crash at least. `bounded` says
    /// whether the provider declares how long an instance lives at most.
    pub fn quiet(chance: &mut Chance, nets: Nets, bounded: bool) -> Self {
        let mut adapter = AdapterWorld::of(chance);
        adapter.settings.lease_ttl = Some(chance.seconds(20.0, 60.0));
        adapter.settings.max_life = bounded.then(|| chance.seconds(200.0, 600.0));
        (adapter.never_ready, adapter.leased, adapter.room) = (0.0, true, 8);
        let never = f64::INFINITY;
        Self {
            caps: Caps::default(),
            nets,
            leaves_at: None,
            crash_at: vec![chance.seconds(60.0, 1_200.0)],
            clone_at: None,
            adapters: BTreeMap::from([("alpha".to_owned(), adapter)]),
            trouble: Trouble {
                fault_every: never,
                crash: 0.01,
                crash_every: never,
                away: 20.0,
                corrupt: 0.0,
                pause_every: never,
                death_every: never,
                renewal_noise: 0.0,
            },
            calm_at: Duration::from_secs(1_800),
            empty_at: Duration::from_secs(2_400),
            ends_at: Duration::from_secs(3_600),
            ..Self::of(chance)
        }
    }
}

impl AdapterWorld {
    /// A provider like one of those that there are.
    pub fn of(chance: &mut Chance) -> Self {
        let leased = !chance.hits(0.15);
        let seconds = Duration::from_secs;
        let settings = AdapterSettings {
            terms: Terms {
                price_per_hour: Money::from_micros(i64::from(chance.count(1, 50)) * 100_000),
                minimum_billing: chance.pick(&[seconds(0), seconds(60), seconds(600)]),
                billing_step: chance.pick(&[seconds(0), seconds(1), seconds(60), seconds(3_600)]),
            },
            lease_ttl: chance.pick(&[Some(seconds(20)), Some(seconds(30)), Some(seconds(60)), None]),
            start_timeout: chance.pick(&[seconds(45), seconds(120)]),
            drain_timeout: chance.pick(&[seconds(5), seconds(10), seconds(30)]),
            max: chance.count(1, 6),
            spot: chance.hits(0.4),
            max_life: (!leased).then(|| chance.seconds(300.0, 1_200.0)),
            circuit: breaker::Config {
                failures: 3,
                open: Backoff { base: seconds(5), cap: seconds(60) },
                probe_timeout: seconds(60),
            },
            full: Backoff { base: seconds(10), cap: seconds(60) },
            list_every: chance.pick(&[seconds(15), seconds(30), seconds(60)]),
        };
        Self {
            settings,
            room: chance.count(1, 8),
            pull: chance.spread(0.1, 8.0).as_secs_f64(),
            start: chance.spread(0.5, 20.0).as_secs_f64(),
            never_ready: if chance.hits(0.3) { 0.1 } else { 0.0 },
            keeps_ended: chance.pick(&[seconds(0), seconds(0), seconds(40)]),
            leased,
        }
    }
}

/// Four of ten worlds have no cap; the others bear a few launches, for the hour, the day, or both.
fn caps(chance: &mut Chance, adapters: &BTreeMap<String, AdapterWorld>) -> Caps {
    if chance.hits(0.4) {
        return Caps::default();
    }
    let launch = |adapter: &AdapterWorld| {
        let settings = &adapter.settings;
        let lease =
            settings.lease_ttl.unwrap_or(Duration::from_secs(180)) + settings.drain_timeout + STEP + RENEWAL_DEADLINE;
        settings.terms.cost(lease.max(settings.max_life.unwrap_or_default())).micros()
    };
    let dearest = adapters.values().map(launch).max().unwrap_or(1);
    let mut cap =
        |from: u32, to: u32| Money::from_micros(dearest.saturating_mul(i64::from(chance.count(from, to))) / 2);
    let (hour, day) = (cap(1, 16), cap(4, 30));
    match chance.below(3) {
        0 => Caps { per_hour: Some(hour), per_day: None },
        1 => Caps { per_hour: None, per_day: Some(day) },
        _ => Caps { per_hour: Some(hour), per_day: Some(day) },
    }
}
