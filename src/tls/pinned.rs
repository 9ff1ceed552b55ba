//! The node's check of an instance: it must hold the key that the launch was given, and prove it in the handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::logic::route::PublicKeyPin;

/// Accepts one key, whatever name and dates its certificate has: the key was made for this launch and nothing else.
#[derive(Debug)]
pub(super) struct PinnedKey {
    pin: PublicKeyPin,
    provider: Arc<CryptoProvider>,
}

impl PinnedKey {
    pub(super) fn new(pin: PublicKeyPin, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if PublicKeyPin(Sha256::digest(&presented).into()) != self.pin {
            // What `is_wrong_key` looks for.
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    /// Never asked for: a pinned connection offers TLS 1.3 alone.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    /// That it holds the private key, too: a certificate alone can be had by anyone who ever connected.
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

/// Whether a handshake failed because another key was presented.
pub(super) fn is_wrong_key(error: &Error) -> bool {
    *error == Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}
