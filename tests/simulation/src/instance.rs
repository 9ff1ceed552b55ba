//! One instance at a provider: the production wrapper's lease and life on a clock of its own.

use std::time::Duration;

#[expect(dead_code, reason = "the production file whole; the simulation asks less of it")]
#[path = "../../../src/wrap/lease.rs"]
mod lease;
#[expect(dead_code, reason = "the production file whole; the simulation asks less of it")]
#[path = "../../../src/wrap/life.rs"]
mod life;

use lease::{Lease, MAX_TTL, RenewalOrder};
use life::{EndReason, Life, Limits, Next, Phase};

/// The wrapper looks at its lease at least this often.
pub const WRAPPER_TICK: Duration = Duration::from_secs(1);
/// Its server has this long to answer, as the wrapper's own setting says.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// What an instance's clock shows when it begins: not zero, so that nobody can take it for a duration.
const BOOT: Duration = Duration::from_secs(1_000);

/// Who an instance is.
#[derive(Clone, Debug)]
pub struct Label {
    /// Launch id.
    pub launch: String,
    /// The session that asked for it.
    pub session: u64,
    /// Another box's, under our id.
    pub foreign: bool,
}

/// What it was launched with.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    /// Its lease.
    pub ttl: Duration,
    /// How long its requests get.
    pub drain_timeout: Duration,
    /// Whether its wrapper obeys the lease; a broken one does not.
    pub leased: bool,
    /// By how much its wrapper's lease is longer than what was granted.
    pub overrun: Duration,
}

impl Permit {
    fn lease(&self, granted: Duration) -> Duration {
        if self.leased { granted + self.overrun } else { MAX_TTL }
    }
}

/// What an instance says to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// It goes.
    Draining,
    /// The renewal was old.
    Stale,
}

/// What is next at an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again then, in true time.
    At(Duration),
    /// It ends now.
    End(Why),
}

/// Why an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its lease was not renewed.
    Lease,
    /// It was asked to.
    Asked,
    /// Its server did not come up.
    NeverReady,
    /// By itself.
    Died,
    /// The provider took it away.
    Preempted,
    /// The provider's own bound.
    MaxLife,
    /// The provider did not wait for its drain any longer.
    Killed,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(crate) label: Label,
    pub(crate) accepted_at: Duration,
    /// When its wrapper begins, and the provider's bill.
    pub(crate) begins_at: Duration,
    pub(crate) ended_at: Option<Duration>,
    pub(crate) ready_at: Option<Duration>,
    pub(crate) in_flight: u64,
    pub(crate) paused_until: Duration,
    /// The provider will take it away.
    pub(crate) noticed: bool,
    /// Asked to end, so that no list keeps it once it ended.
    pub(crate) deleted: bool,
    /// What of its cost the budget cannot have known, if anything.
    pub(crate) excuse: Option<&'static str>,
    permit: Permit,
    rate: f64,
    life: Option<Life>,
    /// Its own clock at the last renewal that it took, or at its start.
    heard_at: Duration,
    /// The newest renewal that reached it, judged here and not by the wrapper.
    newest: (u64, u64),
    /// Its own clock when it began to drain.
    drains_since: Option<Duration>,
    wakes_at: Option<Duration>,
}

impl Instance {
    pub(crate) fn new(label: Label, permit: Permit, accepted_at: Duration, begins_at: Duration, rate: f64) -> Self {
        Self {
            label,
            accepted_at,
            begins_at,
            ended_at: None,
            ready_at: None,
            in_flight: 0,
            paused_until: Duration::ZERO,
            noticed: false,
            deleted: false,
            excuse: None,
            permit,
            rate,
            life: None,
            heard_at: BOOT,
            newest: (0, 0),
            drains_since: None,
            wakes_at: None,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Whether its wrapper runs.
    pub(crate) fn has_begun(&self) -> bool {
        self.life.is_some()
    }

    pub(crate) fn begin(&mut self) {
        let lease = Lease::new(self.label.launch.clone(), self.permit.lease(self.permit.ttl), BOOT);
        let limits = Limits { ready_timeout: READY_TIMEOUT, drain_timeout: self.permit.drain_timeout };
        self.life = Some(Life::new(lease, limits, BOOT));
    }

    pub(crate) fn server_is_ready(&mut self, now: Duration) {
        if let Some(life) = &mut self.life {
            life.server_is_ready();
            self.ready_at.get_or_insert(now);
        }
    }

    /// A renewal arrives.
    pub(crate) fn renew(&mut self, session: u64, sequence: u64, ttl: Duration, now: Duration) -> Answer {
        let local = self.local(now);
        let Some(life) = &mut self.life else { return Answer::Starting };
        let lease = self.permit.lease(ttl);
        if life.renew(&self.label.launch, RenewalOrder { session, sequence }, lease, local).is_err() {
            return Answer::Stale;
        }
        if (session, sequence) > self.newest {
            self.newest = (session, sequence);
            self.heard_at = local;
            self.permit.ttl = ttl;
        }
        self.answer()
    }

    /// The provider signals its end.
    pub(crate) fn terminate(&mut self, now: Duration) {
        let local = self.local(now);
        if let Some(life) = &mut self.life {
            life.drain(EndReason::Signalled, local);
        }
    }

    /// What to do now; looks at the lease and the drain.
    pub(crate) fn next(&mut self, now: Duration) -> Step {
        let local = self.local(now);
        let Some(life) = &mut self.life else { return Step::At(self.begins_at) };
        let next = life.next(local, self.in_flight);
        if life.phase() == Phase::Draining {
            self.drains_since.get_or_insert(local);
        }
        match next {
            Next::WaitUntil(until) => Step::At(self.true_time(until)),
            Next::End(EndReason::LeaseExpired) => Step::End(Why::Lease),
            Next::End(EndReason::NeverReady { .. }) => Step::End(Why::NeverReady),
            Next::End(_) => Step::End(Why::Asked),
        }
    }

    /// Notes a time to look again; false where one that is no later is noted already.
    pub(crate) fn wake(&mut self, at: Duration) -> bool {
        let is_sooner = self.wakes_at.is_none_or(|noted| at < noted);
        if is_sooner {
            self.wakes_at = Some(at);
        }
        is_sooner
    }

    /// The time that was noted has come.
    pub(crate) fn woke(&mut self, now: Duration) {
        if self.wakes_at.is_some_and(|noted| noted <= now) {
            self.wakes_at = None;
        }
    }

    pub(crate) fn answer(&self) -> Answer {
        match self.life.as_ref().map(Life::phase) {
            None | Some(Phase::Starting) => Answer::Starting,
            Some(Phase::Ready) => Answer::Ready,
            Some(Phase::Draining) => Answer::Draining,
        }
    }

    pub(crate) fn takes_requests(&self) -> bool {
        self.answer() == Answer::Ready
    }

    /// How long it has drained, by its own clock.
    pub(crate) fn drained_for(&self, now: Duration) -> Duration {
        self.drains_since.map_or(Duration::ZERO, |since| self.local(now).saturating_sub(since))
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.permit.drain_timeout
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.permit.ttl
    }

    pub(crate) fn is_leased(&self) -> bool {
        self.permit.leased
    }

    /// By how much, on its own clock, it outlived its last renewal by more than lease, drain and one tick.
    pub(crate) fn overdue(&self, now: Duration) -> Duration {
        let allowed = self.permit.ttl + self.permit.drain_timeout + WRAPPER_TICK;
        let lived = if self.has_begun() { self.local(now).saturating_sub(self.heard_at) } else { Duration::ZERO };
        lived.saturating_sub(allowed)
    }

    fn local(&self, now: Duration) -> Duration {
        BOOT + now.saturating_sub(self.begins_at).mul_f64(self.rate)
    }

    /// The first microsecond at which its clock shows at least this.
    fn true_time(&self, local: Duration) -> Duration {
        let exact = self.begins_at + local.saturating_sub(BOOT).div_f64(self.rate);
        exact + Duration::from_micros(1)
    }
}
