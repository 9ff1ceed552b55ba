//! The node's end of a connection to an MQTT broker: whom it trusts to say who the broker is, and who it says it is itself.
//!
//! A fleet's broker has a name and a certificate like any server of a site. A gateway with a certificate of its own needs no
//! password, and the broker can bind it to its own topics by the name in it.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// Why there is no TLS with a broker. The texts say what the bytes must be; whoever read them knows from which file.
#[derive(Debug, thiserror::Error)]
pub enum BrokerTlsError {
    /// No authority.
    #[error("the authorities hold no certificate in PEM (BEGIN CERTIFICATE)")]
    NoAuthorities,
    /// Something that is no certificate of an authority.
    #[error("the authorities hold a certificate that cannot be an authority: {0}")]
    BadAuthority(String),
    /// No certificate for the node.
    #[error("the node's certificate is no certificate in PEM (BEGIN CERTIFICATE, the node's own first){0}")]
    BadCertificate(String),
    /// No key for the node.
    #[error("the node's key is no private key in PEM (BEGIN PRIVATE KEY, unencrypted){0}")]
    BadKey(String),
    /// Certificate and key are not a pair, or of a kind that cannot be used.
    #[error("the node's certificate and key cannot be used together: {0}")]
    Unfit(rustls::Error),
    /// The library refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The node's own certificate chain, its own certificate first, and its private key, both in PEM.
#[derive(Clone, Copy)]
pub struct NodeCertificate<'a> {
    /// The chain.
    pub chain: &'a [u8],
    /// The key: PKCS #8, PKCS #1 or SEC 1, unencrypted.
    pub key: &'a [u8],
}

/// How connections to one broker are secured: TLS 1.3 or 1.2, with the broker's name proven by an authority. Cheap to clone.
#[derive(Clone)]
pub struct BrokerTls(Arc<ClientConfig>);

impl BrokerTls {
    /// Trusts these authorities (PEM) alone, or the public ones (Mozilla's list, compiled in) where there are none, and shows
    /// the node's certificate to a broker that asks for one.
    ///
    /// # Errors
    /// See [`BrokerTlsError`].
    pub fn new(authorities: Option<&[u8]>, node: Option<NodeCertificate<'_>>) -> Result<Self, BrokerTlsError> {
        let roots = authorities.map_or_else(|| Ok(public_roots()), read_roots)?;
        let builder = builder()?.with_root_certificates(roots);
        let config = match node {
            None => builder.with_no_client_auth(),
            Some(node) => {
                let (chain, key) = (read_chain(node.chain)?, read_key(node.key)?);
                builder.with_client_auth_cert(chain, key).map_err(BrokerTlsError::Unfit)?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// As the MQTT client takes it.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for BrokerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerTls").finish_non_exhaustive()
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, BrokerTlsError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(BrokerTlsError::Setup)
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn read_roots(pem: &[u8]) -> Result<RootCertStore, BrokerTlsError> {
    let found = read_certificates(pem).map_err(|_| BrokerTlsError::NoAuthorities)?;
    let mut roots = RootCertStore::empty();
    for certificate in found {
        roots.add(certificate).map_err(|error| BrokerTlsError::BadAuthority(error.to_string()))?;
    }
    if roots.is_empty() { Err(BrokerTlsError::NoAuthorities) } else { Ok(roots) }
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BrokerTlsError> {
    let chain = read_certificates(pem).map_err(|error| BrokerTlsError::BadCertificate(format!(": {error}")))?;
    if chain.is_empty() { Err(BrokerTlsError::BadCertificate(String::new())) } else { Ok(chain) }
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, BrokerTlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => BrokerTlsError::BadKey(String::new()),
        other => BrokerTlsError::BadKey(format!(": {other}")),
    })
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::LaunchIdentity;

    fn identity(launch: &str) -> LaunchIdentity {
        LaunchIdentity::derive(b"a node's secret", launch).unwrap()
    }

    fn refused(authorities: Option<&[u8]>, node: Option<(&str, &str)>) -> String {
        let node = node.map(|(chain, key)| NodeCertificate { chain: chain.as_bytes(), key: key.as_bytes() });
        BrokerTls::new(authorities, node).expect_err("it is refused").to_string()
    }

    #[test]
    fn authorities_and_a_pair_are_taken_and_public_ones_are_there() {
        let own = identity("l-1");
        let (certificate, key) = (own.certificate_pem(), own.key_pem());
        let node = NodeCertificate { chain: certificate.as_bytes(), key: key.as_bytes() };
        assert!(BrokerTls::new(Some(certificate.as_bytes()), Some(node)).is_ok());
        assert!(BrokerTls::new(None, None).is_ok());
    }

    #[test]
    fn what_are_no_authorities_is_refused_in_words() {
        let key = identity("l-1").key_pem();
        for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key] {
            assert!(refused(Some(pem.as_bytes()), None).contains("hold no certificate in PEM"), "{pem}");
        }
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(Some(pem.as_bytes()), None).contains("cannot be an authority"));
    }

    #[test]
    fn a_certificate_without_its_own_key_is_refused_in_words() {
        let (own, other) = (identity("l-1"), identity("l-2"));
        let (certificate, key) = (own.certificate_pem(), own.key_pem());
        assert!(refused(None, Some((&key, &key))).contains("no certificate in PEM"));
        assert!(refused(None, Some((&certificate, &certificate))).contains("no private key in PEM"));
        assert!(refused(None, Some((&certificate, ""))).contains("no private key in PEM"));
        assert!(refused(None, Some((&certificate, &other.key_pem()))).contains("cannot be used together"));
    }

    #[test]
    fn the_key_is_not_shown() {
        let own = identity("l-1");
        let (certificate, key) = (own.certificate_pem(), own.key_pem());
        let node = NodeCertificate { chain: certificate.as_bytes(), key: key.as_bytes() };
        assert_eq!(format!("{:?}", BrokerTls::new(None, Some(node)).unwrap()), "BrokerTls { .. }");
    }
}
