//! An instance's labels, as they stand in `labels.json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use crate::{LaunchRequest, Owner};

/// Whose an instance is and what ending it takes. No secret and no environment is ever written here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Labels {
    pub(super) launch: String,
    fleet: String,
    node: String,
    session: u64,
    pub(super) service: String,
    drain_timeout_ms: u64,
    pub(super) created: Stamp,
}

impl Labels {
    pub(super) fn of(request: &LaunchRequest) -> Self {
        let Owner { fleet, node, session } = request.owner.clone();
        Self {
            launch: request.launch.to_string(),
            fleet,
            node,
            session,
            service: request.service.clone(),
            drain_timeout_ms: u64::try_from(request.drain_timeout.as_millis()).unwrap_or(u64::MAX),
            created: Stamp::now(),
        }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { fleet: self.fleet.clone(), node: self.node.clone(), session: self.session }
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}
