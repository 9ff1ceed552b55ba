//! The limits of the listener and its end.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tidegate::gateway::GatewayOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::*;

#[tokio::test]
async fn a_shutdown_answers_what_is_in_flight_and_closes_what_is_idle() {
    let (addr, gate) = gated().await;
    let node = Node::serving("d", &[endpoint("d-1", addr, 1)]).await;
    let mut idle = TcpStream::connect(node.addr).await.expect("a connection");
    let mut used = TcpStream::connect(node.addr).await.expect("a connection");
    used.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    assert!(within(used.read(&mut [0; 1024])).await.expect("an answer") > 0);
    let in_flight = node.posting("/services/d/");
    gate.arrival().await;
    let waiting = node.posting("/services/d/");
    eventually("one waits", || node.reading("d").queued == 1).await;
    node.shutdown.send(()).expect("it serves");
    for stream in [&mut idle, &mut used] {
        assert_eq!(within(stream.read(&mut [0; 64])).await.unwrap_or(0), 0, "closed");
    }
    eventually("no new connection", || std::net::TcpStream::connect(node.addr).is_err()).await;
    assert!(!node.served.is_finished(), "two requests are not answered yet");
    gate.let_through(2);
    for request in [in_flight, waiting] {
        let told = within(request).await.expect("an answer");
        assert_eq!(told.status, 200);
        assert_eq!(told.header("connection"), "close");
    }
    assert_eq!(within(node.served).await.expect("it ended"), 0);
}

/// The library would close it: what came in the same moment as the end must not be lost.
#[tokio::test]
async fn a_connection_that_was_just_made_is_answered_though_the_end_came_before_its_request() {
    let node = Node::serving("d", &[endpoint("d-1", named("d-1").await, 1)]).await;
    let mut fresh = TcpStream::connect(node.addr).await.expect("a connection");
    // Accepted after it, so that it is too.
    assert_eq!(node.get("/v2").await.status, 200);
    node.shutdown.send(()).expect("it serves");
    eventually("no new connection", || std::net::TcpStream::connect(node.addr).is_err()).await;
    fresh.write_all(b"GET /services/d/ HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut said = Vec::new();
    within(fresh.read_to_end(&mut said)).await.expect("an answer");
    assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
    assert_eq!(within(node.served).await.expect("it ended"), 0);
}

/// A node that drains for so long and whose one place is taken, by a request that is let through by the gate.
async fn taken(drain_timeout: Duration) -> (Node, Arc<Gate>, JoinHandle<Told>) {
    let (addr, gate) = gated().await;
    let options = GatewayOptions { drain_timeout, ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("d")]).await;
    node.route("d", &[endpoint("d-1", addr, 1)]);
    let in_flight = node.posting("/services/d/");
    gate.arrival().await;
    (node, gate, in_flight)
}

/// One that waits cannot know whether a replica has seen it; a status tells it that none has.
#[tokio::test]
async fn who_still_waits_for_a_replica_shortly_before_the_end_is_told_to_send_it_again() {
    let (node, gate, in_flight) = taken(Duration::from_secs(1)).await;
    let waiting = node.posting("/services/d/");
    eventually("one waits", || node.reading("d").queued == 1).await;
    node.shutdown.send(()).expect("it serves");
    let told = within(waiting).await.expect("an answer");
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (503, "stopping"));
    assert_eq!(told.header("retry-after"), "1");
    gate.let_through(1);
    drop(in_flight);
    within(node.served).await.expect("it ended");
}

#[tokio::test]
async fn who_waits_with_more_to_send_than_is_read_ahead_hears_it_too() {
    let (node, gate, in_flight) = taken(Duration::from_secs(2)).await;
    let head = format!("POST /services/d/ HTTP/1.1\r\nhost: x\r\ncontent-length: {MUCH}\r\n\r\n");
    let waiting = tokio::spawn(sent_whole(node.addr, head, MUCH));
    eventually("one waits", || node.reading("d").queued == 1).await;
    node.shutdown.send(()).expect("it serves");
    let told = within(waiting).await.expect("no panic").expect("neither reset nor a broken pipe");
    assert_eq!(told, *b"HTTP/1.1 503");
    gate.let_through(1);
    drop(in_flight);
    within(node.served).await.expect("it ended");
}

#[tokio::test]
async fn what_does_not_end_within_the_drain_timeout_is_cut_off_and_counted() {
    let (addr, gate) = gated().await;
    let options = GatewayOptions { drain_timeout: Duration::from_millis(50), ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("d")]).await;
    let endpoints = [endpoint("d-1", addr, 1)];
    node.route("d", &endpoints);
    let mut stream = TcpStream::connect(node.addr).await.expect("a connection");
    stream.write_all(b"GET /services/d/ HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    gate.arrival().await;
    node.shutdown.send(()).expect("it serves");
    assert_eq!(within(node.served).await.expect("it ended"), 1);
    assert_eq!(endpoints[0].counters.in_flight(), 0, "its slot is free");
    assert_eq!(node.gateway.in_flight(), 0);
}

#[tokio::test]
async fn connections_over_the_limit_wait_their_turn() {
    let options = GatewayOptions { max_connections: 1, ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("d")]).await;
    let mut first = TcpStream::connect(node.addr).await.expect("a connection");
    first.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    assert!(within(first.read(&mut [0; 1024])).await.expect("an answer") > 0);
    let mut second = TcpStream::connect(node.addr).await.expect("in the backlog");
    second.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut buffer = [0; 1024];
    let early = tokio::time::timeout(Duration::from_millis(50), second.read(&mut buffer)).await;
    assert!(early.is_err(), "it is not served while the first is there");
    drop(first);
    assert!(within(second.read(&mut buffer)).await.expect("an answer") > 0);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_let_go() {
    let options = GatewayOptions { header_read_timeout: Duration::from_millis(50), ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("d")]).await;
    let mut slow = TcpStream::connect(node.addr).await.expect("a connection");
    slow.write_all(b"GET /v2 HTTP/1.1\r\nhost:").await.expect("sent");
    let mut rest = Vec::new();
    let _ = within(slow.read_to_end(&mut rest)).await;
    assert_eq!(node.get("/v2").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_not_http_or_too_large_costs_its_connection_alone() {
    let node = Node::start(vec![service("d")]).await;
    let huge = format!("GET /v2 HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    for bad in ["\0\0\0\0 nonsense\r\n\r\n", "GET /v2 HTTP/1.1\r\ncontent-length: x\r\n\r\n", huge.as_str()] {
        let mut stream = TcpStream::connect(node.addr).await.expect("a connection");
        let _ = stream.write_all(bad.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(node.get("/v2").await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_it_and_frees_the_slot() {
    let endless = replica(|_| async {
        let (feed, body) = fed();
        tokio::spawn(async move { while feed.send(vec![0; 64 * 1024].into()).await.is_ok() {} });
        Response::new(body)
    });
    let options = GatewayOptions { write_stall_timeout: Duration::from_millis(50), ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("d")]).await;
    let endpoints = [endpoint("d-1", endless.await, 1)];
    node.route("d", &endpoints);
    let mut stream = TcpStream::connect(node.addr).await.expect("a connection");
    stream.write_all(b"GET /services/d/ HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    eventually("it is at the replica", || endpoints[0].counters.in_flight() == 1).await;
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
    assert_eq!(node.reading("d").cancelled, 1);
    drop(stream);
}
