//! Runs the local replicas: starts them, watches them become ready, notices their end, and stops them when asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient};

use super::publisher::Report;
use super::{MAILBOX, tell};
use crate::host::call::{ReadyProbe, is_ready};
use crate::host::clock::Clock;
use crate::host::port;
use crate::host::process::{ChildProcess, Program};
use crate::logic::plan::Phase;
use crate::logic::supervise::Restarts;
use crate::wire::{EventData, EventKind};

/// How often ends are noticed. A child's end is a system call away, so this costs nothing measurable.
const LOOK: Duration = Duration::from_millis(100);
/// How often the scheduler is told everything, changed or not.
const TELL: Duration = Duration::from_secs(1);
/// How often a starting replica is asked whether it is ready, and how long one answer may take.
const ASK_READY: Duration = Duration::from_millis(20);
const READY_DEADLINE: Duration = Duration::from_secs(1);

/// How one service runs here.
#[derive(Clone, Debug)]
pub struct LocalService {
    /// What to start; `{port}` in arguments is replaced, and `PORT` is set.
    pub program: Program,
    /// When it counts as ready.
    pub ready: ReadyProbe,
    /// A replica that is not ready by then is ended and counts as failed.
    pub ready_timeout: Duration,
    /// Longest pause between restarts.
    pub longest_backoff: Duration,
    /// What a stopping replica gets before it is killed.
    pub drain_timeout: Duration,
}

/// Starts more replicas of a service. Orders carry a number so that the sender knows which snapshots include them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartLocal {
    /// Which service.
    pub service: String,
    /// How many more.
    pub count: u32,
    /// The order's number.
    pub order: u64,
}

/// Ends a replica that no request is routed to any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopLocal {
    /// Its id.
    pub replica: String,
}

/// Takes up what a changed configuration says of how services run here. What runs goes on as it was started.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reconfigure(pub BTreeMap<String, LocalService>);

/// Ends all replicas and starts none any more; answered once none is left.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopAll;

/// All local replicas as they are now.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "()")]
pub struct LocalReplicas {
    /// By service.
    pub replicas: BTreeMap<String, Vec<LocalReplica>>,
    /// Services that keep failing here, each with what became of its last replica.
    pub broken: BTreeMap<String, String>,
    /// The last order that these include.
    pub order: u64,
}

/// One local replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReplica {
    /// Its id, unique in this run of the node.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// `127.0.0.1:port`.
    pub authority: String,
    /// When it was started.
    pub started_at: Duration,
}

struct Running {
    service: String,
    port: u16,
    process: ChildProcess,
    phase: Phase,
    started_at: Duration,
    ready_at: Option<Duration>,
    stopping_since: Option<Duration>,
}

/// The runner; made by the node.
pub struct LocalRunner {
    clock: Clock,
    services: BTreeMap<String, LocalService>,
    scheduler: Recipient<LocalReplicas>,
    publisher: Recipient<Report>,
    running: BTreeMap<String, Running>,
    restarts: BTreeMap<String, Restarts>,
    /// What became of the last replica that failed, by service.
    failures: BTreeMap<String, String>,
    started: u64,
    order: u64,
    /// No start any more: the node stops.
    ending: bool,
    /// The services that were last told as broken.
    told_broken: BTreeMap<String, String>,
    waiting_for_none: VecDeque<tokio::sync::oneshot::Sender<()>>,
}

impl LocalRunner {
    /// Nothing runs yet.
    pub fn new(
        clock: Clock,
        services: BTreeMap<String, LocalService>,
        scheduler: Recipient<LocalReplicas>,
        publisher: Recipient<Report>,
    ) -> Self {
        Self {
            clock,
            services,
            scheduler,
            publisher,
            running: BTreeMap::new(),
            restarts: BTreeMap::new(),
            failures: BTreeMap::new(),
            started: 0,
            order: 0,
            ending: false,
            told_broken: BTreeMap::new(),
            waiting_for_none: VecDeque::new(),
        }
    }
}

impl Actor for LocalRunner {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.run_interval(LOOK, |runner, _| runner.look());
        // A snapshot that was dropped at a full mailbox is said again.
        context.run_interval(TELL, |runner, _| runner.tell_scheduler());
        self.tell_scheduler();
    }
}

impl Handler<StartLocal> for LocalRunner {
    type Result = ();

    fn handle(&mut self, start: StartLocal, context: &mut Self::Context) {
        self.order = self.order.max(start.order);
        let now = self.clock.now();
        let may_start = self.restarts.get(&start.service).is_none_or(|restarts| restarts.may_start(now));
        if may_start && !self.ending {
            (0..start.count).for_each(|_| self.start(&start.service, context));
        }
        self.tell_scheduler();
    }
}

impl Handler<StopLocal> for LocalRunner {
    type Result = ();

    fn handle(&mut self, StopLocal { replica }: StopLocal, _: &mut Self::Context) {
        self.stop(&replica);
        self.tell_scheduler();
    }
}

impl Handler<Reconfigure> for LocalRunner {
    type Result = ();

    /// A service that is gone is known until its last replica is: it has a drain timeout of its own.
    fn handle(&mut self, Reconfigure(services): Reconfigure, _: &mut Self::Context) {
        let running: BTreeSet<&String> = self.running.values().map(|running| &running.service).collect();
        // What failed was another program.
        let known = &self.services;
        let is_same = |name: &String| {
            let pair = known.get(name).zip(services.get(name));
            pair.is_some_and(|(former, now)| former.program == now.program && former.ready == now.ready)
        };
        self.restarts.retain(|name, _| is_same(name));
        self.failures.retain(|name, _| is_same(name));
        self.services.retain(|name, _| running.contains(name));
        self.services.extend(services);
    }
}

impl Handler<StopAll> for LocalRunner {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: StopAll, _: &mut Self::Context) -> Self::Result {
        let (none_left, wait) = tokio::sync::oneshot::channel();
        self.ending = true;
        self.waiting_for_none.push_back(none_left);
        let all: Vec<_> = self.running.keys().cloned().collect();
        all.iter().for_each(|replica| self.stop(replica));
        self.look();
        Box::pin(async move {
            // The sender is dropped only with the actor, and then nothing runs either.
            let _ = wait.await;
        })
    }
}

impl LocalRunner {
    fn start(&mut self, name: &str, context: &mut Context<Self>) {
        let Some(service) = self.services.get(name).cloned() else { return };
        self.started += 1;
        let id = format!("{name}-{}", self.started);
        match launch(&service, &id) {
            Ok((process, port)) => {
                tracing::info!(service = name, replica = id, pid = process.id(), port, "local replica started");
                let started_at = self.clock.now();
                let running = Running {
                    service: name.to_owned(),
                    port,
                    process,
                    phase: Phase::Starting,
                    started_at,
                    ready_at: None,
                    stopping_since: None,
                };
                self.running.insert(id.clone(), running);
                let wait = wait_ready(port, service.ready, service.ready_timeout).into_actor(self);
                context.spawn(wait.map(move |ready, runner, _| runner.answered(&id, ready)));
            }
            Err(error) => {
                let program = service.program.path.display();
                self.failed(name, &id, None, format!("cannot start {program}: {error}; check the service's command"));
            }
        }
    }

    /// The wait for readiness is over.
    fn answered(&mut self, id: &str, ready: bool) {
        let now = self.clock.now();
        let Some(running) = self.running.get_mut(id).filter(|running| running.phase == Phase::Starting) else { return };
        if ready {
            running.phase = Phase::Ready;
            running.ready_at = Some(now);
            let took = now.saturating_sub(running.started_at);
            let service = running.service.clone();
            self.restarts.entry(service.clone()).or_default().recovered();
            let data = EventData { duration_s: Some(took.as_secs_f64()), ..about(&service, id, "ready") };
            tell(&self.publisher, Report { kind: EventKind::ReplicaReady, data });
        } else {
            let service = running.service.clone();
            let timeout = self.services.get(&service).map(|s| s.ready_timeout).unwrap_or_default();
            running.process.kill();
            running.phase = Phase::Failed;
            self.failed(&service, id, None, format!("not ready within {timeout:?}; its output above says why"));
        }
        self.tell_scheduler();
    }

    fn stop(&mut self, replica: &str) {
        let now = self.clock.now();
        if let Some(running) = self.running.get_mut(replica)
            && running.stopping_since.is_none()
        {
            running.phase = Phase::Draining;
            running.stopping_since = Some(now);
            running.process.terminate();
        }
    }

    /// Notices ends, and kills what did not end in time.
    fn look(&mut self) {
        let now = self.clock.now();
        let mut ended = Vec::new();
        for (id, running) in &mut self.running {
            match running.process.ended() {
                Ok(None) => enforce(running, self.services.get(&running.service), now),
                Ok(Some(status)) => ended.push((id.clone(), status.to_string())),
                Err(error) => ended.push((id.clone(), error.to_string())),
            }
        }
        let changed = !ended.is_empty();
        for (id, status) in ended {
            self.ended(&id, &status);
        }
        if changed || self.broken() != self.told_broken {
            self.tell_scheduler();
        }
        if self.running.is_empty() {
            self.waiting_for_none.drain(..).for_each(|waiting| waiting.send(()).unwrap_or_default());
        }
    }

    fn ended(&mut self, id: &str, status: &str) {
        let Some(running) = self.running.remove(id) else { return };
        if running.stopping_since.is_some() {
            let data = about(&running.service, id, "stopped as asked");
            tell(&self.publisher, Report { kind: EventKind::ReplicaStopped, data });
        } else if running.phase != Phase::Failed {
            let ready_for = running.ready_at.map(|at| self.clock.now().saturating_sub(at));
            self.failed(
                &running.service,
                id,
                ready_for,
                format!("ended by itself ({status}); its output above says why"),
            );
        }
    }

    fn failed(&mut self, service: &str, id: &str, ready_for: Option<Duration>, why: String) {
        let longest = self.services.get(service).map(|s| s.longest_backoff).unwrap_or_default();
        let restarts = self.restarts.entry(service.to_owned()).or_default();
        let pause = restarts.failed(self.clock.now(), ready_for, longest, fastrand::f64());
        self.failures.insert(service.to_owned(), why.clone());
        let reason = format!("started again in {pause:.1?} at the earliest");
        let data = EventData { error: Some(why), ..about(service, id, &reason) };
        tell(&self.publisher, Report { kind: EventKind::ReplicaFailed, data });
    }

    /// The services that keep failing here and are held back now. Once their pause is over the planner may try again,
    /// which is how they recover.
    fn broken(&self) -> BTreeMap<String, String> {
        let now = self.clock.now();
        let held_back = self.restarts.iter().filter(|(_, restarts)| restarts.is_broken() && !restarts.may_start(now));
        held_back.filter_map(|(name, _)| Some((name.clone(), self.failures.get(name)?.clone()))).collect()
    }

    fn tell_scheduler(&mut self) {
        let mut replicas: BTreeMap<String, Vec<LocalReplica>> = BTreeMap::new();
        for (id, running) in &self.running {
            replicas.entry(running.service.clone()).or_default().push(LocalReplica {
                id: id.clone(),
                phase: running.phase,
                authority: format!("127.0.0.1:{}", running.port),
                started_at: running.started_at,
            });
        }
        let broken = self.broken();
        self.told_broken.clone_from(&broken);
        tell(&self.scheduler, LocalReplicas { replicas, broken, order: self.order });
    }
}

fn launch(service: &LocalService, id: &str) -> std::io::Result<(ChildProcess, u16)> {
    let port = port::free()?;
    let mut program = service.program.clone();
    id.clone_into(&mut program.replica);
    for argument in &mut program.arguments {
        *argument = argument.replace("{port}", &port.to_string());
    }
    program.environment.insert("PORT".to_owned(), port.to_string());
    Ok((ChildProcess::start(&program)?, port))
}

async fn wait_ready(port: u16, probe: ReadyProbe, timeout: Duration) -> bool {
    let ask = async {
        while !is_ready(port, &probe, READY_DEADLINE).await {
            tokio::time::sleep(ASK_READY).await;
        }
    };
    tokio::time::timeout(timeout, ask).await.is_ok()
}

fn enforce(running: &Running, service: Option<&LocalService>, now: Duration) {
    let grace = service.map(|service| service.drain_timeout).unwrap_or_default();
    if running.stopping_since.is_some_and(|since| now.saturating_sub(since) > grace) {
        running.process.kill();
    }
}

fn about(service: &str, replica: &str, reason: &str) -> EventData {
    EventData {
        service: Some(service.to_owned()),
        replica: Some(replica.to_owned()),
        reason: Some(reason.to_owned()),
        placement: Some(crate::wire::Placement::Local),
        ..EventData::default()
    }
}
