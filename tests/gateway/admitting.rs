//! Slots, the line before them, and the deadline of who stands in it.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tidegate::gateway::ServiceOptions;
use tidegate::logic::route::Placement;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn a_full_queue_is_answered_at_once_and_loses_nobody_in_it() {
    let (addr, gate) = gated().await;
    let node = Node::start(vec![ServiceOptions { queue: 1, ..service("d") }]).await;
    node.route("d", &[endpoint("d-1", addr, 1)]);
    let first = node.posting("/services/d/");
    gate.arrival().await;
    let second = node.posting("/services/d/");
    eventually("one waits", || node.reading("d").queued == 1).await;
    let third = node.post("/services/d/", "x").await;
    assert_eq!((third.status.as_u16(), third.problem().as_str()), (429, "queue-full"));
    assert_eq!(third.header("retry-after"), "1");
    gate.let_through(2);
    assert_eq!(within(first).await.expect("an answer").status, 200);
    assert_eq!(within(second).await.expect("an answer").status, 200);
    eventually("all are counted", || node.reading("d").ok == 2 && node.reading("d").rejected == 1).await;
    assert!(node.reading("d").queued_area > Duration::ZERO);
}

#[tokio::test]
async fn a_queue_of_none_turns_away_what_has_no_slot() {
    let (addr, gate) = gated().await;
    let node = Node::start(vec![ServiceOptions { queue: 0, ..service("d") }]).await;
    node.route("d", &[endpoint("d-1", addr, 1)]);
    let first = node.posting("/services/d/");
    gate.arrival().await;
    assert_eq!(node.post("/services/d/", "x").await.status, 429);
    gate.let_through(1);
    assert_eq!(within(first).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_deadline_in_the_queue_is_a_503_that_may_be_repeated() {
    let node = Node::serving("d", &[]).await;
    let request = node.request("POST", "/services/d/").header("x-tidegate-deadline-ms", "40").body(full("x"));
    let told = node.tell(request.expect("a request")).await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (503, "queue-expired"));
    assert_eq!(told.header("retry-after"), "1");
    eventually("nobody waits", || node.reading("d").queued == 0 && node.reading("d").expired == 1).await;
}

#[tokio::test]
async fn a_deadline_at_the_replica_is_a_504_and_frees_the_slot() {
    let (addr, gate) = gated().await;
    let endpoints = [endpoint("d-1", addr, 1)];
    let node = Node::serving("d", &endpoints).await;
    let request = node.request("POST", "/services/d/").header("x-tidegate-deadline-ms", "100").body(full("x"));
    let sending = node.sending(request.expect("a request"));
    gate.arrival().await;
    let told = within(sending).await.expect("an answer");
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (504, "deadline-exceeded"));
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
    assert_eq!(endpoints[0].counters.failed(), 0, "the client was impatient, the replica did not fail");
}

#[tokio::test]
async fn the_services_own_timeout_bounds_what_a_client_may_ask() {
    let (addr, _gate) = gated().await;
    let node = Node::start(vec![ServiceOptions { request_timeout: Duration::from_millis(100), ..service("d") }]).await;
    let endpoints = [endpoint("d-1", addr, 1)];
    node.route("d", &endpoints);
    let request = node.request("GET", "/services/d/").header("x-tidegate-deadline-ms", "3600000").body(full(""));
    assert_eq!(node.tell(request.expect("a request")).await.status, 504);
    assert_eq!(endpoints[0].counters.failed(), 1, "the operator's own limit says that it hangs");
}

#[tokio::test]
async fn a_service_at_zero_holds_its_requests_until_a_replica_is_there() {
    let node = Node::serving("d", &[]).await;
    let held: Vec<_> = (0..20).map(|_| node.posting("/v2/models/d/infer")).collect();
    eventually("all wait", || node.reading("d").queued == 20).await;
    node.route("d", &[endpoint("d-1", named("awake").await, 2)]);
    for request in held {
        assert_eq!(within(request).await.expect("an answer").text(), "awake");
    }
    assert_eq!(node.reading("d").lost(), 0);
}

#[tokio::test]
async fn a_service_that_goes_answers_what_it_has_taken_and_takes_nothing_more_until_it_comes_again() {
    let (addr, gate) = gated().await;
    let node = Node::start(vec![service("d"), service("e")]).await;
    node.route("d", &[endpoint("d-1", addr, 1)]);
    let taken: Vec<_> = (0..3).map(|_| node.posting("/v2/models/d/infer")).collect();
    gate.arrival().await;
    eventually("two wait", || node.reading("d").queued == 2).await;
    node.gateway.reconfigure(vec![service("e"), service("f")]);
    let told = node.get("/services/d/").await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (404, "unknown-service"));
    assert!(!told.text().contains("e, d") && told.text().contains("e, f"), "{told:?}");
    gate.let_through(3);
    for request in taken {
        assert_eq!(within(request).await.expect("an answer").status, 200);
    }
    eventually("all are counted", || node.reading("d").unanswered() == 0).await;
    node.route("e", &[]);
    assert_eq!(
        node.gateway.all_counters().keys().collect::<Vec<_>>(),
        ["e", "f"],
        "one that is gone and idle is forgotten"
    );
    node.gateway.reconfigure(vec![service("d")]);
    node.route("d", &[endpoint("d-1", named("again").await, 1)]);
    assert_eq!(node.post("/services/d/", "x").await.text(), "again");
}

#[tokio::test]
async fn a_table_that_shrinks_takes_nothing_from_those_in_flight_and_one_that_grows_serves_at_once() {
    let (addr, gate) = gated().await;
    let (one, other) = (endpoint("d-1", addr, 2), endpoint("d-2", addr, 2));
    let node = Node::serving("d", &[one.clone(), other.clone()]).await;
    let mut all: Vec<_> = (0..4).map(|_| node.posting("/services/d/")).collect();
    for _ in 0..4 {
        gate.arrival().await;
    }
    node.route("d", std::slice::from_ref(&one));
    all.push(node.posting("/services/d/"));
    eventually("the fifth waits", || node.reading("d").queued == 1).await;
    let third = endpoint("d-3", addr, 1);
    node.route("d", &[one.clone(), third.clone()]);
    gate.arrival().await;
    assert_eq!((one.counters.in_flight(), other.counters.in_flight(), third.counters.in_flight()), (2, 2, 1));
    gate.let_through(5);
    for request in all {
        assert_eq!(within(request).await.expect("an answer").status, 200);
    }
    eventually("every slot is free", || [&one, &other, &third].iter().all(|e| e.counters.in_flight() == 0)).await;
}

#[tokio::test]
async fn never_more_at_a_replica_than_it_takes_at_once() {
    let (addr, gate) = gated().await;
    let endpoints = [endpoint("d-1", addr, 3)];
    let node = Node::serving("d", &endpoints).await;
    let all: Vec<_> = (0..40).map(|_| node.posting("/services/d/")).collect();
    eventually("the rest waits", || node.reading("d").queued == 37).await;
    for _ in 0..40 {
        gate.arrival().await;
        assert!(endpoints[0].counters.in_flight() <= 3);
        gate.let_through(1);
    }
    for request in all {
        assert_eq!(within(request).await.expect("an answer").status, 200);
    }
}

#[tokio::test]
async fn who_waits_for_a_local_slot_holds_up_nobody_who_need_not() {
    let (addr, gate) = gated().await;
    let local = endpoint("local-1", addr, 1);
    let cloud = placed("cloud-1", named("cloud").await, 1, Placement::Cloud);
    let node = Node::start(vec![ServiceOptions { queue: 1, ..service("d") }]).await;
    node.route("d", &[local, cloud]);
    let ask = || node.request("GET", "/services/d/").header("x-tidegate-placement", "local").body(full(""));
    let first = node.sending(ask().expect("a request"));
    gate.arrival().await;
    let second = node.sending(ask().expect("a request"));
    eventually("one waits for a local slot", || node.reading("d").queued == 1).await;
    for _ in 0..3 {
        assert_eq!(node.get("/services/d/").await.text(), "cloud");
    }
    gate.let_through(2);
    for request in [first, second] {
        assert_eq!(within(request).await.expect("an answer").header("x-tidegate-replica"), "local-1");
    }
}

async fn raw_request(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.addr).await.expect("a connection");
    stream.write_all(b"POST /services/d/ HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx").await.expect("sent");
    stream
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_slot_and_its_place_in_the_line() {
    let (addr, gate) = gated().await;
    let endpoints = [endpoint("d-1", addr, 1)];
    let node = Node::serving("d", &endpoints).await;
    let at_the_replica = raw_request(&node).await;
    gate.arrival().await;
    let in_line = raw_request(&node).await;
    eventually("one waits", || node.reading("d").queued == 1).await;
    drop(in_line);
    eventually("nobody waits", || node.reading("d").queued == 0).await;
    drop(at_the_replica);
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
    let reading = node.reading("d");
    assert_eq!((reading.cancelled, reading.in_flight, reading.lost()), (2, 0, 0));
    eventually("nothing is in flight", || node.gateway.in_flight() == 0).await;
}

#[tokio::test]
async fn a_streaming_answer_keeps_its_slot_until_its_end_or_until_nobody_reads_it() {
    let (feeds, mut feeders) = tokio::sync::mpsc::channel(64);
    let streaming = replica(move |_| {
        let (feed, body) = fed();
        feeds.try_send(feed).expect("the test listens");
        async move { Response::new(body) }
    });
    let endpoints = [endpoint("d-1", streaming.await, 1)];
    let node = Node::serving("d", &endpoints).await;
    let get = || node.request("GET", "/services/d/").body(full("")).expect("a request");

    let mut answer = node.send(get()).await.into_body();
    let feed = feeders.recv().await.expect("a stream");
    feed.send("one".into()).await.expect("read");
    assert_eq!(within(answer.frame()).await.expect("a frame").expect("data").into_data().expect("data"), "one");
    assert_eq!((endpoints[0].counters.in_flight(), node.reading("d").in_flight), (1, 1));
    drop(feed);
    assert!(within(answer.frame()).await.is_none());
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
    assert_eq!(node.reading("d").ok, 1);

    let abandoned = node.send(get()).await;
    let feed = feeders.recv().await.expect("a stream");
    assert_eq!(endpoints[0].counters.in_flight(), 1);
    drop(abandoned);
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
    eventually("it is counted as gone", || node.reading("d").cancelled == 1).await;
    within(feed.closed()).await;
}

#[tokio::test]
async fn an_answer_that_stalls_in_the_middle_is_cut_off() {
    let (feeds, mut feeders) = tokio::sync::mpsc::channel(64);
    let streaming = replica(move |_| {
        let (feed, body) = fed();
        feeds.try_send(feed).expect("the test listens");
        async move { Response::new(body) }
    });
    let endpoints = [endpoint("d-1", streaming.await, 1)];
    let node = Node::start(vec![ServiceOptions { request_timeout: Duration::from_millis(200), ..service("d") }]).await;
    node.route("d", &endpoints);
    let get = node.request("GET", "/services/d/").body(full("")).expect("a request");
    let mut answer = node.send(get).await.into_body();
    let feed = feeders.recv().await.expect("a stream");
    feed.send("one".into()).await.expect("read");
    assert!(within(answer.frame()).await.expect("a frame").is_ok());
    assert!(within(answer.frame()).await.expect("a frame").is_err(), "the client learns that it is not whole");
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
    assert_eq!(node.reading("d").failed, 1);
}
