//! A publisher of a few lines, as anyone may write one: MQTT 5 straight onto a socket, so that a hundred thousand messages
//! take seconds, and so that it may also send what no library would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A broker answers or closes within this.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// A fixed header: CONNECT, PUBLISH with and without retain at QoS 0, PINGREQ (MQTT 5, 2.1.2).
const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const RETAIN: u8 = 0x01;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;

/// A connection that only publishes.
pub(crate) struct Publisher {
    stream: TcpStream,
    waiting: Vec<u8>,
}

impl Publisher {
    /// Connects to a broker, `host:port`, under a name of its own.
    pub(crate) fn connect(address: &str, client_id: &str) -> Self {
        let mut stream = open(address);
        stream.write_all(&connect(client_id)).unwrap();
        let mut publisher = Self { stream, waiting: Vec::new() };
        let answer = publisher.packet();
        // Session present, then the reason: 0 is success.
        assert_eq!((answer[0], answer[3]), (0x20, 0x00), "{answer:02x?}");
        publisher
    }

    /// Puts a message into the next [`Publisher::send`].
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], retained: bool) {
        let properties = 0;
        let body = [&text(topic)[..], &[properties], payload].concat();
        self.waiting.extend(packet(PUBLISH | if retained { RETAIN } else { 0 }, &body));
    }

    /// Sends what waits, and returns once the broker has read all of it.
    pub(crate) fn send(&mut self) {
        self.waiting.extend(packet(PINGREQ, &[]));
        self.stream.write_all(&std::mem::take(&mut self.waiting)).expect("the broker reads on");
        let answer = self.packet();
        assert_eq!(answer[0], PINGRESP, "{answer:02x?}");
    }

    fn packet(&mut self) -> Vec<u8> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("the broker answers");
        // What a broker says to a publisher at QoS 0 is short.
        assert!(head[1] < 0x80, "{head:02x?}");
        let mut body = vec![0; head[1].into()];
        self.stream.read_exact(&mut body).unwrap();
        [&head[..], &body].concat()
    }
}

fn open(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_DEADLINE)).unwrap();
    stream.set_write_timeout(Some(ANSWER_DEADLINE)).unwrap();
    stream
}

/// Sends any bytes on a connection of their own, and waits until the broker closes it or says something.
pub(crate) fn send_raw(address: &str, bytes: &[u8]) {
    let mut stream = open(address);
    // A broker may close before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 64]);
}

/// CONNECT with a clean start, no keep-alive and no will.
pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let (clean_start, no_keepalive, no_properties) = (0x02, [0, 0], 0);
    let variable = [&text("MQTT")[..], &[5, clean_start], &no_keepalive, &[no_properties]].concat();
    packet(CONNECT, &[&variable[..], &text(client_id)].concat())
}

/// A packet with its remaining length, seven bits to a byte.
pub(crate) fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut length = body.len();
    loop {
        let bits = u8::try_from(length & 0x7f).unwrap();
        length >>= 7;
        packet.push(if length > 0 { bits | 0x80 } else { bits });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}
