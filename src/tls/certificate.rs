//! A launch's certificate: the envelope in which TLS carries a public key (X.509, RFC 5280), and nothing that anyone
//! trusts beside the key. Only writing is done here, a fixed shape; reading stays with the library.

use rustls::pki_types::SubjectPublicKeyInfoDer;

/// DER's tags (ITU-T X.690), as far as this one certificate needs them.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, the version, and `[3]`, the extensions, of a certificate; `[2]`, a DNS name among names.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;

/// Object identifiers, tag and length included: 1.3.101.112 (Ed25519), 2.5.4.3 (common name), 2.5.29.17 (subject
/// alternative names).
const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];

/// The beginning of a gateway's clock that has never been set, and RFC 5280's date for "never expires": a wrong clock at
/// either end is no reason not to speak.
const NOT_BEFORE: &[u8] = b"700101000000Z";
const NOT_AFTER: &[u8] = b"99991231235959Z";

/// A serial number has at most 20 octets and is positive; this many of the key's digest follow a leading 1.
const SERIAL_DIGEST_BYTES: usize = 15;

/// A self-signed certificate for `name` over an Ed25519 key, DER. `sign` signs with that key.
pub(super) fn self_signed<E>(
    name: &str,
    key: &SubjectPublicKeyInfoDer<'_>,
    key_digest: &[u8; 32],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let unsigned = unsigned(name, key.as_ref(), key_digest);
    let mut signature = vec![0];
    signature.extend(sign(&unsigned)?);
    Ok(element(SEQUENCE, &[&unsigned, &element(SEQUENCE, &[&ED25519]), &element(BIT_STRING, &[&signature])]))
}

fn unsigned(name: &str, key: &[u8], key_digest: &[u8; 32]) -> Vec<u8> {
    let version_3 = element(VERSION, &[&element(INTEGER, &[&[2]])]);
    let serial = element(INTEGER, &[&[1], &key_digest[..SERIAL_DIGEST_BYTES]]);
    let algorithm = element(SEQUENCE, &[&ED25519]);
    let validity = element(SEQUENCE, &[&element(UTC_TIME, &[NOT_BEFORE]), &element(GENERALIZED_TIME, &[NOT_AFTER])]);
    let (issuer, subject) = (distinguished(name), distinguished(name));
    let extensions = element(EXTENSIONS, &[&element(SEQUENCE, &[&alternative_name(name)])]);
    element(SEQUENCE, &[&version_3, &serial, &algorithm, &issuer, &validity, &subject, key, &extensions])
}

fn distinguished(name: &str) -> Vec<u8> {
    let common_name = element(SEQUENCE, &[&COMMON_NAME, &element(UTF8_STRING, &[name.as_bytes()])]);
    element(SEQUENCE, &[&element(SET, &[&common_name])])
}

fn alternative_name(name: &str) -> Vec<u8> {
    let names = element(SEQUENCE, &[&element(DNS_NAME, &[name.as_bytes()])]);
    element(SEQUENCE, &[&ALTERNATIVE_NAMES, &element(OCTET_STRING, &[&names])])
}

fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let mut written = vec![tag];
    written.extend(length(contents.iter().map(|part| part.len()).sum()));
    contents.iter().for_each(|part| written.extend_from_slice(part));
    written
}

/// One octet below 128; else their number, and then the length's octets (X.690 section 8.1.3).
fn length(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) if short < 128 => vec![short],
        _ => {
            let octets: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
            // At most eight octets make a `usize`.
            let count = u8::try_from(octets.len()).unwrap_or(8);
            std::iter::once(0x80 | count).chain(octets).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_short_as_they_can_be() {
        assert_eq!(length(0), [0]);
        assert_eq!(length(127), [127]);
        assert_eq!(length(128), [0x81, 128]);
        assert_eq!(length(256), [0x82, 1, 0]);
    }
}
