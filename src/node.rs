//! The composition root: builds the parts, wires recipients, orders the shutdown. The one room that knows everybody.
//!
//! Three runtimes that never wait for each other: the actix system on one thread (decisions), a multi-threaded one for
//! the gateway (requests), and one for broker, links and console. They meet in the route table and in counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use edge_config::Config;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::actors::hearing::Hearing;
use crate::actors::publisher::Way;
use crate::console::{ConfigView, Console, Pulse, Telemetry, recorder};
use crate::gateway::Gateway;
use crate::host::clock::{Clock, rfc3339_s};
use crate::host::memory;
use crate::host::service_manager::{PassedError, PassedSockets};
use crate::journal::{Journal, JournalError, Spool, StateDir, StateDirError};
use crate::logic::load::ServiceCounters;
#[cfg(feature = "broker")]
use crate::mqtt::broker::BrokerError;
use crate::tls::PeerAcceptor;
use crate::trust::Signer;
use crate::wire::board::Board;
use crate::wire::registry::{Present, Registry};

use embedded::Embedded;
use progress::{Progress, Rhythm};
use reload::{ORDERS, Reload};

mod access;
mod announced;
mod check;
mod control;
#[cfg(feature = "broker")]
mod embedded;
#[cfg(not(feature = "broker"))]
#[path = "node/no_broker.rs"]
mod embedded;
mod entrance;
mod gauges;
#[cfg(feature = "broker")]
mod hub;
mod infer;
mod links;
mod panic;
mod parts;
mod peers;
mod progress;
mod providers;
mod reload;
mod spooled;
pub mod trial;
mod trust;

pub use check::problems;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The embedded broker cannot listen.
    #[cfg(feature = "broker")]
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The gateway or the console cannot listen.
    #[error(
        "{key} = \"{address}\" cannot be listened on: {reason}; set {key} to a free address (port 0 takes a free one)"
    )]
    Listen {
        /// The key to change.
        key: &'static str,
        /// What it says now.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A thread or runtime could not be made, or our own program was not found.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// Metrics were installed by somebody else.
    #[error("cannot install the metrics recorder: {0}")]
    Metrics(String),
    /// The service manager passes sockets that cannot be used.
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// A setting that only this box can judge.
    #[error("{0}")]
    Setting(String),
}

/// Where a node can be reached, with the real ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP for inference.
    pub gateway: SocketAddr,
    /// HTTP for people and monitoring.
    pub console: SocketAddr,
    /// The embedded broker, if there is one.
    pub mqtt: Option<SocketAddr>,
    /// For requests of other nodes, if they are taken.
    pub peers: Option<SocketAddr>,
    /// Its listener for others than this box, if there is one.
    pub mqtt_tls: Option<SocketAddr>,
}

/// How a node is to run, beside its configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Forbids every instance, for this reason.
    pub no_cloud: Option<String>,
}

/// A running node.
pub struct Node {
    addresses: Addresses,
    board: Arc<Board>,
    counters: BTreeMap<String, Arc<ServiceCounters>>,
    reload: Arc<Reload>,
    stop: Option<oneshot::Sender<()>>,
    control: Option<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    console_stop: watch::Sender<bool>,
    gateway_done: Option<oneshot::Receiver<usize>>,
    console_done: Option<oneshot::Receiver<()>>,
    broker: Option<Embedded>,
    drain_timeout: Duration,
    data: Option<Runtime>,
    io: Option<Runtime>,
}

/// By then everything that runs once has run.
const STARTED_AFTER: Duration = Duration::from_secs(10);

/// Share of the drain timeout that requests in flight may use; the rest is for ending instances and saying goodbye.
const DRAIN_SHARE_OF_REQUESTS: f64 = 0.5;

impl Node {
    /// Starts everything and returns once it listens. Replicas become ready after that.
    pub fn start(config: &Config, options: &Options) -> Result<Self, NodeError> {
        panic::install_hook();
        let mut passed = PassedSockets::take()?;
        let metrics = recorder::install().map_err(|error| NodeError::Metrics(error.to_string()))?;
        let state_dir = StateDir::open(&config.node.state_dir)?;
        let journal = Arc::new(Journal::open(&state_dir)?);
        let clock = Clock::start();
        let board = Arc::new(Board::default());
        let (data, io) = (runtime("gateway", parts::data_threads())?, runtime("io", 1)?);

        let identity = parts::identity(config, state_dir.session());
        let trust = trust::load(config, &identity, state_dir.path())?;
        let dialer = parts::dialer(config)?.showing(peers::Neighbour::new(&trust));
        let gateway_options = parts::gateway_options(config, dialer.clone());
        let gateway = Gateway::new(gateway_options, parts::service_options(config), clock.epoch());
        let gateway_listener = data.block_on(entrance::GATEWAY.listen(config.gateway.listen, &mut passed))?;
        let peer_listener = match config.gateway.peer_listen {
            Some(address) => Some(data.block_on(entrance::PEERS.listen(address, &mut passed))?),
            None => None,
        };
        let console_listener = io.block_on(entrance::CONSOLE.listen(config.console.listen, &mut passed))?;
        entrance::refuse_unclaimed(&passed)?;
        let mut broker = Embedded::start(config, &io)?;
        let mqtt_tls = broker.as_mut().map(|broker| broker.open_hub(config, &io, &trust, clock)).transpose()?.flatten();
        let addresses = Addresses {
            gateway: gateway_listener.local_addr()?,
            console: console_listener.local_addr()?,
            mqtt: broker.as_ref().map(Embedded::address),
            mqtt_tls,
            peers: peer_listener.as_ref().map(TcpListener::local_addr).transpose()?,
        };

        let (verifier, registry) = (trust.verifier.clone(), trust.registry.clone());
        let signer = trust.signer.clone();
        let hearing = Arc::new(Hearing::new(identity.clone(), clock, signer, verifier, registry, links::ears(config)));
        let spool = spooled::open(config, &state_dir);
        let infer = infer::prepare(config, &identity, &gateway, data.handle())?;
        let gauges = gauges::prepare(config, clock);
        let (ways, ears) = {
            let _inside = io.enter();
            let asking = (infer.as_ref(), &gauges);
            links::start(config, &identity, addresses.mqtt, &hearing, &trust, spool.as_ref(), asking)?
        };
        let counters = gateway.all_counters();
        let (stopping, console_stop) = (watch::Sender::new(false), watch::Sender::new(false));
        if let Some(infer) = &infer {
            let asked = ways.iter().filter(|way| links::brings_requests(way.root.encoding, way.ear));
            infer.leave_at_stop(asked.map(|way| way.link.clone()).collect(), stopping.subscribe());
        }
        let (orders, taken) = mpsc::channel(ORDERS);
        let own = std::env::current_exe()?;
        let parts_of_reload = (gateway.clone(), board.clone());
        let reload = Arc::new(Reload::new(config.clone(), options.clone(), own.clone(), parts_of_reload, orders));
        let pulse = Arc::new(NodePulse {
            clock,
            reload: reload.clone(),
            tick: config.node.tick,
            board: board.clone(),
            gateway: gateway.clone(),
            ways: ways.clone(),
            spool: spool.clone(),
            registry: trust.registry.clone(),
            signer: trust.signer.clone(),
            stopping: AtomicBool::new(false),
            progress: Arc::default(),
        });
        let rhythm = Rhythm::of(config.node.tick);
        io.spawn(progress::watch(pulse.progress.clone(), rhythm, clock, stopped(stopping.subscribe())));
        io.spawn(progress::ask_journal(pulse.progress.clone(), rhythm, Arc::downgrade(&journal)));

        let about = parts::about(config, options, &identity, addresses);
        let history = parts::history(journal.clone(), identity.node.clone());
        let recorded = parts::recorded(state_dir.path().to_owned());
        let (about, shown) = (Arc::new(about), board.clone());
        let console = Console { about, pulse: pulse.clone(), board: shown, metrics, history, recorded };
        let console_done = serve_console(&io, console, console_listener, console_stop.subscribe());
        let acceptor = PeerAcceptor::new(peers::Neighbour::new(&trust))
            .map_err(|error| NodeError::Setting(format!("gateway.peer_listen: TLS cannot be set up: {error}")))?;
        peers::warn_of_no_guests(config);
        let peers = peer_listener.map(|listener| (listener, acceptor));
        let beat = progress::beat_of_gateway(pulse.progress.clone(), rhythm);
        let gateway_done = serve_gateway(&data, gateway.clone(), gateway_listener, peers, &stopping, beat);

        let control = control::Parts {
            config: config.clone(),
            options: options.clone(),
            own,
            identity,
            addresses,
            clock,
            board: board.clone(),
            journal,
            state_dir,
            ways,
            spool,
            ears,
            gateway,
            gauges,
            dialer,
            hearing,
            trust,
            io: io.handle().clone(),
            pulse,
        };
        let (stop, control) = control::start(control, taken)?;
        io.spawn(async {
            tokio::time::sleep(STARTED_AFTER).await;
            let bytes = memory::give_back_start_up_pages();
            tracing::debug!(bytes, "gave the pages of the start back");
        });
        Ok(Self {
            addresses,
            board,
            counters,
            reload,
            stop: Some(stop),
            control: Some(control),
            stopping,
            console_stop,
            gateway_done: Some(gateway_done),
            console_done: Some(console_done),
            broker,
            drain_timeout: config.node.drain_timeout,
            data: Some(data),
            io: Some(io),
        })
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The last word on everything.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// What the gateway counts, by service.
    pub fn counters(&self) -> &BTreeMap<String, Arc<ServiceCounters>> {
        &self.counters
    }

    /// Takes a changed configuration up while it runs: all of it, with the keys that changed, or nothing, with what stands in
    /// the way. Both are told as an event.
    ///
    /// # Errors
    /// What it has only at its start would change.
    pub fn apply(&self, config: &Config) -> Result<Vec<String>, Vec<String>> {
        self.reload.apply(config)
    }

    /// Tells that a configuration was found wrong before it came here.
    pub fn reject(&self, problems: Vec<String>) -> Vec<String> {
        self.reload.reject(problems)
    }

    /// Drains, ends the instances that it owns, says goodbye, and frees everything, within the drain timeout.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let (Some(data), Some(io)) = (self.data.take(), self.io.take()) else { return };
        self.stopping.send_replace(true);
        if let Some(done) = self.gateway_done.take() {
            let patience = self.drain_timeout.mul_f64(DRAIN_SHARE_OF_REQUESTS);
            let cut_off = data.block_on(async { tokio::time::timeout(patience, done).await });
            if let Ok(Ok(connections @ 1..)) = cut_off {
                tracing::warn!(connections, "connections were cut off at the end of the drain");
            }
        }
        drop(self.stop.take());
        if self.control.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the control plane ended in a panic");
        }
        if let Some(broker) = self.broker.take() {
            broker.stop(&io);
        }
        self.console_stop.send_replace(true);
        if let Some(done) = self.console_done.take() {
            let _ = io.block_on(async { tokio::time::timeout(Duration::from_secs(1), done).await });
        }
        data.shutdown_timeout(Duration::from_millis(200));
        io.shutdown_timeout(Duration::from_millis(200));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn runtime(name: &str, threads: usize) -> Result<Runtime, NodeError> {
    let built =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build();
    Ok(built?)
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the node is gone, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn serve_gateway(
    data: &Runtime,
    gateway: Arc<Gateway>,
    listener: TcpListener,
    peers: Option<(TcpListener, PeerAcceptor)>,
    stopping: &watch::Sender<bool>,
    beat: impl Future<Output = ()> + Send + 'static,
) -> oneshot::Receiver<usize> {
    let (done, wait) = oneshot::channel();
    let (stop_clients, stop_peers) = (stopping.subscribe(), stopping.subscribe());
    let guests = gateway.clone();
    let guests = async move {
        match peers {
            Some((listener, acceptor)) => guests.serve_peers(listener, acceptor, stopped(stop_peers)).await,
            None => 0,
        }
    };
    data.spawn(async move {
        let both = async { tokio::join!(gateway.serve(listener, stopped(stop_clients)), guests) };
        tokio::select! {
            (clients, guests) = both => drop(done.send(clients + guests)),
            () = beat => {}
        }
    });
    wait
}

/// The console outlives the drain, so that an operator sees how it goes.
fn serve_console(
    io: &Runtime,
    console: Console,
    listener: TcpListener,
    stopping: watch::Receiver<bool>,
) -> oneshot::Receiver<()> {
    let (done, wait) = oneshot::channel();
    io.spawn(async move {
        if let Err(error) = crate::console::serve(console, listener, stopped(stopping)).await {
            tracing::error!(%error, "the console stopped");
        }
        let _ = done.send(());
    });
    wait
}

struct NodePulse {
    clock: Clock,
    reload: Arc<Reload>,
    tick: Duration,
    board: Arc<Board>,
    gateway: Arc<Gateway>,
    ways: Vec<Way>,
    spool: Option<Arc<Spool>>,
    registry: Arc<Registry>,
    signer: Arc<Signer>,
    stopping: AtomicBool,
    progress: Arc<Progress>,
}

impl NodePulse {
    fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Pulse for NodePulse {
    fn is_ready(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed) && self.gateway.is_ready()
    }

    /// Ten ticks without a sample, or ten seconds, mean that the control thread hangs.
    fn trouble(&self) -> Option<String> {
        let patience = (self.tick * 10).max(Duration::from_secs(10));
        let starting = self.clock.uptime() < patience;
        if !starting && !self.board.sampled_within(patience) {
            return Some("the control plane has not ticked lately".to_owned());
        }
        self.progress.stalled().map(|stalled| stalled.to_string())
    }

    fn fleet(&self) -> Vec<Present> {
        self.registry.present(self.clock.now())
    }

    fn broker_connected(&self) -> bool {
        self.ways.iter().any(|way| way.link.status().connected)
    }

    fn telemetry(&self) -> Telemetry {
        spooled::telemetry(&self.ways, self.spool.as_ref())
    }

    fn config(&self) -> ConfigView {
        self.reload.view()
    }

    fn credential_ends_at(&self) -> String {
        rfc3339_s(self.signer.credential().facts().not_after)
    }

    fn uptime_s(&self) -> u64 {
        self.clock.uptime().as_secs()
    }
}
