//! Accepting connections, bounded, and letting go of them in an orderly way.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Gateway;
use super::guest::Guest;
use super::request::{self, AskedBody, Visitor};
use super::stall::StallLimited;
use crate::tls::{Channel, PeerAcceptor};

/// Enough for the longest cookies and tokens that anyone sends; a larger head is answered 431.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// What is read at once of a body, about: a connection that streams holds twice this, one for each direction.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// After the system refused to accept (no file descriptors left, mostly), this long is waited for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At the end, a connection that was just made gets so long to say what it came for.
const FIRST_WORDS: Duration = Duration::from_secs(2);
/// Who was answered before all of the request had come gets so long to send the rest, with no longer pause than this, or to notice.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(3);
/// What is thrown away at once of what such a one sends.
const WASTE_BYTES: usize = 16 * 1024;
/// Before the drain timeout, requests without a replica are turned away: enough to write an answer to each of a full queue.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Who comes by a listener.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Anybody who can reach it.
    Clients,
    /// Other nodes of the fleet.
    Peers(PeerAcceptor),
}

impl Door {
    /// The connection as HTTP is spoken on it, and the node at its other end; `None` for one that was not let in.
    async fn open(self, stream: TcpStream, gateway: &Gateway) -> Option<(Channel, Option<Guest>)> {
        let Self::Peers(acceptor) = self else { return Some((Channel::Plain(stream), None)) };
        match acceptor.accept(stream).await {
            Ok((channel, chain)) => Some((channel, Some(Guest::new(acceptor, chain)))),
            Err(error) => {
                gateway.ledger.meters.strangers.increment(1);
                tracing::debug!(%error, "a connection to gateway.peer_listen was not let in");
                None
            }
        }
    }
}

/// See [`Gateway::serve`] and [`Gateway::serve_peers`].
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    door: Door,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let room = Arc::new(Semaphore::new(gateway.options.max_connections));
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => count_panic(&gateway, ended),
            (stream, peer, permit) = accept(&listener, &room) => {
                let connection = connection(Arc::clone(&gateway), stream, door.clone(), peer, closed.clone());
                connections.spawn(async move {
                    connection.await;
                    drop::<OwnedSemaphorePermit>(permit);
                });
            }
        }
    }
    drop(listener);
    gateway.is_draining.store(true, Ordering::Relaxed);
    drop(closing);
    drain(&gateway, connections).await
}

/// Waits for the connections to end; returns how many did not in time. Requests that still wait for a replica shortly
/// before are told so, since one that is cut off does not know whether it was answered.
async fn drain(gateway: &Gateway, mut connections: JoinSet<()>) -> usize {
    let ends = Instant::now() + gateway.options.drain_timeout;
    let last_words = LAST_WORDS.min(gateway.options.drain_timeout / 4);
    if all_ended(gateway, &mut connections, ends - last_words).await {
        return 0;
    }
    gateway.services.load().values().for_each(|service| service.turn_away());
    if all_ended(gateway, &mut connections, ends).await {
        return 0;
    }
    let cut_off = connections.len();
    tracing::warn!(connections = cut_off, "requests were still in flight at the drain timeout and are cut off");
    connections.shutdown().await;
    cut_off
}

/// Whether all connections ended until `deadline`.
async fn all_ended(gateway: &Gateway, connections: &mut JoinSet<()>, deadline: Instant) -> bool {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            count_panic(gateway, ended);
        }
        gateway.letters.all_gone().await;
    };
    tokio::time::timeout_at(deadline, all_ended).await.is_ok()
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, IpAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip(), permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends; once `closing` is gone, until the request in flight is answered.
async fn connection(gateway: Arc<Gateway>, stream: TcpStream, door: Door, peer: IpAddr, closing: watch::Receiver<()>) {
    // Answers are written whole; waiting for more to send with them would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let Some((mut channel, guest)) = door.open(stream, &gateway).await else { return };
    let address = HeaderValue::try_from(peer.to_string()).expect("an address is a header value");
    let visitor = Visitor { address, guest: guest.map(Arc::new), route: None };
    let hurry = LAST_WORDS.min(gateway.options.drain_timeout / 4) / 2;
    match converse(gateway, &mut channel, visitor, closing.clone()).await {
        Ok(End::OfItself) => linger(channel, closing, hurry).await,
        // What is no HTTP is told so, and may be long.
        Err(error) if error.is_parse() => linger(channel, closing, hurry).await,
        Err(error) => tracing::debug!(%error, "a connection ended early"),
        Ok(End::Asked) => {
            // A client that keeps its connections does not hold up the end, one that was told to send it again is to hear it.
            let mut first = [0; 1];
            let now = tokio::time::timeout(Duration::ZERO, channel.read(&mut first)).await;
            if matches!(now, Ok(Ok(1..))) {
                linger(channel, closing, hurry).await;
            }
        }
    }
}

/// Why a conversation is over.
enum End {
    /// The gateway stops.
    Asked,
    /// The client left, or was told to.
    OfItself,
}

/// Answers a connection's requests.
async fn converse(
    gateway: Arc<Gateway>,
    channel: &mut Channel,
    visitor: Visitor,
    mut closing: watch::Receiver<()>,
) -> hyper::Result<End> {
    let header_read_timeout = gateway.options.header_read_timeout;
    let first_byte = Arc::new(Notify::new());
    let stream = StallLimited::new(channel, gateway.options.write_stall_timeout, first_byte.clone());
    let first_words = FIRST_WORDS.min(gateway.options.drain_timeout / 4);
    let service = service_fn(move |request| {
        let (head, body) = http::Request::into_parts(request);
        let answer = request::answer(Arc::clone(&gateway), head, AskedBody::Arriving(body), visitor.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_read_timeout)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(stream, service);
    let mut served = pin!(served);
    tokio::select! {
        biased;
        ended = served.as_mut() => ended.map(|()| End::OfItself),
        _ = closing.changed() => tokio::select! {
            biased;
            ended = served.as_mut() => ended.map(|()| End::OfItself),
            // The library closes at once what has not said anything yet; its request may be on its way.
            _ = tokio::time::timeout(first_words, first_byte.notified()) => {
                served.as_mut().graceful_shutdown();
                served.await.map(|()| End::Asked)
            }
        },
    }
}

/// Takes what still comes of a request that is answered already, and throws it away: a connection that is closed before that is reset, and
/// who was told why is left with a broken pipe. Once the gateway stops, for so long as `hurry` only.
async fn linger(mut channel: Channel, mut closing: watch::Receiver<()>, hurry: Duration) {
    let taken = async {
        let mut waste = vec![0; WASTE_BYTES];
        while let Ok(Ok(1..)) = tokio::time::timeout(LINGER_PAUSE, channel.read(&mut waste)).await {}
    };
    let stopped = async {
        // An error means the same: nobody is there any more who could say it.
        let _stops = closing.changed().await;
        tokio::time::sleep(hurry).await;
    };
    tokio::select! {
        () = taken => {}
        () = stopped => {}
        () = tokio::time::sleep(LINGER) => {}
    }
}

fn count_panic(gateway: &Gateway, ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        gateway.ledger.meters.panics.increment(1);
    }
}
