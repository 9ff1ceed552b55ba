//! The instance's listener: connections within a limit, each with its handshake where the instance has a certificate.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::front::Front;
use super::problem::AnswerBody;
use crate::tls::{Acceptor, Channel};

/// Connections at once, those in their handshake among them; the owner's pool needs a few dozen.
const MAX_CONNECTIONS: usize = 1024;

/// After a failed accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may stay without a request's whole head: longer than the gateway keeps an idle one (15 s), so
/// that it is the gateway that closes, and short enough to get rid of those who never ask.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer may be on its way to a client that does not hang up: what forwards it (a container's published
/// port, a tunnel) dies with the instance. Below what an adapter gives an instance beyond its drain, two seconds.
const LINGER: Duration = Duration::from_secs(1);

/// The connections of an instance.
pub(super) struct Connections {
    accepting: JoinHandle<()>,
    /// One for each connection that there may be.
    permits: Arc<Semaphore>,
    is_closing: watch::Sender<bool>,
}

impl Connections {
    /// Answers connections until they are closed.
    pub(super) fn accept(listener: TcpListener, tls: Option<Acceptor>, front: &Arc<Front>) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (is_closing, closing) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(front), Arc::clone(&permits), closing));
        Self { accepting, permits, is_closing }
    }

    /// Takes no more, and lets every answer that has begun arrive, for at most `left` and the moment that the last ones
    /// are on their way.
    pub(super) async fn close(self, left: Duration) {
        self.accepting.abort();
        self.is_closing.send_replace(true);
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _cut = tokio::time::timeout(left + LINGER, self.permits.acquire_many(all)).await;
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Acceptor>,
    front: Arc<Front>,
    permits: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
) {
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (tls, front, closing) = (tls.clone(), Arc::clone(&front), closing.clone());
                tokio::spawn(async move {
                    let mut closed = closing.clone();
                    let secured = tokio::select! {
                        secured = secured(stream, tls) => secured,
                        // Nothing was asked yet.
                        () = said(&mut closed) => None,
                    };
                    if let Some(channel) = secured {
                        serve(channel, |request| answer(Arc::clone(&front), request), closing).await;
                    }
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn secured(stream: TcpStream, tls: Option<Acceptor>) -> Option<Channel> {
    let _best_effort = stream.set_nodelay(true);
    match tls {
        None => Some(Channel::Plain(stream)),
        // Who fails at the handshake, or speaks plain HTTP to us, has been told so by TLS's own alert.
        Some(tls) => tls.accept(stream).await.ok(),
    }
}

async fn answer(front: Arc<Front>, request: Request<Incoming>) -> Response<AnswerBody> {
    front.answer(request).await
}

/// Answers the requests of one connection, and when it is told to close, the one that it is at.
async fn serve<A>(
    mut channel: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<Incoming>) -> A,
    mut closing: watch::Receiver<bool>,
) where
    A: Future<Output = Response<AnswerBody>>,
{
    let answer = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let ended = {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(&mut channel), answer);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = said(&mut closing) => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        }
    };
    // A connection that breaks concerns its two ends only; requests on it are counted where they are passed on.
    if ended.is_ok() {
        linger(channel).await;
    }
}

async fn said(closing: &mut watch::Receiver<bool>) {
    // Whoever closes may be gone: nobody has anything to wait for then.
    let _gone = closing.wait_for(|is_closing| *is_closing).await;
}

/// Says that nothing more comes, and waits for the client to have understood: whoever hangs up has got the answer.
async fn linger(mut channel: impl AsyncRead + AsyncWrite + Unpin) {
    let hung_up = async {
        channel.shutdown().await?;
        tokio::io::copy(&mut channel, &mut tokio::io::sink()).await
    };
    let _best_effort = tokio::time::timeout(LINGER, hung_up).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::Instant;

    /// Much more than is on its way at once between the two ends.
    const ANSWER_BYTES: usize = 256 * 1024;
    const WAY_BYTES: usize = 1024;

    async fn large(_request: Request<Incoming>) -> Response<AnswerBody> {
        let body = Full::new(vec![b'x'; ANSWER_BYTES].into());
        Response::new(body.map_err(|never| match never {}).boxed_unsync())
    }

    /// A client that has asked, with these headers too, and what serves it.
    async fn asked(headers: &str) -> (DuplexStream, watch::Sender<bool>, JoinHandle<()>) {
        let (mut client, server) = tokio::io::duplex(WAY_BYTES);
        let (is_closing, closing) = watch::channel(false);
        let serving = tokio::spawn(serve(server, large, closing));
        client.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        (client, is_closing, serving)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_begun_arrives_whole_however_slowly_it_is_read() {
        for headers in ["", "connection: close\r\n"] {
            let (mut client, is_closing, serving) = asked(headers).await;
            is_closing.send_replace(true);
            let (mut read, mut part) = (0, [0; WAY_BYTES]);
            loop {
                tokio::time::sleep(LINGER * 2).await;
                match client.read(&mut part).await.unwrap() {
                    0 => break,
                    more => read += more,
                }
            }
            assert!(read > ANSWER_BYTES, "{read} bytes with {headers:?}");
            drop(client);
            serving.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_is_not_waited_for_and_who_does_not_is_waited_for_only_so_long() {
        for (hangs_up, expected) in [(true, Duration::ZERO), (false, LINGER)] {
            let (mut client, is_closing, serving) = asked("").await;
            is_closing.send_replace(true);
            client.read_to_end(&mut Vec::new()).await.unwrap();
            let heard_all = Instant::now();
            let client = (!hangs_up).then_some(client);
            serving.await.unwrap();
            assert_eq!(heard_all.elapsed().as_secs(), expected.as_secs(), "hangs up: {hangs_up}");
            drop(client);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_is_closed_at_once() {
        let (mut client, server) = tokio::io::duplex(WAY_BYTES);
        let (is_closing, closing) = watch::channel(false);
        let serving = tokio::spawn(serve(server, large, closing));
        is_closing.send_replace(true);
        let began = Instant::now();
        assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        drop(client);
        serving.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
