//! What passes through, and what changes on the way.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tidegate::logic::route::Placement;

use crate::support::*;

/// Answers with what it saw: the request line and its headers, a line each.
async fn mirror(request: Request<Incoming>) -> Response<TestBody> {
    let mut seen = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        seen += &format!("{name}: {}\n", value.to_str().expect("text"));
    }
    let answer =
        Response::builder().header("keep-alive", "timeout=5").header("x-own", "1").header("server-timing", "m;dur=1");
    answer.body(full(seen)).expect("an answer")
}

#[tokio::test]
async fn a_service_path_loses_its_prefix_and_keeps_its_query_for_any_method() {
    let node = Node::serving("web", &[endpoint("web-1", replica(mirror).await, 4)]).await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let told = node.tell(node.request(method, "/services/web/a/b?c=d").body(full("")).expect("a request")).await;
        assert_eq!(told.text().lines().next(), Some(format!("{method} /a/b?c=d").as_str()));
        assert!(told.text().contains("x-forwarded-prefix: /services/web\n"), "{}", told.text());
    }
    assert!(node.get("/services/web").await.text().starts_with("GET /\n"));
}

#[tokio::test]
async fn the_answer_says_who_gave_it_and_how_long_it_took() {
    let node = Node::serving("d", &[placed("d-cloud-1", replica(mirror).await, 4, Placement::Cloud)]).await;
    let request = node.request("GET", "/v2/models/d").header("x-request-id", "mine-1").body(full(""));
    let told = node.tell(request.expect("a request")).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.header("x-request-id"), "mine-1");
    assert_eq!(told.header("x-tidegate-replica"), "d-cloud-1");
    assert_eq!(told.header("x-tidegate-placement"), "cloud");
    assert_eq!(told.header("x-own"), "1");
    assert_eq!(told.header("keep-alive"), "", "that was between the gateway and the replica");
    let timings: Vec<_> = told.headers.get_all("server-timing").iter().map(|t| t.to_str().expect("text")).collect();
    assert_eq!(timings[0], "m;dur=1");
    assert!(timings[1].starts_with("queue;dur=") && timings[1].contains(", upstream;dur="), "{timings:?}");
    assert!(told.text().contains("x-request-id: mine-1\n"), "the replica sees it too");
}

#[tokio::test]
async fn a_request_without_an_id_gets_one() {
    let node = Node::serving("d", &[endpoint("d-1", replica(mirror).await, 4)]).await;
    let told = node.get("/v2/models/d").await;
    assert_eq!(told.header("x-request-id").len(), 32);
    assert!(told.text().contains(told.header("x-request-id")));
}

#[tokio::test]
async fn an_instance_is_shown_the_nodes_token_and_the_clients_own_passes() {
    let node = Node::serving("d", &[placed("d-1", replica(mirror).await, 4, Placement::Cloud)]).await;
    let request = node
        .request("POST", "/v2/models/d/infer")
        .header("authorization", "Bearer the-clients")
        .header("x-tidegate-authorization", "Bearer forged")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .header("x-tidegate-deadline-ms", "15000");
    let told = node.tell(request.body(full("{}")).expect("a request")).await;
    let seen = told.text();
    assert!(seen.contains("x-tidegate-authorization: Bearer launch-secret\n"), "{seen}");
    assert!(!seen.contains("forged") && !seen.contains("x-secret"), "{seen}");
    assert!(seen.contains("\nauthorization: Bearer the-clients\n"), "{seen}");
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    let told_deadline = seen.lines().find_map(|line| line.strip_prefix("x-tidegate-deadline-ms: "));
    let remaining: u64 = told_deadline.expect("a deadline").parse().expect("a number");
    assert!((1..=15_000).contains(&remaining), "what remains of it");
}

#[tokio::test]
async fn a_local_replica_sees_no_token_even_if_a_client_sends_one() {
    let node = Node::serving("d", &[endpoint("d-1", replica(mirror).await, 4)]).await;
    let request = node.request("GET", "/v2/models/d").header("x-tidegate-authorization", "Bearer forged");
    let told = node.tell(request.body(full("")).expect("a request")).await;
    assert!(!told.text().contains("x-tidegate-authorization"), "{}", told.text());
}

/// Sixteen megabytes of no particular length in each direction at once, echoed: no side may have to hold them.
#[tokio::test]
async fn a_large_body_streams_both_ways_at_once() {
    let echo = replica(|request: Request<Incoming>| async move {
        let (feed, body) = fed();
        let mut incoming = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = incoming.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                if feed.send(data).await.is_err() {
                    return;
                }
            }
        });
        Response::new(body)
    });
    let node = Node::serving("echo", &[endpoint("echo-1", echo.await, 1)]).await;
    let (feed, body) = fed();
    let request = node.request("POST", "/services/echo/").body(body).expect("a request");
    let first = Bytes::from(vec![7_u8; 64 * 1024]);
    feed.send(first.clone()).await.expect("room");
    let mut answer = node.send(request).await.into_body();
    let piece = within(answer.frame()).await.expect("a frame").expect("no error").into_data().expect("data");
    assert!(!piece.is_empty(), "the answer began while the request was still being sent");
    let fed_all = tokio::spawn(async move {
        for _ in 1..256 {
            feed.send(first.clone()).await.expect("it is being read");
        }
    });
    let rest = within(answer.collect()).await.expect("a whole body").to_bytes();
    within(fed_all).await.expect("all was fed");
    assert_eq!(piece.len() + rest.len(), 256 * 64 * 1024);
    assert!(piece.iter().chain(rest.iter()).all(|&byte| byte == 7));
}

#[tokio::test]
async fn a_body_of_known_length_arrives_whole_whether_small_or_large() {
    let count = replica(|request: Request<Incoming>| async move {
        let length = request.headers().get("content-length").cloned();
        let bytes = request.into_body().collect().await.expect("a body").to_bytes();
        Response::new(full(format!("{} {:?}", bytes.len(), length)))
    });
    let node = Node::serving("count", &[endpoint("count-1", count.await, 1)]).await;
    for length in [0, 1, 100_000, 256 * 1024, 256 * 1024 + 1, 3_000_000] {
        let body = full(vec![1_u8; length]);
        let request = node.request("POST", "/services/count/").header("content-length", length).body(body);
        let told = node.tell(request.expect("a request")).await;
        assert_eq!(told.text(), format!("{length} Some(\"{length}\")"));
    }
}

#[tokio::test]
async fn head_and_empty_answers_are_whole_requests_too() {
    let empty = replica(|_| async { Response::builder().status(204).body(full("")).expect("an answer") }).await;
    let node = Node::serving("d", &[endpoint("d-1", empty, 1)]).await;
    for _ in 0..3 {
        let told = node.tell(node.request("HEAD", "/services/d/").body(full("")).expect("a request")).await;
        assert_eq!(told.status, 204);
    }
    eventually("all three are counted", || node.reading("d").ok == 3 && node.reading("d").in_flight == 0).await;
}

#[tokio::test]
async fn requests_are_counted_by_where_they_were_answered() {
    let node = Node::start(vec![service("counted")]).await;
    let name = "counted";
    node.route(name, &[placed("c-1", named("c").await, 4, Placement::Cloud)]);
    assert_eq!(node.post("/v2/models/counted/infer", "{}").await.status, 200);
    assert_eq!(node.get("/v2/models/counted").await.status, 200);
    eventually("both are counted", || node.reading(name).ok == 2).await;
    assert_eq!((node.reading(name).answered.cloud, node.reading(name).arrivals), (2, 2));
    assert_eq!(node.counters(name).take_latencies().count, 2);
    eventually("nothing is in flight", || node.gateway.in_flight() == 0).await;
    let rendered = metrics().render();
    for line in [
        r#"tidegate_requests_total{service="counted",placement="cloud",code="200"} 2"#,
        r#"tidegate_queue_requests{service="counted"} 0"#,
    ] {
        assert!(rendered.contains(line), "{line} in {rendered}");
    }
    let infer = r#"{http_request_method="POST",http_route="/v2/models/{model}/infer",http_response_status_code="200""#;
    assert!(rendered.contains(infer), "{rendered}");
    assert!(rendered.contains("http_server_active_requests"), "{rendered}");
}
