//! The embedded broker as a process of its own, and a load for any broker: `benches/run mqtt` runs both, beside Mosquitto.
//!
//!     brokers host                                              prints its port, serves until its input ends
//!     brokers load PORT PUBLISHERS SUBSCRIBERS QOS BYTES MS     keeps the broker busy
//!     brokers fill PORT COUNT BYTES                             leaves retained messages there
//!     brokers late PORT COUNT QOS                               subscribes to them and takes the time
//!
//! The loads print one JSON object. No more than [`WINDOW`] messages are on their way at once, and the next ones are
//! published when the last subscriber has them: so neither broker drops any, and the rate is what it keeps up.

#[path = "brokers/client.rs"]
mod client;

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tidegate::mqtt::broker::Broker;
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Client, publish};

/// Half of what either broker holds for a subscriber before it drops (1,000 at both, unless told otherwise).
const WINDOW: usize = 500;
/// Nothing has come for so long: what is missing is lost.
const STALLED: Duration = Duration::from_secs(10);
const TOPIC: &str = "load/report";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().skip(1).map_while(|text| text.parse().ok()).collect();
    match (arguments.first().map(String::as_str), numbers[..].as_ref()) {
        (Some("host"), []) => host(),
        (Some("load"), &[port, publishers, subscribers, qos, bytes, ms]) => {
            let time = Duration::from_millis(ms as u64);
            println!("{}", played(load(Load { port: of(port), publishers, subscribers, qos: of(qos), bytes, time })));
        }
        (Some("fill"), &[port, count, bytes]) => println!("{}", played(fill(of(port), count, bytes))),
        (Some("late"), &[port, count, qos]) => println!("{}", played(late(of(port), count, of(qos)))),
        // `cargo bench` runs every file here.
        _ => println!("benches/run mqtt runs this"),
    }
}

fn of<T: TryFrom<usize>>(number: usize) -> T {
    T::try_from(number).ok().expect("a number that is not too large")
}

/// One thread for all clients, so that the broker has the other core.
fn played<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, work)
}

/// The broker on a runtime as a node gives it.
fn host() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let broker = runtime.block_on(runtime.spawn(Broker::start("127.0.0.1:0".parse().expect("an address"))));
    let broker = broker.expect("no panic").expect("the broker starts");
    println!("{}", broker.address().port());
    // Whoever started this holds the other end; when that process ends, so does this one.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("an input");
    runtime.block_on(broker.stop());
}

#[derive(Clone, Copy)]
struct Load {
    port: u16,
    publishers: usize,
    subscribers: usize,
    qos: u8,
    bytes: usize,
    time: Duration,
}

/// How far everybody is: a count for each subscriber, and at QoS 1 one more for what publishers were acknowledged.
struct Progress {
    published: Cell<usize>,
    counts: RefCell<Vec<usize>>,
    moved: Notify,
    last: Cell<Instant>,
}

impl Progress {
    fn new(counts: usize) -> Rc<Self> {
        let (published, counts) = (Cell::new(0), RefCell::new(vec![0; counts]));
        Rc::new(Self { published, counts, moved: Notify::new(), last: Cell::new(Instant::now()) })
    }

    fn add(&self, slot: usize, count: usize) {
        self.counts.borrow_mut()[slot] += count;
        self.last.set(Instant::now());
        self.moved.notify_waiters();
    }

    /// Messages that have not reached everybody.
    fn under_way(&self) -> usize {
        self.published.get().saturating_sub(self.counts.borrow().iter().copied().min().unwrap_or(0))
    }

    /// Until everything has reached everybody, or nothing comes any more.
    async fn end(&self) {
        while self.under_way() > 0 && timeout(STALLED, self.moved.notified()).await.is_ok() {}
    }
}

/// Counts what comes to a client; its messages in `slot`, acknowledgements in the last one.
async fn listen(mut client: Client, slot: usize, progress: Rc<Progress>) {
    loop {
        progress.add(slot, client.arrived().await.messages);
    }
}

async fn load(load: Load) -> serde_json::Value {
    let acknowledged = usize::from(load.qos > 0);
    let progress = Progress::new(load.subscribers + acknowledged);
    let mut tasks = JoinSet::new();
    for slot in 0..load.subscribers {
        let mut client = Client::connect(load.port, &format!("subscriber-{slot}")).await;
        client.subscribe("load/#", load.qos).await;
        tasks.spawn_local(listen(client, slot, progress.clone()));
    }
    let mut publishers = Vec::new();
    for number in 0..load.publishers {
        publishers.push(Client::connect(load.port, &format!("publisher-{number}")).await);
    }
    let began = Instant::now();
    let mut speaking = JoinSet::new();
    for client in publishers {
        speaking.spawn_local(speak(client, load, progress.clone(), began + load.time));
    }
    speaking.join_all().await;
    progress.end().await;
    let delivered: usize = progress.counts.borrow()[..load.subscribers].iter().sum();
    let lost = (progress.published.get() * load.subscribers).saturating_sub(delivered);
    json!({ "delivered": delivered, "lost": lost, "seconds": (progress.last.get() - began).as_secs_f64() })
}

/// Publishes whenever there is room, an equal share of it each time, until the time is over and all is acknowledged.
async fn speak(mut client: Client, load: Load, progress: Rc<Progress>, until: Instant) {
    let (payload, share) = (vec![b'x'; load.bytes], WINDOW / load.publishers);
    let (mut packets, mut id, mut open) = (Vec::new(), 0_u16, 0);
    loop {
        let over = Instant::now() >= until;
        let room = if over { 0 } else { share.min(WINDOW.saturating_sub(progress.under_way())) };
        packets.clear();
        for _ in 0..room {
            id = id % u16::MAX + 1;
            publish(&mut packets, TOPIC, &payload, load.qos, false, id);
        }
        progress.published.set(progress.published.get() + room);
        client.write(&packets).await;
        open += if load.qos > 0 { room } else { 0 };
        if over && open == 0 {
            return;
        }
        if open > 0 {
            let acknowledged = timeout(STALLED, client.arrived()).await.expect("acknowledgements").acknowledged;
            open -= acknowledged;
            progress.add(load.subscribers, acknowledged);
        } else if room == 0 {
            // Over, or nobody has moved: the time decides which.
            let _ = timeout_at(until, progress.moved.notified()).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// Leaves `count` retained messages, each on a topic of its own, all of them acknowledged.
async fn fill(port: u16, count: usize, bytes: usize) -> serde_json::Value {
    let mut client = Client::connect(port, "filler").await;
    let payload = vec![b'x'; bytes];
    for from in (0..count).step_by(WINDOW) {
        let mut packets = Vec::new();
        let mut open = WINDOW.min(count - from);
        for number in from..from + open {
            let id = of::<u16>(number % usize::from(u16::MAX)) + 1;
            publish(&mut packets, &format!("kept/{number}"), &payload, 1, true, id);
        }
        client.write(&packets).await;
        while open > 0 {
            open -= timeout(STALLED, client.arrived()).await.expect("acknowledgements").acknowledged;
        }
    }
    json!({ "retained": count })
}

/// A subscriber that comes when everything is retained already.
async fn late(port: u16, count: usize, qos: u8) -> serde_json::Value {
    let progress = Progress::new(1);
    progress.published.set(count);
    let mut client = Client::connect(port, "late").await;
    let began = Instant::now();
    client.subscribe("kept/#", qos).await;
    let mut tasks = JoinSet::new();
    tasks.spawn_local(listen(client, 0, progress.clone()));
    progress.end().await;
    json!({ "received": progress.counts.borrow()[0], "seconds": (progress.last.get() - began).as_secs_f64() })
}
