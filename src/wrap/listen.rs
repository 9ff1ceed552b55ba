//! The instance's listener: connections within a limit, each with its handshake where the instance has a certificate.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::front::Front;
use crate::tls::{Acceptor, Channel};

/// Connections at once, those in their handshake among them; the owner's pool needs a few dozen.
const MAX_CONNECTIONS: usize = 1024;

/// After a failed accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may stay without a request's whole head: longer than the gateway keeps an idle one (15 s), so
/// that it is the gateway that closes, and short enough to get rid of those who never ask.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers connections for as long as it is polled.
pub(super) async fn accept(listener: TcpListener, tls: Option<Acceptor>, front: Arc<Front>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (tls, front) = (tls.clone(), Arc::clone(&front));
                tokio::spawn(async move {
                    serve(stream, tls, front).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, tls: Option<Acceptor>, front: Arc<Front>) {
    let _best_effort = stream.set_nodelay(true);
    let channel = match tls {
        None => Channel::Plain(stream),
        // Who fails at the handshake, or speaks plain HTTP to us, has been told so by TLS's own alert.
        Some(tls) => match tls.accept(stream).await {
            Ok(channel) => channel,
            Err(_) => return,
        },
    };
    let answer = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    // A connection that breaks concerns its two ends only; requests on it are counted where they are passed on.
    let _broken = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(channel), answer)
        .await;
}
