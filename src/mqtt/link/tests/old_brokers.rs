//! Brokers that do not speak MQTT 5, each in the way that real ones refuse it: a gate before the embedded broker looks at
//! the version of each CONNECT and lets 3.1.1 through.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// CONNACK of version 5: "unsupported protocol version", "bad user name or password".
const REFUSES_V5: &[u8] = &[0x20, 3, 0, 0x84, 0];
const REFUSES_PASSWORD: &[u8] = &[0x20, 3, 0, 0x86, 0];
/// CONNACK of version 3.1.1: "unacceptable protocol version", in its own frame and, as some write it, in the newer one.
const REFUSES_AS_V311: &[u8] = &[0x20, 2, 0, 1];
const REFUSES_AS_BOTH: &[u8] = &[0x20, 3, 0, 1, 0];
/// Fixed header (short), length and name of the protocol stand before its version in CONNECT.
const FIXED_HEADER_MOST: usize = 3;

/// The version of each CONNECT, in order.
type Seen = Arc<Mutex<Vec<u8>>>;

struct Gate {
    port: u16,
    seen: Seen,
    /// Whether version 5 is refused; others always pass.
    refuses: Arc<AtomicBool>,
}

impl Gate {
    async fn start(broker: SocketAddr, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, refuses) = (Seen::default(), Arc::new(AtomicBool::new(true)));
        let gate = Self { port, seen: seen.clone(), refuses: refuses.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, broker, answer, seen.clone(), refuses.clone()));
            }
        });
        gate
    }

    fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(mut stream: TcpStream, broker: SocketAddr, answer: &[u8], seen: Seen, refuses: Arc<AtomicBool>) {
    let mut start = [0; 32];
    // The client writes CONNECT in one piece, and a loopback keeps it one.
    let read = stream.read(&mut start).await.unwrap();
    let name = start[..FIXED_HEADER_MOST + 6].windows(4).position(|bytes| bytes == b"MQTT").unwrap();
    let version = start[name + 4];
    seen.lock().unwrap().push(version);
    if version == 5 && refuses.load(Ordering::SeqCst) {
        let _gone = stream.write_all(answer).await;
        return;
    }
    let mut inside = TcpStream::connect(broker).await.unwrap();
    inside.write_all(&start[..read]).await.unwrap();
    let _ended = copy_bidirectional(&mut stream, &mut inside).await;
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_3_1_1_is_spoken_where_5_is_refused_in_whatever_way() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let ways: [(&[u8], &[u8]); 4] =
        [(REFUSES_V5, &[5, 4]), (REFUSES_AS_BOTH, &[5, 4]), (REFUSES_AS_V311, &[5, 5, 4]), (&[], &[5, 5, 4])];
    for (number, (answer, tried)) in ways.into_iter().enumerate() {
        let gate = Gate::start(broker.address(), answer).await;
        let topic = format!("t/{number}");
        let (link, mut seen) = link(&format!("old-{number}"), gate.port, &[&topic], None);
        assert_eq!(link.status().protocol, None);
        // Published before there was a connection, with an expiry that this version cannot carry.
        link.publish(Outgoing { expiry: Some(Duration::from_secs(60)), ..message(&topic, "here", true) });
        assert_eq!(next(&mut seen).await, (topic, "here".to_owned()));
        assert_eq!(gate.seen(), tried, "{answer:?}");
        assert_eq!(link.status().protocol, Some(Protocol::V311));
        link.close(DEADLINE).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_password_is_told_and_is_no_reason_to_try_another_version() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let gate = Gate::start(broker.address(), REFUSES_PASSWORD).await;
    let (link, _) = link("stranger", gate.port, &[], None);
    until("four tries", || gate.seen().len() >= 4).await;
    assert!(gate.seen().iter().all(|version| *version == 5), "{:?}", gate.seen());
    let status = link.status();
    let reason = status.last_error.unwrap_or_default();
    assert!(reason.contains("BadUserNamePassword") && reason.contains("mqtt.password_file"), "{reason}");
    assert_eq!((status.connected, status.protocol), (false, None));
    link.close(Duration::ZERO).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hiccup_does_not_cost_version_5_for_ever() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let gate = Gate::start(broker.address(), &[]).await;
    let (_reader, mut seen) = link("reader", broker.address().port(), &["t/#"], None);
    let mut options = options("writer", gate.port, &[], Some(message("t/will", "lost", true)));
    options.keepalive = Duration::from_secs(5);
    let (_, observer) = collector();
    let writer = Link::start_asking_again(
        options,
        observer,
        AskAgain { for_v5: Duration::from_millis(500), ..AskAgain::default() },
    );
    writer.publish(message("t/state", "online", true));
    until("3.1.1 is spoken", || writer.status().protocol == Some(Protocol::V311)).await;
    assert_eq!(next(&mut seen).await.1, "online");

    gate.refuses.store(false, Ordering::SeqCst);
    let mut said = 0;
    // The link looks at the time when something happens; that a message goes out is enough.
    until("version 5 is spoken", || {
        said += 1;
        writer.publish(message("t/event", &said.to_string(), false));
        writer.status().protocol == Some(Protocol::V5)
    })
    .await;
    writer.publish(message("t/end", "end", false));
    let (mut payloads, mut expected) = (Vec::new(), 1);
    while payloads.last().is_none_or(|last| last != "end") {
        let payload = next(&mut seen).await.1;
        assert_ne!(payload, "lost", "it went without a goodbye");
        // At least once, in order: what was under way may come twice.
        if payload == expected.to_string() {
            expected += 1;
        }
        payloads.push(payload);
    }
    assert_eq!(expected, said + 1, "lost in between: {payloads:?}");
    assert_eq!(writer.status().connections, 2);
    assert_eq!(gate.seen(), [5, 5, 4, 5]);
    broker.stop().await;
}

/// Collects the tickets that are released.
#[derive(Default)]
struct Tickets(Mutex<Vec<u64>>);

impl LinkObserver for Tickets {
    fn received(&self, _: Incoming) {}
    fn changed(&self, _: &LinkStatus) {}
    fn released(&self, tickets: &[u64]) {
        self.0.lock().unwrap().extend_from_slice(tickets);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_owner_keeps_is_released_once_the_broker_has_it_in_either_version() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for (refuses, spoken) in [(true, Protocol::V311), (false, Protocol::V5)] {
        let gate = Gate::start(broker.address(), REFUSES_V5).await;
        let (_reader, mut seen) = link(&format!("reader-{refuses}"), broker.address().port(), &["t/event"], None);
        gate.refuses.store(refuses, Ordering::SeqCst);
        let tickets = Arc::new(Tickets::default());
        let writer = Link::start(options(&format!("writer-{refuses}"), gate.port, &[], None), tickets.clone());
        assert!(writer.keep(message("t/event", "kept", false), 7));
        until("the ticket is released", || *tickets.0.lock().unwrap() == [7]).await;
        assert_eq!(writer.status().protocol, Some(spoken));
        // The reader may subscribe after the first; it hears one of those that follow.
        let mut ticket = 8;
        while seen.is_empty() {
            assert!(writer.keep(message("t/event", "kept", false), ticket));
            until("the next ticket is released", || tickets.0.lock().unwrap().last() == Some(&ticket)).await;
            ticket += 1;
        }
        assert_eq!(next(&mut seen).await.1, "kept");
        writer.close(DEADLINE).await;
    }
    broker.stop().await;
}
