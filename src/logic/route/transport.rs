//! How the bytes of a request travel to a replica, as data: plain, or encrypted and to whom.

use std::fmt;
use std::str::FromStr;

/// How a connection to a replica is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Not by us: it stays on this machine, or runs in a tunnel that is encrypted itself.
    #[default]
    Plain,
    /// TLS with the holder of this key and nobody else, whatever its certificate says beside.
    Pinned(PublicKeyPin),
    /// TLS with a certificate that a trusted authority issued for the host's name.
    Named,
    /// TLS with the holder of this key and nobody else, to whom the node shows its own credential: another node of the
    /// fleet.
    Peer(PublicKeyPin),
}

/// The SHA-256 digest of a public key as certificates hold it (SubjectPublicKeyInfo, DER): what `curl --pinnedpubkey`
/// calls `sha256//`. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKeyPin(pub [u8; 32]);

/// A text that is no pin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin on a public key is 64 hexadecimal digits, not `{0}`")]
pub struct InvalidPin(pub String);

impl fmt::Display for PublicKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PublicKeyPin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let invalid = || InvalidPin(text.to_owned());
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_shown() {
        let pin = PublicKeyPin(std::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
        assert!(pin.to_string().starts_with("0008101820"), "{pin}");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        for bad in ["", "00", &"g".repeat(64), &"+1".repeat(32), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
            assert!(bad.parse::<PublicKeyPin>().is_err(), "{bad}");
        }
    }
}
