//! A string of bytes in a message: bytes in CBOR, hexadecimal digits in JSON.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, for example a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// Reads what [`Bytes`] are shown as; `None` where it is not pairs of hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let pairs = text
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+')));
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return Self::from_hex(&text).ok_or_else(|| D::Error::custom("not pairs of hexadecimal digits"));
        }
        deserializer.deserialize_bytes(BytesVisitor).map(Self)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bytes_in_cbor_and_digits_in_json() {
        let bytes = Bytes(vec![0, 0xab]);
        assert_eq!(serde_cbor::to_vec(&bytes).unwrap(), [0x42, 0x00, 0xab]);
        assert_eq!(serde_cbor::from_slice::<Bytes>(&[0x42, 0x00, 0xab]).unwrap(), bytes);
        assert_eq!(serde_json::to_string(&bytes).unwrap(), "\"00ab\"");
        assert_eq!(serde_json::from_str::<Bytes>("\"00ab\"").unwrap(), bytes);
        for bad in ["\"0\"", "\"+f\"", "\"0g\"", "\"é\"", "7"] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
        assert!(serde_cbor::from_slice::<Bytes>(&[0x82, 0x00, 0x01]).is_err());
    }
}
