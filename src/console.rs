//! The API, metrics and health for people and monitoring, on a listener of its own.
//!
//! It reads what the node hands it (the [`Board`] and a few values) and asks no actor: a busy control plane still
//! answers, and a scrape costs no decision.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::wire::board::Board;
use crate::wire::registry::Present;
use crate::wire::{Announcement, BurstStatus, CALENDAR_BEGINS, EventData, EventKind, NodeStateKind};

pub mod recorder;

/// What stays the same while a node runs.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Node id.
    pub node: String,
    /// Fleet id.
    pub fleet: String,
    /// This run's number.
    pub session: u64,
    /// Tidegate's version.
    pub version: &'static str,
    /// Process id.
    pub pid: u32,
    /// Where the gateway listens.
    pub gateway: Option<SocketAddr>,
    /// Where the console listens.
    pub console: Option<SocketAddr>,
    /// The broker, ours or another.
    pub mqtt: Option<String>,
    /// Bursting is forbidden by the environment.
    pub no_cloud: bool,
    /// State directory.
    pub state_dir: String,
}

/// One link to a broker, as an operator asks about it.
#[derive(Clone, Debug, Serialize)]
pub struct LinkView {
    /// Its tree; those to the fleet's brokers begin with `uplink`.
    pub link: &'static str,
    /// `host:port` of the broker that it stands with, or stood with last.
    pub broker: Option<String>,
    /// Whether it stands.
    pub connected: bool,
    /// Connections made so far.
    pub connections: u64,
    /// Why it does not stand, in words.
    pub last_error: Option<String>,
    /// Messages that wait or are on their way.
    pub waiting: usize,
    /// Memory that its messages take, about.
    pub held_bytes: usize,
    /// Messages given up since the start.
    pub dropped: u64,
    /// Bytes of MQTT sent since the start; TCP and TLS come on top.
    pub sent_bytes: u64,
    /// The same received.
    pub received_bytes: u64,
}

/// The events that wait on disk.
#[derive(Clone, Debug, Serialize)]
pub struct SpoolView {
    /// By link.
    pub events: BTreeMap<&'static str, u64>,
    /// All links.
    pub bytes: u64,
    /// Put on disk since the start.
    pub saved: u64,
    /// In memory only, since the disk does not take them.
    pub unsaved: u64,
    /// Given up since the start.
    pub dropped: u64,
    /// Why the disk cannot be written.
    pub problem: Option<String>,
}

/// How telemetry gets out.
#[derive(Clone, Debug, Serialize)]
pub struct Telemetry {
    /// The links, none when MQTT is off.
    pub links: Vec<LinkView>,
    /// What waits on disk, none when MQTT is off.
    pub spool: Option<SpoolView>,
}

/// The configuration in force, and what became of the last attempt to change it.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigView {
    /// The first digits of its SHA-256, as announcements have it.
    pub digest: String,
    /// Changes that were asked for since the start, applied or not.
    pub attempts: u64,
    /// When one was last applied (RFC 3339).
    pub applied_at: Option<String>,
    /// The keys that it changed.
    pub changed: Vec<String>,
    /// Why the last one was not.
    pub problems: Vec<String>,
}

/// What changes, read at each request.
pub trait Pulse: Send + Sync + 'static {
    /// Whether requests can be answered.
    fn is_ready(&self) -> bool;
    /// What makes no progress, in words; `None` while all does.
    fn trouble(&self) -> Option<String>;
    /// The nodes and instances of the fleet that were heard, this node's own aside.
    fn fleet(&self) -> Vec<Present>;
    /// Whether the broker is reached.
    fn broker_connected(&self) -> bool;
    /// How telemetry gets out.
    fn telemetry(&self) -> Telemetry;
    /// The configuration in force.
    fn config(&self) -> ConfigView;
    /// Until when the node can prove who it is (RFC 3339).
    fn credential_ends_at(&self) -> String;
    /// Seconds since the start.
    fn uptime_s(&self) -> u64;
}

/// The journal's launches of so many days, oldest first, or why it cannot be read.
pub type History =
    Arc<dyn Fn(u32) -> Pin<Box<dyn Future<Output = Result<Vec<BurstStatus>, String>> + Send>> + Send + Sync>;

/// A decision that changed what is wanted, as events tell it.
#[derive(Clone, Debug, Serialize)]
pub struct PastDecision {
    /// When (RFC 3339).
    pub time: String,
    /// The service, what was wanted from then on, and why.
    pub data: EventData,
}

/// What is recorded of a service's decisions, oldest first, or why it cannot be read.
pub type Recorded =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Vec<PastDecision>, String>> + Send>> + Send + Sync>;

/// All that the console shows.
#[derive(Clone)]
pub struct Console {
    /// Fixed.
    pub about: Arc<About>,
    /// Changing.
    pub pulse: Arc<dyn Pulse>,
    /// The last word on everything.
    pub board: Arc<Board>,
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// What the journal knows beyond what the board remembers.
    pub history: History,
    /// What recordings know of decisions beyond what the board remembers.
    pub recorded: Recorded,
}

#[derive(Serialize)]
struct NodeAnswer<'a> {
    #[serde(flatten)]
    about: &'a About,
    ready: bool,
    broker_connected: bool,
    telemetry: Telemetry,
    config_digest: String,
    config: ConfigView,
    credential_ends_at: String,
    uptime_s: u64,
    load: Option<crate::wire::LoadReport>,
}

/// Serves until `shutdown` resolves.
pub async fn serve(
    console: Console,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let upkeep = tokio::spawn(keep_up(console.metrics.clone()));
    let served = axum::serve(listener, router(console)).with_graceful_shutdown(shutdown).await;
    upkeep.abort();
    served
}

/// Histograms keep every value until somebody sums them up; without a scraper that would be for ever.
async fn keep_up(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

fn router(console: Console) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/node", get(node))
        .route("/api/v1/services", get(services))
        .route("/api/v1/replicas", get(|State(c): State<Console>| async move { Json(c.board.replicas()) }))
        .route("/api/v1/bursts", get(bursts))
        .route("/api/v1/adapters", get(|State(c): State<Console>| async move { Json(c.board.adapters()) }))
        .route("/api/v1/spend", get(|State(c): State<Console>| async move { Json(c.board.spend()) }))
        .route("/api/v1/discovery", get(discovery))
        .route("/api/v1/events", get(|State(c): State<Console>| async move { Json(c.board.events()) }))
        .route("/api/v1/decisions", get(decisions))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .with_state(console)
}

/// Ten years: a question about more is a slip.
const MAX_DAYS: u32 = 3_653;

/// How often the metrics are summed up, scraped or not.
const UPKEEP: Duration = Duration::from_secs(5);

const INDEX: &str = "Tidegate console\n\n\
    /healthz  /readyz  /metrics\n\
    /api/v1/node  /api/v1/services  /api/v1/replicas  /api/v1/bursts\n\
    /api/v1/adapters  /api/v1/spend  /api/v1/discovery  /api/v1/events  /api/v1/decisions\n";

/// One node or instance of the fleet.
#[derive(Serialize)]
struct Discovered {
    #[serde(flatten)]
    announcement: Announcement,
    /// Whether this node said it.
    own: bool,
    /// Seconds since it was heard; none for our own.
    age_s: Option<u64>,
    /// Whether it was heard live within two heartbeats.
    alive: bool,
    /// The state of its node, where one was heard.
    state: Option<NodeStateKind>,
}

async fn discovery(State(console): State<Console>) -> Json<Vec<Discovered>> {
    let own = console.board.announcements().into_iter().map(|announcement| Discovered {
        announcement,
        own: true,
        age_s: None,
        alive: true,
        state: None,
    });
    let others = console.pulse.fleet().into_iter().map(|present| Discovered {
        announcement: present.announcement,
        own: false,
        age_s: Some(present.age.as_secs()),
        alive: present.alive,
        state: present.state,
    });
    Json(own.chain(others).collect())
}

async fn index() -> &'static str {
    INDEX
}

async fn healthz(State(console): State<Console>) -> Response {
    verdict(console.pulse.trouble().map_or(Ok(()), Err))
}

async fn readyz(State(console): State<Console>) -> Response {
    let otherwise = "no service has a ready replica, or the node is stopping";
    verdict(console.pulse.is_ready().then_some(()).ok_or_else(|| otherwise.to_owned()))
}

fn verdict(good: Result<(), String>) -> Response {
    match good {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(console): State<Console>) -> Response {
    let text = console.metrics.render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn node(State(console): State<Console>) -> Response {
    let config = console.pulse.config();
    let answer = NodeAnswer {
        about: &console.about,
        ready: console.pulse.is_ready(),
        broker_connected: console.pulse.broker_connected(),
        telemetry: console.pulse.telemetry(),
        config_digest: config.digest.clone(),
        config,
        credential_ends_at: console.pulse.credential_ends_at(),
        uptime_s: console.pulse.uptime_s(),
        load: console.board.load(),
    };
    Json(answer).into_response()
}

/// As on MQTT, with the service's name as `name`.
async fn services(State(console): State<Console>) -> Response {
    let statuses = console.board.services().into_iter().filter_map(|status| {
        let mut value = serde_json::to_value(&status).ok()?;
        value.as_object_mut()?.insert("name".to_owned(), status.service.into());
        Some(value)
    });
    Json(statuses.collect::<Vec<_>>()).into_response()
}

/// How far back a question reaches.
#[derive(Deserialize)]
struct Reach {
    days: Option<u32>,
}

/// What the board remembers; with `days`, all that the journal knows of so long, the board's word on what is alive.
async fn bursts(State(console): State<Console>, Query(reach): Query<Reach>) -> Response {
    let known = console.board.bursts();
    let Some(days) = reach.days.map(|days| days.min(MAX_DAYS)) else { return Json(known).into_response() };
    match (console.history)(days).await {
        Ok(mut past) => {
            let since = unix_days_ago(days);
            let recent = |burst: &BurstStatus| burst.ended_at.as_deref().is_none_or(|ended| ended >= since.as_str());
            let known: Vec<BurstStatus> = known.into_iter().filter(recent).collect();
            past.retain(|old| !known.iter().any(|new| new.launch == old.launch));
            past.extend(known);
            Json(past).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// The moment so many days ago, as messages have it: such texts compare as the times do.
fn unix_days_ago(days: u32) -> String {
    let then = SystemTime::now().checked_sub(Duration::from_secs(u64::from(days) * 86_400)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_millis(then.max(UNIX_EPOCH)).to_string()
}

/// Whose decisions.
#[derive(Deserialize)]
struct Whose {
    service: Option<String>,
}

/// What the board remembers; of one service, also what was recorded before.
async fn decisions(State(console): State<Console>, Query(whose): Query<Whose>) -> Response {
    let known = console.board.events().into_iter().filter(|event| event.kind == EventKind::ScaleDecided);
    let Some(service) = whose.service else { return Json(known.collect::<Vec<_>>()).into_response() };
    // Names are folders there, so only those that are known are looked for.
    if !console.board.services().iter().any(|status| status.service == service) {
        return (StatusCode::NOT_FOUND, format!("there is no service {service:?}\n")).into_response();
    }
    let known: Vec<_> = known.filter(|event| event.data.service.as_ref() == Some(&service)).collect();
    match (console.recorded)(service).await {
        Ok(mut past) => {
            // Such texts compare as the times do.
            // Of an event from before the clock was set nobody knows what came before it.
            let times = known.iter().filter_map(|event| event.time.as_deref());
            let first = times.filter(|time| *time >= CALENDAR_BEGINS).min();
            past.retain(|old| first.is_none_or(|first| old.time.as_str() < first));
            let past = past.into_iter().filter_map(|old| serde_json::to_value(old).ok());
            let known = known.into_iter().filter_map(|event| serde_json::to_value(event).ok());
            Json(past.chain(known).collect::<Vec<_>>()).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
