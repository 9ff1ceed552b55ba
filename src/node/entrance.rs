//! Where the node listens: at sockets that the service manager holds, else at its own.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::NodeError;
use crate::host::service_manager::PassedSockets;

/// A listener of the node: the key that says where, and the name under which a service manager may pass its socket.
pub(super) struct Entrance {
    key: &'static str,
    passed_as: &'static str,
}

pub(super) const GATEWAY: Entrance = Entrance { key: "gateway.listen", passed_as: "gateway" };
pub(super) const PEERS: Entrance = Entrance { key: "gateway.peer_listen", passed_as: "peers" };
pub(super) const CONSOLE: Entrance = Entrance { key: "console.listen", passed_as: "console" };

impl Entrance {
    /// The socket that was passed, else one of our own.
    pub(super) async fn listen(
        &self,
        address: SocketAddr,
        passed: &mut PassedSockets,
    ) -> Result<TcpListener, NodeError> {
        let Self { key, passed_as } = *self;
        let Some(listener) = passed.claim(passed_as) else {
            return TcpListener::bind(address).await.map_err(|reason| NodeError::Listen { key, address, reason });
        };
        let listener = TcpListener::from_std(listener)?;
        let open = listener.local_addr()?;
        let asked_port = if address.port() == 0 { open.port() } else { address.port() };
        if open != SocketAddr::new(address.ip(), asked_port) {
            return Err(NodeError::Setting(format!(
                "the service manager's socket \"{passed_as}\" is open at {open}, but {key} = \"{address}\"; make ListenStream= of its socket unit and {key} the same"
            )));
        }
        Ok(listener)
    }
}

/// A socket that nobody serves would take connections and leave them waiting.
pub(super) fn refuse_unclaimed(passed: &PassedSockets) -> Result<(), NodeError> {
    let Some(name) = passed.unclaimed().next() else { return Ok(()) };
    let names = [GATEWAY, CONSOLE, PEERS].map(|entrance| entrance.passed_as).join(", ");
    Err(NodeError::Setting(format!(
        "the service manager passes a socket named \"{name}\", which this node does not serve; FileDescriptorName= of a socket unit is one of {names}, and \"peers\" needs gateway.peer_listen"
    )))
}
