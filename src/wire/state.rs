//! A node's state: written by the node while it lives, by its broker (Last Will) when it is gone without a word.

use serde::{Deserialize, Serialize};

use super::numbered::numbered_enum;

/// A node's state, on `node/{node}/state`. Retained, and in the state `lost` the connection's Last Will.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The state.
    pub state: NodeStateKind,
    /// The fleet that the node belongs to.
    pub fleet: String,
    /// The node.
    pub node: String,
    /// The node's session. A state of an older session than the one already seen is stale.
    pub session: u64,
    /// When it was written, RFC 3339 in UTC. A will is written at connecting, so `lost` bears the time of that.
    #[serde(default)]
    pub at: String,
    /// Why, in one sentence.
    #[serde(default)]
    pub reason: String,
    /// Counts the attempts of a session to connect to this broker. A connection's Last Will is newer than what was said on
    /// that connection, and older than what is said on the next.
    #[serde(default)]
    pub connection: u64,
}

numbered_enum! {
    /// The states of a node.
    pub enum NodeStateKind {
        /// Serving.
        Online = 1 "online",
        /// Finishing what it has, taking nothing new.
        Draining = 2 "draining",
        /// Gone on purpose.
        Offline = 3 "offline",
        /// Gone without a word: the broker lost its connection.
        Lost = 4 "lost",
    }
}
