//! The channel between two nodes of a fleet: each shows its own credential, and both are known by the fleet's roots.
//!
//! The one that calls knows whom it wants: it heard their word on MQTT, signed with the key that it must find here, so neither
//! name nor address proves anything. The one that answers asks the fleet's trust about whoever comes. Both read their own
//! credential anew for each handshake, since it is renewed while the node runs.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::fleet::{FleetIdentity, FleetTls, Unwelcome};
use super::pinned::PinnedKey;
use super::{ALPN_HTTP_1_1, Channel};
use crate::logic::route::PublicKeyPin;

/// The calling end: TLS 1.3 with the holder of this key. Made for each connection, so that a credential that was renewed is
/// the one that is shown.
pub(super) fn calling(
    own: &dyn FleetIdentity,
    pin: PublicKeyPin,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = own.own();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|error| Error::General(format!("the node's own key: {error}")))?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedKey::new(pin, provider.clone())))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// The answering end.
#[derive(Clone)]
pub struct PeerAcceptor {
    tls: FleetTls,
    identity: Arc<dyn FleetIdentity>,
}

impl PeerAcceptor {
    /// Shows what `identity` has, and lets in whom it knows.
    ///
    /// # Errors
    /// The library refuses the settings.
    pub fn new(identity: Arc<dyn FleetIdentity>) -> Result<Self, Error> {
        Ok(Self { tls: FleetTls::for_nodes(identity.clone())?, identity })
    }

    /// Whether whoever showed these certificates would be let in now.
    ///
    /// # Errors
    /// Why not.
    pub fn knows(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome> {
        self.identity.check(chain)
    }

    /// Makes a channel of a fresh connection, and says who is at its other end: their certificates, their own first.
    ///
    /// # Errors
    /// The other end spoke no TLS 1.3, showed nothing that is known here, or took too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Channel, Vec<Vec<u8>>)> {
        let (stream, chain) = self.tls.accept(stream).await?;
        Ok((Channel::Tls(Box::new(TlsStream::Server(stream))), chain))
    }
}

impl fmt::Debug for PeerAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAcceptor").finish_non_exhaustive()
    }
}
