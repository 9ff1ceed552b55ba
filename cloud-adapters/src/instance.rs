//! What a provider says about an instance.

use std::time::Duration;

use crate::{LaunchId, Owner};

/// One instance as its provider sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The launch that made it.
    pub launch: LaunchId,
    /// Whose it is, from its labels.
    pub owner: Owner,
    /// The service it runs, from its labels.
    pub service: String,
    /// Where it is in its life.
    pub state: InstanceState,
    /// How the edge gets to it; `None` unless it is running.
    pub reach: Option<Reach>,
    /// How long ago it was started, on a clock that no one sets; `None` where that cannot be told, as after a reboot.
    pub age: Option<Duration>,
}

/// Where an instance is in its life. It only moves forward: an ended instance is never started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// Accepted, and not to be reached yet.
    Pending,
    /// It can be reached. Whether its server is ready, and takes requests, is asked of the instance itself.
    Running,
    /// It no longer runs; its provider keeps the record until it is terminated.
    Ended {
        /// Why, in words for an operator.
        reason: String,
    },
}

/// How the edge reaches an instance. The edge opens every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// A plain connection with the launch's bearer token.
    Direct {
        /// Host and port, `127.0.0.1:4711`.
        authority: String,
    },
}

impl Instance {
    /// Whether it no longer runs.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, InstanceState::Ended { .. })
    }
}
