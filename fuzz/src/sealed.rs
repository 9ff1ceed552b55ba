//! Signed messages (COSE_Sign1): taken apart before anybody knows who signed them.

use tidegate::wire::{Encoding, Root, Sealed, Topic, seal};

fn place() -> (Root, Topic) {
    let root = Root::new(Encoding::Cbor, "plant-a").expect("a fleet's name");
    (root, Topic::state("gateway-7").expect("a node's name"))
}

/// Takes it apart and nothing else.
pub fn decode(data: &[u8]) {
    let (root, topic) = place();
    let _ = Sealed::read(&root, &topic, data);
}

/// What is taken apart can be put together again, and is the same then, to the bytes under the signature.
pub fn target(data: &[u8]) {
    let (root, topic) = place();
    let Ok(read) = Sealed::read(&root, &topic, data) else { return };
    let signature = read.signature.clone();
    let again = seal(&root, &topic, read.stamp, &read.chain, read.payload.clone(), |_| signature);
    let again = again.expect("no longer than it was");
    let once_more = Sealed::read(&root, &topic, &again).expect("what we write we read");
    assert_eq!((once_more.stamp, &once_more.chain, &once_more.payload), (read.stamp, &read.chain, &read.payload));
    assert_eq!(once_more.signature, read.signature);
}
