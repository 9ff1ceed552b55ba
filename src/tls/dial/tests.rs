//! What the node's end accepts and what it refuses, against real handshakes on loopback.

use std::net::SocketAddr;

use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::LaunchIdentity;

/// Far above what a handshake on loopback takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn identity(launch: &str) -> LaunchIdentity {
    LaunchIdentity::derive(b"a node's secret", launch).unwrap()
}

/// A server that shows one launch's certificate and signs with the key of another, or the same. Unlike an instance it
/// offers to take sessions up again.
async fn server(certificate: &LaunchIdentity, key: &LaunchIdentity) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(certificate.certificate_pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.key_pem().as_bytes()).unwrap();
    let pair = CertifiedKey::new(chain, ring::sign::any_supported_type(&key).unwrap());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    use tokio::io::AsyncWriteExt;
                    let _gone = stream.write_all(b"hello").await;
                    let _gone = stream.shutdown().await;
                }
            });
        }
    });
    address
}

async fn dial(dialer: &Dialer, address: SocketAddr, pin: PublicKeyPin) -> Result<Channel, DialError> {
    let stream = TcpStream::connect(address).await.unwrap();
    dialer.secure(stream, "127.0.0.1", &Transport::Pinned(pin), PATIENCE).await
}

#[tokio::test]
async fn the_holder_of_the_key_is_accepted_and_another_is_not() {
    let identity = identity("l-1");
    let address = server(&identity, &identity).await;
    let dialer = Dialer::default();
    assert!(dial(&dialer, address, identity.pin()).await.is_ok());
    let other = self::identity("l-2").pin();
    assert!(matches!(dial(&dialer, address, other).await, Err(DialError::WrongKey)));
}

#[tokio::test]
async fn the_right_certificate_without_its_key_is_refused() {
    let identity = identity("l-1");
    let address = server(&identity, &self::identity("l-2")).await;
    let refused = dial(&Dialer::default(), address, identity.pin()).await.expect_err("it cannot sign");
    assert!(matches!(refused, DialError::Untrusted { .. }), "{refused}");
    assert!(refused.to_string().contains("BadSignature"), "{refused}");
}

#[tokio::test]
async fn no_session_is_taken_up_again_so_every_connection_shows_its_key() {
    let identity = identity("l-1");
    let address = server(&identity, &identity).await;
    let dialer = Dialer::default();
    for _ in 0..3 {
        let Ok(Channel::Tls(mut stream)) = dial(&dialer, address, identity.pin()).await else { panic!("a channel") };
        // Read to the end: the tickets that the server sends have arrived, too.
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
        let TlsStream::Client(stream) = *stream else { panic!("the client's end") };
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let pinned = Transport::Pinned(identity("l-1").pin());
    let refused = Dialer::default().secure(stream, "h", &pinned, Duration::from_millis(50)).await;
    assert!(matches!(refused, Err(DialError::Timeout(_))));
}

#[tokio::test]
async fn what_is_no_name_is_not_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let refused = Dialer::default().secure(stream, "not a name", &Transport::Named, PATIENCE).await;
    assert!(matches!(refused, Err(DialError::BadName(_))));
}

#[test]
fn a_file_without_authorities_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roots.pem");
    assert!(matches!(Dialer::new(Some(&path)), Err(RootsError::Unreadable { .. })));
    for (text, words) in [
        ("no PEM".to_owned(), "holds no certificate"),
        (identity("l-1").key_pem(), "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "cannot be an authority"),
        ("x".repeat(2 * 1024 * 1024), "larger than"),
    ] {
        std::fs::write(&path, text).unwrap();
        let refused = Dialer::new(Some(&path)).expect_err(words).to_string();
        assert!(refused.contains("roots.pem") && refused.contains(words), "{refused}");
    }
    std::fs::write(&path, identity("l-1").certificate_pem()).unwrap();
    assert!(Dialer::new(Some(&path)).is_ok());
}
