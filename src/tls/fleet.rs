//! The answering end of TLS where a node lets in who is of its fleet: at its broker, and for requests of other nodes. It shows
//! the node's credential as it stands at the moment, and takes certificates of those who are believed at the moment. Nothing of
//! it is kept between connections, so that a renewal and a revocation count with the next.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::ALPN_HTTP_1_1;

/// Two round trips and two signatures, over the worst of links.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection whose handshake is done.
pub type FleetStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Why a certificate is not taken; what the other end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwelcome {
    /// It leads to nobody who is believed, or is of a kind that may not come.
    Foreign,
    /// It does not hold now.
    Expired,
    /// It was revoked.
    Revoked,
}

/// What is asked anew with each connection.
pub trait FleetIdentity: Send + Sync + 'static {
    /// The node's certificates (DER, its own first) and its key (PEM).
    fn own(&self) -> (Vec<Vec<u8>>, String);

    /// Whether a client may come with these certificates (DER, its own first). That it holds the key, the handshake proves.
    ///
    /// # Errors
    /// It may not.
    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome>;
}

impl fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => {
                "the fleet's roots do not know this credential, or it is none of a kind that is let in here"
            }
            Self::Expired => "this credential has expired",
            Self::Revoked => "this credential was revoked",
        })
    }
}

/// Whether a handshake failed because of the certificate that the client showed.
pub fn is_for_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    matches!(cause, Some(Error::InvalidCertificate(_)))
}

/// Answers handshakes. TLS 1.3 alone: in it a client's certificate goes encrypted, and every library of today speaks it.
#[derive(Clone)]
pub struct FleetTls(TlsAcceptor);

impl FleetTls {
    /// With what `identity` says at each connection. A client may come without a certificate.
    ///
    /// # Errors
    /// The library refuses the settings.
    pub fn new(identity: Arc<dyn FleetIdentity>) -> Result<Self, Error> {
        Self::made(identity, false, Vec::new())
    }

    /// For HTTP between nodes: nobody comes without a certificate.
    ///
    /// # Errors
    /// The library refuses the settings.
    pub fn for_nodes(identity: Arc<dyn FleetIdentity>) -> Result<Self, Error> {
        Self::made(identity, true, vec![ALPN_HTTP_1_1.to_vec()])
    }

    fn made(identity: Arc<dyn FleetIdentity>, is_asked_for: bool, protocols: Vec<Vec<u8>>) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let shown = Arc::new(Shown { identity: identity.clone(), provider: provider.clone() });
        let taken = Arc::new(Taken { identity, is_asked_for, provider: provider.clone() });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(taken)
            .with_cert_resolver(shown);
        // A session that is taken up again would pass by the check of the certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes a channel of a fresh connection: with the certificates that the client has shown, its own first, and proven the
    /// key of; none where it came without.
    ///
    /// # Errors
    /// The client spoke no TLS, showed a certificate that is not taken, or said nothing for too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(FleetStream, Vec<Vec<u8>>)> {
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.0.accept(stream)).await??;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = shown.iter().map(|certificate| certificate.to_vec()).collect();
        Ok((stream, chain))
    }
}

impl fmt::Debug for FleetTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetTls").finish_non_exhaustive()
    }
}

/// The node's certificate.
struct Shown {
    identity: Arc<dyn FleetIdentity>,
    provider: Arc<CryptoProvider>,
}

impl ResolvesServerCert for Shown {
    /// Read for each connection: it costs less than the signature after it.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (chain, key) = self.identity.own();
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
        CertifiedKey::from_der(chain, key, &self.provider).ok().map(Arc::new)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// The check of a client's certificate.
struct Taken {
    identity: Arc<dyn FleetIdentity>,
    /// Whether nobody comes without one.
    is_asked_for: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Taken {
    /// None: whoever has a certificate shows it, and during a rotation there are two roots of one name.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.is_asked_for
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<Vec<u8>> = std::iter::once(end_entity).chain(intermediates).map(|one| one.to_vec()).collect();
        let told = |unwelcome| match unwelcome {
            Unwelcome::Foreign => CertificateError::UnknownIssuer,
            Unwelcome::Expired => CertificateError::Expired,
            Unwelcome::Revoked => CertificateError::Revoked,
        };
        self.identity.check(&chain).map_err(|unwelcome| Error::InvalidCertificate(told(unwelcome)))?;
        Ok(ClientCertVerified::assertion())
    }

    /// Never asked for: TLS 1.3 alone is offered.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    /// That it holds the private key: a certificate alone can be had by anyone who ever read a signed message.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken").finish_non_exhaustive()
    }
}
