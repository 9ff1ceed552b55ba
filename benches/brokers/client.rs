//! Just enough of an MQTT 3.1.1 client to keep a broker busy: packets are written and counted. A whole client would cost more
//! than the broker does, and that is what would be measured.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const RETAIN: u8 = 0x01;
/// Protocol name and level 4 (3.1.1), a clean session, no keep-alive.
const PROTOCOL: &[u8] = &[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];

/// A connection, and what of it was read and not yet looked at.
pub(crate) struct Client {
    stream: TcpStream,
    read: BytesMut,
}

/// What came in at once.
#[derive(Default)]
pub(crate) struct Arrived {
    /// Messages.
    pub(crate) messages: usize,
    /// Acknowledgements of messages of our own.
    pub(crate) acknowledged: usize,
}

impl Client {
    /// Connects to a broker on this machine.
    pub(crate) async fn connect(port: u16, id: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the broker listens");
        stream.set_nodelay(true).expect("a socket");
        let mut client = Self { stream, read: BytesMut::new() };
        client.write(&packet(CONNECT, &[PROTOCOL, &text(id)])).await;
        client.answered(CONNACK).await;
        client
    }

    /// Subscribes; returns before what is retained has come.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) {
        self.write(&packet(SUBSCRIBE, &[&[0, 1], &text(filter), &[qos]])).await;
        self.answered(SUBACK).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the broker is still there");
    }

    /// Waits for the next bytes, acknowledges the messages in them that ask for it, and counts.
    pub(crate) async fn arrived(&mut self) -> Arrived {
        let (mut arrived, mut answer) = (Arrived::default(), Vec::new());
        if !self.has_packet() {
            self.more().await;
        }
        while let Some((head, body, end)) = first(&self.read) {
            match head & 0xf0 {
                PUBLISH => {
                    arrived.messages += 1;
                    answer.extend(acknowledgement(head, &self.read[body..end]).into_iter().flatten());
                }
                PUBACK => arrived.acknowledged += 1,
                _ => {}
            }
            self.read.advance(end);
        }
        if !answer.is_empty() {
            self.write(&answer).await;
        }
        arrived
    }

    /// Reads until the first packet is whole, which has to be of this kind; it is taken.
    async fn answered(&mut self, kind: u8) {
        while !self.has_packet() {
            self.more().await;
        }
        let (head, body, end) = first(&self.read).expect("a whole packet");
        let refused = self.read[body..end].last().is_none_or(|code| *code > 1);
        assert!(head == kind && !refused, "the broker answered {:02x?}", &self.read[..end]);
        self.read.advance(end);
    }

    fn has_packet(&self) -> bool {
        first(&self.read).is_some()
    }

    async fn more(&mut self) {
        let count = self.stream.read_buf(&mut self.read).await.expect("the broker is still there");
        assert!(count > 0, "the broker closed the connection");
    }
}

/// Appends one message; at QoS 1 with this packet identifier.
pub(crate) fn publish(to: &mut Vec<u8>, topic: &str, payload: &[u8], qos: u8, retained: bool, id: u16) {
    let head = PUBLISH | qos << 1 | if retained { RETAIN } else { 0 };
    let identifier = if qos > 0 { &id.to_be_bytes()[..] } else { &[] };
    to.extend(packet(head, &[&text(topic), identifier, payload]));
}

/// The first byte of the first packet, where its body begins and where it ends; none while it is not whole.
fn first(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let mut length = 0;
    for at in 1..=4 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let end = at + 1 + length;
            return (end <= bytes.len()).then_some((bytes[0], at + 1, end));
        }
    }
    panic!("this is no MQTT packet: {:02x?}", &bytes[..5]);
}

/// The PUBACK for a message at QoS 1, whose identifier stands behind the topic.
fn acknowledgement(head: u8, body: &[u8]) -> Option<[u8; 4]> {
    let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    (head & 0x06 == 0x02).then(|| [PUBACK, 2, body[at], body[at + 1]])
}

fn packet(head: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    let mut packet = vec![head];
    while length > 0x7f {
        packet.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    packet.push(length.to_le_bytes()[0]);
    packet.extend(parts.concat());
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}
