//! The node's end of a channel: from a connection to one that is known to lead to the right peer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::ALPN_HTTP_1_1;
use super::channel::Channel;
use super::fleet::FleetIdentity;
use super::peer;
use super::pinned::{PinnedKey, is_wrong_key};
use crate::logic::route::{PublicKeyPin, Transport};

/// A name for the library, which wants one. It is neither sent nor checked where the key is pinned.
const UNNAMED: &str = "instance.invalid";

/// A file of private authorities; a bundle of all public ones is a quarter of this.
const MAX_ROOTS_BYTES: u64 = 1024 * 1024;

/// Why the extra authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file cannot be read.
    #[error("cannot read the authorities in {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds no certificate.
    #[error("{} holds no certificate; it must hold one or more in PEM (BEGIN CERTIFICATE), at most 1 MiB", .0.display())]
    Empty(PathBuf),
    /// It holds something that is no certificate of an authority.
    #[error("{} holds a certificate that cannot be an authority: {why}", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Why there is no channel. The connection is closed, and nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Another key than the pinned one: not the launch's, or not the one that the other node signs with.
    #[error(
        "another key than the expected one was presented: the address belongs to somebody else by now, or someone stands \
         in between; nothing was sent"
    )]
    WrongKey,
    /// A certificate that no trusted authority issued for this name, or not for now.
    #[error("its certificate is not accepted for {name}: {why}")]
    Untrusted {
        /// The name that was dialled.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another node was to be called, and there is nothing to show to it.
    #[error("this node has no credential of a fleet, which other nodes ask for; set node.credentials")]
    NoCredential,
    /// No TLS at the other end, or one that we do not speak.
    #[error("no TLS handshake: {0}")]
    Handshake(String),
    /// Too slow.
    #[error("no TLS handshake within {0:?}")]
    Timeout(Duration),
    /// Not a name that a certificate can be for.
    #[error("`{0}` is no host name or address that a certificate could be for")]
    BadName(String),
    /// The library refuses its own settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// Secures connections, each as its transport says. Cheap to clone; the public authorities (Mozilla's list, compiled in,
/// so that a bare image works) are read when the first name is dialled.
#[derive(Clone)]
pub struct Dialer(Arc<Shared>);

struct Shared {
    provider: Arc<CryptoProvider>,
    extra_roots: Vec<CertificateDer<'static>>,
    named: OnceLock<Result<Arc<ClientConfig>, rustls::Error>>,
    /// What is shown to other nodes of the fleet.
    own: Option<Arc<dyn FleetIdentity>>,
}

impl Default for Dialer {
    /// One that trusts the public authorities alone.
    fn default() -> Self {
        Self::made(Vec::new(), None)
    }
}

impl Dialer {
    /// One that trusts the authorities in a PEM file beside the public ones.
    ///
    /// # Errors
    /// See [`RootsError`].
    pub fn new(extra_roots: Option<&Path>) -> Result<Self, RootsError> {
        extra_roots.map_or_else(|| Ok(Vec::new()), read_roots).map(|roots| Self::made(roots, None))
    }

    /// The same, which shows this credential to other nodes of the fleet.
    #[must_use]
    pub fn showing(&self, own: Arc<dyn FleetIdentity>) -> Self {
        Self::made(self.0.extra_roots.clone(), Some(own))
    }

    fn made(extra_roots: Vec<CertificateDer<'static>>, own: Option<Arc<dyn FleetIdentity>>) -> Self {
        let provider = Arc::new(ring::default_provider());
        Self(Arc::new(Shared { provider, extra_roots, named: OnceLock::new(), own }))
    }

    /// Makes a channel of a fresh connection to `host` (without port), or closes it.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
        transport: &Transport,
        within: Duration,
    ) -> Result<Channel, DialError> {
        let (config, name) = match transport {
            Transport::Plain => return Ok(Channel::Plain(stream)),
            Transport::Pinned(pin) => (self.pinned(*pin).map_err(DialError::Setup)?, UNNAMED),
            Transport::Peer(pin) => (self.peer(*pin)?, UNNAMED),
            Transport::Named => (self.named().map_err(DialError::Setup)?, host.trim_matches(['[', ']'])),
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| DialError::BadName(name.to_owned()))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(within, handshake).await {
            Ok(Ok(stream)) => Ok(Channel::Tls(Box::new(TlsStream::Client(stream)))),
            Ok(Err(error)) => Err(explain(&error, host)),
            Err(_) => Err(DialError::Timeout(within)),
        }
    }

    /// Made for each connection: a few pointers, and no session of one launch can be taken up again with another.
    fn pinned(&self, pin: PublicKeyPin) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier = Arc::new(PinnedKey::new(pin, Arc::clone(&self.0.provider)));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.0.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }

    fn peer(&self, pin: PublicKeyPin) -> Result<Arc<ClientConfig>, DialError> {
        let own = self.0.own.as_ref().ok_or(DialError::NoCredential)?;
        peer::calling(own.as_ref(), pin, &self.0.provider).map_err(DialError::Setup)
    }

    fn named(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.0.named.get_or_init(|| self.0.make_named()).clone()
    }
}

impl Shared {
    fn make_named(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(self.extra_roots.iter().cloned());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("extra_roots", &self.0.extra_roots.len()).finish_non_exhaustive()
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let unreadable = |source| RootsError::Unreadable { path: path.to_owned(), source };
    let pem = super::read_limited(path, MAX_ROOTS_BYTES).map_err(unreadable)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = read.ok().filter(|found| !found.is_empty()).ok_or_else(|| RootsError::Empty(path.to_owned()))?;
    let mut tried = RootCertStore::empty();
    for certificate in &found {
        let added = tried.add(certificate.clone());
        added.map_err(|error| RootsError::NoAuthority { path: path.to_owned(), why: error.to_string() })?;
    }
    Ok(found)
}

fn explain(error: &io::Error, host: &str) -> DialError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) if is_wrong_key(error) => DialError::WrongKey,
        Some(rustls::Error::InvalidCertificate(why)) => {
            DialError::Untrusted { name: host.to_owned(), why: why.to_string() }
        }
        Some(error) => DialError::Handshake(error.to_string()),
        None => DialError::Handshake(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
