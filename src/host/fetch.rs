//! A file from the network that is proven to be the right one: a model that an instance fetches by itself, because what
//! launched it could not send it along.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, LOCATION, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::logic::breaker::Backoff;
use crate::logic::route::Transport;
use crate::tls::Dialer;

/// To connect, for a handshake, and between two parts of the file: a link that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(30);

/// The most that a file may hold: what a protobuf message can, which an ONNX file is.
const MOST_BYTES: usize = 2 * 1024 * 1024 * 1024;

/// Further addresses that one file may be sent to; browsers take 20, and stores of files use one or two.
const MOST_REDIRECTS: u32 = 5;

/// Tries, each from the beginning; in all they wait about as long as a server's restart takes.
const ATTEMPTS: u32 = 5;
const RETRY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(10) };

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address of this kind.
    #[error("`{0}` is no address to fetch from: give one that begins with http:// or https://")]
    Address(String),
    /// Nobody answers there, or not to its end.
    #[error("{url} cannot be fetched: {why}")]
    Broken {
        /// What was asked for.
        url: Uri,
        /// What happened.
        why: String,
    },
    /// An answer without the file.
    #[error("{url} answers {status}: see that the address is right and that this machine may read it")]
    Refused {
        /// What was asked for.
        url: Uri,
        /// The answer.
        status: StatusCode,
    },
    /// Sent on and on.
    #[error("{0} is sent on more than {MOST_REDIRECTS} times")]
    Redirects(Uri),
    /// Another file.
    #[error(
        "{url} holds another file than the one that is named: its SHA-256 is {found}; correct the address, or the digest \
         where the file was meant to change"
    )]
    Other {
        /// What was asked for.
        url: Uri,
        /// The digest of what came, in hexadecimal.
        found: String,
    },
    /// More than any model has.
    #[error("{0} holds more than {MOST_BYTES} bytes, and no ONNX file does; see that the address is right")]
    Endless(Uri),
}

impl FetchError {
    /// Whether the same may work a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}

/// Fetches the file with that SHA-256 into memory: an instance may have no disk.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(url: &Uri, sha256: [u8; 32], dialer: &Dialer) -> Result<Vec<u8>, FetchError> {
    let mut attempt = 0;
    loop {
        match try_to_fetch(url, sha256, dialer).await {
            Err(error) if error.is_passing() && attempt + 1 < ATTEMPTS => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(RETRY.delay(attempt, fastrand::f64())).await;
                attempt += 1;
            }
            fetched => return fetched,
        }
    }
}

async fn try_to_fetch(url: &Uri, sha256: [u8; 32], dialer: &Dialer) -> Result<Vec<u8>, FetchError> {
    let mut at = url.clone();
    for _ in 0..=MOST_REDIRECTS {
        let answer = ask(&at, dialer).await?;
        match answer.status() {
            StatusCode::OK => return keep(url, answer, sha256).await,
            status if status.is_redirection() => at = sent_on(&at, &answer)?,
            status => return Err(FetchError::Refused { url: at, status }),
        }
    }
    Err(FetchError::Redirects(url.clone()))
}

/// One request on a connection of its own.
async fn ask(url: &Uri, dialer: &Dialer) -> Result<Response<Incoming>, FetchError> {
    let address = || FetchError::Address(url.to_string());
    let (host, scheme) = (url.host().ok_or_else(address)?, url.scheme().ok_or_else(address)?);
    let (transport, usual_port) = match scheme {
        scheme if *scheme == Scheme::HTTPS => (Transport::Named, 443),
        scheme if *scheme == Scheme::HTTP => (Transport::Plain, 80),
        _ => return Err(address()),
    };
    let broken = |why: String| FetchError::Broken { url: url.clone(), why };
    let target = format!("{host}:{}", url.port_u16().unwrap_or(usual_port));
    let stream = in_time(TcpStream::connect(&target)).await.map_err(broken)?;
    let channel = dialer.secure(stream, host, &transport, SILENCE).await.map_err(|error| broken(error.to_string()))?;
    let (mut sender, connection) =
        in_time(hyper::client::conn::http1::handshake(TokioIo::new(channel))).await.map_err(broken)?;
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let request = Request::get(path).header(HOST, authority).header(USER_AGENT, "tidegate");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(error.to_string()))?;
    in_time(sender.send_request(request)).await.map_err(broken)
}

async fn in_time<T, E: std::fmt::Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(SILENCE, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing was heard for {} s", SILENCE.as_secs())),
    }
}

/// Where an answer sends us, which may be a path of the same server.
fn sent_on(from: &Uri, answer: &Response<Incoming>) -> Result<Uri, FetchError> {
    let refused = || FetchError::Refused { url: from.clone(), status: answer.status() };
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let (scheme, authority) = (from.scheme_str().unwrap_or_default(), from.authority().map_or("", |a| a.as_str()));
    // RFC 3986 section 4.2: whole, of another host, of another path, and beside this one.
    let to = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    to.parse().map_err(|_| refused())
}

async fn keep(url: &Uri, answer: Response<Incoming>, sha256: [u8; 32]) -> Result<Vec<u8>, FetchError> {
    let promised = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let (mut body, mut file) = (answer.into_body(), Vec::new());
    // Once, instead of by doubling; what is not there for it shows when the bytes come.
    let _no_room = file.try_reserve_exact(promised.unwrap_or(0).min(MOST_BYTES));
    loop {
        let part = tokio::time::timeout(SILENCE, body.frame()).await;
        let broken = |why: String| FetchError::Broken { url: url.clone(), why };
        match part.map_err(|_| broken(format!("it stops for {} s in its middle", SILENCE.as_secs())))? {
            None => break,
            Some(Err(error)) => return Err(broken(format!("it breaks off: {error}"))),
            Some(Ok(frame)) => {
                let Ok(bytes) = frame.into_data() else { continue };
                if file.len() + bytes.len() > MOST_BYTES {
                    return Err(FetchError::Endless(url.clone()));
                }
                file.extend_from_slice(&bytes);
            }
        }
    }
    let found: [u8; 32] = Sha256::digest(&file).into();
    if found != sha256 {
        let found = found.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(FetchError::Other { url: url.clone(), found });
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
