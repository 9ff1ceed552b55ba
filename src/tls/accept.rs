//! The instance's end of a channel: its certificate and key from files, and the handshake within a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{ALPN_HTTP_1_1, Channel};

/// A certificate with a long chain, or a large RSA key, is a tenth of this.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// From the connection to the end of its handshake: two round trips and a signature, over the worst of links.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFilesError {
    /// A file is missing, not ours to read, or too large.
    #[error("cannot read {flag} {}: {source}", path.display())]
    Unreadable {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{flag} {} is not PEM as expected: {why}; it must hold {expected}", path.display())]
    NotPem {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// The key is not the certificate's.
    #[error(
        "the key in {} does not belong to the certificate in {}; give the two files of one pair",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library refuses them for another reason.
    #[error("the certificate in {} and its key cannot be used: {why}", certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// What it said.
        why: String,
    },
}

/// Answers handshakes with one certificate. TLS 1.3 alone: those who call an instance are nodes and today's proxies.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Reads a certificate (a chain, its own first) and its private key, both PEM.
    ///
    /// # Errors
    /// See [`KeyFilesError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, KeyFilesError> {
        let chain = read_chain(certificate)?;
        let private = read_key(key)?;
        let config = config(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                KeyFilesError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            error => KeyFilesError::Unusable { certificate: certificate.to_owned(), why: error.to_string() },
        })?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes a channel of a fresh connection.
    ///
    /// # Errors
    /// The client spoke no TLS, none that we speak, or nothing for too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Channel> {
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.0.accept(stream)).await??;
        Ok(Channel::Tls(Box::new(TlsStream::Server(stream))))
    }
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Nodes take up no session again, so none is kept and no ticket sent.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
    Ok(config)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyFilesError> {
    let flag = "--tls-cert-file";
    let not_pem = |why: String| KeyFilesError::NotPem {
        flag,
        path: path.to_owned(),
        why,
        expected: "a certificate (BEGIN CERTIFICATE)",
    };
    let pem = read(flag, path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| not_pem(error.to_string()))?;
    if chain.is_empty() { Err(not_pem("there is no certificate in it".to_owned())) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, KeyFilesError> {
    let flag = "--tls-key-file";
    PrivateKeyDer::from_pem_slice(&read(flag, path)?).map_err(|error| KeyFilesError::NotPem {
        flag,
        path: path.to_owned(),
        why: error.to_string(),
        expected: "a private key without a password (BEGIN PRIVATE KEY)",
    })
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, KeyFilesError> {
    super::read_limited(path, MAX_FILE_BYTES).map_err(|source| KeyFilesError::Unreadable {
        flag,
        path: path.to_owned(),
        source,
    })
}
