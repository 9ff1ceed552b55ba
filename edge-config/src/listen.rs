//! `[gateway]` and `[console]`: where the node listens, and what it takes in.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::section::Section;
use crate::shape::{Address, Choice, Count, Flag, Parsed, Span};

/// `[gateway]`: the HTTP data plane.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Gateway {
    /// Where requests come in; port 0 takes a free one. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Whether `listen` may reach beyond this machine although nobody is asked who they are. Default false.
    pub allow_unauthenticated: bool,
    /// Largest request body, in bytes. Default 16 MiB.
    pub max_body_bytes: u64,
    /// Most bytes of request bodies that are held at once for a second try, over all requests. Default 16 MiB.
    pub replay_bytes: u64,
    /// How long a request may take, waiting included. Default 30 s; a service may have its own.
    pub request_timeout: Duration,
    /// Requests that may wait per service. Default 1024; a service may have its own.
    pub queue: u32,
    /// How a replica is picked. Default `peak_ewma`; a service may have its own.
    pub balance: Balance,
    /// Most connections at once. Default 1024.
    pub max_connections: u32,
    /// Where other nodes of the fleet send requests for which they have no free replica; port 0 takes a free one. Only nodes
    /// with a credential of the fleet are let in. Without it none are taken.
    pub peer_listen: Option<SocketAddr>,
    /// The name or address at which they reach it, where `peer_listen` does not say.
    pub peer_host: Option<String>,
}

/// `[console]`: API, metrics, health.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Console {
    /// Where it listens; port 0 takes a free one. Loopback only. Default `127.0.0.1:8081`.
    pub listen: SocketAddr,
}

/// How a replica is picked among those that are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// The lower expected latency of two that are drawn by chance.
    PeakEwma,
    /// The one with the fewest requests in flight.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// One after the other, in proportion to what each takes at once.
    WeightedRoundRobin,
}

/// The words for a [`Balance`].
pub(crate) const BALANCE: Choice<Balance> = Choice {
    words: &[
        ("peak_ewma", Balance::PeakEwma),
        ("least_request", Balance::LeastRequest),
        ("round_robin", Balance::RoundRobin),
        ("weighted_round_robin", Balance::WeightedRoundRobin),
    ],
    later: &[],
};

/// An hour is longer than any answer that someone waits for.
pub(crate) const REQUEST_TIMEOUT: Span = Span(Duration::from_millis(1)..=Duration::from_secs(3600));

/// Requests that wait hold memory; 0 makes the gateway answer 429 at once.
pub(crate) const QUEUE: Count<u32> = Count(0..=100_000);

/// A whole image stack fits; what is larger belongs into a file store.
const BODY_BYTES: Count<u64> = Count(1..=(4 << 30));

/// Without any, a request that fails at one replica is not sent to another.
const REPLAY_BYTES: Count<u64> = Count(0..=(1 << 30));

/// Each connection is a file descriptor and a few KB.
const CONNECTIONS: Count<u32> = Count(1..=100_000);

pub(crate) fn read_gateway(section: &mut Section<'_>) -> Gateway {
    let listen = section.get("listen", &Address, local(8080));
    let allow_unauthenticated = section.get("allow_unauthenticated", &Flag, false);
    if !allow_unauthenticated && !is_loopback(listen) {
        section.refuse("listen", BEYOND_LOOPBACK_GATEWAY);
    }
    let peer_listen = section.optional("peer_listen", &Address);
    let peer_host = section.optional("peer_host", &HOST);
    let sound = section.sound(&["peer_listen", "peer_host"]);
    match (peer_listen, &peer_host) {
        (None, Some(_)) if sound => {
            section.refuse("peer_host", "says how to reach gateway.peer_listen; set that, or remove it")
        }
        (Some(listen), None) if sound && listen.ip().is_unspecified() => {
            section.refuse("peer_listen", PEERS_REACH_IT_HOW)
        }
        _ => {}
    }
    Gateway {
        peer_listen,
        peer_host,
        listen,
        allow_unauthenticated,
        max_body_bytes: section.get("max_body_bytes", &BODY_BYTES, 16 << 20),
        replay_bytes: section.get("replay_bytes", &REPLAY_BYTES, 16 << 20),
        request_timeout: section.get("request_timeout", &REQUEST_TIMEOUT, Duration::from_secs(30)),
        queue: section.get("queue", &QUEUE, 1024),
        balance: section.get("balance", &BALANCE, Balance::PeakEwma),
        // The soft limit of open files that a service gets by default.
        max_connections: section.get("max_connections", &CONNECTIONS, 1024),
    }
}

pub(crate) fn read_console(section: &mut Section<'_>) -> Console {
    let listen = section.get("listen", &Address, local(8081));
    loopback_only(section, "listen", listen);
    Console { listen }
}

const PEERS_REACH_IT_HOW: &str = "listens on every address, and none of them is told to the other nodes; set \
    gateway.peer_host to the name or address at which they reach this one, or listen on that address alone";

const HOST: Parsed<String> = Parsed {
    allowed: "a host name or an address, without a port",
    parse: |text| {
        let usable = |letter: char| letter.is_ascii_alphanumeric() || ".-:".contains(letter);
        let is_host = !text.is_empty() && text.chars().all(usable);
        let is_address = text.parse::<std::net::Ipv6Addr>().is_ok();
        if is_host && (is_address || !text.contains(':')) {
            Ok(text.to_owned())
        } else {
            Err("must be a host name or an address, without a port".to_owned())
        }
    },
    show: String::clone,
    secret: false,
};

const BEYOND_LOOPBACK: &str = "reaches beyond this machine, and authentication is not yet available; use a loopback \
    address as in \"127.0.0.1:0\", and a proxy or an SSH tunnel that knows its users in front";

const BEYOND_LOOPBACK_GATEWAY: &str = "reaches beyond this machine, and authentication is not yet available; use a \
    loopback address, or let everyone on that network in with gateway.allow_unauthenticated = true";

/// Refuses an address that others could reach, since nobody is asked who they are yet.
pub(crate) fn loopback_only(section: &mut Section<'_>, key: &'static str, listen: SocketAddr) {
    loopback_or(section, key, listen, BEYOND_LOOPBACK);
}

/// Refuses an address that others could reach, with what to do instead.
pub(crate) fn loopback_or(section: &mut Section<'_>, key: &'static str, listen: SocketAddr, advice: &str) {
    if !is_loopback(listen) {
        section.refuse(key, advice);
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether two listeners would want the same port of the same address.
pub(crate) fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}
