//! `[mqtt]`: the broker, embedded or the site's, the fleet's brokers beside it (`uplink`), and what is published.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::listen;
use crate::section::Section;
use crate::shape::{Address, Choice, FilePath, Flag, Parsed, Span};

mod hub;
mod uplink;

pub use hub::Hub;
pub use uplink::Uplink;

/// `[mqtt]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Mqtt {
    /// Whether anything is published at all. Default true.
    pub enabled: bool,
    /// The broker of this box or of the site.
    pub broker: Broker,
    /// The embedded broker's listener for others than this box.
    pub hub: Option<Hub>,
    /// The fleet's brokers, beside the embedded one.
    pub uplink: Option<Uplink>,
    /// Whether the JSON mirror is published too. Default true.
    pub json: bool,
    /// Time from one announcement to the next. Default 30 s.
    pub refresh: Duration,
    /// Which requests for inference are answered, of those that come on MQTT. Default `shared`.
    pub infer: Inference,
    /// MQTT keepalive; a dead broker is noticed after twice this. Default 10 s.
    pub keepalive: Duration,
}

impl Mqtt {
    /// Where the embedded broker listens; `None` when there is none.
    pub fn embedded_listen(&self) -> Option<SocketAddr> {
        match self.broker {
            Broker::Embedded { listen } if self.enabled => Some(listen),
            _ => None,
        }
    }

    /// The embedded broker's listener for others than this box; `None` when there is none.
    pub fn hub(&self) -> Option<&Hub> {
        self.hub.as_ref().filter(|_| self.enabled)
    }
}

/// Which requests for inference a node answers, of those that come on MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inference {
    /// Those for its services, shared with the other nodes at the broker: each is answered by one of them.
    Shared,
    /// All at the broker, also those for services that it does not have: for one node at a broker of its own, and at one
    /// without shared subscriptions.
    Own,
}

/// The broker that the node publishes to, beside its uplink: exactly one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Broker {
    /// A broker in this process.
    Embedded {
        /// Where it listens; port 0 takes a free one. Loopback only.
        listen: SocketAddr,
    },
    /// A broker elsewhere.
    External {
        /// Where it is.
        address: BrokerAddress,
        /// Who we say we are.
        credentials: Option<Credentials>,
        /// What proves both ends by TLS.
        tls: BrokerTls,
    },
}

/// Files for `mqtts://`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerTls {
    /// Authorities (PEM) that say who the broker is. Without it the fleet's roots where the node has been enrolled, else the
    /// public ones.
    pub ca_file: Option<PathBuf>,
    /// The node's certificate for the broker (PEM, its own first) and its key. Without them the credential that the node was
    /// enrolled with, else none.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// `mqtt://host:port`, or `mqtts://host:port` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerAddress {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port; where none was written 1883, or 8883 for TLS.
    pub port: u16,
    /// Whether it is spoken with by TLS.
    pub tls: bool,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}[{}]:{}", self.scheme(), self.host, self.port),
            false => write!(f, "{}{}:{}", self.scheme(), self.host, self.port),
        }
    }
}

/// Who we say we are to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The file that holds the password; read when connecting, so that a changed one is taken.
    pub password_file: Option<PathBuf>,
}

impl BrokerAddress {
    fn scheme(&self) -> &'static str {
        if self.tls { "mqtts://" } else { "mqtt://" }
    }
}

/// MQTT's registered ports.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// The keys that are for a broker elsewhere: the site's, or those of the uplink.
const EXTERNAL_KEYS: [&str; 5] = ["username", "password_file", "ca_file", "certificate_file", "key_file"];

pub(crate) fn read(section: &mut Section<'_>) -> Mqtt {
    let (broker, hub) = broker(section);
    Mqtt {
        enabled: section.get("enabled", &Flag, true),
        uplink: uplink::read(section, &broker),
        broker,
        hub,
        json: section.get("json", &Flag, true),
        infer: section.get("infer", &INFERENCE, Inference::Shared),
        refresh: section.get("refresh", &REFRESH, Duration::from_secs(30)),
        keepalive: section.get("keepalive", &KEEPALIVE, Duration::from_secs(10)),
    }
}

const INFERENCE: Choice<Inference> =
    Choice { words: &[("shared", Inference::Shared), ("own", Inference::Own)], later: &[] };

/// Announcements expire after three refreshes; an hour each is as stale as discovery may get.
const REFRESH: Span = Span(Duration::from_secs(1)..=Duration::from_secs(3600));

/// Under 5 s the client library refuses to start; MQTT has 16 bits of seconds.
const KEEPALIVE: Span = Span(Duration::from_secs(5)..=Duration::from_secs(65_535));

const BROKER: Parsed<BrokerAddress> = Parsed {
    allowed: "an address as in \"mqtt://192.168.1.10:1883\" or \"mqtts://hub.example:8883\"",
    parse: broker_address,
    show: BrokerAddress::to_string,
    // Someone will write the password into the address; the refusal must not spread it.
    secret: true,
};

const USERNAME: Parsed<String> = Parsed {
    allowed: "a name",
    parse: |text| if text.is_empty() { Err("must be a name".to_owned()) } else { Ok(text.to_owned()) },
    show: String::clone,
    secret: false,
};

fn broker(section: &mut Section<'_>) -> (Broker, Option<Hub>) {
    let address = section.optional("broker", &BROKER);
    let asked_for_other = section.has("broker");
    if asked_for_other && section.has("listen") {
        let advice = "is the embedded broker's, but mqtt.broker names another and only one is used; remove either";
        section.foreign("listen", advice);
    }
    match address {
        Some(address) => {
            section.leave(&["listen"]);
            hub::refuse(section);
            let advice = "is for TLS; write mqtt.broker with mqtts://, or remove it";
            let tls = tls_files(section, address.tls, advice);
            (Broker::External { address, credentials: credentials(section), tls }, None)
        }
        None if asked_for_other => {
            section.leave(&["listen"]);
            section.leave(&EXTERNAL_KEYS);
            hub::leave(section);
            (Broker::Embedded { listen: default_listen() }, None)
        }
        None => (embedded(section), hub::read(section)),
    }
}

const BEYOND_LOOPBACK: &str = "reaches beyond this machine, and there anybody who reaches it may do everything; keep it on a \
    loopback address as in \"127.0.0.1:1883\", and let others in with mqtt.listen_tls = \"0.0.0.0:8883\", which asks who they are";

fn embedded(section: &mut Section<'_>) -> Broker {
    if !section.has("uplink") {
        for key in EXTERNAL_KEYS {
            section.foreign(key, "is for a broker elsewhere; set mqtt.broker or mqtt.uplink, or remove it");
        }
    }
    let listen = section.get("listen", &Address, default_listen());
    listen::loopback_or(section, "listen", listen, BEYOND_LOOPBACK);
    Broker::Embedded { listen }
}

/// The files for TLS; `otherwise` is told of each where none is spoken.
fn tls_files(section: &mut Section<'_>, is_spoken: bool, otherwise: &str) -> BrokerTls {
    if !is_spoken {
        for key in ["ca_file", "certificate_file", "key_file"] {
            section.foreign(key, otherwise);
        }
        return BrokerTls::default();
    }
    let ca_file = section.optional("ca_file", &FilePath);
    let certificate = section.optional("certificate_file", &FilePath);
    let key = section.optional("key_file", &FilePath);
    if section.sound(&["certificate_file", "key_file"]) {
        match (&certificate, &key) {
            (Some(_), None) => section.refuse("certificate_file", "needs mqtt.key_file beside it"),
            (None, Some(_)) => section.refuse("key_file", "needs mqtt.certificate_file beside it"),
            _ => {}
        }
    }
    BrokerTls { ca_file, certificate: certificate.zip(key) }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))
}

fn credentials(section: &mut Section<'_>) -> Option<Credentials> {
    let username = section.optional("username", &USERNAME);
    let password_file = section.optional("password_file", &FilePath);
    if username.is_none() && password_file.is_some() && section.sound(&["username"]) {
        section.refuse("password_file", "needs mqtt.username beside it");
    }
    Some(Credentials { username: username?, password_file })
}

/// Takes `mqtt://host[:port]` or `mqtts://host[:port]` apart.
fn broker_address(text: &str) -> Result<BrokerAddress, String> {
    let refusal = || "must be an address as in \"mqtt://192.168.1.10:1883\" or \"mqtts://hub.example:8883\"".to_owned();
    let (tls, authority) = match text.split_once("://") {
        Some(("mqtt", authority)) => (false, authority),
        Some(("mqtts", authority)) => (true, authority),
        _ => return Err(refusal()),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains('@') {
        return Err("must not hold a password; use mqtt.username and mqtt.password_file".to_owned());
    }
    let (host, port) = split_port(authority, if tls { TLS_PORT } else { PORT }).ok_or_else(refusal)?;
    let usable = |letter: char| letter.is_alphanumeric() || ".-_:%".contains(letter);
    match !host.is_empty() && host.chars().all(usable) && port > 0 {
        true => Ok(BrokerAddress { host: host.to_owned(), port, tls }),
        false => Err(refusal()),
    }
}

fn split_port(authority: &str, usual: u16) -> Option<(&str, u16)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => inside.split_once(']').filter(|(host, _)| host.contains(':'))?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, port.parse().ok()?)),
        None => rest.is_empty().then_some((host, usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        broker_address(text).ok().map(|address| address.to_string())
    }

    #[test]
    fn a_broker_address_is_a_host_and_perhaps_a_port() {
        assert_eq!(shown("mqtt://hub.local"), Some("mqtt://hub.local:1883".to_owned()));
        assert_eq!(shown("mqtt://10.0.0.1:1884/"), Some("mqtt://10.0.0.1:1884".to_owned()));
        assert_eq!(shown("mqtts://hub.local"), Some("mqtts://hub.local:8883".to_owned()));
        assert_eq!(shown("mqtts://hub.local:443"), Some("mqtts://hub.local:443".to_owned()));
        assert_eq!(shown("mqtt://[::1]:1884"), Some("mqtt://[::1]:1884".to_owned()));
        assert_eq!(shown("mqtt://[fe80::1]"), Some("mqtt://[fe80::1]:1883".to_owned()));
        for bad in ["hub:1883", "http://hub", "mqtt://", "mqtt://hub:", "mqtt://hub:0", "mqtt://hub:70000"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
        for bad in ["mqtt://a b", "mqtt://::1:1883", "mqtt://hub/topic", "mqtt://[hub]", "mqtt://[::1]x"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_without_repeating_it() {
        let advice = broker_address("mqtt://me:hunter2@hub").unwrap_err();
        assert!(advice.contains("password_file") && !advice.contains("hunter2"), "{advice}");
    }
}
