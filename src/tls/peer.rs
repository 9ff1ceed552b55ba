//! The channel between two nodes of a fleet: each shows its own credential, and both are known by the fleet's roots.
//!
//! The one that calls knows whom it wants: it heard their word on MQTT, signed with the key that it must find here, so neither
//! name nor address proves anything. The one that answers asks the fleet's trust about whoever comes, at the time at which they
//! come. Both read their own credential anew for each handshake, since it is renewed while the node runs.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::pinned::PinnedKey;
use super::{ALPN_HTTP_1_1, Channel};
use crate::logic::route::PublicKeyPin;

/// From the connection to the end of its handshake: two round trips and some signatures, over the worst of links.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A credential as TLS shows it.
pub struct Shown {
    /// Its certificates (DER), its own first.
    pub chain: Vec<Vec<u8>>,
    /// Its key in PEM (PKCS #8).
    pub key_pem: String,
}

/// Gives the node's own credential as it is now.
#[derive(Clone)]
pub struct OwnCredential(Arc<dyn Fn() -> Shown + Send + Sync>);

impl OwnCredential {
    /// By this function, which must return at once.
    pub fn new(current: impl Fn() -> Shown + Send + Sync + 'static) -> Self {
        Self(Arc::new(current))
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let Shown { chain, key_pem } = (self.0)();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
        let key = key.map_err(|error| Error::General(format!("the node's own key: {error}")))?;
        Ok((chain.into_iter().map(CertificateDer::from).collect(), key))
    }
}

impl fmt::Debug for OwnCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCredential")
    }
}

/// The calling end: TLS 1.3 with the holder of this key. Made for each connection, so that a credential that was renewed is
/// the one that is shown.
pub(super) fn calling(
    own: &OwnCredential,
    pin: PublicKeyPin,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = own.read()?;
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

/// Says whether whoever shows these certificates (DER, their own first) is let in; the text says why not.
type Doorkeeper = dyn Fn(&[Vec<u8>]) -> Result<(), String> + Send + Sync;

/// The answering end.
#[derive(Clone)]
pub struct PeerAcceptor {
    own: OwnCredential,
    doorkeeper: Arc<Doorkeeper>,
    provider: Arc<CryptoProvider>,
}

impl PeerAcceptor {
    /// Shows `own`, and lets in whom `doorkeeper` knows.
    pub fn new(
        own: OwnCredential,
        doorkeeper: impl Fn(&[Vec<u8>]) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { own, doorkeeper: Arc::new(doorkeeper), provider: Arc::new(ring::default_provider()) }
    }

    /// Whether whoever showed these certificates would be let in now.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn knows(&self, chain: &[Vec<u8>]) -> Result<(), String> {
        (self.doorkeeper)(chain)
    }

    /// Makes a channel of a fresh connection, and says who is at its other end: their certificates, their own first.
    ///
    /// # Errors
    /// The other end spoke no TLS 1.3, showed nothing that is known here, or took too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Channel, Vec<Vec<u8>>)> {
        let acceptor = TlsAcceptor::from(self.answering().map_err(io::Error::other)?);
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
        Ok((Channel::Tls(Box::new(TlsStream::Server(stream))), chain))
    }

    fn answering(&self) -> Result<Arc<ServerConfig>, Error> {
        let (chain, key) = self.own.read()?;
        let members = Members { doorkeeper: self.doorkeeper.clone(), provider: self.provider.clone() };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(members))
            .with_single_cert(chain, key)?;
        // A session that is taken up again would be asked for no credential.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for PeerAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAcceptor").finish_non_exhaustive()
    }
}

/// Asks the doorkeeper, and sees that whoever shows a certificate holds its key.
struct Members {
    doorkeeper: Arc<Doorkeeper>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Members")
    }
}

impl ClientCertVerifier for Members {
    /// None: who calls has one credential and shows it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<Vec<u8>> =
            std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.to_vec()).collect();
        (self.doorkeeper)(&chain).map_err(Error::General)?;
        Ok(ClientCertVerified::assertion())
    }

    /// Never asked for: TLS 1.3 alone is offered.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
