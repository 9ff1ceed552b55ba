//! Signed messages: COSE_Sign1 (RFC 9052) with the payload inside, the signer's certificate beside it (x5chain, RFC 9360),
//! and the place in the signer's time that tells a new message from a replayed one.
//!
//! What is signed also covers the tree, the fleet and the topic, so that a message is worth nothing where it was not
//! written for. This file knows the bytes; who signs and who is believed is [`crate::trust`]'s business.

use coset::cbor::Value;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, Label, iana};

use super::codec::{MAX_PAYLOAD_BYTES, WireError};
use super::topics::{Root, Topic};
use super::well_formed;

/// The stamp's label in the protected header. COSE leaves what is below -65536 to private use.
const STAMP: i64 = -65_537;
/// `x5chain` in the unprotected header.
const X5CHAIN: i64 = 33;
/// The signer's own certificate and one that issued it; the root is known or it is nobody's.
const MAX_CHAIN: usize = 2;

/// Where a message stands in its sender's time: it is older than every one with a higher stamp on the same topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The sender's session: a counter that grows with every start.
    pub session: u64,
    /// Counts the signed messages of a session, whatever their topic.
    pub sequence: u64,
}

/// A signed message that was taken apart and not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What the sender says of its time.
    pub stamp: Stamp,
    /// Certificates (X.509, DER): the signer's own first.
    pub chain: Vec<Vec<u8>>,
    /// The message.
    pub payload: Vec<u8>,
    /// Over [`Sealed::signed`].
    pub signature: Vec<u8>,
    /// The bytes that the signature covers.
    pub signed: Vec<u8>,
}

impl Sealed {
    /// Takes a message apart that came on `topic` of `root`'s tree.
    pub fn read(root: &Root, topic: &Topic, message: &[u8]) -> Result<Self, WireError> {
        if message.len() > MAX_PAYLOAD_BYTES {
            return Err(WireError::TooLarge { bytes: message.len() });
        }
        // An array of four, as nothing else of ours is.
        if message.first() != Some(&0x84) {
            return Err(WireError::Unsigned);
        }
        well_formed::check(message)?;
        let cose = CoseSign1::from_slice(message).map_err(|error| WireError::Unexpected(error.to_string()))?;
        let stamp = stamp(&cose).ok_or(WireError::Unsealed("its protected header has no stamp"))?;
        let chain = chain(&cose).ok_or(WireError::Unsealed("it brings no certificate (x5chain)"))?;
        let algorithm = coset::RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA);
        if cose.protected.header.alg != Some(algorithm) {
            return Err(WireError::Unsealed("it is not signed with EdDSA"));
        }
        let signed = cose.tbs_data(&context(root, topic));
        let payload = cose.payload.ok_or(WireError::Unsealed("its payload is not inside"))?;
        Ok(Self { stamp, chain, payload, signature: cose.signature, signed })
    }
}

/// Signs a payload for one topic. `sign` gets the bytes to sign and gives an Ed25519 signature.
pub fn seal(
    root: &Root,
    topic: &Topic,
    stamp: Stamp,
    chain: &[Vec<u8>],
    payload: Vec<u8>,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<Vec<u8>, WireError> {
    let at = Value::Array(vec![stamp.session.into(), stamp.sequence.into()]);
    let protected = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).value(STAMP, at).build();
    let certificates: Vec<Value> = chain.iter().map(|certificate| Value::Bytes(certificate.clone())).collect();
    // One certificate stands alone, several in an array (RFC 9360 section 2).
    let x5chain = match <[Value; 1]>::try_from(certificates) {
        Ok([alone]) => alone,
        Err(several) => Value::Array(several),
    };
    let unprotected = HeaderBuilder::new().value(X5CHAIN, x5chain).build();
    let cose = CoseSign1Builder::new().protected(protected).unprotected(unprotected).payload(payload);
    let sealed = cose.create_signature(&context(root, topic), sign).build();
    let message = sealed.to_vec().map_err(|error| WireError::Unwritable(error.to_string()))?;
    if message.len() > MAX_PAYLOAD_BYTES {
        return Err(WireError::TooLarge { bytes: message.len() });
    }
    Ok(message)
}

/// What a signature covers beside headers and payload (`external_aad`): the whole topic, tree and fleet included.
fn context(root: &Root, topic: &Topic) -> Vec<u8> {
    root.topic(topic).into_bytes()
}

fn stamp(cose: &CoseSign1) -> Option<Stamp> {
    let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
    match header(&cose.protected.header, STAMP)?.as_array()?.as_slice() {
        [session, sequence] => Some(Stamp { session: number(session)?, sequence: number(sequence)? }),
        _ => None,
    }
}

fn chain(cose: &CoseSign1) -> Option<Vec<Vec<u8>>> {
    match header(&cose.unprotected, X5CHAIN)? {
        Value::Bytes(alone) => Some(vec![alone.clone()]),
        Value::Array(several) if (1..=MAX_CHAIN).contains(&several.len()) => {
            several.iter().map(|one| one.as_bytes().cloned()).collect()
        }
        _ => None,
    }
}

fn header(header: &coset::Header, label: i64) -> Option<&Value> {
    header.rest.iter().find(|(known, _)| *known == Label::Int(label)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoding;

    const STAMPED: Stamp = Stamp { session: 7, sequence: u64::MAX };

    fn sealed(chain: &[Vec<u8>]) -> (Root, Topic, Vec<u8>) {
        let (root, topic) = (Root::new(Encoding::Cbor, "plant-a").unwrap(), Topic::state("gw-1").unwrap());
        let message = seal(&root, &topic, STAMPED, chain, b"payload".to_vec(), |signed| {
            assert!(signed.windows(7).any(|part| part == b"payload"));
            vec![9; 64]
        });
        (root, topic, message.unwrap())
    }

    #[test]
    fn what_is_sealed_is_read_again_with_the_same_bytes_under_the_signature() {
        for chain in [vec![vec![1, 2]], vec![vec![1, 2], vec![3]]] {
            let (root, topic, message) = sealed(&chain);
            let read = Sealed::read(&root, &topic, &message).unwrap();
            assert_eq!((read.stamp, read.chain, read.payload), (STAMPED, chain, b"payload".to_vec()));
            assert_eq!(read.signature, [9; 64]);
            assert!(!read.signed.is_empty());
        }
    }

    #[test]
    fn another_topic_or_fleet_has_other_bytes_under_the_signature() {
        let (root, topic, message) = sealed(&[vec![1]]);
        let here = Sealed::read(&root, &topic, &message).unwrap().signed;
        let other_fleet = Root::new(Encoding::Cbor, "plant-b").unwrap();
        assert_ne!(Sealed::read(&other_fleet, &topic, &message).unwrap().signed, here);
        let other_topic = Topic::state("gw-2").unwrap();
        assert_ne!(Sealed::read(&root, &other_topic, &message).unwrap().signed, here);
    }

    #[test]
    fn what_is_not_signed_is_told_from_what_is_signed_badly() {
        let (root, topic, message) = sealed(&[vec![1]]);
        let read = |message: &[u8]| Sealed::read(&root, &topic, message).unwrap_err();
        assert_eq!(read(&[0xa0]), WireError::Unsigned);
        assert_eq!(read(&[]), WireError::Unsigned);
        assert!(matches!(read(&message[..message.len() - 1]), WireError::Malformed { .. }));
        assert!(matches!(read(&[0x84, 0x40, 0xa0, 0x40, 0x40]), WireError::Unsealed(_)));
        assert!(matches!(read(&[0x84, 0, 0, 0, 0]), WireError::Unexpected(_)));
        let none = seal(&root, &topic, STAMPED, &[], Vec::new(), |_| vec![0; 64]).unwrap();
        assert!(matches!(read(&none), WireError::Unsealed(_)));
        let many = seal(&root, &topic, STAMPED, &[vec![1], vec![2], vec![3]], Vec::new(), |_| vec![0; 64]).unwrap();
        assert!(matches!(read(&many), WireError::Unsealed(_)));
    }
}
