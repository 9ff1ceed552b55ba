//! Another node of the fleet that sent a request: known by what it showed in the handshake, and asked for again with each
//! request, since a credential may be revoked while its connection stands.

use crate::tls::{PeerAcceptor, Unwelcome};

#[derive(Debug)]
pub(super) struct Guest {
    acceptor: PeerAcceptor,
    /// Its certificates (DER), its own first.
    chain: Vec<Vec<u8>>,
}

impl Guest {
    pub(super) fn new(acceptor: PeerAcceptor, chain: Vec<Vec<u8>>) -> Self {
        Self { acceptor, chain }
    }

    /// Whether it would still be let in.
    pub(super) fn is_welcome(&self) -> Result<(), Unwelcome> {
        self.acceptor.knows(&self.chain)
    }
}
