//! Several brokers for one link, and the bytes that a link says it sent, held against those that came.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A port where nobody listens.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn broker() -> Broker {
    Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn at(ports: &[u16], will: Option<Outgoing>) -> LinkOptions {
    let alternative = |port: &u16| Alternative { host: "127.0.0.1".to_owned(), port: *port, tls: None };
    LinkOptions {
        alternatives: ports[1..].iter().map(alternative).collect(),
        ..options("several", ports[0], &[], will)
    }
}

fn is_at(status: &LinkStatus, port: u16) -> bool {
    status.connected && status.broker == Some(format!("127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_brokers_do_not_delay_the_one_that_answers() {
    let there = broker().await;
    let port = there.address().port();
    let (_, observer) = collector();
    let link = Link::start(at(&[dead_port(), dead_port(), port], None), observer);
    let status = wait_for(&link, "connected", |status| status.connected).await;
    assert!(is_at(&status, port), "{status:?}");
    assert_eq!((status.attempts, status.connections), (3, 1), "each was tried once");
    there.stop().await;
    let status = wait_for(&link, "lost", |status| !status.connected).await;
    let reason = status.last_error.unwrap_or_default();
    assert!(reason.starts_with(&format!("127.0.0.1:{port}: ")), "it says which one: {reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_takes_over_from_one_that_is_lost_and_gets_what_is_retained() {
    let (first, second) = (broker().await, broker().await);
    let ports = [first.address().port(), second.address().port()];
    let (_, observer) = collector();
    let link = Link::start(at(&ports, None), observer);
    link.publish(message("t/state", "online", true));
    let status = wait_for(&link, "connected", |status| status.connected).await;
    assert!(is_at(&status, ports[0]), "{status:?}");
    first.stop().await;
    wait_for(&link, "at the second", |status| is_at(status, ports[1])).await;
    let (_reader, mut seen) = super::link("reader", ports[1], &["t/#"], None);
    assert_eq!(next(&mut seen).await.1, "online");
    let again = Broker::start(([127, 0, 0, 1], ports[0]).into()).await.unwrap();
    second.stop().await;
    wait_for(&link, "at the first again", |status| is_at(status, ports[0])).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preferred_one_is_gone_back_to_and_those_at_the_other_hear_the_will() {
    let second = broker().await;
    let ports = [dead_port(), second.address().port()];
    let (_, observer) = collector();
    let again = AskAgain { for_preferred: Duration::from_millis(100), ..AskAgain::default() };
    let link = Link::start_asking_again(at(&ports, Some(message("t/state", "lost", true))), observer, again);
    wait_for(&link, "at the second", |status| is_at(status, ports[1])).await;
    let (_reader, mut seen) = super::link("reader", ports[1], &["t/state"], None);
    let first = Broker::start(([127, 0, 0, 1], ports[0]).into()).await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    // The link looks at the time when something happens; that a message goes out is enough.
    while !is_at(&link.status(), ports[0]) {
        assert!(Instant::now() < deadline, "it stays: {:?}", link.status());
        link.publish(message("t/event", "happened", false));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(next(&mut seen).await.1, "lost");
    first.stop().await;
    second.stop().await;
}

/// Bytes in both directions of all connections, as they passed.
#[derive(Default)]
struct Passed {
    to_broker: AtomicU64,
    to_link: AtomicU64,
}

/// Passes bytes on and counts them; `answer` is what a CONNECT of version 5 gets instead, where it is not empty.
async fn counted(broker: std::net::SocketAddr, answer: &'static [u8]) -> (u16, Arc<Passed>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let passed = Arc::new(Passed::default());
    let count = passed.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            pass(stream, broker, answer, &count).await;
        }
    });
    (port, passed)
}

async fn pass(mut stream: TcpStream, broker: std::net::SocketAddr, answer: &[u8], count: &Passed) {
    let mut greeting = vec![0; 4_096];
    let read = stream.read(&mut greeting).await.unwrap();
    count.to_broker.fetch_add(read as u64, Ordering::SeqCst);
    let version = greeting.windows(4).position(|bytes| bytes == b"MQTT").map(|name| greeting[name + 4]);
    if version == Some(5) && !answer.is_empty() {
        stream.write_all(answer).await.unwrap();
        return;
    }
    let mut inside = TcpStream::connect(broker).await.unwrap();
    inside.write_all(&greeting[..read]).await.unwrap();
    let (up, down) = tokio::io::copy_bidirectional(&mut stream, &mut inside).await.unwrap();
    count.to_broker.fetch_add(up, Ordering::SeqCst);
    count.to_link.fetch_add(down, Ordering::SeqCst);
}

/// CONNACK of MQTT 3.1.1: unacceptable protocol version.
const REFUSES_V5: &[u8] = &[0x20, 0x02, 0x00, 0x01];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_that_a_link_counts_are_those_that_went_over_the_wire() {
    for (answer, protocol) in [(&[][..], Protocol::V5), (REFUSES_V5, Protocol::V311)] {
        let broker = broker().await;
        let (port, passed) = counted(broker.address(), answer).await;
        let (receiver, observer) = collector();
        let mut seen = receiver;
        let options = LinkOptions {
            credentials: Some(("me".to_owned(), "secret".to_owned())),
            ..super::options("counted", port, &["t/#", "a/filter/of/some/length/+"], Some(message("w", "lost", true)))
        };
        let link = Link::start(options, observer);
        wait_for(&link, "connected", |status| status.connected).await;
        // Each length field of one, two and three bytes, with and without packet id and expiry.
        for bytes in [0, 90, 117, 118, 119, 120, 300, 16_372, 16_380, 20_000] {
            let payload = "x".repeat(bytes);
            link.publish(message("t/event", &payload, false));
            link.publish(Outgoing { qos: Qos::AtMostOnce, ..message("t/load", &payload, false) });
            link.publish(Outgoing { expiry: Some(Duration::from_secs(60)), ..message("t/state", &payload, true) });
            link.publish(message("t/state", "", true));
        }
        link.publish(message("t/end", "end", false));
        while next(&mut seen).await.1 != "end" {}
        link.close(DEADLINE).await;
        assert_eq!(link.status().protocol, Some(protocol));
        let whole = link.traffic();
        let deadline = Instant::now() + DEADLINE;
        while passed.to_link.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "the connection does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let to_broker = passed.to_broker.load(Ordering::SeqCst);
        let to_link = passed.to_link.load(Ordering::SeqCst);
        assert_eq!((whole.sent, whole.received), (to_broker, to_link), "{protocol}");
        assert!(whole.sent > 100_000 && whole.received > 100_000, "{whole:?}");
        broker.stop().await;
    }
}
