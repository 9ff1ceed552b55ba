//! What a fleet believes: its roots and what was revoked, on `fleet/trust`. Retained, signed by a root.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;

/// The fleet's roots and revocations. A version replaces every lower one, where a root of the version known before signed
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetTrust {
    /// The fleet.
    pub fleet: String,
    /// Grows with every change.
    pub version: u64,
    /// When it was written, in seconds since 1970; a clock that shows less is wrong.
    pub issued_at: u64,
    /// The roots' certificates (X.509, DER), the oldest first: two while one is being replaced.
    pub roots: Vec<Bytes>,
    /// Serial numbers of revoked certificates.
    #[serde(default)]
    pub revoked: Vec<Bytes>,
}
