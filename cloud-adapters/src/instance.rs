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
    /// The provider's notice that it will take the instance away soon, in words (a spot instance is preempted).
    pub notice: Option<String>,
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

/// How the edge reaches an instance: `authority` is host and port, `127.0.0.1:4711`. The edge opens every connection,
/// and every way asks for the launch's bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A plain connection that does not leave this machine.
    Loopback {
        /// On a loopback address.
        authority: String,
    },
    /// TLS with the launch's own certificate, whose key the edge pins.
    Direct {
        /// As the instance listens, or as the provider passes it on.
        authority: String,
    },
    /// TLS by the provider's name, which ends at its ingress.
    Ingress {
        /// The name that its certificate is for, and the port.
        authority: String,
    },
    /// A plain connection through a tunnel that the adapter keeps (SSH, a port-forward), which is encrypted itself.
    Tunnel {
        /// The tunnel's end on this machine.
        authority: String,
    },
}

impl Reach {
    /// Host and port.
    pub fn authority(&self) -> &str {
        let (Self::Loopback { authority }
        | Self::Direct { authority }
        | Self::Ingress { authority }
        | Self::Tunnel { authority }) = self;
        authority
    }
}

impl Instance {
    /// Whether it no longer runs.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, InstanceState::Ended { .. })
    }
}
