//! Bytes from messages and back. The one file that names the CBOR codec (`serde_cbor`, packed: smallest and fastest to
//! read among the safe ones, no longer maintained), so that changing it is a change here, held by the golden vectors.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::topics::{Encoding, TopicError};
use super::well_formed::{self, Problem};

/// No payload is larger, in or out. Public brokers accept no more than 128 KiB, some less.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Why a message could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The payload is over [`MAX_PAYLOAD_BYTES`].
    #[error("the payload has {bytes} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The payload is not CBOR as `docs/wire.cddl` describes it.
    #[error("the payload is not well-formed cbor: {what} (byte {at})")]
    Malformed {
        /// Offset of the item.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Well-formed CBOR, but not the message that belongs here.
    #[error("the payload is not the expected message, see docs/wire.cddl: {0}")]
    Unexpected(String),
    /// A topic that only signed messages count on has one that is not.
    #[error("the message is not signed, as those on this topic have to be (COSE_Sign1, see docs/wire.cddl)")]
    Unsigned,
    /// A signed message that lacks something.
    #[error("the signed message is not as docs/wire.cddl has it: {0}")]
    Unsealed(&'static str),
    /// Not JSON, or not the message that belongs here.
    #[error("the payload is not the expected json: {0}")]
    Json(String),
    /// What stands on the topic is a service's matter.
    #[error("{0} carries what a service takes or gives, and no message of Tidegate's")]
    Opaque(String),
    /// A message that cannot be written.
    #[error("the message cannot be written: {0}")]
    Unwritable(String),
    /// The topic is none of ours.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The payload speaks of something else than its topic.
    #[error("the topic's {field} is {topic:?} but the payload says {payload:?}")]
    Mismatch {
        /// What differs, for example `fleet` or `node`.
        field: &'static str,
        /// What the topic says.
        topic: String,
        /// What the payload says.
        payload: String,
    },
}

impl From<Problem> for WireError {
    fn from(Problem { at, what }: Problem) -> Self {
        Self::Malformed { at, what }
    }
}

/// The message as packed CBOR: integer keys, definite lengths. Refuses a message over [`MAX_PAYLOAD_BYTES`] and one
/// with a number that is not finite, since every reader would refuse it.
pub fn to_cbor<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let payload = serde_cbor::ser::to_vec_packed(message).map_err(|error| WireError::Unwritable(error.to_string()))?;
    within_limit(&payload)?;
    well_formed::check(&payload)?;
    Ok(payload)
}

/// Reads one message from all of `payload`. Fields that this version does not know are skipped.
pub fn from_cbor<T: DeserializeOwned>(payload: &[u8]) -> Result<T, WireError> {
    within_limit(payload)?;
    well_formed::check(payload)?;
    serde_cbor::from_slice(payload).map_err(|error| WireError::Unexpected(error.to_string()))
}

/// The message as JSON, for the mirror tree and the lease channel. Refuses a message over [`MAX_PAYLOAD_BYTES`].
pub fn to_json<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let payload = serde_json::to_vec(message).map_err(|error| WireError::Unwritable(error.to_string()))?;
    within_limit(&payload)?;
    Ok(payload)
}

/// Reads one JSON message from all of `payload`. For the lease channel and for showing the mirror tree, which is never
/// input.
pub fn from_json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, WireError> {
    within_limit(payload)?;
    serde_json::from_slice(payload).map_err(|error| WireError::Json(error.to_string()))
}

/// The message in the encoding of a tree.
pub fn encode<T: Serialize>(encoding: Encoding, message: &T) -> Result<Vec<u8>, WireError> {
    match encoding {
        Encoding::Cbor => to_cbor(message),
        Encoding::Json => to_json(message),
    }
}

fn within_limit(payload: &[u8]) -> Result<(), WireError> {
    let bytes = payload.len();
    if bytes > MAX_PAYLOAD_BYTES { Err(WireError::TooLarge { bytes }) } else { Ok(()) }
}
