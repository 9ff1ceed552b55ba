//! The labels of a container: whose instance it is and what ending it takes. Anyone at the daemon can read them.

use std::collections::HashMap;
use std::time::Duration;

use crate::{AdapterError, LaunchId, LaunchRequest, Owner};

pub(super) const FLEET: &str = "tidegate.fleet";
pub(super) const NODE: &str = "tidegate.node";
const SESSION: &str = "tidegate.session";
pub(super) const LAUNCH: &str = "tidegate.launch";
const SERVICE: &str = "tidegate.service";
const DRAIN_TIMEOUT_MS: &str = "tidegate.drain-timeout-ms";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) launch: LaunchId,
    pub(super) owner: Owner,
    pub(super) service: String,
    pub(super) drain_timeout: Duration,
}

impl Labels {
    pub(super) fn of(request: &LaunchRequest) -> Self {
        Self {
            launch: request.launch.clone(),
            owner: request.owner.clone(),
            service: request.service.clone(),
            drain_timeout: request.drain_timeout,
        }
    }

    pub(super) fn to_map(&self) -> HashMap<String, String> {
        let Owner { fleet, node, session } = &self.owner;
        let labels = [
            (FLEET, fleet.clone()),
            (NODE, node.clone()),
            (SESSION, session.to_string()),
            (LAUNCH, self.launch.to_string()),
            (SERVICE, self.service.clone()),
            (DRAIN_TIMEOUT_MS, self.drain_timeout.as_millis().to_string()),
        ];
        labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Reads the labels of the container that has the name of a launch.
    ///
    /// # Errors
    /// A container without them, or with another launch's, is not one of ours whatever its name: it is left alone.
    pub(super) fn read(labels: &HashMap<String, String>, launch: &LaunchId) -> Result<Self, AdapterError> {
        let read = Self::parse(labels).filter(|read| read.launch == *launch);
        read.ok_or_else(|| {
            AdapterError::bad_configuration(format!(
                "the container {} does not carry the labels of launch {launch}: somebody else made it; rename or remove it",
                super::container_name(launch)
            ))
        })
    }

    fn parse(labels: &HashMap<String, String>) -> Option<Self> {
        let text = |name: &str| labels.get(name).cloned();
        Some(Self {
            launch: text(LAUNCH)?.parse().ok()?,
            owner: Owner { fleet: text(FLEET)?, node: text(NODE)?, session: text(SESSION)?.parse().ok()? },
            service: text(SERVICE)?,
            drain_timeout: Duration::from_millis(text(DRAIN_TIMEOUT_MS)?.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back_as_they_were_written_and_half_a_set_is_none() {
        let launch: LaunchId = "gw-1".parse().expect("a launch id");
        let owner = Owner { fleet: "f".into(), node: "n".into(), session: 7 };
        let drain_timeout = Duration::from_millis(1500);
        let labels = Labels { launch: launch.clone(), owner, service: "digits".into(), drain_timeout };
        assert_eq!(Labels::read(&labels.to_map(), &launch).expect("whole"), labels);
        for name in labels.to_map().keys() {
            let mut half = labels.to_map();
            half.remove(name);
            assert_eq!(Labels::read(&half, &launch).expect_err(name).retry(), crate::Retry::Never);
        }
        let other = "gw-2".parse().expect("a launch id");
        assert!(Labels::read(&labels.to_map(), &other).is_err(), "another launch's labels");
    }
}
