//! An Ed25519 key (RFC 8032): who holds it may speak for its certificate's subject.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::tls::{PKCS8_BEFORE_SEED, pem};

/// Bytes of a public key, and of the seed that a private one is made from.
pub const KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key: {0}")]
    NoRandomness(String),
    /// The text is no private key in PEM.
    #[error("it is not a private key in PEM (PKCS #8): {0}")]
    NotPem(String),
    /// It is a key of another kind.
    #[error("it is not an Ed25519 key: {0}")]
    NotEd25519(String),
}

/// A private key with its public one.
pub struct Key {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    /// A new key from the system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; KEY_BYTES];
        getrandom::fill(&mut seed).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
        Self::from_pkcs8([PKCS8_BEFORE_SEED.as_slice(), &seed].concat())
    }

    /// Reads a key that [`Key::to_pem`] or OpenSSL wrote.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
        let der = der.map_err(|error| KeyError::NotPem(error.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der().to_vec())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8);
        Ok(Self { pair: pair.map_err(|error| KeyError::NotEd25519(error.to_string()))?, pkcs8 })
    }

    /// The private key in PEM: a secret.
    pub fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// The public key.
    pub fn public(&self) -> [u8; KEY_BYTES] {
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }

    /// A signature of 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("public", &self.pair.public_key()).finish_non_exhaustive()
    }
}

/// So that certificates are issued with it.
impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::sign(self, message))
    }
}

/// Whether the holder of a public key signed these bytes.
pub(super) fn has_signed(public: &[u8; KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem_and_signs_the_same() {
        let key = Key::generate().unwrap();
        let again = Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.sign(b"x"), key.sign(b"x"));
        assert!(has_signed(&key.public(), b"x", &again.sign(b"x")));
    }

    #[test]
    fn no_other_bytes_and_no_other_key_pass() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let signature = key.sign(b"x");
        assert!(!has_signed(&key.public(), b"y", &signature));
        assert!(!has_signed(&other.public(), b"x", &signature));
        assert!(!has_signed(&key.public(), b"x", &signature[..63]));
    }

    #[test]
    fn what_is_no_key_is_told_from_a_key_of_another_kind() {
        assert!(matches!(Key::from_pem("nothing"), Err(KeyError::NotPem(_))));
        let other = pem("PRIVATE KEY", &[0x30, 0x00]);
        assert!(matches!(Key::from_pem(&other), Err(KeyError::NotEd25519(_))));
    }

    #[test]
    fn the_private_key_is_not_shown() {
        let key = Key::generate().unwrap();
        assert!(!format!("{key:?}").contains("pkcs8"));
    }
}
