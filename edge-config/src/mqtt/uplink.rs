//! `mqtt.uplink`: the fleet's brokers, beside the embedded one, and what may go there.

use std::net::IpAddr;
use std::time::Duration;

use config::{Value, ValueKind};

use super::{Broker, BrokerAddress, BrokerTls, Credentials, broker_address, credentials, tls_files};
use crate::section::Section;
use crate::shape::{Count, Flag, Input, Shape, Span, array_of_text};
use crate::show::toml_text;

/// The fleet's brokers. The node speaks with one of them at a time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Uplink {
    /// In order of preference; at least one, each once.
    pub addresses: Vec<BrokerAddress>,
    /// Who we say we are, to each of them.
    pub credentials: Option<Credentials>,
    /// What proves both ends, at those that are spoken with by TLS.
    pub tls: BrokerTls,
    /// Whether the JSON mirror goes there too. Default false.
    pub json: bool,
    /// Whether the fleet's announcements and states are heard there. Default true.
    pub discovery: bool,
    /// Shortest time between two values on one topic of telemetry. Default 10 s.
    pub load_interval: Duration,
    /// What may be sent there in any 24 hours. Default none: no bound.
    pub daily_bytes: Option<u64>,
}

/// The keys that mean something beside `mqtt.uplink` only.
const OWN_KEYS: [&str; 4] = ["uplink_json", "uplink_discovery", "uplink_load_interval", "uplink_daily_bytes"];

/// A fleet has two or three brokers; with each further one that is dead a node waits longer for the one that answers.
const ADDRESSES_MAX: usize = 8;

/// Slower than an hour nobody reads a load; under a second two ticks are the same.
const LOAD_INTERVAL: Span = Span(Duration::from_secs(1)..=Duration::from_secs(3_600));
const LOAD_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

/// Less does not bear the announcements of a day; more than a terabyte is no bound.
const DAILY_BYTES: Count<u64> = Count(100_000..=1_000_000_000_000);

/// Reads what belongs to the uplink; none where `broker` is the site's, or no address is named.
pub(super) fn read(section: &mut Section<'_>, broker: &Broker) -> Option<Uplink> {
    if matches!(broker, Broker::External { .. }) || section.has("broker") {
        let advice = "is for a node with the embedded broker, but mqtt.broker names the only one that is used; \
                      remove either";
        section.foreign("uplink", advice);
        for key in OWN_KEYS {
            section.foreign(key, "needs mqtt.uplink, which mqtt.broker excludes; remove it");
        }
        return None;
    }
    if !section.has("uplink") {
        for key in OWN_KEYS {
            section.foreign(key, "needs mqtt.uplink beside it; set that, or remove this");
        }
    }
    let addresses = section.optional("uplink", &Addresses).unwrap_or_default();
    refuse_own(section, broker, &addresses);
    let uplink = settings(section, addresses);
    (!uplink.addresses.is_empty()).then_some(uplink)
}

/// An empty list may stand beside settings, so that a profile has them and a file names the brokers.
fn settings(section: &mut Section<'_>, addresses: Vec<BrokerAddress>) -> Uplink {
    if !section.has("uplink") {
        return Uplink {
            addresses,
            credentials: None,
            tls: BrokerTls::default(),
            json: false,
            discovery: true,
            load_interval: LOAD_INTERVAL_DEFAULT,
            daily_bytes: None,
        };
    }
    let is_secured = addresses.is_empty() || addresses.iter().any(|address| address.tls);
    Uplink {
        tls: tls_files(section, is_secured, "is for TLS; write an address of mqtt.uplink with mqtts://, or remove it"),
        credentials: credentials(section),
        json: section.get("uplink_json", &Flag, false),
        discovery: section.get("uplink_discovery", &Flag, true),
        load_interval: section.get("uplink_load_interval", &LOAD_INTERVAL, LOAD_INTERVAL_DEFAULT),
        daily_bytes: section.optional("uplink_daily_bytes", &DAILY_BYTES),
        addresses,
    }
}

/// What is said to the embedded broker twice would be heard twice, under two counts of connections.
fn refuse_own(section: &mut Section<'_>, broker: &Broker, addresses: &[BrokerAddress]) {
    let Broker::Embedded { listen, .. } = broker else { return };
    let is_here = |host: &str| {
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip == listen.ip() || ip.is_unspecified())
    };
    if let Some(own) = addresses.iter().find(|address| address.port == listen.port() && is_here(&address.host)) {
        let advice = format!("names this node's own broker ({own} is mqtt.listen); remove that address");
        section.refuse("uplink", advice);
    }
}

/// Addresses of brokers, each once; none is allowed.
struct Addresses;

impl Shape for Addresses {
    type Out = Vec<BrokerAddress>;

    fn allowed(&self) -> String {
        format!(
            "an array of up to {ADDRESSES_MAX} addresses, the preferred first, as in \
             [\"mqtts://a.example:8883\", \"mqtts://b.example\"]"
        )
    }

    fn schema(&self) -> serde_json::Map<String, serde_json::Value> {
        array_of_text(0)
    }

    fn read(&self, input: &Input<'_>) -> Result<Vec<BrokerAddress>, String> {
        let values = input.array().filter(|values| values.len() <= ADDRESSES_MAX).ok_or_else(|| self.must())?;
        let mut addresses: Vec<BrokerAddress> = Vec::new();
        for (place, value) in (1..).zip(values) {
            let address = self.one(&value).map_err(|advice| format!("{advice} (address {place})"))?;
            let is_known =
                |known: &BrokerAddress| known.port == address.port && known.host.eq_ignore_ascii_case(&address.host);
            if let Some(first) = addresses.iter().position(is_known) {
                return Err(format!(
                    "names the same broker twice (addresses {} and {place}, {address}); remove either",
                    first + 1
                ));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn show(&self, value: &Vec<BrokerAddress>) -> String {
        format!("[{}]", value.iter().map(|address| toml_text(&address.to_string())).collect::<Vec<_>>().join(", "))
    }

    // Someone will write the password into an address; the refusal must not spread it.
    fn is_secret(&self) -> bool {
        true
    }
}

impl Addresses {
    fn one(&self, value: &Value) -> Result<BrokerAddress, String> {
        match &value.kind {
            ValueKind::String(text) => broker_address(text),
            _ => Err(self.must()),
        }
    }
}
