//! How a command that is no node reaches a broker: address, and a credential where the broker asks for one.

use std::path::PathBuf;
use std::time::Duration;

use crate::mqtt::link::LinkOptions;
use crate::tls::{BrokerTls, NodeCertificate};
use crate::trust::{Anchors, Credential, CredentialFiles, to_pem};

/// MQTT's registered ports.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// The broker.
#[derive(Debug, clap::Args)]
pub struct BrokerArgs {
    /// The broker; mqtts://HOST[:PORT] for TLS.
    #[arg(long, env = "TIDEGATE_BROKER", default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    broker: String,
    /// What `tidegate fleet enroll` made, shown to a broker that asks for a certificate; means TLS.
    #[arg(long, env = "TIDEGATE_CREDENTIALS", value_name = "DIR")]
    credentials: Option<PathBuf>,
}

impl BrokerArgs {
    /// Options for a link that publishes nothing when it dies. The client id begins with `name`.
    pub(super) fn options(&self, name: &'static str) -> Result<LinkOptions, String> {
        let (is_tls, host, port) = self.address()?;
        Ok(LinkOptions {
            name,
            client_id: format!("tidegate-{name}-{:08x}", fastrand::u32(..)),
            host,
            port,
            keepalive: Duration::from_secs(30),
            credentials: None,
            tls: if is_tls { Some(self.tls()?) } else { None },
            last_will: None,
            subscriptions: Vec::new(),
            others_alone: false,
            prepare: None,
        })
    }

    fn address(&self) -> Result<(bool, String, u16), String> {
        let refusal =
            || format!("--broker takes HOST:PORT, as in 127.0.0.1:1883, or mqtts://HOST:PORT, not {:?}", self.broker);
        let (is_tls, authority) = match self.broker.split_once("://") {
            Some(("mqtts", authority)) => (true, authority),
            Some(("mqtt", authority)) => (false, authority),
            Some(_) => return Err(refusal()),
            None => (self.credentials.is_some(), self.broker.as_str()),
        };
        let has_scheme = self.broker.contains("://");
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| refusal())?),
            None if has_scheme => (authority, if is_tls { TLS_PORT } else { PORT }),
            None => return Err(refusal()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() { Err(refusal()) } else { Ok((is_tls, host.to_owned(), port)) }
    }

    /// A filter for all that may be read with the credential: a hub refuses one that goes beyond the fleet.
    pub(super) fn everything(&self) -> Result<String, String> {
        let loaded = self.credential()?;
        Ok(loaded.map_or("tidegate/#".to_owned(), |(_, anchors)| format!("tidegate/v1/{}/#", anchors.fleet())))
    }

    fn credential(&self) -> Result<Option<(Credential, Anchors)>, String> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        let loaded = CredentialFiles::new(folder).load().map_err(|error| format!("--credentials: {error}"))?;
        let missing =
            || format!("--credentials {}: there is none; `tidegate fleet enroll` makes one", folder.display());
        loaded.ok_or_else(missing).map(Some)
    }

    fn tls(&self) -> Result<BrokerTls, String> {
        let Some((credential, anchors)) = self.credential()? else {
            return BrokerTls::new(None, None).map_err(|error| error.to_string());
        };
        let (roots, chain, key) = (to_pem(anchors.roots()), credential.certificate_pem(), credential.key_pem());
        let own = NodeCertificate { chain: chain.as_bytes(), key: key.as_bytes() };
        BrokerTls::new(Some(roots.as_bytes()), Some(own)).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(broker: &str, credentials: Option<&str>) -> Option<(bool, String, u16)> {
        let args = BrokerArgs { broker: broker.into(), credentials: credentials.map(PathBuf::from) };
        args.address().ok()
    }

    #[test]
    fn an_address_is_host_and_port_with_or_without_a_scheme() {
        assert_eq!(address("127.0.0.1:1884", None), Some((false, "127.0.0.1".into(), 1884)));
        assert_eq!(address("hub:8883", Some("/c")), Some((true, "hub".into(), 8883)));
        assert_eq!(address("mqtts://hub", None), Some((true, "hub".into(), 8883)));
        assert_eq!(address("mqtt://[::1]:1884", Some("/c")), Some((false, "::1".into(), 1884)));
        for bad in ["hub", "hub:", ":1883", "hub:x", "http://hub:1", "hub:70000"] {
            assert_eq!(address(bad, None), None, "{bad}");
        }
    }
}
