//! What others do, each written from its documented rule. A baseline says how many replicas it wants; the node's planner
//! does the rest, as it does for a policy of our own.

use std::collections::VecDeque;
use std::time::Duration;

use super::engine::{Rule, Seen};
use crate::logic::load::ServiceLoad;
use crate::logic::plan::{Action, Cloud, PlanInput, plan};
use crate::logic::policy::Bounds;

/// A rule that says how many replicas it wants.
pub trait Wish {
    /// Replicas wanted, local ones included; what it says is held to the bounds, and it begins at the least.
    fn wanted(&mut self, seen: &Seen<'_>, bounds: Bounds) -> u32;
}

/// The same number at all times.
#[derive(Clone, Debug)]
pub struct Static(pub u32);

impl Wish for Static {
    fn wanted(&mut self, _: &Seen<'_>, _: Bounds) -> u32 {
        self.0
    }
}

/// Carries a wish out by the node's planner.
pub struct Planned<W> {
    wish: W,
    local: u32,
    max: u32,
}

impl<W: Wish> Planned<W> {
    /// Local replicas are always there; `max` counts them.
    pub fn new(wish: W, local: u32, max: u32) -> Self {
        Self { wish, local, max }
    }
}

impl<W: Wish> Rule for Planned<W> {
    fn step(&mut self, seen: &Seen<'_>) -> Vec<Action> {
        // None of those that scale goes to none.
        let bounds = Bounds { min: self.local.max(1), max: self.max };
        let wanted = Bounds { min: self.local, ..bounds }.clamp(self.wish.wanted(seen, bounds));
        if wanted == seen.ready + seen.starting {
            return Vec::new();
        }
        let input = PlanInput {
            wanted,
            local_max: self.local,
            local_obstacle: None,
            burst_max: self.max.saturating_sub(self.local),
            on_demand_floor: 0,
            cloud: Cloud::Allowed,
            replicas: seen.replicas.to_vec(),
            adapters: seen.adapters.to_vec(),
        };
        plan(&input).actions
    }
}

/// Samples of the last while, and their means.
#[derive(Clone, Debug, Default)]
struct Recent {
    samples: VecDeque<(Duration, f64, f64)>,
}

impl Recent {
    /// Keeps what is at most `span` old.
    fn push(&mut self, at: Duration, load: &ServiceLoad, span: Duration) {
        self.samples.push_back((at, load.in_flight + load.queued, load.arrivals_per_s));
        while self.samples.front().is_some_and(|(first, ..)| at.saturating_sub(*first) >= span) {
            self.samples.pop_front();
        }
    }

    fn mean(&self, pick: fn(&(Duration, f64, f64)) -> f64) -> f64 {
        self.samples.iter().map(pick).sum::<f64>() / (self.samples.len().max(1) as f64)
    }

    fn requests(&self) -> f64 {
        self.mean(|sample| sample.1)
    }

    fn rate(&self) -> f64 {
        self.mean(|sample| sample.2)
    }
}

/// The first whole number of replicas that is at least this.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates when it becomes a u32")]
fn whole(replicas: f64) -> u32 {
    replicas.ceil() as u32
}

/// Kubernetes' horizontal pod autoscaler on requests in flight and waiting per replica (an average value of a metric that is not
/// the pods' own), with its default behaviour: every 15 s the count that would bring the average to its target, unless it is within
/// a tenth of it; up by the greater of four replicas and as many as there are, each 15 s; down to the highest count that was
/// recommended during the stabilisation window.
#[derive(Clone, Debug)]
pub struct Hpa {
    /// Requests in flight and waiting per replica.
    pub target: f64,
    /// `behavior.scaleDown.stabilizationWindowSeconds`; 300 s unless set.
    pub down_window: Duration,
    recent: Recent,
    recommended: VecDeque<(Duration, u32)>,
    next: Duration,
    wanted: u32,
}

const HPA_PERIOD: Duration = Duration::from_secs(15);
const HPA_TOLERANCE: f64 = 0.1;

impl Hpa {
    /// With the documented defaults where `down_window` is 300 s.
    pub fn new(target: f64, down_window: Duration) -> Self {
        Self {
            target,
            down_window,
            recent: Recent::default(),
            recommended: VecDeque::new(),
            next: Duration::ZERO,
            wanted: 0,
        }
    }
}

impl Wish for Hpa {
    fn wanted(&mut self, seen: &Seen<'_>, bounds: Bounds) -> u32 {
        let now = seen.sample.at;
        self.recent.push(now, seen.load, HPA_PERIOD);
        if now < self.next {
            return self.wanted;
        }
        self.next = now + HPA_PERIOD;
        let current = bounds.clamp(self.wanted);
        let ratio = self.recent.requests() / (self.target * f64::from(current.max(1)));
        let desired =
            if (ratio - 1.0).abs() <= HPA_TOLERANCE { current } else { whole(self.recent.requests() / self.target) };
        let desired = bounds.clamp(desired);
        self.recommended.push_back((now, desired));
        while self.recommended.front().is_some_and(|(at, _)| now.saturating_sub(*at) > self.down_window) {
            self.recommended.pop_front();
        }
        let highest = self.recommended.iter().map(|(_, desired)| *desired).max().unwrap_or(desired);
        self.wanted = match desired > current {
            true => desired.min((current * 2).max(current + 4)),
            false => highest.min(current),
        };
        self.wanted
    }
}

/// Ray Serve's default policy: as many replicas as bring the requests in flight and waiting, averaged over the look-back, to the
/// target of each; more once that was so for the whole upscale delay, fewer once for the whole downscale delay.
#[derive(Clone, Debug)]
pub struct Ray {
    /// `target_ongoing_requests`.
    pub target: f64,
    /// `upscale_delay_s`; 30 s unless set.
    pub up_delay: Duration,
    /// `downscale_delay_s`; 600 s unless set.
    pub down_delay: Duration,
    recent: Recent,
    /// Since when more (or fewer) have been called for without a break.
    since: Option<(bool, Duration)>,
    wanted: u32,
}

/// `look_back_period_s`.
const RAY_LOOK_BACK: Duration = Duration::from_secs(30);

impl Ray {
    /// With the documented defaults where the delays are 30 s and 600 s.
    pub fn new(target: f64, up_delay: Duration, down_delay: Duration) -> Self {
        Self { target, up_delay, down_delay, recent: Recent::default(), since: None, wanted: 0 }
    }
}

impl Wish for Ray {
    fn wanted(&mut self, seen: &Seen<'_>, bounds: Bounds) -> u32 {
        let now = seen.sample.at;
        self.recent.push(now, seen.load, RAY_LOOK_BACK);
        self.wanted = bounds.clamp(self.wanted);
        let desired = bounds.clamp(whole(self.recent.requests() / self.target));
        if desired == self.wanted {
            self.since = None;
            return self.wanted;
        }
        let up = desired > self.wanted;
        let since = match self.since {
            Some((same, since)) if same == up => since,
            _ => now,
        };
        self.since = Some((up, since));
        let delay = if up { self.up_delay } else { self.down_delay };
        if now.saturating_sub(since) >= delay {
            self.since = None;
            self.wanted = desired;
        }
        self.wanted
    }
}

/// SkyServe's request rate autoscaler: the rate of the last minute over the rate that a replica is meant for, taken up once that was
/// called for in every decision during the upscale (or downscale) delay.
#[derive(Clone, Debug)]
pub struct SkyServe {
    /// `target_qps_per_replica`.
    pub target: f64,
    /// `upscale_delay_seconds`; 300 s unless set.
    pub up_delay: Duration,
    /// `downscale_delay_seconds`; 1,200 s unless set.
    pub down_delay: Duration,
    recent: Recent,
    next: Duration,
    up: u32,
    down: u32,
    wanted: u32,
}

const SKY_PERIOD: Duration = Duration::from_secs(20);
const SKY_WINDOW: Duration = Duration::from_secs(60);

impl SkyServe {
    /// With the documented defaults where the delays are 300 s and 1,200 s.
    pub fn new(target: f64, up_delay: Duration, down_delay: Duration) -> Self {
        Self {
            target,
            up_delay,
            down_delay,
            recent: Recent::default(),
            next: Duration::ZERO,
            up: 0,
            down: 0,
            wanted: 0,
        }
    }
}

impl Wish for SkyServe {
    fn wanted(&mut self, seen: &Seen<'_>, bounds: Bounds) -> u32 {
        let now = seen.sample.at;
        self.recent.push(now, seen.load, SKY_WINDOW);
        if now < self.next {
            return self.wanted;
        }
        self.next = now + SKY_PERIOD;
        let periods = |delay: Duration| whole(delay.as_secs_f64() / SKY_PERIOD.as_secs_f64()).max(1);
        self.wanted = bounds.clamp(self.wanted);
        let desired = bounds.clamp(whole(self.recent.rate() / self.target));
        self.up = if desired > self.wanted { self.up + 1 } else { 0 };
        self.down = if desired < self.wanted { self.down + 1 } else { 0 };
        if self.up >= periods(self.up_delay) || self.down >= periods(self.down_delay) {
            (self.up, self.down) = (0, 0);
            self.wanted = desired;
        }
        self.wanted
    }
}

/// A plan over time that knew the trace; see [`super::optimum`].
#[derive(Clone, Debug)]
pub struct Foresight {
    /// Replicas wanted from each moment on.
    pub plan: Vec<(Duration, u32)>,
    next: usize,
    wanted: u32,
}

impl Foresight {
    /// Follows this plan, whose moments ascend.
    pub fn new(plan: Vec<(Duration, u32)>) -> Self {
        Self { plan, next: 0, wanted: 0 }
    }
}

impl Wish for Foresight {
    fn wanted(&mut self, seen: &Seen<'_>, _: Bounds) -> u32 {
        while let Some((from, wanted)) = self.plan.get(self.next)
            && *from <= seen.sample.at
        {
            self.wanted = *wanted;
            self.next += 1;
        }
        self.wanted
    }
}
