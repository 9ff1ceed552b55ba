//! Small HTTP calls to a server's control paths: readiness of a replica, lease and status of an instance.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::logic::route::Transport;
use crate::tls::{DialError, Dialer};

/// Control answers are a few hundred bytes; more is not one.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("cannot connect to {authority}: {reason}")]
    Connect {
        /// `host:port`.
        authority: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A connection, but not to whom it should lead.
    #[error("no secure connection to {authority}: {reason}")]
    Secure {
        /// `host:port`.
        authority: String,
        /// What is wrong.
        reason: DialError,
    },
    /// The connection broke or spoke no HTTP.
    #[error("{authority} did not answer properly: {reason}")]
    Broken {
        /// `host:port`.
        authority: String,
        /// What went wrong.
        reason: String,
    },
    /// Too slow.
    #[error("{authority} did not answer within {after:?}")]
    Timeout {
        /// `host:port`.
        authority: String,
        /// The deadline.
        after: Duration,
    },
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `host:port`.
    pub authority: &'a str,
    /// How the connection is secured, and by whom.
    pub transport: Transport,
    /// See [`Dialer`]; a plain call takes any.
    pub dialer: &'a Dialer,
    /// Path and query.
    pub path: &'a str,
    /// A header beside the usual ones.
    pub header: Option<(&'a str, &'a str)>,
    /// JSON to post; `None` makes it a GET.
    pub json: Option<&'a [u8]>,
    /// For the whole call.
    pub deadline: Duration,
}

/// Makes the call on a connection of its own and returns status and body.
pub async fn call(call: Call<'_>) -> Result<(StatusCode, Bytes), CallError> {
    let timeout = CallError::Timeout { authority: call.authority.to_owned(), after: call.deadline };
    tokio::time::timeout(call.deadline, exchange(call)).await.unwrap_or(Err(timeout))
}

async fn exchange(call: Call<'_>) -> Result<(StatusCode, Bytes), CallError> {
    let broken = |reason: String| CallError::Broken { authority: call.authority.to_owned(), reason };
    let stream = TcpStream::connect(call.authority)
        .await
        .map_err(|reason| CallError::Connect { authority: call.authority.to_owned(), reason })?;
    let channel = call
        .dialer
        .secure(stream, host(call.authority), &call.transport, call.deadline)
        .await
        .map_err(|reason| CallError::Secure { authority: call.authority.to_owned(), reason })?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(channel)).await;
    let (mut sender, connection) = handshake.map_err(|e| broken(e.to_string()))?;
    let driver = tokio::spawn(connection);
    let request = request(call).map_err(|e| broken(e.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|e| broken(e.to_string()))?;
    driver.abort();
    Ok((status, body.to_bytes()))
}

/// `host:port` without the port.
fn host(authority: &str) -> &str {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn request(call: Call<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
    let method = if call.json.is_some() { Method::POST } else { Method::GET };
    let mut builder = Request::builder().method(method).uri(call.path).header(http::header::HOST, call.authority);
    if let Some((name, value)) = call.header {
        builder = builder.header(name, value);
    }
    if call.json.is_some() {
        builder = builder.header(http::header::CONTENT_TYPE, "application/json");
    }
    builder.body(Full::new(Bytes::copy_from_slice(call.json.unwrap_or_default())))
}

/// How a replica tells that it can take requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyProbe {
    /// It accepts connections.
    Tcp,
    /// It answers 2xx on this path.
    Http(String),
}

/// Whether the server at a loopback port is ready now.
pub async fn is_ready(port: u16, probe: &ReadyProbe, deadline: Duration) -> bool {
    let authority = format!("127.0.0.1:{port}");
    match probe {
        ReadyProbe::Tcp => {
            matches!(tokio::time::timeout(deadline, TcpStream::connect(&authority)).await, Ok(Ok(_)))
        }
        ReadyProbe::Http(path) => {
            let (transport, dialer) = (Transport::Plain, &Dialer::default());
            let request = Call { authority: &authority, transport, dialer, path, header: None, json: None, deadline };
            matches!(call(request).await, Ok((status, _)) if status.is_success())
        }
    }
}
