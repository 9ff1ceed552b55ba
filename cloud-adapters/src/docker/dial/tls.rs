//! TLS to a daemon, both sides with a certificate of the operator's own authority; the system's authorities have no say.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_rustls::{TlsConnector, rustls};

use super::{broken, greet};
use crate::AdapterError;
use crate::docker::DockerTls;
use crate::docker::target::Target;

/// A TLS connection on which the daemon has answered once.
pub(super) async fn over(
    stream: TcpStream,
    target: &Target,
    host: &str,
    files: &DockerTls,
) -> Result<TlsStream<TcpStream>, AdapterError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| AdapterError::bad_configuration(format!("`{host}` is no name for TLS")).because(error))?;
    // Read for each connection, which is kept for a while: a renewed certificate is taken up without a restart.
    let connector = TlsConnector::from(Arc::new(config(files).await?));
    let mut stream = connector.connect(name, stream).await.map_err(|error| broken(target, error))?;
    // With TLS 1.3 a daemon refuses the client's certificate after the client's handshake is done.
    greet(&mut stream).await.map_err(|error| broken(target, error))?;
    Ok(stream)
}

async fn config(files: &DockerTls) -> Result<ClientConfig, AdapterError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca).await? {
        roots.add(certificate).map_err(|error| unusable(&files.ca, "a certificate authority", error))?;
    }
    let chain = certificates(&files.cert).await?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key).await?)
        .map_err(|error| unusable(&files.key, "a private key", error))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error: rustls::Error| AdapterError::bad_configuration("TLS cannot be set up").because(error))?;
    let builder = builder.with_root_certificates(roots);
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&files.key, "the certificate's key", error))
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AdapterError> {
    let text = read(path).await?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(found) if found.is_empty() => {
            Err(AdapterError::bad_configuration(format!("{} holds no certificate", path.display())))
        }
        read => read.map_err(|error| unusable(path, "a certificate", error)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, AdapterError> {
    tokio::fs::read(path).await.map_err(|error| {
        AdapterError::bad_configuration(format!("cannot read {} for TLS to the daemon", path.display())).because(error)
    })
}

fn unusable(path: &Path, what: &str, error: impl std::error::Error + Send + Sync + 'static) -> AdapterError {
    AdapterError::bad_configuration(format!("{} cannot be used as {what} in PEM", path.display())).because(error)
}
