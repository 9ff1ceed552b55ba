//! Who may go to a replica now, who waits, and who is turned away.
//!
//! A request holds a slot at one particular endpoint, so the number of permits of a service is always the sum of its
//! endpoints' concurrency: a table that shrinks takes no slot from a request in flight, one that grows serves those who
//! wait at once, and an ejected endpoint's slots are nobody's. With no endpoint at all everybody waits, which is how a
//! service scaled to zero keeps its requests until the first replica is there.
//!
//! Who waits is served in the order of arrival, with two exceptions: a request on its second try comes first, and one
//! that must stay local does not hold up those that need not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::oneshot;

use super::ServiceOptions;
use super::clock::Clock;
use super::meters::ServiceMeters;
use super::slot::Slot;
use crate::logic::load::ServiceCounters;
use crate::logic::route::{self, Ask, Endpoint, Placement, Rotation, ServiceRoute};

/// Who waits looks up this often on its own: an ejection's end sends no signal, and a signal that was ever missed costs
/// this delay and nothing more.
const PATROL: Duration = Duration::from_millis(250);

/// What a request asks of the replica it goes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    pub(super) placement: Option<Placement>,
    /// Whether other nodes will do.
    pub(super) peers: bool,
    /// Set on a second try.
    pub(super) avoid: Option<Arc<Endpoint>>,
}

/// Why a request got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    QueueFull,
    Expired,
    Stopping,
}

/// One service in the data plane.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    options: ArcSwap<ServiceOptions>,
    pub(super) counters: Arc<ServiceCounters>,
    /// Of requests that other nodes sent.
    pub(super) guests: Arc<ServiceCounters>,
    pub(super) meters: ServiceMeters,
    clock: Clock,
    route: ArcSwap<ServiceRoute>,
    rotation: Rotation,
    /// It is gone from the configuration: what it has taken is answered, and nothing more is taken.
    is_retired: AtomicBool,
    /// How many stand in `line`, readable without its lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

impl Service {
    pub(super) fn new(options: ServiceOptions, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            meters: ServiceMeters::new(&options.name),
            name: options.name.clone(),
            options: ArcSwap::from_pointee(options),
            counters: Arc::default(),
            guests: Arc::default(),
            clock,
            route: ArcSwap::default(),
            rotation: Rotation::default(),
            is_retired: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
        })
    }

    /// How its requests are treated now.
    pub(super) fn options(&self) -> Guard<Arc<ServiceOptions>> {
        self.options.load()
    }

    /// Treats requests so from the next one on.
    pub(super) fn reconfigure(&self, options: ServiceOptions) {
        self.options.store(Arc::new(options));
        let mut line = self.line();
        if self.is_retired.swap(false, Ordering::AcqRel) {
            line.is_closed = false;
        }
    }

    /// Takes no more requests.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Whether requests of its own clients are not answered yet.
    pub(super) fn has_requests(&self) -> bool {
        self.counters.read(self.clock.now()).unanswered() > 0
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    pub(super) fn install(self: &Arc<Self>, route: Arc<ServiceRoute>) {
        self.route.store(route);
        self.hand_out();
    }

    pub(super) fn replicas(&self) -> Vec<Arc<Endpoint>> {
        self.route.load().endpoints.clone()
    }

    pub(super) fn has_replica(&self) -> bool {
        !self.route.load().endpoints.is_empty()
    }

    pub(super) fn has_replica_at(&self, placement: Placement) -> bool {
        self.route.load().endpoints.iter().any(|endpoint| endpoint.placement == placement)
    }

    /// A slot that is free now, without regard to those who wait.
    pub(super) fn take_now(self: &Arc<Self>, demand: &Demand) -> Option<Slot> {
        let now = self.clock.now();
        self.take(&self.route.load(), demand, now).map(|endpoint| Slot::new(Arc::clone(self), endpoint, now))
    }

    /// A slot at a local replica for another node's request, where there is room for it: never in front of a request of this
    /// node's own.
    pub(super) fn take_for_guest(self: &Arc<Self>, demand: &Demand) -> Option<Slot> {
        let has_room =
            self.waiting.load(Ordering::SeqCst) == 0 && route::has_room_for_guest(&self.route.load().endpoints);
        has_room.then(|| self.take_now(demand))?.map(Slot::for_guest)
    }

    /// A slot now or, in turn, until `deadline` (since the epoch).
    pub(super) async fn admit(self: &Arc<Self>, demand: &Demand, deadline: Duration) -> Result<Slot, NoSlot> {
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(slot) = self.take_now(demand)
        {
            return Ok(slot);
        }
        match self.stand_in_line(demand)? {
            Place::Served(slot) => Ok(slot),
            Place::Waiting(ticket) => self.wait(ticket, deadline).await,
        }
    }

    /// Serves those who wait while there are slots for them.
    pub(super) fn hand_out(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut line = self.line();
        let (route, now) = (self.route.load(), self.clock.now());
        while let Some((number, endpoint)) = line.first_served(|demand| self.take(&route, demand, now)) {
            let slot = Slot::new(Arc::clone(self), endpoint, now);
            match self.leave(&mut line, number) {
                Some(waiter) => waiter.give.send(slot).unwrap_or_else(Slot::put_back),
                None => slot.put_back(),
            }
        }
    }

    /// Turns away all who wait, and from now on whoever would have to: the node stops and hands out no more slots in time.
    pub(super) fn turn_away(&self) {
        self.close(self.line());
    }

    /// The same where the service is gone, unless it has just come again.
    pub(super) fn turn_away_from_retired(&self) {
        let line = self.line();
        if self.is_retired() {
            self.close(line);
        }
    }

    fn close(&self, mut line: MutexGuard<'_, Line>) {
        line.is_closed = true;
        for number in line.waiters.keys().copied().collect::<Vec<_>>() {
            // Who waits hears of it by the sender that goes.
            drop(self.leave(&mut line, number));
        }
    }

    fn take(&self, route: &ServiceRoute, demand: &Demand, now: Duration) -> Option<Arc<Endpoint>> {
        let Demand { placement, peers, avoid } = demand;
        let ask = Ask { placement: *placement, peers: *peers, avoid: avoid.as_ref(), now, random: fastrand::u64(..) };
        // Another request may take the last slot between the choice and the taking; then the choice is made again.
        loop {
            let endpoint = route::pick(self.options().balance, &self.rotation, &route.endpoints, &ask)?;
            if endpoint.try_take(now) {
                return Some(Arc::clone(endpoint));
            }
        }
    }

    /// A place in the line, or a slot where nobody who wants the same stands in it.
    fn stand_in_line(self: &Arc<Self>, demand: &Demand) -> Result<Place, NoSlot> {
        let mut line = self.line();
        let class = Class::of(demand);
        if line.is_empty(class)
            && let Some(slot) = self.take_now(demand)
        {
            return Ok(Place::Served(slot));
        }
        if line.is_closed {
            return Err(NoSlot::Stopping);
        }
        if line.has_no_room(class, self.options().queue) {
            return Err(NoSlot::QueueFull);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let (number, given) = line.join(class, demand.clone());
        Ok(Place::Waiting(Ticket::new(Arc::clone(self), number, class, given)))
    }

    async fn wait(self: &Arc<Self>, mut ticket: Ticket, deadline: Duration) -> Result<Slot, NoSlot> {
        // A slot may have become free before this one stood in the line.
        self.hand_out();
        loop {
            let now = self.clock.now();
            let until = self.clock.instant(deadline.min(now + PATROL));
            match tokio::time::timeout_at(until, &mut ticket.given).await {
                Ok(Ok(slot)) => return Ok(slot),
                Ok(Err(_)) => return Err(NoSlot::Stopping),
                Err(_) if self.clock.now() >= deadline => return Err(NoSlot::Expired),
                Err(_) => self.hand_out(),
            }
        }
    }

    fn leave(&self, line: &mut Line, number: Number) -> Option<Waiter> {
        line.remove(number).inspect(|_| {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Place {
    Served(Slot),
    Waiting(Ticket),
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
struct Ticket {
    service: Arc<Service>,
    number: Number,
    /// A second try is in flight still, as the counters have it, and so is not counted as queued.
    queued_at: Option<Duration>,
    given: oneshot::Receiver<Slot>,
}

impl Ticket {
    fn new(service: Arc<Service>, number: Number, class: Class, given: oneshot::Receiver<Slot>) -> Self {
        let queued_at = (class != Class::SecondTry).then(|| service.clock.now());
        if let Some(now) = queued_at {
            service.counters.enqueue(now);
            service.meters.queued.increment(1.0);
        }
        Self { service, number, queued_at, given }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.service.leave(&mut self.service.line(), self.number));
        if let Some(queued_at) = self.queued_at {
            self.service.counters.dequeue(queued_at, self.service.clock.now());
            self.service.meters.queued.decrement(1.0);
        }
    }
}

/// What those who wait have in common, as far as it decides which slots would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    SecondTry,
    Placed,
    /// At this node's replicas and instances.
    Own,
    Anywhere,
}

impl Class {
    fn of(demand: &Demand) -> Self {
        match demand {
            Demand { avoid: Some(_), .. } => Self::SecondTry,
            Demand { placement: Some(_), .. } => Self::Placed,
            Demand { peers: false, .. } => Self::Own,
            Demand { .. } => Self::Anywhere,
        }
    }
}

type Number = (Class, u64);

/// Those who wait: of each class in order of arrival.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: BTreeMap<Number, Waiter>,
    second_tries: usize,
    /// The node stops: nobody may stand in it any more.
    is_closed: bool,
}

#[derive(Debug)]
struct Waiter {
    demand: Demand,
    give: oneshot::Sender<Slot>,
}

impl Line {
    fn join(&mut self, class: Class, demand: Demand) -> (Number, oneshot::Receiver<Slot>) {
        let (give, given) = oneshot::channel();
        let number = (class, self.next);
        self.next += 1;
        self.second_tries += usize::from(class == Class::SecondTry);
        self.waiters.insert(number, Waiter { demand, give });
        (number, given)
    }

    fn remove(&mut self, number: Number) -> Option<Waiter> {
        self.waiters.remove(&number).inspect(|_| self.second_tries -= usize::from(number.0 == Class::SecondTry))
    }

    fn is_empty(&self, class: Class) -> bool {
        self.of(class).next().is_none()
    }

    /// Second tries have a limit of their own, as large: a full line must not lose requests that were in it already.
    fn has_no_room(&self, class: Class, limit: usize) -> bool {
        let firsts = self.waiters.len() - self.second_tries;
        if class == Class::SecondTry { self.second_tries >= limit.max(1) } else { firsts >= limit }
    }

    fn of(&self, class: Class) -> impl Iterator<Item = (&Number, &Waiter)> {
        self.waiters.range((class, 0)..=(class, u64::MAX))
    }

    /// The first in turn for whom `take` finds a slot, with what it took. Each second try is asked, since each avoids
    /// another endpoint; of the others the oldest of each class, since what does not do for it does not do for those behind.
    fn first_served<T>(&self, mut take: impl FnMut(&Demand) -> Option<T>) -> Option<(Number, T)> {
        let classes = [Class::Placed, Class::Own, Class::Anywhere];
        let mut oldest: Vec<_> = classes.into_iter().filter_map(|class| self.of(class).next()).collect();
        oldest.sort_by_key(|((_, arrival), _)| *arrival);
        let in_turn = self.of(Class::SecondTry).chain(oldest);
        in_turn.into_iter().find_map(|(number, waiter)| take(&waiter.demand).map(|taken| (*number, taken)))
    }
}
