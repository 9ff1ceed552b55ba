//! Bad input, and requests that cannot be served.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tidegate::gateway::ServiceOptions;
use tidegate::logic::route::Placement;

use crate::support::*;

#[tokio::test]
async fn an_unknown_service_is_told_which_there_are() {
    let many = (0..30).map(|n| service(&format!("service-{n:02}"))).collect();
    let node = Node::start(many).await;
    let told = node.post("/v2/models/nope/infer", "{}").await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (404, "unknown-service"));
    assert!(told.text().contains("`nope`") && told.text().contains("service-00") && told.text().contains('…'));
    assert!(!told.text().contains("service-29"), "the list is bounded: {}", told.text());
    assert_eq!(node.get("/elsewhere").await.problem(), "no-route");
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_named() {
    let node = Node::serving("d", &[endpoint("d-1", named("d").await, 1)]).await;
    for (header, value) in [("x-tidegate-deadline-ms", "soon"), ("x-tidegate-placement", "moon")] {
        let request = node.request("GET", "/v2/models/d").header(header, value).body(full("")).expect("a request");
        let told = node.tell(request).await;
        assert_eq!((told.status.as_u16(), told.problem().as_str()), (400, "bad-header"));
        assert!(told.text().contains(header));
    }
}

#[tokio::test]
async fn the_gateways_own_paths_answer_get_alone() {
    let node = Node::serving("d", &[]).await;
    let told = node.post("/v2", "{}").await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (405, "method-not-allowed"));
    assert_eq!(told.header("allow"), "GET, HEAD");
    let metadata: serde_json::Value = serde_json::from_slice(&node.get("/v2").await.body).expect("JSON");
    assert_eq!(metadata["name"], "tidegate");
    assert!(metadata["version"].is_string() && metadata["extensions"].is_array());
}

#[tokio::test]
async fn ready_means_that_a_replica_is() {
    let node = Node::start(vec![service("d"), service("e")]).await;
    assert_eq!(node.get("/v2/health/live").await.status, 200);
    assert_eq!(node.get("/v2/health/ready").await.problem(), "not-ready");
    let told = node.get("/v2/models/d/ready").await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (503, "no-replica"));
    node.route("d", &[endpoint("d-1", named("from the replica").await, 1)]);
    assert_eq!(node.get("/v2/health/ready").await.status, 200);
    assert_eq!(node.get("/v2/models/d/ready").await.text(), "from the replica");
    assert_eq!(node.get("/v2/models/e/ready").await.status, 503);
}

fn small(name: &str) -> ServiceOptions {
    ServiceOptions { max_body_bytes: 1_000, ..service(name) }
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_unread() {
    let node = Node::start(vec![small("d")]).await;
    node.route("d", &[endpoint("d-1", named("d").await, 1)]);
    let (_feed_that_never_comes, body) = fed();
    let request = node.request("POST", "/v2/models/d/infer").header("content-length", 1_001).body(body);
    let told = node.tell(request.expect("a request")).await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (413, "body-too-large"));
    assert!(told.text().contains("1000 bytes"));
    assert_eq!(node.reading("d").in_flight_area, Duration::ZERO, "no replica was asked");
}

#[tokio::test]
async fn a_body_of_no_declared_length_is_counted_on_its_way() {
    let drain = replica(|request: http::Request<hyper::body::Incoming>| async move {
        let _ = request.into_body().collect().await;
        Response::new(full("read"))
    });
    let node = Node::start(vec![small("d")]).await;
    let endpoints = [endpoint("d-1", drain.await, 1)];
    node.route("d", &endpoints);
    for (pieces, status) in [(10, 200), (11, 413)] {
        let (feed, body) = fed();
        let sending = node.sending(node.request("POST", "/v2/models/d/infer").body(body).expect("a request"));
        for _ in 0..pieces {
            let _ = feed.send(vec![0_u8; 100].into()).await;
        }
        drop(feed);
        let told = within(sending).await.expect("an answer");
        assert_eq!(told.status, status, "{told:?}");
    }
    assert_eq!(endpoints[0].counters.failed(), 0, "it was the client's fault, not the replica's");
    eventually("the slot is free", || endpoints[0].counters.in_flight() == 0).await;
}

#[tokio::test]
async fn what_must_stay_local_stays_or_is_refused() {
    let node = Node::start(vec![service("d")]).await;
    let cloud = placed("cloud-1", named("cloud").await, 4, Placement::Cloud);
    let local = endpoint("local-1", named("local").await, 4);
    let ask = || node.request("GET", "/v2/models/d").header("x-tidegate-placement", "local").body(full(""));
    node.route("d", std::slice::from_ref(&cloud));
    let told = node.tell(ask().expect("a request")).await;
    assert_eq!((told.status.as_u16(), told.problem().as_str()), (503, "no-local-replica"));
    node.route("d", &[cloud, local]);
    for _ in 0..6 {
        assert_eq!(node.tell(ask().expect("a request")).await.text(), "local");
    }
}

#[tokio::test]
async fn who_is_refused_while_still_sending_hears_why_and_is_not_cut_off() {
    let node = Node::start(vec![small("d")]).await;
    let head = format!("POST /v2/models/d/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {MUCH}\r\n\r\n");
    assert_eq!(sent_whole(node.addr, head, MUCH).await.expect("neither reset nor a broken pipe"), *b"HTTP/1.1 413");
    // So too whose head alone is too much, and who speaks something else.
    let head = "GET /v2 HTTP/1.1\r\nhost: x\r\nx-long: ".to_owned();
    assert_eq!(sent_whole(node.addr, head, MUCH).await.expect("the same"), *b"HTTP/1.1 431");
}
