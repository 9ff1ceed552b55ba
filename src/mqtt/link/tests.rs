mod old_brokers;

use std::sync::Mutex;

use tokio::sync::mpsc;

use super::*;
use crate::mqtt::broker::Broker;

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
        client_id: name.into(),
        host: "127.0.0.1".into(),
        port,
        keepalive: Duration::from_secs(5),
        credentials: None,
        tls: None,
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
    Outgoing { topic: topic.into(), payload: payload.into(), retained, qos: Qos::AtLeastOnce, expiry: None }
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
    assert_eq!(next(&mut seen).await.1, "end", "the will would have come first");
    broker.stop().await;
}
