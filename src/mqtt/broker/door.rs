//! The embedded broker's door for others than its own box: TLS, everyone with a name, and nobody able to keep others out.
//!
//! `mqtt5` has a TLS listener, but its providers are never told whose certificate a connection showed, and what it reads at
//! its start stays. So the door accepts by itself and hands each connection to the broker with a provider of its own
//! ([`Gate`]), which knows who came by what TLS has proven. No word of CONNECT can make it somebody else.

use std::io;
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::resource_monitor::{ResourceLimits, ResourceMonitor};
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::tls_acceptor::TlsStreamWrapper;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::broker::{BrokerConfig, DynamicStorage, router::MessageRouter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinHandle;

use super::BrokerError;
use super::gate::Gate;
use super::room::{Place, Room};
use crate::tls::{FleetTls, is_for_certificate};

/// Filters of one guest; a node has eight.
const MAX_SUBSCRIPTIONS: usize = 64;
/// How often those who are inside are asked for whether they still may be: a node that is put out is out after that.
const LOOK: Duration = Duration::from_secs(2);
/// After a failed accept, which is nearly always a lack of file descriptors: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the broker's goodbye to its guests may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Who came in, and what they may. Asked for with each packet, so it must not wait.
pub trait Guest: Send + Sync + 'static {
    /// Their name; no two have the same.
    fn name(&self) -> &str;
    /// Whether they may be connected under this client id.
    fn may_be(&self, client_id: &str) -> bool;
    /// Whether a word on this topic says of them whether they are there.
    fn is_own_state(&self, topic: &str) -> bool;
    /// Whether they may publish on this topic.
    fn may_write(&self, topic: &str) -> bool;
    /// Whether they may subscribe to this filter.
    fn may_read(&self, filter: &str) -> bool;
    /// Whether they still may be here.
    fn is_welcome(&self) -> bool;
}

/// Why somebody is not let in by their password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// User or password is wrong.
    Wrong,
    /// There were too many wrong ones from there; this one was not looked at.
    TooMany,
}

/// Decides who comes in.
pub trait Doorman: Send + Sync + 'static {
    /// Whom these certificates (DER, the holder's own first) are of; the handshake has proven the key.
    fn by_certificate(&self, chain: &[Vec<u8>]) -> Option<Arc<dyn Guest>>;

    /// Whose user and password these are. May take its time: it is called where that stops nobody.
    ///
    /// # Errors
    /// Nobody's.
    fn by_password(&self, from: SocketAddr, user: &str, password: &[u8]) -> Result<Arc<dyn Guest>, Refusal>;
}

/// What counts as one place that connections come from: whoever has one address of IPv6 has 2^64 of them.
pub fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Whom the door is for, and how it listens.
pub struct DoorOptions {
    /// Where; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The handshake.
    pub tls: FleetTls,
    /// Who comes in.
    pub doorman: Arc<dyn Doorman>,
}

/// The broker's parts that a connection is handed to.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) config: BrokerConfig,
    pub(super) router: Arc<MessageRouter>,
    pub(super) storage: Arc<DynamicStorage>,
    pub(super) stats: Arc<BrokerStats>,
}

/// What all connections of the door share.
pub(super) struct Shared {
    tls: FleetTls,
    pub(super) doorman: Arc<dyn Doorman>,
    config: Arc<BrokerConfig>,
    router: Arc<MessageRouter>,
    pub(super) storage: Arc<DynamicStorage>,
    stats: Arc<BrokerStats>,
    /// Its own, so that guests count apart from the box.
    monitor: Arc<ResourceMonitor>,
    pub(super) room: Arc<Room>,
    /// One password is looked at a time: that costs a tenth of a second of a core, which the box has other uses for.
    pub(super) passwords: Semaphore,
    ends: broadcast::Sender<()>,
    numbers: AtomicU64,
}

/// An open door; dropping it does not close it, [`Door::close`] does.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

impl Door {
    pub(super) async fn open(parts: Parts, options: DoorOptions) -> Result<Self, BrokerError> {
        let DoorOptions { listen, tls, doorman } = options;
        let failed = |error: io::Error| BrokerError::ListenTls { listen, reason: error.to_string() };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let limits =
            ResourceLimits { max_message_rate_per_client: 0, max_bandwidth_per_client: 0, ..Default::default() };
        // Sessions of guests end with their connection: one could leave any number of them, each with a queue.
        let config =
            parts.config.with_session_expiry(Duration::ZERO).with_max_subscriptions_per_client(MAX_SUBSCRIPTIONS);
        let shared = Arc::new(Shared {
            tls,
            doorman,
            config: Arc::new(config),
            router: parts.router,
            storage: parts.storage,
            stats: parts.stats,
            monitor: Arc::new(ResourceMonitor::new(limits)),
            room: Arc::default(),
            passwords: Semaphore::new(1),
            ends: broadcast::channel(1).0,
            numbers: AtomicU64::new(0),
        });
        for why in REFUSALS {
            metrics::counter!("tidegate_mqtt_refused_total", "reason" => why).absolute(0);
        }
        metrics::gauge!("tidegate_mqtt_guests").set(0.0);
        let tasks = [tokio::spawn(accept(shared.clone(), listener)), tokio::spawn(look_around(shared.clone()))];
        Ok(Self { address, shared, tasks })
    }

    /// Lets nobody in any more and says goodbye to those inside.
    pub(super) async fn close(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // Fails only where nobody is there.
        let _ = self.shared.ends.send(());
        if tokio::time::timeout(GOODBYE, self.shared.room.empty()).await.is_err() {
            tracing::debug!("guests of the broker did not go in time and are cut off");
            self.shared.room.cut_all();
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match shared.room.place(from.ip()) {
                Some(place) => drop(tokio::spawn(serve(shared.clone(), stream, from, place))),
                None => refused("busy"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection to the hub could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its handshake to its end. The handshake has a deadline, and so has CONNECT after it, in `mqtt5`.
async fn serve(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, place: Place) {
    let (stream, socket) = match both_ends(stream) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, %from, "a connection was gone before its handshake"),
    };
    let (stream, chain) = match shared.tls.accept(stream).await {
        Ok(accepted) => accepted,
        Err(error) => {
            refused(if is_for_certificate(&error) { "certificate" } else { "handshake" });
            return tracing::debug!(%error, %from, "no TLS with who came to the hub");
        }
    };
    let shown = match chain.as_slice() {
        [] => None,
        chain => match shared.doorman.by_certificate(chain) {
            Some(guest) => Some(guest),
            // Put out between its handshake and now; such a one is not asked for a password either.
            None => return refused("certificate"),
        },
    };
    let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
    let gate = Arc::new(Gate::new(shared.clone(), number, from, shown, (place, socket)));
    let handler = ClientHandler::new(
        BrokerTransport::tls(TlsStreamWrapper::new(stream)),
        from,
        shared.config.clone(),
        shared.router.clone(),
        gate,
        Some(shared.storage.clone()),
        shared.stats.clone(),
        shared.monitor.clone(),
        shared.ends.subscribe(),
    );
    let leaves = shared.room.leaves(number);
    if let Err(error) = Box::pin(handler.run()).await {
        tracing::debug!(%error, %from, "a connection to the hub ended");
    }
    drop(leaves);
}

/// The connection, and a second handle on it by which it can be cut.
fn both_ends(stream: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, socket))
}

/// Cuts the connections of those who may not be here any more. All that the gate still lets through is a node's Last Will.
async fn look_around(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        let room = shared.room.clone();
        // A file may be read for it.
        let cut = tokio::task::spawn_blocking(move || room.cut_unwelcome()).await.unwrap_or_default();
        for name in cut {
            refused("put_out");
            tracing::warn!(name, "cut the connection of somebody who is not let in any more");
        }
    }
}

/// Ends a connection at both sides, whatever it is doing.
pub(super) fn cut(socket: &std::net::TcpStream) {
    // Fails only for one that has ended.
    let _ = socket.shutdown(Shutdown::Both);
}

/// Why somebody is not let in, as it is counted.
const REFUSALS: [&str; 10] = [
    "busy",
    "handshake",
    "certificate",
    "anonymous",
    "password",
    "too_many",
    "client_id",
    "last_will",
    "full",
    "put_out",
];

/// Counts somebody who was not let in.
pub(super) fn refused(why: &'static str) {
    metrics::counter!("tidegate_mqtt_refused_total", "reason" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_place() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
