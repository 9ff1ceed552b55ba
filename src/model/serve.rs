//! The life of a replica process: take the port, load the model, answer until told to end, finish what is in flight.
//!
//! The port is taken before the model is loaded, so that a taken one is said at once, but it accepts nothing until the
//! model is there: whoever connects finds a replica that can answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::engine::{Engine, LoadError, ModelSource};
use super::http::{Replica, router};
use super::workers::Workers;

/// Connections that wait to be accepted; beyond it the kernel makes clients try again.
const ACCEPT_BACKLOG: u32 = 1024;

/// How long requests in flight may take to finish after the end was asked for. Less than the 10 s after which the shim
/// kills, so that the replica still says what it left behind.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How to serve one model.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The model.
    pub source: ModelSource,
    /// Its name in the protocol's paths.
    pub name: String,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Engine threads of one inference.
    pub threads: NonZeroUsize,
    /// Inferences at once.
    pub concurrency: NonZeroUsize,
    /// End at end of file on standard input.
    pub watch_stdin: bool,
}

/// Why a replica did not serve, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The model cannot be served.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// The port is taken or not ours.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another with --port, or 0 for a free one")]
    Listen {
        /// The port asked for.
        port: u16,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system gave no threads, signals or runtime.
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    /// Requests were still running when the time to finish them was over.
    #[error("ended with requests unfinished after {} s", DRAIN_TIMEOUT.as_secs())]
    Unfinished,
}

/// Serves until SIGTERM, SIGINT or (if asked for) the end of standard input, then finishes what is in flight.
///
/// Prints one line with the address to standard output when it answers. Blocks the calling thread.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
    runtime.block_on(run(options))
}

async fn run(options: &ServeOptions) -> Result<(), ServeError> {
    let mut ending = Ending::watch(options.watch_stdin).map_err(ServeError::Start)?;
    let socket = bind(options.port)?;
    let loading = load(options.source.clone()).map_err(ServeError::Start)?;
    let engine = tokio::select! {
        loaded = loading => Arc::new(loaded.unwrap_or(Err(LoadError::Abandoned))?),
        // Nothing is in flight, and the thread ends with the process.
        () = ending.asked() => return Ok(()),
    };
    let workers = Workers::start(&engine, &options.name, options.concurrency.get(), options.threads.get())
        .map_err(ServeError::Start)?;
    let draining = AtomicBool::new(false);
    let replica = Arc::new(Replica { name: options.name.clone(), engine, workers, draining });
    let listener = listen(socket, options.port)?;
    announce(options, &listener);
    answer_until(ending, listener, replica).await
}

/// Loads on a thread of its own: a large model takes a while, and a signal must end this process in that time too.
fn load(source: ModelSource) -> std::io::Result<oneshot::Receiver<Result<Engine, LoadError>>> {
    let (loaded, loading) = oneshot::channel();
    let load = move || {
        let _asked_to_end = loaded.send(Engine::load(&source));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(load)?;
    Ok(loading)
}

fn bind(port: u16) -> Result<TcpSocket, ServeError> {
    let taken = |source| ServeError::Listen { port, source };
    let socket = TcpSocket::new_v4().map_err(taken)?;
    socket.set_reuseaddr(true).map_err(taken)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(taken)?;
    Ok(socket)
}

fn listen(socket: TcpSocket, port: u16) -> Result<TcpListener, ServeError> {
    // Two sockets may be bound to one port as long as neither listens, so this is where a close race shows.
    socket.listen(ACCEPT_BACKLOG).map_err(|source| ServeError::Listen { port, source })
}

fn announce(options: &ServeOptions, listener: &TcpListener) {
    use std::io::Write;
    let port = listener.local_addr().map_or(options.port, |address| address.port());
    // Whoever started us may have closed our output; serving does not depend on it.
    let _closed = writeln!(std::io::stdout(), "model {} ready at http://127.0.0.1:{port}", options.name);
}

async fn answer_until(mut ending: Ending, listener: TcpListener, replica: Arc<Replica>) -> Result<(), ServeError> {
    let (drain, mut drained) = watch::channel(false);
    // An answer is small and waited for: no Nagle.
    let listener = listener.tap_io(|connection| {
        let _best_effort = connection.set_nodelay(true);
    });
    let stop = async move {
        let _never_dropped_first = drained.wait_for(|drain| *drain).await;
    };
    let server = axum::serve(listener, router(Arc::clone(&replica))).with_graceful_shutdown(stop);
    let mut server = std::pin::pin!(async move { server.await });
    tokio::select! {
        served = &mut server => return served.map_err(ServeError::Start),
        () = ending.asked() => {}
    }
    replica.draining.store(true, Ordering::Relaxed);
    drain.send_replace(true);
    tokio::select! {
        served = tokio::time::timeout(DRAIN_TIMEOUT, server) => match served {
            Ok(served) => served.map_err(ServeError::Start),
            Err(_) => Err(ServeError::Unfinished),
        },
        // A second signal means now.
        () = ending.signalled() => Err(ServeError::Unfinished),
    }
}

/// Everything that can ask this process to end.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
    /// Resolves at end of file on standard input; `None` where that is not watched.
    parent_gone: Option<oneshot::Receiver<()>>,
}

impl Ending {
    fn watch(stdin: bool) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent_gone: stdin.then(watch_stdin).transpose()?,
        })
    }

    /// Cancelling it loses nothing: it can be waited for again.
    async fn asked(&mut self) {
        let parent_gone = self.parent_gone.as_mut();
        let stdin = async {
            match parent_gone {
                Some(parent_gone) => drop(parent_gone.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stdin => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A thread rather than the runtime's: reading a pipe that never speaks would keep the runtime from shutting down.
fn watch_stdin() -> std::io::Result<oneshot::Receiver<()>> {
    let (gone, parent_gone) = oneshot::channel();
    let watch = move || {
        // Whatever the holder writes is ignored; an error is as good an end as the end itself.
        let _end = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _already_ending = gone.send(());
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(watch)?;
    Ok(parent_gone)
}
