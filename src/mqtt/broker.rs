//! The embedded broker: `mqtt5`, in memory, for the box that Tidegate runs on, and by its [`door`] for a site.
//!
//! Its defaults would listen on every interface, write a folder, and accept packets of 256 MiB; each is set here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use tokio::task::JoinHandle;

use self::door::{Door, DoorOptions, Parts};
use self::gate::OwnBox;
use super::MAX_PACKET_BYTES;

pub mod door;
mod gate;
mod room;

/// Subscribers of one box: dashboards, recorders, sensors. Bounds memory, not use.
const MAX_CLIENTS: usize = 256;
/// Retained topics of one site; each is at most [`MAX_PACKET_BYTES`].
const MAX_RETAINED: usize = 20_000;
/// A subscriber that is away keeps its session this long.
const SESSION_EXPIRY: Duration = Duration::from_secs(3600);
/// Waiting messages of a subscriber that is away or slow; the oldest go first.
const MAX_QUEUED_PER_CLIENT: usize = 1_000;
const MAX_QUEUED_BYTES_PER_CLIENT: usize = 4 * 1024 * 1024;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken or not ours.
    #[error(
        "the embedded MQTT broker cannot listen on {listen}: {reason}; set mqtt.listen to a free address \
         (port 0 takes a free one), or set mqtt.broker to use the broker that runs there"
    )]
    Listen {
        /// The configured address.
        listen: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The address for others is taken or not ours.
    #[error(
        "the hub cannot listen on {listen}: {reason}; set mqtt.listen_tls to a free address (port 0 takes a free one)"
    )]
    ListenTls {
        /// The configured address.
        listen: SocketAddr,
        /// What the system said.
        reason: String,
    },
}

/// A running embedded broker; dropping it does not stop it, [`Broker::stop`] does.
pub struct Broker {
    address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<()>,
    parts: Option<Parts>,
    door: Option<Door>,
}

impl Broker {
    /// Listens on `listen` and serves on the current tokio runtime. Returns when clients can connect.
    pub async fn start(listen: SocketAddr) -> Result<Self, BrokerError> {
        let failed = |reason: String| BrokerError::Listen { listen, reason };
        // Bound first by hand, since the broker's own error does not name the reason.
        drop(std::net::TcpListener::bind(listen).map_err(|e| failed(e.to_string()))?);
        let config = config(listen);
        let broker = MqttBroker::with_config(config.clone()).await.map_err(|e| failed(e.to_string()))?;
        let storage = broker.storage();
        let mut broker = broker.with_auth_provider(Arc::new(OwnBox(storage.clone())));
        let (router, stats) = (broker.router(), broker.stats());
        let parts = storage.map(|storage| Parts { config, router, storage, stats });
        let address = broker.local_addr().ok_or_else(|| failed("no listener was bound".into()))?;
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "the embedded MQTT broker stopped; telemetry is off until the node restarts");
            }
        });
        ready.wait_for(|up| *up).await.map_err(|_| failed("it stopped while starting".into()))?;
        Ok(Self { address, shutdown, task, parts, door: None })
    }

    /// Lets others in than this box, as the options say.
    pub async fn open(&mut self, options: DoorOptions) -> Result<SocketAddr, BrokerError> {
        let no_storage =
            || BrokerError::ListenTls { listen: options.listen, reason: "it keeps no sessions".to_owned() };
        let parts = self.parts.take().ok_or_else(no_storage)?;
        let door = Door::open(parts, options).await?;
        let address = door.address;
        self.door = Some(door);
        Ok(address)
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and waits for the end.
    pub async fn stop(self) {
        if let Some(door) = self.door {
            door.close().await;
        }
        self.shutdown.shutdown();
        if self.task.await.is_err() {
            tracing::warn!("the embedded MQTT broker ended in a panic");
        }
    }
}

fn config(listen: SocketAddr) -> BrokerConfig {
    let storage = StorageConfig {
        backend: StorageBackend::Memory,
        // Without it sessions and delayed wills are lost; with the memory backend nothing is written.
        enable_persistence: true,
        max_queued_messages_per_client: MAX_QUEUED_PER_CLIENT,
        max_queued_bytes_per_client: MAX_QUEUED_BYTES_PER_CLIENT,
        ..StorageConfig::default()
    };
    let mut config = BrokerConfig::new()
        .with_bind_address(listen)
        .with_max_clients(MAX_CLIENTS)
        .with_max_packet_size(MAX_PACKET_BYTES as usize)
        .with_max_retained_messages(MAX_RETAINED)
        .with_max_retained_message_size(MAX_PACKET_BYTES as usize)
        .with_session_expiry(SESSION_EXPIRY)
        .with_sys_topics_enabled(false)
        .with_storage(storage);
    config.bind_addresses = vec![listen];
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_and_says_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Broker::start(address).await.err().unwrap().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("mqtt.listen"), "{error}");
    }

    #[tokio::test]
    async fn port_zero_takes_a_free_port_and_a_stop_frees_it() {
        let broker = Broker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = broker.address();
        assert_ne!(address.port(), 0);
        tokio::net::TcpStream::connect(address).await.unwrap();
        broker.stop().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
