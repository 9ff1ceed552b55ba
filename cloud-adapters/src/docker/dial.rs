//! Opens connections to a daemon: a unix socket, TCP, TLS, or the standard streams of `docker system dial-stdio` run over
//! SSH. What cannot be opened is told with the reason, as that is where most of an operator's mistakes are seen.

mod ssh;
mod tls;

use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::failure;
use super::target::{Target, Way};
use crate::AdapterError;

/// How long a connection may take to be made, with TLS or SSH and its first answer: a slow link, not a dead one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an unused connection is kept, and how many: one reconciliation asks a few things at once, and over SSH a
/// new connection takes half a second.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_IDLE: usize = 4;

/// The longest that one request may take, an upload of gigabytes included. Each call has a shorter limit of its own.
const LONGEST_REQUEST_SECS: u64 = 3600;

/// The most that is read of the answer to the first greeting: a status line and some headers.
const GREETING_MAX_BYTES: usize = 16 * 1024;

/// A client of the daemon; connects when it is first asked something.
pub(super) fn client(target: &Target) -> Result<Docker, bollard::errors::Error> {
    let dialler = Dialler { target: Arc::new(target.clone()) };
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(MAX_IDLE);
    let client = builder.build(dialler);
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        async move { answer.await.map_err(|error| io::Error::other(error).into()) }
    };
    // The name is for the `Host` header alone: where a connection goes is the dialler's.
    Docker::connect_with_custom_transport(transport, Some("http://docker"), LONGEST_REQUEST_SECS, API_DEFAULT_VERSION)
}

#[derive(Clone)]
struct Dialler {
    target: Arc<Target>,
}

impl tower_service::Service<hyper::Uri> for Dialler {
    type Response = Line;
    type Error = AdapterError;
    type Future = Pin<Box<dyn Future<Output = Result<Line, AdapterError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AdapterError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let target = Arc::clone(&self.target);
        Box::pin(async move {
            let late = || AdapterError::transient(format!("{} was not reached in {CONNECT_TIMEOUT:?}", target.shown));
            tokio::time::timeout(CONNECT_TIMEOUT, dial(&target)).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

async fn dial(target: &Target) -> Result<Line, AdapterError> {
    match &target.way {
        Way::Unix { path } => UnixStream::connect(path).await.map(Line::new).map_err(|error| no_socket(path, error)),
        Way::Tcp { host, port } => tcp(target, host, *port).await.map(Line::new),
        Way::Tls { host, port, files } => {
            let stream = tcp(target, host, *port).await?;
            tls::over(stream, target, host, files).await.map(Line::new)
        }
        Way::Ssh { user, host, port, config } => {
            ssh::over(target, user.as_deref(), host, *port, config.as_deref()).await.map(Line::new)
        }
    }
}

async fn tcp(target: &Target, host: &str, port: u16) -> Result<TcpStream, AdapterError> {
    TcpStream::connect((host, port)).await.map_err(|error| {
        let message = format!("cannot connect to {}: is a daemon running there?", target.shown);
        AdapterError::transient(message).because(error)
    })
}

/// Sorts a failed connection to a socket: a path that is wrong, a user who may not, or a daemon that is away.
fn no_socket(path: &Path, error: io::Error) -> AdapterError {
    let shown = path.display();
    let is_socket = std::fs::metadata(path).map(|found| found.file_type().is_socket());
    let sorted = match (error.kind(), is_socket) {
        (io::ErrorKind::NotFound, _) => AdapterError::bad_configuration(format!(
            "there is no socket {shown}: install docker or start it, or set `host` to where the daemon is"
        )),
        (io::ErrorKind::PermissionDenied, _) => AdapterError::bad_configuration(format!(
            "this user may not use {shown}: add the user to the group that owns it (docker)"
        )),
        (_, Ok(false)) => AdapterError::bad_configuration(format!("{shown} is no socket: set `host` to the daemon's")),
        _ => AdapterError::transient(format!("cannot connect to {shown}: is the daemon running?")),
    };
    sorted.because(error)
}

/// Asks for a sign of life, so that a connection which is refused after it was made is told by why it was.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < GREETING_MAX_BYTES {
        answer.push(stream.read_u8().await?);
    }
    if answer.starts_with(b"HTTP/1.1 ") && answer.ends_with(b"\r\n\r\n") {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there does not speak HTTP"))
}

/// Sorts an error of a connection that was made and then failed.
fn broken(target: &Target, error: io::Error) -> AdapterError {
    match failure::refused_by_tls(&error) {
        Some(words) => AdapterError::bad_configuration(words),
        None => AdapterError::transient(format!("the connection to {} broke", target.shown)),
    }
    .because(error)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One open connection, whichever the way.
struct Line {
    stream: TokioIo<Box<dyn Stream>>,
}

impl Line {
    fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: TokioIo::new(Box::new(stream)) }
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl Write for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
