//! In the place of the embedded broker, in a build without one.

use std::net::SocketAddr;

use edge_config::Config;
use tokio::runtime::Runtime;

use super::NodeError;
use super::trust::Trust;
use crate::host::clock::Clock;

/// There is none.
pub(super) enum Embedded {}

/// Whether the configuration does without.
pub(super) fn check(config: &Config) -> Result<(), NodeError> {
    match config.mqtt.embedded_listen().filter(|_| config.mqtt.enabled) {
        None => Ok(()),
        Some(address) => Err(NodeError::Setting(format!(
            "mqtt.listen = \"{address}\": this build has no broker of its own; name one (mqtt.broker = \"mqtt://HOST:1883\"), do without \
             (mqtt.enabled = false), or build one that has it: cargo install --path . --locked"
        ))),
    }
}

impl Embedded {
    pub(super) fn start(config: &Config, _: &Runtime) -> Result<Option<Self>, NodeError> {
        check(config).map(|()| None)
    }

    pub(super) fn address(&self) -> SocketAddr {
        match *self {}
    }

    pub(super) fn open_hub(
        &mut self,
        _: &Config,
        _: &Runtime,
        _: &Trust,
        _: Clock,
    ) -> Result<Option<SocketAddr>, NodeError> {
        match *self {}
    }

    pub(super) fn stop(self, _: &Runtime) {
        match self {}
    }
}
