//! Who renews certificates for nodes that ask: a fleet's root, or an authority that the root has let in. Opened for each
//! renewal, so that what was put in the place of its files counts.

use std::path::{Path, PathBuf};

use super::authority::{is_fleet, note};
use super::certificate::{self, CertificateError, Role};
use super::key::KEY_BYTES;
use super::{
    Anchors, Authority, AuthorityError, BACKDATED, Credential, CredentialError, CredentialFiles, Facts, Key, Rejected,
    Subject, UnixSeconds,
};

/// As long as what is thrown away would hold.
const A_DAY: UnixSeconds = 86_400;

/// Why nothing is renewed.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A fleet's folder that cannot be used, or what is issued cannot be written down.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A credential that cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The library refused.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Nothing that issues stands there.
    #[error(
        "{folder} {what}; it takes the folder of a fleet, or what `tidegate fleet enroll NAME --role authority` wrote"
    )]
    NoAuthority {
        /// The folder.
        folder: PathBuf,
        /// What stands there instead.
        what: String,
    },
    /// Whoever asks is not believed, or the authority itself is not.
    #[error("{whose} is not believed: {why}")]
    NotBelieved {
        /// Whose certificate.
        whose: &'static str,
        /// Why not.
        why: Rejected,
    },
    /// An operator or an authority is let in by people alone.
    #[error("only a node's credential is renewed, and this one is of the role {0}")]
    NotANode(Role),
    /// Nothing would be won.
    #[error("the authority's own credential ends no later than the one to renew; enroll the authority anew")]
    NoLonger,
}

/// Opened for renewing.
#[derive(Debug)]
pub struct Issuer {
    folder: PathBuf,
    hand: Hand,
}

#[derive(Debug)]
enum Hand {
    Root(Box<Authority>),
    Enrolled(Box<Credential>),
}

impl Issuer {
    /// Opens the folder of a fleet, or that of an authority's credential.
    pub fn open(folder: &Path) -> Result<Self, IssuerError> {
        if is_fleet(folder) {
            let hand = Hand::Root(Box::new(Authority::open(folder)?));
            return Ok(Self { folder: folder.to_owned(), hand });
        }
        let no_authority = |what: String| IssuerError::NoAuthority { folder: folder.to_owned(), what };
        let loaded = CredentialFiles::new(folder).load()?;
        let (credential, _) = loaded.ok_or_else(|| no_authority("holds no credential".to_owned()))?;
        match credential.facts().role {
            Role::Authority => Ok(Self { folder: folder.to_owned(), hand: Hand::Enrolled(Box::new(credential)) }),
            other => Err(no_authority(format!("is of the role {other}"))),
        }
    }

    /// The fleet that it issues for.
    pub fn fleet(&self) -> &str {
        match &self.hand {
            Hand::Root(authority) => authority.fleet(),
            Hand::Enrolled(credential) => &credential.facts().fleet,
        }
    }

    /// Whether the fleet, as it is believed, believes this issuer.
    pub fn check(&self, believed: &Anchors, now: UnixSeconds) -> Result<(), IssuerError> {
        let whose = "the authority";
        match &self.hand {
            Hand::Root(authority) if authority.anchors().roots().iter().any(|root| believed.roots().contains(root)) => {
                Ok(())
            }
            Hand::Root(_) => {
                let why = Rejected::Foreign("this fleet has another root".to_owned());
                Err(IssuerError::NotBelieved { whose, why })
            }
            // No check takes a certificate that signs others for somebody's own: so one that it issues is tried, and thrown
            // away.
            Hand::Enrolled(credential) => {
                let subject = Subject { role: Role::Node, ..credential.facts().subject() };
                let key = Key::generate().map_err(CredentialError::from)?;
                let tried =
                    credential.certify(&subject, &key.public(), (now.saturating_sub(BACKDATED), now + A_DAY))?;
                believed.check(&tried, now).map(drop).map_err(|why| IssuerError::NotBelieved { whose, why })
            }
        }
    }

    /// New certificates for a node that has certificates now: the same name and hosts, no longer a life than before, for
    /// this key. What is issued is written down first, and is believed.
    pub fn renew(
        &self,
        asker: &[Vec<u8>],
        public_key: &[u8; KEY_BYTES],
        believed: &Anchors,
        now: UnixSeconds,
    ) -> Result<Vec<Vec<u8>>, IssuerError> {
        let before = self.asker(asker, believed, now)?;
        let life = before.not_after.saturating_sub(before.issued_at());
        let own_end = match &self.hand {
            Hand::Root(_) => UnixSeconds::MAX,
            Hand::Enrolled(credential) => credential.facts().not_after,
        };
        let until = now.saturating_add(life).min(own_end);
        if until <= before.not_after {
            return Err(IssuerError::NoLonger);
        }
        let renewed = self.issue(&before, public_key, until, now)?;
        let not_believed = |why| IssuerError::NotBelieved { whose: "the authority", why };
        believed.check(&renewed, now).map_err(not_believed)?;
        Ok(renewed)
    }

    /// Who asks, by what is believed here and by what the fleet's folder says, which may know of a revocation earlier.
    fn asker(&self, chain: &[Vec<u8>], believed: &Anchors, now: UnixSeconds) -> Result<Facts, IssuerError> {
        let not_believed = |why| IssuerError::NotBelieved { whose: "the credential to renew", why };
        let facts = believed.check(chain, now).map_err(not_believed)?;
        if let Hand::Root(authority) = &self.hand {
            authority.anchors().check(chain, now).map_err(not_believed)?;
        }
        if facts.role == Role::Node { Ok(facts) } else { Err(IssuerError::NotANode(facts.role)) }
    }

    fn issue(
        &self,
        before: &Facts,
        public_key: &[u8; KEY_BYTES],
        until: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<Vec<Vec<u8>>, IssuerError> {
        match &self.hand {
            Hand::Root(authority) => Ok(vec![authority.renew(before, public_key, until, now)?]),
            Hand::Enrolled(credential) => {
                let chain = credential.renew(before, public_key, (now.saturating_sub(BACKDATED), until))?;
                if let Some(leaf) = chain.first() {
                    note(&self.folder, &certificate::read(leaf)?)?;
                }
                Ok(chain)
            }
        }
    }
}
