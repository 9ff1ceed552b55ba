//! The wrapper of an instance, from its start to its own end.
//!
//! One thread. The loop in `live` asks [`Life::next`] what to do whenever anything happened, and at least once a second:
//! timers stand still while a box is suspended, a lease does not.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::front::Front;
use super::lease::Lease;
use super::life::{EndReason, Life, Limits, Next};
use super::listen::Connections;
use super::probe::Probe;
use super::run_dir::{RunDir, RunDirError};
use super::server::{Server, free_port};
use crate::tls::{Acceptor, KeyFilesError};

/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// How to wrap one server.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// The service that it serves.
    pub service: String,
    /// The launch that it belongs to; renewals must name it.
    pub launch: String,
    /// Where `lock`, `address` and `ended` are kept; without it nothing is written.
    pub run_dir: Option<PathBuf>,
    /// Holds the token that requests must bring; without it none is asked for.
    pub token_file: Option<PathBuf>,
    /// The certificate and its key; without them plain HTTP is served.
    pub key_files: Option<KeyFiles>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The lease until the first renewal.
    pub lease_ttl: Duration,
    /// The most that finishing requests may take.
    pub drain_timeout: Duration,
    /// Between SIGTERM and SIGKILL for the server.
    pub grace: Duration,
    /// How to see that the server is ready.
    pub ready: Probe,
    /// The most that becoming ready may take.
    pub ready_timeout: Duration,
    /// Requests passed to the server at once; `None` for no limit.
    pub concurrency: Option<u32>,
    /// Where the server has metrics of its own; without it only the wrapper's are told.
    pub metrics: Option<String>,
    /// The server and its arguments; `{port}` stands for its port.
    pub command: Vec<OsString>,
}

/// What an instance proves itself with, both PEM.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The certificate, or a chain, its own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why an instance failed.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The run directory is taken or cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The token cannot be read.
    #[error("cannot read the token file {}: {source}; it must hold one line, the token", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Certificate and key cannot be used.
    #[error(transparent)]
    KeyFiles(#[from] KeyFilesError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another with --listen, port 0 for a free one")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gave no runtime, port or process.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// It ended, but not as it should.
    #[error("{0}")]
    Ended(String),
}

/// Wraps the server until the lease expires, the owner or a signal asks for the end, or the server fails.
///
/// Blocks the calling thread.
///
/// # Errors
/// See [`InstanceError`]. An expired lease, a drain and a signal are no errors.
pub fn serve(options: &InstanceOptions) -> Result<(), InstanceError> {
    let run_dir = options.run_dir.as_deref().map(RunDir::take).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(InstanceError::Start)?;
    let ended = runtime.block_on(run(options, run_dir.as_ref()))?;
    say(&format!("instance {} ended: {ended}", options.launch));
    if ended.is_success() { Ok(()) } else { Err(InstanceError::Ended(ended.to_string())) }
}

/// The time since the box was started, suspended time included: what leases are counted in.
pub(super) fn since_boot() -> Duration {
    // The clock exists on every Linux since 2.6.39; without it no lease can be kept, so expire at once.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

async fn run(options: &InstanceOptions, run_dir: Option<&RunDir>) -> Result<EndReason, InstanceError> {
    let mut signals = Signals::watch().map_err(InstanceError::Start)?;
    let token = read_token(options)?;
    let tls = acceptor(options.key_files.as_ref())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = bind(options.listen).await?;
    let address = listener.local_addr().map_err(InstanceError::Start)?;
    let port = free_port().map_err(InstanceError::Start)?;
    let mut server = Server::start(&options.command, port, options.grace).map_err(InstanceError::Start)?;
    let front = Arc::new(front(options, port, token.as_deref()));
    let connections = Connections::accept(listener, tls, &front);
    run_dir.map_or(Ok(()), |run_dir| run_dir.write_address(address))?;
    say(&format!("instance {} of {} listens on {scheme}://{address}", options.launch, options.service));

    let ending = live(&front, &mut server, &options.ready, &mut signals).await;
    // Whatever ended it: from here on nothing is passed on.
    front.life().drain(ending.reason.clone(), since_boot());
    if !ending.is_urgent {
        let left = front.life().left_to_drain(since_boot());
        tokio::select! {
            () = connections.close(left) => {}
            // Whoever is at the terminal asks again.
            () = signals.interrupted() => {}
        }
    }
    server.end().await;
    let Ending { reason, .. } = ending;
    run_dir.map_or(Ok(()), |run_dir| run_dir.write_ended(&reason))?;
    Ok(reason)
}

/// How an instance ends.
struct Ending {
    reason: EndReason,
    /// Nobody is waited for.
    is_urgent: bool,
}

impl From<EndReason> for Ending {
    fn from(reason: EndReason) -> Self {
        Self { reason, is_urgent: false }
    }
}

/// Until it is time to end.
async fn live(front: &Front, server: &mut Server, probe: &Probe, signals: &mut Signals) -> Ending {
    let not_ready = |why| front.life().server_is_not_ready(why);
    let mut ready = pin!(probe.wait_until_ready(&front.client, &front.authority, not_ready));
    let (mut is_ready, mut was_signalled) = (false, false);
    loop {
        let now = since_boot();
        let next = front.life().next(now, front.in_flight());
        let wait = match next {
            Next::End(reason) => return reason.into(),
            Next::WaitUntil(until) => until.saturating_sub(now).min(TICK),
        };
        tokio::select! {
            status = server.exited() => return EndReason::ServerExited(status).into(),
            () = &mut ready, if !is_ready => {
                is_ready = true;
                front.life().server_is_ready();
                say(&format!("{} is ready", front.service));
            }
            which = signals.received() => {
                // Whoever is at the terminal asks again and means now. A provider's SIGTERM may come twice from one who
                // crashed before it had noted the first.
                if std::mem::replace(&mut was_signalled, true) && which == SignalKind::interrupt() {
                    return Ending { reason: EndReason::Signalled, is_urgent: true };
                }
                front.life().drain(EndReason::Signalled, since_boot());
            }
            () = front.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn front(options: &InstanceOptions, server_port: u16, token: Option<&str>) -> Front {
    let now = since_boot();
    let lease = Lease::new(options.launch.clone(), options.lease_ttl, now);
    let limits = Limits { ready_timeout: options.ready_timeout, drain_timeout: options.drain_timeout };
    let authority = Authority::try_from(format!("{}:{server_port}", Ipv4Addr::LOCALHOST))
        .unwrap_or_else(|_| Authority::from_static("127.0.0.1"));
    let (service, metrics) = (options.service.clone(), options.metrics.clone());
    Front::new(service, authority, token, options.concurrency, metrics, Life::new(lease, limits, now))
}

fn read_token(options: &InstanceOptions) -> Result<Option<String>, InstanceError> {
    let Some(path) = &options.token_file else { return Ok(None) };
    let unreadable = |source| InstanceError::Token { path: path.clone(), source };
    let token = std::fs::read_to_string(path).map_err(unreadable)?.trim().to_owned();
    if token.is_empty() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is empty")));
    }
    Ok(Some(token))
}

fn acceptor(files: Option<&KeyFiles>) -> Result<Option<Acceptor>, KeyFilesError> {
    files.map(|files| Acceptor::from_files(&files.certificate, &files.key)).transpose()
}

async fn bind(address: SocketAddr) -> Result<TcpListener, InstanceError> {
    TcpListener::bind(address).await.map_err(|source| InstanceError::Listen { address, source })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Held, so that it does nothing: an instance outlives the terminal that it was started from. A handler, since a
    /// signal that is ignored outright would be ignored by the server, too.
    _hangup: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }

    async fn received(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// A line for whoever keeps our output. An instance outlives its owner, so nobody may be there to read it.
fn say(line: &str) {
    let _nobody_reads = writeln!(io::stderr(), "tidegate wrap: {line}");
}
