//! Who is believed: keys and certificates, the fleet's roots, and the check of every signed message.
//!
//! A topic segment is a claim, not proof. So each node has a credential: an Ed25519 key and an X.509 certificate (RFC 5280)
//! that names its fleet, its id and its role and that chains to a root of the fleet. The same credential signs what the
//! node says on MQTT (COSE_Sign1, [`crate::wire::Sealed`]) and names it in TLS, so that there is one thing to issue, renew
//! and revoke.
//!
//! `key` signs, `certificate` issues and reads, `anchors` are the roots and revocations that stand at a time, `credential`
//! is this node's own, `verifier` checks what others say, `authority` is whoever may issue. `users` are those who watch at a hub
//! by a password.

mod anchors;
mod authority;
mod certificate;
mod credential;
mod key;
mod users;
mod validity;
mod verifier;

pub use anchors::{Anchors, AnchorsError};
pub use authority::{Authority, AuthorityError, BACKDATED, Enrollment};
pub use certificate::{CertificateError, Facts, Role, Subject};
pub use credential::{Credential, CredentialError, CredentialFiles, Signer, certificates_pem as to_pem};
pub use key::{Key, KeyError};
pub use users::{PasswordHash, Users, UsersError, UsersFile, generate_password};
pub use verifier::{Believed, Rejected, Speaker, Update, Verifier};

/// Seconds since 1970.
pub type UnixSeconds = u64;

/// No message was signed before this (the first of December 2025, when the signatures came): a clock that shows less was
/// never set.
pub const EARLIEST: UnixSeconds = 1_764_547_200;

#[cfg(test)]
mod tests;
