//! The embedded broker, where this build has it and the configuration wants it.

use std::net::SocketAddr;

use edge_config::Config;
use tokio::runtime::Runtime;

use super::trust::Trust;
use super::{NodeError, hub};
use crate::host::clock::Clock;
use crate::mqtt::broker::Broker;

/// A broker that runs.
pub(super) struct Embedded(Broker);

/// Whether this build can do what the configuration wants of it.
#[expect(clippy::unnecessary_wraps, reason = "a build without the broker has a problem to tell")]
pub(super) fn check(_: &Config) -> Result<(), NodeError> {
    Ok(())
}

impl Embedded {
    /// Starts it, where one is wanted.
    pub(super) fn start(config: &Config, io: &Runtime) -> Result<Option<Self>, NodeError> {
        match config.mqtt.embedded_listen().filter(|_| config.mqtt.enabled) {
            Some(address) => Ok(Some(Self(io.block_on(Broker::start(address))?))),
            None => Ok(None),
        }
    }

    /// Where this box reaches it.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Lets a site in, where that is configured; where it listens.
    pub(super) fn open_hub(
        &mut self,
        config: &Config,
        io: &Runtime,
        trust: &Trust,
        clock: Clock,
    ) -> Result<Option<SocketAddr>, NodeError> {
        hub::open(config, io, &mut self.0, trust, clock)
    }

    /// Ends it.
    pub(super) fn stop(self, io: &Runtime) {
        io.block_on(self.0.stop());
    }
}
