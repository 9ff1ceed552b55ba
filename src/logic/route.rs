//! Which replica answers a request.

/// Where a replica runs, as seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// On this node.
    Local,
    /// On another node of the fleet.
    Peer,
    /// An instance at a provider.
    Cloud,
}

impl Placement {
    /// The word used in headers, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Cloud => "cloud",
        }
    }
}
