//! Certificates: what a root or an authority says of a key, and how that is written and read (X.509).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use webpki::EndEntityCert;

use super::key::{KEY_BYTES, Key};
use super::{BACKDATED, UnixSeconds, validity};
use crate::logic::route::PublicKeyPin;
use crate::wire::Bytes;

/// Before the subject in the certificate's alternative name: `urn:tidegate:{fleet}:{role}:{name}`.
const URN: &str = "urn:tidegate:";
/// Before the serial number (in hex) of the certificate that somebody was let in with, in each that renewed it: who is put
/// out by that number is out with all that came of it, whoever issued them.
const ENROLMENT: &str = "urn:tidegate-enrolment:";
/// A serial number has at most 20 octets and is positive (RFC 5280 section 4.1.2.2); 16 by chance never come twice.
const SERIAL_BYTES: usize = 16;

/// What a credential lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Speak for the node that it names.
    Node,
    /// Give commands to nodes.
    Operator,
    /// Issue credentials to nodes, and say nothing itself: a certificate that signs others is nobody's end of a connection.
    Authority,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::Operator, Self::Authority];

    /// The word in certificates and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Authority => "authority",
        }
    }

    /// Whether it speaks for a node.
    pub fn is_node(self) -> bool {
        self == Self::Node
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == word);
        known.ok_or_else(|| format!("{word:?} is not a role; it is node, operator or authority"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Columns of a table are as wide as they are asked to be.
        f.pad(self.as_str())
    }
}

/// Whom a certificate is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its fleet.
    pub fleet: String,
    /// A node's id, or an operator's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Host names and addresses at which it is reached by TLS.
    pub hosts: Vec<String>,
}

/// What a certificate says. Whether that is true, [`super::Anchors`] tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's fleet.
    pub fleet: String,
    /// The subject's name: a node's id, or an operator's.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Host names and addresses at which it is reached by TLS.
    pub hosts: Vec<String>,
    /// The subject's public key.
    pub public_key: [u8; KEY_BYTES],
    /// The number by which it is revoked.
    pub serial: Vec<u8>,
    /// The number of the certificate that the subject was let in with, where this one renewed it: revokes this one too.
    pub enrolment: Option<Vec<u8>>,
    /// It holds from then on.
    pub not_before: UnixSeconds,
    /// It holds until then.
    pub not_after: UnixSeconds,
}

/// Why a certificate cannot be issued or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library refused.
    #[error("the certificate cannot be made: {0}")]
    NotIssued(#[from] rcgen::Error),
    /// No randomness for its number.
    #[error("the system gives no random bytes for a serial number: {0}")]
    NoRandomness(String),
    /// A date that no certificate can hold.
    #[error("the certificate would end in a year that cannot be written; choose fewer days")]
    Date,
    /// Not a certificate, or none of Tidegate's.
    #[error("it is not a certificate of a Tidegate fleet: {0}")]
    NotOurs(String),
}

/// Who signs certificates, and under which name.
pub(super) struct Hand<'a> {
    pub(super) common_name: String,
    pub(super) key: &'a Key,
}

/// The name that a fleet's root goes by.
pub(super) fn root_name(fleet: &str) -> String {
    format!("tidegate fleet {fleet}")
}

/// A fleet's root: a certificate that its own key signs.
pub(super) fn issue_root(
    fleet: &str,
    key: &Key,
    (not_before, not_after): (UnixSeconds, UnixSeconds),
) -> Result<Vec<u8>, CertificateError> {
    let mut params = params(&root_name(fleet), not_before, not_after)?;
    // One authority below it, and what that issues.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.der().to_vec())
}

impl Facts {
    /// What a certificate (DER) says.
    pub fn read(certificate: &[u8]) -> Result<Self, CertificateError> {
        read(certificate)
    }

    /// The subject, as a certificate for it is asked.
    pub fn subject(&self) -> Subject {
        Subject { fleet: self.fleet.clone(), name: self.name.clone(), role: self.role, hosts: self.hosts.clone() }
    }

    /// The number of the certificate that the subject was let in with.
    pub fn enrolled_as(&self) -> &[u8] {
        self.enrolment.as_deref().unwrap_or(&self.serial)
    }

    /// When it was issued, as far as it shows: certificates are dated back.
    pub fn issued_at(&self) -> UnixSeconds {
        let is_dated_back = self.not_after.saturating_sub(self.not_before) > BACKDATED;
        if is_dated_back { self.not_before.saturating_add(BACKDATED) } else { self.not_before }
    }
}

/// A certificate for a subject's public key. `enrolment` is of the certificate that it renews.
pub(super) fn issue(
    subject: &Subject,
    public_key: &[u8; KEY_BYTES],
    (not_before, not_after): (UnixSeconds, UnixSeconds),
    enrolment: Option<&[u8]>,
    hand: &Hand<'_>,
) -> Result<Vec<u8>, CertificateError> {
    let mut params = params(&subject.name, not_before, not_after)?;
    let Subject { fleet, name, role, hosts } = subject;
    params.subject_alt_names = vec![SanType::URI(ia5(&format!("{URN}{fleet}:{role}:{name}"))?)];
    if let Some(serial) = enrolment {
        params.subject_alt_names.push(SanType::URI(ia5(&format!("{ENROLMENT}{}", Bytes(serial.to_vec())))?));
    }
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(ia5(host)?),
        });
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if *role == Role::Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    // Two roots of a fleet have one name while they overlap; this says which of them signed.
    params.use_authority_key_identifier_extension = true;
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = common_name(&hand.common_name);
    let issuer = Issuer::new(issuer, hand.key);
    Ok(params.signed_by(&Public(*public_key), &issuer)?.der().to_vec())
}

fn params(name: &str, not_before: UnixSeconds, not_after: UnixSeconds) -> Result<CertificateParams, CertificateError> {
    let date = |seconds: UnixSeconds| {
        let seconds = i64::try_from(seconds).map_err(|_| CertificateError::Date)?;
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| CertificateError::Date)
    };
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|error| CertificateError::NoRandomness(error.to_string()))?;
    // Neither negative nor with a leading zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    (params.not_before, params.not_after) = (date(not_before)?, date(not_after)?);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn ia5(text: &str) -> Result<Ia5String, CertificateError> {
    Ok(Ia5String::try_from(text)?)
}

/// A public key whose private one is elsewhere.
struct Public([u8; KEY_BYTES]);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// Reads what a certificate says.
pub(super) fn read(der: &[u8]) -> Result<Facts, CertificateError> {
    let not_ours = |why: &str| CertificateError::NotOurs(why.to_owned());
    let certificate = CertificateDer::from(der);
    let parsed = EndEntityCert::try_from(&certificate).map_err(|error| not_ours(&error.to_string()))?;
    let (not_before, not_after) = validity::read(der).ok_or_else(|| not_ours("its dates cannot be read"))?;
    let urn = parsed.valid_uri_names().find_map(|name| name.strip_prefix(URN));
    let urn = urn.ok_or_else(|| not_ours("it does not name a fleet, a role and a subject"))?;
    let mut words = urn.splitn(3, ':');
    let (Some(fleet), Some(role), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(not_ours("it does not name a fleet, a role and a subject"));
    };
    Ok(Facts {
        fleet: fleet.to_owned(),
        name: name.to_owned(),
        role: role.parse().map_err(CertificateError::NotOurs)?,
        hosts: validity::hosts(der),
        enrolment: enrolment(&parsed)?,
        public_key: public_key(&parsed).ok_or_else(|| not_ours("its key is not an Ed25519 key"))?,
        serial: parsed.serial().to_vec(),
        not_before,
        not_after,
    })
}

/// A SubjectPublicKeyInfo whose algorithm is Ed25519, up to the raw key (RFC 8410 section 4).
const BEFORE_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Facts {
    /// The pin on its key: with whom a connection by TLS must be.
    pub fn pin(&self) -> PublicKeyPin {
        let mut spki = Sha256::new();
        spki.update(BEFORE_KEY);
        spki.update(self.public_key);
        PublicKeyPin(spki.finalize().into())
    }
}

fn enrolment(certificate: &EndEntityCert<'_>) -> Result<Option<Vec<u8>>, CertificateError> {
    let Some(serial) = certificate.valid_uri_names().find_map(|name| name.strip_prefix(ENROLMENT)) else {
        return Ok(None);
    };
    let unreadable = || CertificateError::NotOurs("the number of its enrolment cannot be read".to_owned());
    Ok(Some(Bytes::from_hex(serial).ok_or_else(unreadable)?.0))
}

/// The raw key: the last 32 bytes of a SubjectPublicKeyInfo of 44.
pub(super) fn public_key(certificate: &EndEntityCert<'_>) -> Option<[u8; KEY_BYTES]> {
    let spki = certificate.subject_public_key_info();
    spki.as_ref().strip_prefix(&BEFORE_KEY)?.try_into().ok()
}
