//! How a command that is no node reaches a broker: address, and a credential where the broker asks for one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mqtt::link::LinkOptions;
use crate::tls::{BrokerTls, NodeCertificate};
use crate::trust::{Anchors, Credential, CredentialFiles, Verifier, to_pem};
use crate::wire::Root;

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
            alternatives: Vec::new(),
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
        let (host, port) = split(authority).ok_or_else(refusal)?;
        let port = match port {
            Some(port) => port.parse().map_err(|_| refusal())?,
            None if has_scheme => {
                if is_tls {
                    TLS_PORT
                } else {
                    PORT
                }
            }
            None => return Err(refusal()),
        };
        if host.is_empty() { Err(refusal()) } else { Ok((is_tls, host.to_owned(), port)) }
    }

    /// A filter for all that may be read with the credential: a hub refuses one that goes beyond the fleet.
    pub(super) fn everything(&self) -> Result<String, String> {
        let loaded = self.credential()?;
        Ok(loaded.map_or("tidegate/#".to_owned(), |(_, anchors)| format!("tidegate/v1/{}/#", anchors.fleet())))
    }

    fn credential(&self) -> Result<Option<(Credential, Anchors)>, String> {
        self.credentials.as_deref().map(load).transpose()
    }

    /// Checks what a fleet's nodes say, by the credential where one was given.
    pub(super) fn verifier(&self, tree: &Root) -> Result<Option<Verifier>, String> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        let (_, anchors) = load(folder)?;
        if anchors.fleet() != tree.fleet.as_str() {
            return Err(format!("--credentials {} is of the fleet {}", folder.display(), anchors.fleet()));
        }
        let sealed = CredentialFiles::new(folder).trust_message().map_err(|error| format!("--credentials: {error}"))?;
        Ok(Some(Verifier::new(tree.clone(), anchors, sealed)))
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

fn load(folder: &Path) -> Result<(Credential, Anchors), String> {
    let loaded = CredentialFiles::new(folder).load().map_err(|error| format!("--credentials: {error}"))?;
    loaded
        .ok_or_else(|| format!("--credentials {}: there is none; `tidegate fleet enroll` makes one", folder.display()))
}

/// Host and port, where one is written; an IPv6 address stands in brackets, since it has colons of its own.
pub(super) fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return if port.is_empty() { Some((host, None)) } else { Some((host, Some(port.strip_prefix(':')?))) };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
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
        assert_eq!(address("mqtts://[::1]", None), Some((true, "::1".into(), 8883)));
        assert_eq!(address("[::1]:1884", None), Some((false, "::1".into(), 1884)));
        for bad in [
            "[::1]",
            "mqtts://[::1]8883",
            "mqtts://[::1",
            "mqtts://::1",
            "mqtts://[]",
            "hub",
            "hub:",
            ":1883",
            "hub:x",
            "http://hub:1",
            "hub:70000",
        ] {
            assert_eq!(address(bad, None), None, "{bad}");
        }
    }
}
