//! The control plane's thread: starts the actors, waits for the stop, and orders the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::{Actor, Addr, Recipient};
use edge_config::Config;
use tokio::sync::{mpsc, oneshot};

use super::gauges::Gauges;
use super::reload::{Order, Reconfigured};
use super::trust::Trust;
use super::{Addresses, NodeError, NodePulse, Options, announced, links, panic, parts};
use crate::actors::burst::{Burst, BurstParts, EndAll};
use crate::actors::discovery::{Discovery, Withdraw};
use crate::actors::hearing::{Hearing, Listeners, RenewalAsked};
use crate::actors::issuer::Issuer;
use crate::actors::keeper::{Asking, Keeper, LOOK};
use crate::actors::local_runner::{LocalRunner, StopAll};
use crate::actors::monitor::{Last, Monitor};
use crate::actors::publisher::{Identity, Publish, Publisher, Report, Way};
use crate::actors::scheduler::{Connect, Disconnect, Outputs, Scheduler};
use crate::actors::surveyor::Surveyor;
use crate::actors::tell;
use crate::gateway::Gateway;
use crate::host::clock::{Clock, unix_now};
use crate::host::probe::Probe;
use crate::journal::{Journal, Spool, StateDir};
use crate::logic::budget::Ledger;
use crate::logic::issuing::Desk;
use crate::logic::watchdog::Part;
use crate::tls::Dialer;
use crate::wire::board::Board;
use crate::wire::{Endpoints, EventData, EventKind, Message, NodeStateKind, Topic};

/// What the control plane is made from.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) options: Options,
    /// This program, as it stood when it started: later another may stand in its place, and its name is then another.
    pub(super) own: PathBuf,
    pub(super) identity: Identity,
    pub(super) addresses: Addresses,
    pub(super) clock: Clock,
    pub(super) board: Arc<Board>,
    pub(super) journal: Arc<Journal>,
    /// Held for its lock.
    pub(super) state_dir: StateDir,
    pub(super) ways: Vec<Way>,
    pub(super) spool: Option<Arc<Spool>>,
    pub(super) ears: Vec<Arc<links::Ears>>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) dialer: Dialer,
    pub(super) hearing: Arc<Hearing>,
    pub(super) trust: Trust,
    pub(super) io: tokio::runtime::Handle,
    pub(super) pulse: Arc<NodePulse>,
}

/// The actors that the shutdown talks to.
struct Actors {
    publisher: Addr<Publisher>,
    discovery: Addr<Discovery>,
    scheduler: Addr<Scheduler>,
    burst: Addr<Burst>,
    local: Addr<LocalRunner>,
}

impl Actors {
    async fn follow(&self, order: Order) {
        match order {
            Order::Tell(report) => tell(&self.publisher.clone().recipient(), *report),
            Order::Reconfigure(reconfigured) => {
                let Reconfigured { local, burst, scheduler, discovery } = *reconfigured;
                // Waits where a mailbox is full: a configuration is not taken up by halves. The actors are ours, so none is gone. The
                // scheduler last but one, since it orders from the others what they have to know.
                let _ = self.local.send(local).await;
                let _ = self.burst.send(burst).await;
                let _ = self.scheduler.send(scheduler).await;
                let _ = self.discovery.send(discovery).await;
            }
        }
    }
}

/// Starts the thread. The node stops when the sender is used or dropped.
pub(super) fn start(
    parts: Parts,
    mut orders: mpsc::Receiver<Order>,
) -> Result<(oneshot::Sender<()>, JoinHandle<()>), NodeError> {
    let own = parts.own.clone();
    let adapters = parts::adapters(&parts.config, &own)?;
    let caps = parts::caps(&parts.config)?;
    let ledger = match parts.journal.lost_at_ms() {
        Some(lost_at_ms) => Ledger::unknown_before(caps, parts.clock.from_unix_ms(lost_at_ms)),
        None => Ledger::new(caps),
    };
    let (stop, wait) = oneshot::channel();
    let thread = std::thread::Builder::new().name(panic::CONTROL_THREAD.to_owned()).spawn(move || {
        actix::System::new().block_on(async move {
            let burst_parts = |scheduler: &Addr<Scheduler>, publisher: &Addr<Publisher>| BurstParts {
                identity: parts.identity.clone(),
                clock: parts.clock,
                journal: parts.journal.clone(),
                secret: parts.state_dir.secret().to_vec(),
                adapters,
                workloads: parts::workloads(&parts.config),
                services: parts::services_with_adapters(&parts.config),
                dialer: parts.dialer.clone(),
                ledger,
                currency: parts.config.budget.currency.clone(),
                scheduler: scheduler.clone().recipient(),
                publisher: publisher.clone().recipient(),
                events: publisher.clone().recipient(),
                board: parts.board.clone(),
            };
            let actors = start_actors(&parts, &own, burst_parts);
            let follow = async {
                while let Some(order) = orders.recv().await {
                    actors.follow(order).await;
                }
            };
            tokio::select! {
                // An error means that the node was dropped, which is a stop too.
                _ = wait => {}
                () = follow => {}
            }
            shut_down(&parts, actors).await;
        });
    })?;
    Ok((stop, thread))
}

fn start_actors(
    parts: &Parts,
    own: &std::path::Path,
    burst_parts: impl FnOnce(&Addr<Scheduler>, &Addr<Publisher>) -> BurstParts,
) -> Actors {
    let config = &parts.config;
    let publisher = start_publisher(parts);
    let discovery = Discovery {
        identity: parts.identity.clone(),
        clock: parts.clock,
        registry: parts.trust.registry.clone(),
        refresh: config.mqtt.refresh,
        endpoints: Endpoints {
            gateway: Some(parts.addresses.gateway.to_string()),
            console: Some(parts.addresses.console.to_string()),
            mqtt: announced::broker(&parts.addresses, &parts.trust),
            peers: parts.addresses.peers.map(|address| super::peers::announced(config, address)),
        },
        site: config.node.site.clone(),
        region: config.node.region.clone(),
        config_digest: config.digest(),
        facts: parts::facts(config),
        publisher: publisher.clone().recipient(),
        hearing: parts.hearing.clone(),
        offers: Vec::new(),
        instances: BTreeMap::new(),
        withdrawn: false,
        is_asked: false,
        is_looking: false,
    }
    .start();
    for ears in &parts.ears {
        ears.connect(publisher.clone().recipient(), publisher.clone().recipient());
    }
    let scheduler = Scheduler::new(
        parts.identity.clone(),
        parts.clock,
        config.budget.currency.clone(),
        config.node.drain_timeout.mul_f64(0.5),
        parts.board.clone(),
        parts.trust.registry.clone(),
        parts::scaling(config, &parts.options),
    );
    let scheduler = scheduler.start();
    let services = parts::local_services(config, own);
    let local =
        LocalRunner::new(parts.clock, services, scheduler.clone().recipient(), publisher.clone().recipient()).start();
    let burst = Burst::new(burst_parts(&scheduler, &publisher)).start();
    let keeper = Keeper {
        identity: parts.identity.clone(),
        clock: parts.clock,
        calendar: unix_now,
        authority: parts.trust.authority.clone(),
        publish: publisher.clone().recipient(),
        asking: Asking::default(),
        state_dir: parts.state_dir.path().to_owned(),
        is_raising: false,
        say_again: publisher.clone().recipient(),
        has_told_end: false,
        signer: parts.trust.signer.clone(),
        verifier: parts.trust.verifier.clone(),
        files: parts.trust.files.clone(),
        own_fleet: parts.trust.own_fleet.clone(),
        hosts: super::trust::own_hosts(),
        hearing: parts.hearing.clone(),
        relay: publisher.clone().recipient(),
        is_relaying: false,
        must_relay: BTreeSet::new(),
        has_relayed: BTreeSet::new(),
        is_looking: false,
        not_written: None,
        unsettled: None,
        look: LOOK.min(config.mqtt.refresh),
        report: publisher.clone().recipient(),
        warned: None,
        refused: None,
    }
    .start();
    parts.hearing.connect(Listeners {
        written_over: publisher.clone().recipient(),
        duplicated: burst.clone().recipient(),
        outlived: keeper.clone().recipient(),
        connected: discovery.clone().recipient(),
        asked: discovery.clone().recipient(),
        renewals: start_issuer(parts, &publisher),
        answered: keeper.clone().recipient(),
        trust_changed: keeper.clone().recipient(),
        trust_outdated: keeper.recipient(),
        report: publisher.clone().recipient(),
    });
    let (gateway, progress) = (parts.gateway.clone(), parts.pulse.progress.clone());
    let (journal, recorder, clock) = (parts.journal.clone(), parts.journal.clone(), parts.clock);
    let (memories, forgetful) = (parts.journal.clone(), parts.journal.clone());
    let outputs = Outputs {
        start_local: local.clone().recipient(),
        stop_local: local.clone().recipient(),
        launch: burst.clone().recipient(),
        drain: burst.clone().recipient(),
        release: burst.clone().recipient(),
        offers: discovery.clone().recipient(),
        instance_offers: discovery.clone().recipient(),
        publish: publisher.clone().recipient(),
        report: publisher.clone().recipient(),
        install: Box::new(move |table| gateway.install(table)),
        remember: Box::new(move |service, memory| journal.keep_memory(service, memory)),
        recall: Box::new(move |service| memories.memory(service)),
        forget_others: Box::new(move |services| forgetful.forget_others(services)),
        record: Box::new(move |service, recording| recorder.keep_recording(service, recording, clock.now())),
        decided: Box::new(move || progress.made(Part::Scheduler)),
    };
    tell(&scheduler.clone().recipient(), Connect(outputs));
    let counted = parts.gateway.clone();
    Monitor {
        clock: parts.clock,
        tick: config.node.tick,
        probe: Probe::new(config.node.link_speed_mbit.map(f64::from)),
        counters: Box::new(move || counted.all_counters()),
        custom: parts.gauges.read(),
        listeners: vec![scheduler.clone().recipient(), publisher.clone().recipient()],
        last: Last::default(),
    }
    .start();
    start_surveyor(parts);
    Actors { publisher, discovery, scheduler, burst, local }
}

/// Asks replicas for what their service is scaled by, where one is.
fn start_surveyor(parts: &Parts) {
    let surveys = parts.gauges.surveys();
    if !surveys.is_empty() {
        let gateway = parts.gateway.clone();
        let replicas = Box::new(move |service: &str| gateway.replicas(service));
        Surveyor { clock: parts.clock, dialer: parts.dialer.clone(), replicas, surveys }.start();
    }
}

/// Renews the credentials of others, where this node holds an authority.
fn start_issuer(parts: &Parts, publisher: &Addr<Publisher>) -> Option<Recipient<RenewalAsked>> {
    let folder = parts.trust.authority.clone()?;
    let issuer = Issuer {
        identity: parts.identity.clone(),
        clock: parts.clock,
        folder,
        verifier: parts.trust.verifier.clone(),
        publish: publisher.clone().recipient(),
        report: publisher.clone().recipient(),
        desk: Desk::default(),
        waiting: VecDeque::new(),
        is_issuing: false,
    };
    Some(issuer.start().recipient())
}

fn start_publisher(parts: &Parts) -> Addr<Publisher> {
    let publisher = Publisher {
        identity: parts.identity.clone(),
        clock: parts.clock,
        tick: parts.config.node.tick,
        refresh: parts.config.mqtt.refresh,
        signer: parts.trust.signer.clone(),
        ways: parts.ways.clone(),
        upstream: links::upstream(&parts.config, &parts.ways, parts.clock.now()),
        spool: parts.spool.clone(),
        board: parts.board.clone(),
        events: 0,
        reports: 0,
        retained: BTreeMap::new(),
        repaired: BTreeMap::new(),
    }
    .start();
    say_state(parts, &publisher, NodeStateKind::Online, "started");
    let reason = Some(format!("session {}", parts.identity.session));
    let data = EventData { reason, ..EventData::default() };
    tell(&publisher.clone().recipient(), Report { kind: EventKind::NodeStarted, data });
    publisher
}

fn say_state(parts: &Parts, publisher: &Addr<Publisher>, state: NodeStateKind, reason: &str) {
    match Topic::state(&parts.identity.node) {
        Ok(topic) => {
            let message = links::state(&parts.identity, state, reason, 0);
            tell(&publisher.clone().recipient(), Publish { topic, message });
        }
        Err(error) => tracing::error!(%error, "the node's state has no topic"),
    }
}

/// Instances cost money until they have ended, so even a hurried stop waits this long for them.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// Requests have ended by now. Ends what costs money first, then what runs here, then says goodbye.
async fn shut_down(parts: &Parts, actors: Actors) {
    parts.pulse.stopping();
    say_state(parts, &actors.publisher, NodeStateKind::Draining, "the node stops");
    let data = EventData { reason: Some("asked to stop".to_owned()), ..EventData::default() };
    tell(&actors.publisher.clone().recipient(), Report { kind: EventKind::NodeStopping, data });
    // From here on every answer is an actor's that we still hold, so that none can fail.
    let _ = actors.scheduler.send(Disconnect).await;
    let patience = parts.config.node.drain_timeout.mul_f64(0.4).max(LEAST_PATIENCE);
    let end_all = actors.burst.send(EndAll { reason: "the node stops".to_owned() });
    let stop_all = actors.local.send(StopAll);
    let ended = tokio::time::timeout(patience, async { tokio::join!(end_all, stop_all) }).await;
    if ended.is_err() {
        tracing::error!(
            "not everything ended in time; what is left ends itself: instances by their lease, replicas by their pipe"
        );
    }
    let _ = actors.discovery.send(Withdraw).await;
    clear_statuses(parts, &actors.publisher);
    say_state(parts, &actors.publisher, NodeStateKind::Offline, "stopped");
    // Answered after all messages before it were handled.
    let _ = actors.publisher.send(crate::actors::publisher::Flush).await;
    let goodbye = parts.config.node.drain_timeout.mul_f64(0.1).min(Duration::from_secs(2));
    flush_spool(parts, goodbye).await;
    let links = parts.ways.iter().map(|way| way.link.clone());
    let closing: Vec<_> = links.map(|link| parts.io.spawn(async move { link.close(goodbye).await })).collect();
    for closed in closing {
        // An error means that the task panicked, which the hook has told.
        let _ = closed.await;
    }
    // What the broker has is off the disk before the end, so that nothing is said twice after it.
    flush_spool(parts, goodbye).await;
    let left = parts.spool.iter().flat_map(|spool| spool.status().events).map(|(_, events)| events).max().unwrap_or(0);
    if left > 0 {
        tracing::info!(
            events = left,
            "the MQTT broker did not take everything; these events wait on disk for the next start"
        );
    }
}

/// Everything that was said is on disk, and with the links as far as these have room. A disk that hangs must not hold the end.
async fn flush_spool(parts: &Parts, patience: Duration) {
    if let Some(spool) = &parts.spool
        && tokio::time::timeout(patience, spool.flush()).await.is_err()
    {
        tracing::warn!("the disk did not take the last events in time");
    }
}

fn clear_statuses(parts: &Parts, publisher: &Addr<Publisher>) {
    let node = &parts.identity.node;
    let said = parts.board.services();
    for topic in said.iter().filter_map(|status| Topic::service(node, &status.service).ok()) {
        tell(&publisher.clone().recipient(), Publish { topic, message: Message::Cleared });
    }
}
