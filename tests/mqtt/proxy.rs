//! A TCP proxy between a node and its broker that does what networks do: forward, stand still without closing, drop.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a thread waits for bytes before it looks whether the weather has changed.
const LOOK: Duration = Duration::from_millis(20);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// They go through.
    Fair,
    /// Connections stand, and what the node says goes nowhere.
    DeafToNode,
    /// Connections stand, and what the broker says goes nowhere.
    DeafToBroker,
    /// Every connection is dropped, also new ones.
    Storm,
    /// Whoever connects hears nonsense.
    Nonsense,
    /// Ended.
    Over,
}

struct Sky {
    weather: Mutex<Weather>,
    changed: Condvar,
}

impl Sky {
    fn now(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    /// The weather once it is another than `held`.
    fn wait_out(&self, held: Weather) -> Weather {
        *self.changed.wait_while(self.weather.lock().unwrap(), |weather| *weather == held).unwrap()
    }
}

/// A running proxy; ends with all its connections when dropped.
pub(crate) struct Proxy {
    address: String,
    sky: Arc<Sky>,
}

impl Proxy {
    /// In front of `upstream`, `host:port`, in fair weather.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sky = Arc::new(Sky { weather: Mutex::new(Weather::Fair), changed: Condvar::new() });
        let (upstream, over) = (upstream.to_owned(), sky.clone());
        std::thread::spawn(move || accept(&listener, &upstream, &over));
        Self { address, sky }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn set(&self, weather: Weather) {
        *self.sky.weather.lock().unwrap() = weather;
        self.sky.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Weather::Over);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(&self.address);
    }
}

fn accept(listener: &TcpListener, upstream: &str, sky: &Arc<Sky>) {
    for node in listener.incoming().map_while(Result::ok) {
        match sky.now() {
            Weather::Over => return,
            Weather::Storm => drop(node),
            Weather::Nonsense => talk_nonsense(node),
            _ => join(node, upstream, sky),
        }
    }
}

/// Both directions; a broker that is away drops the node.
fn join(node: TcpStream, upstream: &str, sky: &Arc<Sky>) {
    let Ok(broker) = TcpStream::connect(upstream) else { return };
    let (node_too, broker_too) = (node.try_clone().unwrap(), broker.try_clone().unwrap());
    let (up, down) = (sky.clone(), sky.clone());
    std::thread::spawn(move || pump(node, broker, Weather::DeafToNode, &up));
    std::thread::spawn(move || pump(broker_too, node_too, Weather::DeafToBroker, &down));
}

/// Carries bytes until one side ends or the weather drops the connection.
fn pump(mut from: TcpStream, mut to: TcpStream, held_in: Weather, sky: &Sky) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut buffer = [0; 16 << 10];
    loop {
        if matches!(sky.wait_out(held_in), Weather::Storm | Weather::Over | Weather::Nonsense) {
            break;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            // What was read just before the standstill is part of it.
            Ok(count) => {
                sky.wait_out(held_in);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    for side in [from, to] {
        // Fails where it is closed already.
        let _closed = side.shutdown(Shutdown::Both);
    }
}

/// Answers a CONNECT as no broker does: one of several kinds, each time the next.
fn talk_nonsense(mut node: TcpStream) {
    static NEXT: Mutex<usize> = Mutex::new(0);
    let accepted: &[u8] = &[0x20, 0x03, 0x00, 0x00, 0x00];
    let kinds: [Vec<u8>; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 300],
        // An answer to a ping that nobody sent.
        vec![0xd0, 0x00],
        // Accepted, and then: no packet; a length without end; a packet of 200 MB announced.
        [accepted, &[0x00; 64]].concat(),
        [accepted, &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff]].concat(),
        [accepted, &[0x30, 0xff, 0xff, 0xff, 0x7f], &[0x41; 5_000]].concat(),
    ];
    let mut next = NEXT.lock().unwrap();
    let kind = &kinds[*next % kinds.len()];
    *next += 1;
    node.set_read_timeout(Some(LOOK)).unwrap();
    // Its CONNECT; a connection that is gone hears nothing.
    let _greeting = node.read(&mut [0; 4_096]);
    let _said = node.write_all(kind);
}
