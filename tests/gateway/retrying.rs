//! Replicas that are dead, stopping, broken, or replaced under the requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tidegate::gateway::{GatewayOptions, ServiceOptions};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn a_dead_replica_costs_no_request_and_is_left_alone_soon() {
    let endpoints = [endpoint("dead", dead().await, 4), endpoint("alive", named("alive").await, 4)];
    let node = Node::serving("d", &endpoints).await;
    for _ in 0..20 {
        assert_eq!(node.post("/services/d/", "not repeatable, but never sent").await.text(), "alive");
    }
    assert_eq!(node.reading("d").lost(), 0);
    assert!(endpoints[0].counters.ejected_until().is_some());
    assert_eq!(endpoints[0].counters.failed(), 3, "three failures, and then it is left alone");
}

/// Says that it is stopping, as `tidegate wrap` does.
async fn draining() -> SocketAddr {
    replica(|_| async {
        Response::builder().status(503).header("x-tidegate-draining", "1").body(full("")).expect("an answer")
    })
    .await
}

#[tokio::test]
async fn a_draining_replica_costs_no_request_whatever_the_method() {
    let endpoints = [endpoint("draining", draining().await, 4), endpoint("alive", named("alive").await, 4)];
    let node = Node::serving("d", &endpoints).await;
    for _ in 0..10 {
        assert_eq!(node.post("/services/d/", "x").await.text(), "alive");
    }
    assert_eq!(endpoints[0].counters.failed(), 1, "it is believed at once");
}

#[tokio::test]
async fn a_body_too_large_to_hold_is_sent_again_if_it_is_untouched() {
    let alive = replica(|request: Request<Incoming>| async {
        let bytes = request.into_body().collect().await.expect("a body").to_bytes();
        Response::new(full(bytes.len().to_string()))
    });
    let node = Node::serving("d", &[endpoint("dead", dead().await, 1), endpoint("alive", alive.await, 1)]).await;
    let large = vec![1_u8; 1_000_000];
    for _ in 0..4 {
        let request = node.request("POST", "/services/d/").body(full(large.clone())).expect("a request");
        assert_eq!(node.tell(request).await.text(), "1000000");
    }
}

/// Reads the request's head and closes the connection.
async fn broken() -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (addr, seen)
}

#[tokio::test]
async fn what_a_replica_may_have_seen_goes_elsewhere_only_if_it_may_be_repeated() {
    let (addr, seen) = broken().await;
    for (method, path, key, expected) in [
        ("POST", "/services/d/", None, 502),
        ("POST", "/services/d/", Some("k"), 200),
        ("PATCH", "/services/d/", None, 502),
        ("PUT", "/services/d/", None, 200),
        ("GET", "/services/d/", None, 200),
        ("POST", "/v2/models/d/infer", None, 200),
        ("POST", "/v2/models/d/generate", None, 502),
    ] {
        let node = Node::serving("d", &[endpoint("broken", addr, 1), endpoint("alive", named("a").await, 1)]).await;
        let mut request = node.request(method, path);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let told = node.tell(request.body(full("x")).expect("a request")).await;
        assert_eq!(told.status, expected, "{method} {path} {key:?}: {told:?}");
        if expected == 502 {
            assert_eq!(told.problem(), "replica-broken");
        }
    }
    assert_eq!(seen.load(Ordering::SeqCst), 7, "each was tried there once");
}

#[tokio::test]
async fn a_service_may_declare_all_its_requests_repeatable() {
    let node = Node::start(vec![ServiceOptions { repeatable: true, ..service("d") }]).await;
    node.route("d", &[endpoint("broken", broken().await.0, 1), endpoint("alive", named("alive").await, 1)]);
    assert_eq!(node.post("/services/d/", "x").await.text(), "alive");
}

/// One that is not held can be sent but once; where it stood is free again when its request is over.
#[tokio::test]
async fn bodies_are_held_for_a_second_try_as_long_as_there_is_room_for_all_of_them() {
    let broken = broken().await.0;
    let options = GatewayOptions { replay_bytes: 2, ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("d")]).await;
    for (body, expected) in [("xx", 200), ("xxx", 502), ("xx", 200)] {
        node.route("d", &[endpoint("broken", broken, 1), endpoint("alive", named("alive").await, 1)]);
        let request = node.request("POST", "/services/d/").header("idempotency-key", "k");
        assert_eq!(node.tell(request.body(full(body)).expect("a request")).await.status, expected, "{body}");
    }
}

#[tokio::test]
async fn there_is_no_third_try() {
    let (addr, seen) = broken().await;
    let endpoints: Vec<_> = ["one", "two", "three"].iter().map(|name| endpoint(name, addr, 1)).collect();
    let node = Node::serving("d", &endpoints).await;
    assert_eq!(node.get("/services/d/").await.problem(), "replica-broken");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_of_the_replicas_own_passes_even_if_it_is_an_error() {
    let failing = replica(|_| async { Response::builder().status(500).body(full("mine")).expect("an answer") }).await;
    let busy = replica(|_| async { Response::builder().status(503).body(full("busy")).expect("an answer") }).await;
    let node = Node::serving("d", &[endpoint("failing", failing, 1)]).await;
    let told = node.get("/services/d/").await;
    assert_eq!((told.status.as_u16(), told.text()), (500, "mine"));
    node.route("d", &[endpoint("busy", busy, 1)]);
    let told = node.get("/services/d/").await;
    assert_eq!((told.status.as_u16(), told.text()), (503, "busy"), "there is nobody else to ask");
    node.route("d", &[endpoint("busy", busy, 1), endpoint("alive", named("alive").await, 1)]);
    for _ in 0..4 {
        assert_eq!(node.get("/services/d/").await.text(), "alive");
    }
}

#[tokio::test]
async fn the_requests_at_the_only_replica_wait_for_its_successor() {
    let node = Node::serving("d", &[endpoint("dead", dead().await, 4)]).await;
    let held: Vec<_> = (0..3).map(|_| node.posting("/services/d/")).collect();
    eventually("all were tried", || node.reading("d").in_flight == 3).await;
    node.route("d", &[endpoint("successor", named("successor").await, 4)]);
    for request in held {
        assert_eq!(within(request).await.expect("an answer").text(), "successor");
    }
}

/// Two draining replicas and nothing else: the client learns that it may try again.
#[tokio::test]
async fn where_all_are_draining_the_client_may_try_again() {
    let addr = draining().await;
    let node = Node::serving("d", &[endpoint("one", addr, 1), endpoint("two", addr, 1)]).await;
    let told = node.post("/services/d/", "x").await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (503, "draining"));
    assert_eq!(told.header("retry-after"), "1");
}

/// Requests of one client.
const REQUESTS: usize = 100;

/// Replicas come and go under a steady load, each told to drain only after the table has let go of it, as the scheduler
/// does, or a moment before, as happens when an instance ends itself. Nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_replicas_come_and_go() {
    let node = Arc::new(Node::start(vec![service("d")]).await);
    let alive = named("alive").await;
    let stopping = draining().await;
    node.route("d", &[endpoint("d-0", alive, 2)]);
    let answered: Vec<Arc<AtomicUsize>> = (0..8).map(|_| Arc::default()).collect();
    let load: Vec<_> = answered
        .iter()
        .map(|answered| {
            let (node, answered) = (Arc::clone(&node), Arc::clone(answered));
            tokio::spawn(async move {
                for _ in 0..REQUESTS {
                    assert_eq!(node.post("/services/d/", "x").await.status, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for n in 0..50 {
        let steady = endpoint(&format!("d-{n}"), alive, 2);
        let leaving = endpoint(&format!("l-{n}"), if n % 2 == 0 { stopping } else { dead().await }, 2);
        node.route("d", &[steady.clone(), leaving]);
        tokio::task::yield_now().await;
        node.route("d", &[steady]);
        // A request is tried twice at most: those that met this one are through before the next one leaves.
        let before: Vec<usize> = answered.iter().map(|answered| answered.load(Ordering::SeqCst)).collect();
        let is_through = |(answered, before): (&Arc<AtomicUsize>, &usize)| {
            let now = answered.load(Ordering::SeqCst);
            now > *before || now == REQUESTS
        };
        let all_through = || answered.iter().zip(&before).all(is_through);
        eventually("who met it is through", all_through).await;
    }
    for requests in load {
        within(requests).await.expect("none was lost");
    }
    eventually("all slots are back", || node.reading("d").in_flight == 0 && node.reading("d").queued == 0).await;
    assert_eq!((node.reading("d").ok, node.reading("d").lost()), (800, 0));
}
