//! Endpoints behind TLS: pinned to a launch's key, or by a name that an authority vouches for, with a real TLS server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tidegate::gateway::GatewayOptions;
use tidegate::logic::route::{Bearer, Endpoint, EndpointCounters, Placement, Transport};
use tidegate::tls::{Acceptor, Dialer, LaunchIdentity};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::support::{Node, full, named, service};

fn identity(launch: &str) -> LaunchIdentity {
    LaunchIdentity::derive(b"a node's secret", launch).expect("an identity")
}

/// A server that proves itself with a launch's key and answers with the host that it was asked for.
struct Secured {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
    files: TempDir,
}

impl Secured {
    async fn start(identity: &LaunchIdentity) -> Self {
        Self::at(identity, TcpListener::bind("127.0.0.1:0").await.expect("a free port")).await
    }

    async fn at(identity: &LaunchIdentity, listener: TcpListener) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let (certificate, key) = (files.path().join("crt"), files.path().join("key"));
        std::fs::write(&certificate, identity.certificate_pem()).expect("written");
        std::fs::write(&key, identity.key_pem()).expect("written");
        let acceptor = Acceptor::from_files(&certificate, &key).expect("a pair");
        let addr = listener.local_addr().expect("an address");
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&connections), Arc::clone(&requests)));
        Self { addr, connections, requests, accepting, files }
    }

    fn certificate(&self) -> PathBuf {
        self.files.path().join("crt")
    }

    fn served(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Accepts no more and frees the port; connections that it has stay open, as those of an instance that is paused.
    async fn leave(self) {
        self.accepting.abort();
        let _aborted = self.accepting.await;
    }
}

async fn accept(listener: TcpListener, acceptor: Acceptor, connections: Arc<AtomicUsize>, requests: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
        let connections = Arc::clone(&connections);
        tokio::spawn(async move {
            let Ok(channel) = acceptor.accept(stream).await else { return };
            connections.fetch_add(1, Ordering::SeqCst);
            let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                requests.fetch_add(1, Ordering::SeqCst);
                let host = request.headers()["host"].to_str().expect("text").to_owned();
                async move { Ok::<_, Infallible>(Response::new(full(host))) }
            });
            let _ended =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(channel), answer).await;
        });
    }
}

fn endpoint(replica: &str, authority: String, transport: Transport) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        replica: replica.into(),
        placement: Placement::Cloud,
        authority,
        transport,
        bearer: Some(Bearer::new("launch-secret")),
        concurrency: 4,
        weight: 1,
        counters: EndpointCounters::default(),
    })
}

fn pinned(replica: &str, addr: SocketAddr, identity: &LaunchIdentity) -> Arc<Endpoint> {
    endpoint(replica, addr.to_string(), Transport::Pinned(identity.pin()))
}

const PATH: &str = "/services/digits/x";

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_endpoint_is_served_over_a_connection_that_is_kept() {
    let identity = identity("l-1");
    let server = Secured::start(&identity).await;
    let node = Node::serving("digits", &[pinned("l-1", server.addr, &identity)]).await;
    let mut sent = 0;
    // A connection goes back to the pool a moment after its answer: the next request may come too early for it.
    while server.connections.load(Ordering::SeqCst) == sent {
        assert!(sent < 100, "each request has a connection of its own");
        let told = node.post(PATH, "x").await;
        // The pin in the pool's key is for the pool alone: the server sees host and port.
        assert_eq!((told.status.as_u16(), told.text()), (200, server.addr.to_string().as_str()));
        sent += 1;
    }
    assert_eq!(server.served(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_than_the_pinned_one_gets_no_request() {
    let server = Secured::start(&identity("l-2")).await;
    let node = Node::serving("digits", &[pinned("l-1", server.addr, &identity("l-1"))]).await;
    let told = node.post(PATH, "x").await;
    assert_eq!(told.status, 502, "{told:?}");
    assert!(told.text().contains("another key than the expected one was presented"), "{}", told.text());
    assert_eq!((server.connections.load(Ordering::SeqCst), server.served()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_server_in_an_instances_place_gets_no_request() {
    let addr = named("plain").await;
    let node = Node::serving("digits", &[pinned("l-1", addr, &identity("l-1"))]).await;
    let told = node.post(PATH, "x").await;
    assert!(told.status == 502 && told.text().contains("no TLS handshake"), "{}", told.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_another_launch_takes_over_is_never_spoken_to_with_the_first_ones_trust() {
    let (first, second) = (identity("l-1"), identity("l-2"));
    let server = Secured::start(&first).await;
    let addr = server.addr;
    let node = Node::serving("digits", &[pinned("l-1", addr, &first)]).await;
    assert_eq!(node.post(PATH, "x").await.status, 200);

    // The first launch's connection is still open and idle, and must not carry what is meant for the second.
    node.route("digits", &[pinned("l-2", addr, &second)]);
    let told = node.post(PATH, "x").await;
    assert!(told.status == 502 && told.text().contains("another key"), "{}", told.text());
    assert_eq!(server.served(), 1);

    server.leave().await;
    let server = Secured::at(&second, TcpListener::bind(addr).await.expect("the same port")).await;
    node.route("digits", &[pinned("l-2", addr, &second)]);
    assert_eq!(node.post(PATH, "x").await.status, 200);
    assert_eq!(server.served(), 1);

    // And back: whatever is still open to the first may serve the first, but nothing reaches the second.
    node.route("digits", &[endpoint("l-2", addr.to_string(), Transport::Plain)]);
    assert_eq!(node.post(PATH, "x").await.status, 502);
    assert_eq!(server.served(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_try_goes_elsewhere_when_the_key_is_wrong() {
    let (good, bad) = (identity("l-1"), identity("l-2"));
    let (right, wrong) = (Secured::start(&good).await, Secured::start(&good).await);
    let endpoints = [pinned("l-2", wrong.addr, &bad), pinned("l-1", right.addr, &good)];
    let node = Node::serving("digits", &endpoints).await;
    for _ in 0..4 {
        assert_eq!(node.post(PATH, "x").await.status, 200);
    }
    assert_eq!((wrong.served(), right.served()), (0, 4));
}

async fn node_that_trusts(authority: Option<PathBuf>) -> Node {
    let dialer = Dialer::new(authority.as_deref()).expect("authorities");
    Node::with(GatewayOptions { dialer, ..GatewayOptions::default() }, vec![service("digits")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_endpoint_is_served_where_an_authority_vouches_for_its_name() {
    // Its own authority, for the one name that every machine resolves.
    let server = Secured::start(&identity("localhost")).await;
    let authority = format!("localhost:{}", server.addr.port());
    let node = node_that_trusts(Some(server.certificate())).await;
    node.route("digits", &[endpoint("l-1", authority.clone(), Transport::Named)]);
    for _ in 0..2 {
        let told = node.post(PATH, "x").await;
        assert_eq!((told.status.as_u16(), told.text()), (200, authority.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_endpoint_that_nobody_vouches_for_gets_no_request() {
    let server = Secured::start(&identity("localhost")).await;
    let authority = format!("localhost:{}", server.addr.port());
    let node = node_that_trusts(None).await;
    node.route("digits", &[endpoint("l-1", authority, Transport::Named)]);
    let told = node.post(PATH, "x").await;
    assert!(told.status == 502 && told.text().contains("is not accepted for localhost"), "{}", told.text());
    assert_eq!(server.served(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_for_another_name_is_not_enough() {
    let server = Secured::start(&identity("elsewhere")).await;
    let authority = format!("localhost:{}", server.addr.port());
    let node = node_that_trusts(Some(server.certificate())).await;
    node.route("digits", &[endpoint("l-1", authority, Transport::Named)]);
    let told = node.post(PATH, "x").await;
    assert!(told.status == 502 && told.text().contains("is not accepted for localhost"), "{}", told.text());
    assert_eq!(server.served(), 0);
}
