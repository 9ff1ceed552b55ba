//! The HTTP data plane: listen, admission, balance, forward.
//!
//! It runs on whatever multi-threaded runtime [`Gateway::serve`] is called from and shares two things with the rest of
//! the node: the routing table that [`Gateway::install`] swaps, and the counters that [`Gateway::counters`] hands out. No
//! request waits for a mailbox, and no decision waits for a request.
//!
//! One request: [`listen`](self) → `request` (id, deadline, the answer to everything) → `target` (which service) →
//! `admission` (a slot at a replica, or a place in a bounded line) → `forward` (both ways streaming, one retry) →
//! `inflight` (a guard that counts on drop, however the request ended). A request that came another way than HTTP enters at
//! `letter` and takes the same path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::logic::load::ServiceCounters;
use crate::logic::route::{Balance, Endpoint, RouteTable, ServiceRoute};
use crate::tls::{Dialer, PeerAcceptor};

mod admission;
mod answer_body;
mod clock;
mod connect;
mod forward;
mod guest;
mod headers;
mod inflight;
mod letter;
mod listen;
mod meters;
mod problem;
mod request;
mod slot;
mod stall;
mod target;
mod upload;

use admission::Service;
use clock::Clock;
use forward::Upstream;
use inflight::Ledger;
use letter::Letters;
pub use letter::{Letter, NoAnswer};
use listen::Door;
pub use problem::{PROBLEM_TYPE, problem};

/// Limits of the listener and of the connections to the replicas.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Client connections at once; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// How long a client may take for a request's head, and may stay connected without asking anything.
    pub header_read_timeout: Duration,
    /// How long a client may leave its answer unread before its connection is cut off.
    pub write_stall_timeout: Duration,
    /// How long connecting to a replica may take, and after that a TLS handshake with it.
    pub connect_timeout: Duration,
    /// Secures connections to replicas that ask for it.
    pub dialer: Dialer,
    /// Most bytes of bodies that are held at once for a second try, over all requests; what comes when they are used up is passed
    /// on as it comes.
    pub replay_bytes: usize,
    /// Idle connections kept to one replica.
    pub max_idle_per_replica: usize,
    /// How long requests in flight may take to end once the shutdown began.
    pub drain_timeout: Duration,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            header_read_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            dialer: Dialer::default(),
            replay_bytes: 16 << 20,
            max_idle_per_replica: 64,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// How the requests of one service are treated.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The service's name, as in the paths `/v2/models/{name}` and `/services/{name}`.
    pub name: String,
    /// Requests that may wait for a replica; the next one is answered 429.
    pub queue: usize,
    /// From a request's arrival to the beginning of its answer, and the longest pause within the answer. A request's own
    /// `x-tidegate-deadline-ms` may shorten it.
    pub request_timeout: Duration,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// Whether every request may be sent a second time to another replica, whatever its method.
    pub repeatable: bool,
    /// How requests are spread over the replicas.
    pub balance: Balance,
    /// Whether other nodes' requests are taken, as far as there is room for them.
    pub guests: bool,
    /// Whether it is asked by messages too, by whoever brings them here.
    pub by_message: bool,
}

type Services = BTreeMap<String, Arc<Service>>;

/// The gateway. Made once, served once, shared with those who install routes and read counters.
#[derive(Debug)]
pub struct Gateway {
    options: GatewayOptions,
    services: ArcSwap<Services>,
    upstream: Upstream,
    /// A permit for each byte of the replay buffer.
    replay_room: Arc<Semaphore>,
    clock: Clock,
    ledger: Arc<Ledger>,
    letters: Letters,
    is_draining: AtomicBool,
}

impl Gateway {
    /// A gateway for these services, with no replica yet. `epoch` is the process's: the times in counters count from it.
    /// A metrics recorder must be installed before, since the handles are made here.
    #[must_use]
    pub fn new(options: GatewayOptions, services: Vec<ServiceOptions>, epoch: Instant) -> Arc<Self> {
        let clock = Clock::new(epoch);
        let upstream = Upstream::new(&options);
        let services = services.into_iter().map(|service| (service.name.clone(), Service::new(service, clock)));
        Arc::new(Self {
            services: ArcSwap::from_pointee(services.collect()),
            upstream,
            replay_room: Arc::new(Semaphore::new(options.replay_bytes.min(Semaphore::MAX_PERMITS))),
            clock,
            ledger: Arc::new(Ledger::new(clock)),
            letters: Letters::default(),
            is_draining: AtomicBool::new(false),
            options,
        })
    }

    /// Makes the table the one that requests go by, at once and without waiting: those that wait are given the slots that
    /// it brings, those in flight at an endpoint that it no longer has end there in peace. A service that the gateway does
    /// not have is left out; one that the table lacks has no replica.
    pub fn install(&self, table: RouteTable) {
        let services = self.services.load();
        for (name, service) in services.iter() {
            let route = table.services.get(name).cloned();
            let is_over = route.is_none() && service.is_retired();
            service.install(route.unwrap_or_else(|| Arc::new(ServiceRoute::default())));
            if is_over {
                // Nobody will have a replica for who waits yet.
                service.turn_away_from_retired();
            }
        }
        if services.iter().any(|(name, service)| service.is_retired() && !table.services.contains_key(name)) {
            self.forget_retired(&table);
        }
        for name in table.services.keys().filter(|name| !services.contains_key(*name)) {
            tracing::warn!(service = %name, "routes for a service that the gateway does not know are ignored");
        }
    }

    /// Treats the requests of these services so from the next one on, and knows no other from then on. What a service that is gone has
    /// taken is answered still, by the routes that it is given.
    pub fn reconfigure(&self, services: Vec<ServiceOptions>) {
        let before = self.services.load_full();
        let mut after: Services = BTreeMap::new();
        for options in services {
            let service = match before.get(&options.name) {
                Some(service) => {
                    service.reconfigure(options);
                    Arc::clone(service)
                }
                None => Service::new(options, self.clock),
            };
            after.insert(service.name.clone(), service);
        }
        let gone: Vec<_> = before.values().filter(|service| !after.contains_key(&service.name)).cloned().collect();
        gone.iter().for_each(|service| service.retire());
        after.extend(gone.into_iter().map(|service| (service.name.clone(), service)));
        self.services.store(Arc::new(after));
    }

    /// Those that are gone, have no replica any more, and no request.
    fn forget_retired(&self, table: &RouteTable) {
        self.services.rcu(|services| {
            let stays = |name: &str, service: &Service| {
                !service.is_retired() || table.services.contains_key(name) || service.has_requests()
            };
            let staying = services.iter().filter(|(name, service)| stays(name, service));
            staying.map(|(name, service)| (name.clone(), Arc::clone(service))).collect::<Services>()
        });
    }

    /// Whether a service is asked by messages; not, where it does not have it.
    #[must_use]
    pub fn is_asked_by_message(&self, service: &str) -> bool {
        self.service(service).is_some_and(|service| service.options().by_message)
    }

    /// The counters of a service; `None` for one that it does not have.
    #[must_use]
    pub fn counters(&self, service: &str) -> Option<Arc<ServiceCounters>> {
        self.services.load().get(service).map(|service| Arc::clone(&service.counters))
    }

    /// Those of all of them, also of such as are gone and may have requests still.
    #[must_use]
    pub fn all_counters(&self) -> BTreeMap<String, Arc<ServiceCounters>> {
        let services = self.services.load();
        services.iter().map(|(name, service)| (name.clone(), Arc::clone(&service.counters))).collect()
    }

    /// The replicas that the requests of a service go to now.
    #[must_use]
    pub fn replicas(&self, service: &str) -> Vec<Arc<Endpoint>> {
        self.services.load().get(service).map(|service| service.replicas()).unwrap_or_default()
    }

    /// A service whose requests are taken.
    fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.load().get(name).filter(|service| !service.is_retired()).cloned()
    }

    /// Requests that have come and are not answered to the end yet, those that wait included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ledger.active()
    }

    /// Serves until `shutdown` resolves; then accepts nothing more, closes idle connections, lets the requests in flight
    /// end within the drain timeout and cuts off what is left. Returns how many connections were cut off.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> usize {
        listen::serve(self, listener, Door::Clients, shutdown).await
    }

    /// The same for requests of other nodes of the fleet, who prove themselves in the handshake: they are answered by a local
    /// replica at once, or not at all.
    pub async fn serve_peers(
        self: Arc<Self>,
        listener: TcpListener,
        acceptor: PeerAcceptor,
        shutdown: impl Future<Output = ()>,
    ) -> usize {
        listen::serve(self, listener, Door::Peers(acceptor), shutdown).await
    }

    /// Whether requests can be answered: some service has a ready replica, and no shutdown has begun. One broken model of
    /// five must not take the other four from a load balancer's pool, and a service scaled to zero is not broken; who
    /// cares for one model asks `/v2/models/{model}/ready`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining.load(Ordering::Relaxed) && self.services.load().values().any(|service| service.has_replica())
    }
}
