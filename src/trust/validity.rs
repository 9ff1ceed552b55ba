//! From when until when a certificate holds, and for which hosts. The library verifies both and does not tell them, and who
//! renews needs to know them; so this reads as much of the envelope (X.509 in DER) as they stand in, and nothing is decided
//! by it that the library does not check too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use super::UnixSeconds;

/// DER's tags on the way.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
/// Of a `GeneralName` (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// The two dates of a certificate, both included; `None` where it is no certificate.
pub(super) fn read(certificate: &[u8]) -> Option<(UnixSeconds, UnixSeconds)> {
    let (validity, _) = element(from_validity(certificate)?, SEQUENCE)?;
    let (not_before, rest) = date(validity)?;
    let (not_after, _) = date(rest)?;
    Some((not_before, not_after))
}

/// What follows the issuer.
fn from_validity(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(whole, SEQUENCE)?;
    let (_, rest) = element(signed, VERSION)?;
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    Some(rest)
}

/// The host names and addresses that the subject is reached at, in their order; none where there are none.
pub(super) fn hosts(certificate: &[u8]) -> Vec<String> {
    let Some(mut names) = alternative_names(certificate) else { return Vec::new() };
    let mut hosts = Vec::new();
    while let Some((&tag, _)) = names.split_first() {
        let Some((name, rest)) = element(names, tag) else { break };
        hosts.extend(host(tag, name));
        names = rest;
    }
    hosts
}

fn host(tag: u8, name: &[u8]) -> Option<String> {
    match tag {
        DNS_NAME => String::from_utf8(name.to_vec()).ok(),
        IP_ADDRESS => {
            let v4 = <[u8; 4]>::try_from(name).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            let v6 = || <[u8; 16]>::try_from(name).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            Some(v4.or_else(|_| v6()).ok()?.to_string())
        }
        _ => None,
    }
}

fn alternative_names(certificate: &[u8]) -> Option<&[u8]> {
    let (_validity, rest) = element(from_validity(certificate)?, SEQUENCE)?;
    let (_subject, rest) = element(rest, SEQUENCE)?;
    let (_public_key, rest) = element(rest, SEQUENCE)?;
    let (extensions, _) = element(rest, EXTENSIONS)?;
    let (mut extensions, _) = element(extensions, SEQUENCE)?;
    loop {
        let (extension, rest) = element(extensions, SEQUENCE)?;
        let (identifier, value) = element(extension, OBJECT_IDENTIFIER)?;
        if identifier == SUBJECT_ALT_NAME {
            let value = element(value, BOOLEAN).map_or(value, |(_is_critical, value)| value);
            let (value, _) = element(value, OCTET_STRING)?;
            return element(value, SEQUENCE).map(|(names, _)| names);
        }
        extensions = rest;
    }
}

/// The content of the element of this tag that stands first, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first().filter(|_| *found == tag)?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // More than four octets of length are no certificate.
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn date(bytes: &[u8]) -> Option<(UnixSeconds, &[u8])> {
    if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let text = std::str::from_utf8(text).ok()?;
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on are of the last century.
        let century = if text.get(..2)? < "50" { "20" } else { "19" };
        return Some((unix(&format!("{century}{text}"))?, rest));
    }
    let (text, rest) = element(bytes, GENERALIZED_TIME)?;
    Some((unix(std::str::from_utf8(text).ok()?)?, rest))
}

/// `YYYYMMDDHHMMSSZ` as seconds since 1970; before that is 1970.
fn unix(text: &str) -> Option<UnixSeconds> {
    let part = |range: std::ops::Range<usize>| text.get(range);
    let (day, time) = ((part(0..4)?, part(4..6)?, part(6..8)?), (part(8..10)?, part(10..12)?, part(12..15)?));
    let rfc3339 = format!("{}-{}-{}T{}:{}:{}", day.0, day.1, day.2, time.0, time.1, time.2);
    let date = humantime::parse_rfc3339(&rfc3339).ok()?;
    Some(date.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_date_are_read() {
        assert_eq!(unix("19700101000000Z"), Some(0));
        assert_eq!(unix("20260102030405Z"), Some(1_767_323_045));
        let utc = [&[UTC_TIME, 13][..], b"260102030405Z"].concat();
        assert_eq!(date(&utc), Some((1_767_323_045, &[][..])));
        let general = [&[GENERALIZED_TIME, 15][..], b"20260102030405Z", b"!"].concat();
        assert_eq!(date(&general), Some((1_767_323_045, &b"!"[..])));
        assert_eq!(unix("20261302030405Z"), None);
        assert_eq!(unix("2026"), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_dates_and_no_hosts() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x02, 0x30, 0x00], &[0xff; 40]] {
            assert_eq!((read(bytes), hosts(bytes)), (None, Vec::new()), "{bytes:02x?}");
        }
    }
}
