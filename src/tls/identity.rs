//! What a launch proves itself with: an Ed25519 key from the node's secret and the launch's id, in a certificate of its
//! own. Derived, never stored, so that a node that lost its journal still knows which key to expect of an instance.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256};

use super::certificate::self_signed;
use crate::logic::route::PublicKeyPin;

/// Labels keep apart what is derived from the same secret and launch.
const KEY_LABEL: &[u8] = b"tidegate launch key\0";
const TOKEN_LABEL: &[u8] = b"tidegate launch token\0";

/// PKCS #8 around an Ed25519 seed (RFC 8410 section 7): all but the 32 bytes of the seed itself.
pub(crate) const PKCS8_BEFORE_SEED: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Characters in a line of PEM (RFC 7468 section 2).
const PEM_LINE_CHARS: usize = 64;

/// Why there is no identity. Neither can happen with the library as it is; it is told rather than assumed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The derived key was refused.
    #[error("the key of a launch cannot be made: {0}")]
    Key(#[from] rustls::Error),
    /// The key signs with no scheme that we know.
    #[error("the key of a launch does not sign with Ed25519")]
    Scheme,
}

/// A launch's key and certificate. The same secret and launch give the same, on every node and in every session.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchIdentity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    pin: PublicKeyPin,
}

impl LaunchIdentity {
    /// Derives it.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn derive(secret: &[u8], launch: &str) -> Result<Self, IdentityError> {
        let key = private_key(secret, launch);
        let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.as_slice()))?;
        let public = signing.public_key().ok_or(IdentityError::Scheme)?;
        let digest: [u8; 32] = Sha256::digest(&public).into();
        let signer = signing.choose_scheme(&[SignatureScheme::ED25519]).ok_or(IdentityError::Scheme)?;
        let certificate = self_signed(launch, &public, &digest, |unsigned| signer.sign(unsigned))?;
        Ok(Self { certificate, key, pin: PublicKeyPin(digest) })
    }

    /// The certificate, for the instance; nobody but us can tell from it whose it is.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The private key (PKCS #8), for the instance: a secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// What the node expects of the instance.
    #[must_use]
    pub fn pin(&self) -> PublicKeyPin {
        self.pin
    }
}

impl fmt::Debug for LaunchIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchIdentity").field("pin", &self.pin).finish_non_exhaustive()
    }
}

/// The pin on a launch's key: what a node needs of an instance that it finds again.
///
/// # Errors
/// See [`IdentityError`].
pub fn launch_pin(secret: &[u8], launch: &str) -> Result<PublicKeyPin, IdentityError> {
    LaunchIdentity::derive(secret, launch).map(|identity| identity.pin)
}

fn private_key(secret: &[u8], launch: &str) -> Vec<u8> {
    let mut key = PKCS8_BEFORE_SEED.to_vec();
    // Any 32 bytes are an Ed25519 seed (RFC 8032 section 5.1.5).
    key.extend(derived(secret, KEY_LABEL, launch));
    key
}

/// What an instance asks of every caller: derived, never stored, so that adoption survives a lost journal.
pub fn launch_token(secret: &[u8], launch: &str) -> String {
    derived(secret, TOKEN_LABEL, launch).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes that nobody without the secret has, and others for each label and launch.
fn derived(secret: &[u8], label: &[u8], launch: &str) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail; bytes of no secret would be ones that nobody holds.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; 32] };
    mac.update(label);
    mac.update(launch.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Bytes as PEM (RFC 7468).
pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {kind}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(PEM_LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = others;
    }
    text.push_str(&format!("-----END {kind}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
    use rustls::server::ParsedCertificate;
    use rustls::sign::CertifiedKey;

    use super::*;

    const SECRET: &[u8] = b"the node's own secret, 32 bytes.";

    fn identity(launch: &str) -> LaunchIdentity {
        LaunchIdentity::derive(SECRET, launch).unwrap()
    }

    #[test]
    fn the_same_secret_and_launch_give_the_same_key_and_any_other_another() {
        assert_eq!(identity("gw-1"), identity("gw-1"));
        assert_eq!(launch_pin(SECRET, "gw-1").unwrap(), identity("gw-1").pin());
        assert_ne!(identity("gw-1").pin(), identity("gw-2").pin());
        assert_ne!(identity("gw-1").pin(), LaunchIdentity::derive(b"other", "gw-1").unwrap().pin());
    }

    #[test]
    fn the_pin_of_a_launch_never_changes_between_versions() {
        // Computed with Python's hmac and OpenSSL: a node must know the instances that an older one launched.
        let pin = "35bff8e654f7e90ffc5250e881d9914925bae681154c917c3f2d09402f088b50";
        assert_eq!(identity("gw-1").pin().to_string(), pin);
    }

    #[test]
    fn certificate_and_key_belong_together_and_are_read_by_the_library() {
        let identity = identity("gw-1");
        let certificate = CertificateDer::from_pem_slice(identity.certificate_pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let both = CertifiedKey::from_der(vec![certificate], key, &provider).expect("they match");
        let parsed = ParsedCertificate::try_from(&both.cert[0]).unwrap();
        let spki: SubjectPublicKeyInfoDer<'_> = parsed.subject_public_key_info();
        assert_eq!(PublicKeyPin(Sha256::digest(spki).into()), identity.pin());
    }

    #[test]
    fn the_longest_launch_id_fits_into_a_certificate() {
        let identity = identity(&"a".repeat(63));
        let certificate = CertificateDer::from_pem_slice(identity.certificate_pem().as_bytes()).unwrap();
        assert!(ParsedCertificate::try_from(&certificate).is_ok());
    }

    #[test]
    fn the_private_key_is_not_shown() {
        assert!(!format!("{:?}", identity("gw-1")).contains("key:"));
        assert!(identity("gw-1").key_pem().lines().all(|line| line.len() <= PEM_LINE_CHARS));
    }
}
