mod old_brokers;
mod several;

use std::sync::Mutex;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::session::MAX_INFLIGHT;
use super::upkeep::DEAF_AFTER;
use super::*;
use crate::mqtt::broker::Broker;
use crate::mqtt::{MAX_PACKET_BYTES, Properties};

const DEADLINE: Duration = Duration::from_secs(20);

struct Collect(Mutex<mpsc::UnboundedSender<Incoming>>);

impl LinkObserver for Collect {
    fn received(&self, message: Incoming) {
        let _ = self.0.lock().unwrap().send(message);
    }
    fn changed(&self, _: &LinkStatus) {}
}

fn collector() -> (mpsc::UnboundedReceiver<Incoming>, Arc<Collect>) {
    #[expect(clippy::disallowed_methods, reason = "a test that reads all it was sent, and ends")]
    let (sender, receiver) = mpsc::unbounded_channel();
    (receiver, Arc::new(Collect(Mutex::new(sender))))
}

fn options(name: &str, port: u16, filters: &[&str], will: Option<Outgoing>) -> LinkOptions {
    LinkOptions {
        name: "test",
        client_id: name.into(),
        host: "127.0.0.1".into(),
        port,
        keepalive: Duration::from_secs(5),
        credentials: None,
        tls: None,
        alternatives: Vec::new(),
        last_will: will,
        others_alone: false,
        prepare: None,
        subscriptions: filters.iter().map(|f| ((*f).to_owned(), Qos::AtLeastOnce)).collect(),
    }
}

fn link(name: &str, port: u16, filters: &[&str], will: Option<Outgoing>) -> (Link, mpsc::UnboundedReceiver<Incoming>) {
    let (receiver, observer) = collector();
    (Link::start(options(name, port, filters, will), observer), receiver)
}

fn message(topic: &str, payload: &str, retained: bool) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        payload: payload.into(),
        retained,
        qos: Qos::AtLeastOnce,
        expiry: None,
        properties: None,
    }
}

async fn next(receiver: &mut mpsc::UnboundedReceiver<Incoming>) -> (String, String) {
    let incoming = tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("a message in time").unwrap();
    (incoming.topic, String::from_utf8(incoming.payload).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_before_the_broker_is_there_arrives_when_it_comes() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let (writer, _) = link("writer", address.port(), &[], None);
    writer.publish(message("t/state", "1", true));
    writer.publish(message("t/event", "2", false));
    let broker = Broker::start(address).await.unwrap();
    let (_reader, mut seen) = link("reader", address.port(), &["t/state"], None);
    assert_eq!(next(&mut seen).await, ("t/state".into(), "1".into()));
    writer.close(DEADLINE).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_everything_gets_the_retained_values_and_the_subscriptions_again() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = broker.address();
    let (writer, _) = link("writer", address.port(), &[], None);
    let (_reader, mut seen) = link("reader", address.port(), &["t/#"], None);
    writer.publish(message("t/state", "online", true));
    assert_eq!(next(&mut seen).await.1, "online");
    broker.stop().await;
    writer.publish(message("t/event", "while away", false));
    let broker = Broker::start(address).await.unwrap();
    let mut again = vec![next(&mut seen).await.1];
    while again.last().is_some_and(|payload| payload != "online") {
        again.push(next(&mut seen).await.1);
    }
    // Retained after the restart: a third client that never met the writer sees it.
    let (_late, mut late) = link("late", address.port(), &["t/state"], None);
    assert_eq!(next(&mut late).await.1, "online");
    assert_eq!(writer.status().connections, 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_leaves_the_last_will_unsaid() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = broker.address().port();
    let (_reader, mut seen) = link("reader", port, &["t/#"], None);
    let (writer, _) = link("writer", port, &[], Some(message("t/will", "lost", true)));
    writer.publish(message("t/state", "offline", true));
    assert_eq!(next(&mut seen).await.1, "offline");
    writer.close(DEADLINE).await;
    let (other, _) = link("other", port, &[], None);
    other.publish(message("t/end", "end", false));
    // What was said while the reader subscribed may come live and as retained.
    let mut said = next(&mut seen).await.1;
    while said == "offline" {
        said = next(&mut seen).await.1;
    }
    assert_eq!(said, "end", "the will would have come first");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_has_beside_its_payload_arrives_with_it() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = broker.address().port();
    let (_reader, mut seen) = link("reader", port, &["t/#"], None);
    let (writer, _) = link("writer", port, &[], None);
    let said = Properties {
        response_topic: Some("t/answer".into()),
        correlation: Some(vec![0, 255, 7]),
        content_type: Some("image/png".into()),
        user: vec![("name".into(), "value".into()), ("name".into(), "another".into())],
    };
    let expiry = Some(Duration::from_secs(60));
    writer.publish(Outgoing { expiry, properties: Some(Box::new(said.clone())), ..message("t/ask", "x", true) });
    let heard = tokio::time::timeout(DEADLINE, seen.recv()).await.expect("a message in time").unwrap();
    let mut properties = *heard.properties.expect("there are some");
    properties.user.retain(|(name, _)| name == "name");
    assert_eq!(properties, said);
    assert!(heard.expiry.is_some_and(|left| (1..=60).contains(&left.as_secs())), "{:?}", heard.expiry);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_shared_each_message_comes_once_also_where_ones_own_is_left_out() {
    let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = broker.address().port();
    let member = |name: &str| {
        let (receiver, observer) = collector();
        let options = LinkOptions { others_alone: true, ..options(name, port, &["$share/group/t/#", "echo/#"], None) };
        (Link::start(options, observer), receiver)
    };
    let ((_one, mut first), (_other, mut second)) = (member("one"), member("other"));
    let (writer, _) = link("writer", port, &[], None);
    // Subscriptions stand once what follows them in time is heard.
    for receiver in [&mut first, &mut second] {
        let deadline = Instant::now() + DEADLINE;
        while receiver.try_recv().is_err() {
            assert!(Instant::now() < deadline, "no subscription stands");
            writer.publish(message("echo/x", "up", false));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    (0..20).for_each(|number| writer.publish(message("t/ask", &number.to_string(), false)));
    writer.publish(message("echo/x", "end", false));
    let mut heard = Vec::new();
    for receiver in [&mut first, &mut second] {
        loop {
            match next(receiver).await {
                (topic, payload) if topic == "t/ask" => heard.push(payload.parse::<u32>().unwrap()),
                (_, payload) if payload == "end" => break,
                _ => {}
            }
        }
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..20).collect::<Vec<_>>());
    broker.stop().await;
}

/// What a broker answers to a CONNECT that it accepts.
const ACCEPTED: [u8; 5] = [0x20, 0x03, 0x00, 0x00, 0x00];

/// Accepts one connection, and says that in MQTT.
async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = tokio::time::timeout(DEADLINE, listener.accept()).await.expect("the link tries").unwrap();
    let mut greeting = [0; 4_096];
    assert!(stream.read(&mut greeting).await.unwrap() > 0);
    stream.write_all(&ACCEPTED).await.unwrap();
    stream
}

async fn wait_for(link: &Link, what: &str, wanted: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
    let mut status = link.shared.status.subscribe();
    tokio::time::timeout(DEADLINE, status.wait_for(wanted)).await.expect(what).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_takes_no_more_bytes_is_left_though_even_a_ping_cannot_be_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (writer, _) = link("writer", listener.local_addr().unwrap().port(), &[], None);
    let _never_read = accept(&listener).await;
    wait_for(&writer, "connected", |status| status.connected).await;
    let report = Outgoing { qos: Qos::AtMostOnce, ..message("t/load", &"x".repeat(60_000), false) };
    let deadline = Instant::now() + DEADLINE;
    // Fills the kernel's buffers, then the client's, then the backlog.
    while writer.status().connected {
        assert!(Instant::now() < deadline, "the standstill is not noticed");
        (0..10).for_each(|_| writer.publish(report.clone()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let status = writer.status();
    assert!(status.last_error.as_deref().is_some_and(|why| why.contains("takes nothing any more")), "{status:?}");
    let _again = accept(&listener).await;
    wait_for(&writer, "connected again", |status| status.connections == 2).await;
    assert!(writer.held_bytes() < 5 << 20, "{}", writer.held_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_wants_no_pings_and_has_a_smaller_window_than_the_last_gets_every_message() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (writer, _) = link("writer", listener.local_addr().unwrap().port(), &[], None);
    let mut first = accept(&listener).await;
    (0..50).for_each(|number| writer.publish(message("t/event", &format!("[{number:02}]"), false)));
    let mut heard = Vec::new();
    let all = |heard: &[u8]| (0..50).all(|n| heard.windows(4).any(|part| part == format!("[{n:02}]").as_bytes()));
    while !all(&heard) {
        tokio::time::timeout(DEADLINE, first.read_buf(&mut heard)).await.expect("all of them").unwrap();
    }
    drop(first);

    // Nothing was acknowledged. The next one takes five at once and asks for no pings: server keep alive 0.
    let (mut second, _) = tokio::time::timeout(DEADLINE, listener.accept()).await.expect("again").unwrap();
    let mut buffer = vec![0; 4_096];
    assert!(second.read(&mut buffer).await.unwrap() > 0);
    second.write_all(&[0x20, 0x09, 0x00, 0x00, 0x06, 0x21, 0x00, 0x05, 0x13, 0x00, 0x00]).await.unwrap();
    let (mut heard, mut answered, mut pings) = (Vec::new(), 0, 0);
    while !all(&heard) {
        let count = tokio::time::timeout(DEADLINE, second.read(&mut buffer)).await.expect("all of them again").unwrap();
        assert!(count > 0, "the link went: {:?}", writer.status());
        heard.extend_from_slice(&buffer[..count]);
        // Each publish is the type, its length, the topic, a packet id, no properties, and four bytes.
        while let Some(packet) = whole_packet(&heard[answered..]) {
            if packet[0] == 0xc0 {
                pings += 1;
                second.write_all(&[0xd0, 0x00]).await.unwrap();
            } else {
                second.write_all(&[0x40, 0x02, packet[11], packet[12]]).await.unwrap();
            }
            answered += packet.len();
        }
    }
    assert!(pings <= 2, "{pings} pings for a broker that wants none");
    wait_for(&writer, "still connected", |status| status.connected && status.connections == 2).await;
    let deadline = Instant::now() + DEADLINE;
    while writer.status().waiting > 0 {
        assert!(Instant::now() < deadline, "not settled: {:?}", writer.status());
        tokio::task::yield_now().await;
    }
}

/// The first packet, if it is all there: none here is longer than a length of one byte tells.
fn whole_packet(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..usize::from(*bytes.get(1)?) + 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_sends_packets_larger_than_we_take_is_connected_to_without_hearing_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (writer, _) = link("writer", listener.local_addr().unwrap().port(), &["t/#"], None);
    for _ in 0..DEAF_AFTER {
        let mut stream = accept(&listener).await;
        let mut heard = [0; 4_096];
        assert!(stream.read(&mut heard).await.unwrap() > 0);
        assert_eq!(heard[0], 0x82, "it subscribes");
        // 200 KB are announced, and come.
        stream.write_all(&[&[0x31, 0xc0, 0x9a, 0x0c], &[0x41; 5_000][..]].concat()).await.unwrap();
        wait_for(&writer, "it ends", |status| !status.connected && status.connections > 0).await;
    }
    let mut stream = accept(&listener).await;
    writer.publish(message("t/event", "[00]", false));
    let mut heard = Vec::new();
    while whole_packet(&heard).is_none() {
        assert!(tokio::time::timeout(DEADLINE, stream.read_buf(&mut heard)).await.expect("a packet").unwrap() > 0);
    }
    assert_eq!(heard[0], 0x32, "the event, and no subscription before it: {heard:?}");
    wait_for(&writer, "connected", |status| status.connected).await;
}

/// The client's own reader must not panic on what a broker sends: that would end the link's task for ever.
#[test]
fn nonsense_from_a_broker_is_an_error_and_no_panic() {
    use rumqttc::v5::{MqttState, mqttbytes::v5::Packet};
    let mut random = fastrand::Rng::with_seed(2026);
    let valid: [&[u8]; 6] = [
        &ACCEPTED,
        &[0x20, 0x09, 0x00, 0x00, 0x06, 0x21, 0x00, 0x05, 0x13, 0x00, 0x00],
        &[0x30, 0x09, 0x00, 0x01, b't', 0x00, b'p', b'a', b'y', b'l', b'd'],
        &[0x32, 0x0b, 0x00, 0x01, b't', 0x00, 0x01, 0x00, b'p', b'a', b'y', b'l', b'd'],
        &[0x90, 0x04, 0x00, 0x01, 0x00, 0x01],
        &[0x40, 0x04, 0x00, 0x01, 0x00, 0x00],
    ];
    let mut read = 0_u32;
    for _ in 0..200_000 {
        let mut bytes = valid[random.usize(..valid.len())].to_vec();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(bytes.len() - random.usize(0..2));
        let mut stream = bytes::BytesMut::from(&bytes[..]);
        let mut state = MqttState::new(MAX_INFLIGHT, false);
        while let Ok(packet) = Packet::read(&mut stream, Some(MAX_PACKET_BYTES)) {
            read += 1;
            // An error ends the connection, which is all that may happen.
            let _handled = state.handle_incoming_packet(packet);
        }
    }
    assert!(read > 10_000, "{read} packets were whole");
}
