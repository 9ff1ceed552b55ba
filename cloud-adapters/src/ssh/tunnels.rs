//! The forwards through the connection, one for each running instance that somebody asked about: a port of this
//! machine's loopback that stays the same while the connection lives, and comes back with the next one where it can.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use super::connection::Connection;
use super::trouble::Trouble;
use crate::LaunchId;

/// Ports that are tried: each may be taken by another program between its choice and its use.
const ATTEMPTS: usize = 5;

/// The forwards of one adapter.
#[derive(Debug, Clone, Default)]
pub(super) struct Tunnels {
    by_launch: Arc<tokio::sync::Mutex<BTreeMap<LaunchId, Tunnel>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tunnel {
    far: SocketAddr,
    port: u16,
    connection: u64,
}

impl Tunnel {
    fn forward(&self) -> String {
        forward(self.port, self.far)
    }
}

impl Tunnels {
    /// The end on this machine of a tunnel to an instance; made where there is none.
    ///
    /// In a task of its own: a forward that was asked for and forgotten would keep its port as long as the connection.
    pub(super) async fn authority(
        &self,
        connection: &Arc<Connection>,
        launch: &LaunchId,
        far: SocketAddr,
    ) -> Result<String, Trouble> {
        let (tunnels, connection, launch) = (self.clone(), Arc::clone(connection), launch.clone());
        let opening = tokio::spawn(async move { tunnels.open(&connection, launch, far).await });
        let port = opening.await.unwrap_or_else(|_| Err(Trouble::transient("a tunnel was not made to its end")))?;
        Ok(format!("{}:{port}", Ipv4Addr::LOCALHOST))
    }

    async fn open(&self, connection: &Connection, launch: LaunchId, far: SocketAddr) -> Result<u16, Trouble> {
        let mut tunnels = self.by_launch.lock().await;
        let known = tunnels.get(&launch).cloned();
        if let Some(known) = &known {
            if known.far == far && known.connection == connection.number {
                return Ok(known.port);
            }
            if known.connection == connection.number {
                // A port over there that is no longer the instance's.
                let _ = connection.cancel(&known.forward()).await;
            }
        }
        let port = listen(connection, known.map(|known| known.port), far).await?;
        tunnels.insert(launch, Tunnel { far, port, connection: connection.number });
        Ok(port)
    }

    /// Closes the tunnel to an instance that is no more, if there is one.
    pub(super) async fn close(&self, connection: &Arc<Connection>, launch: &LaunchId) {
        let (tunnels, connection, launch) = (self.clone(), Arc::clone(connection), launch.clone());
        let closing = tokio::spawn(async move {
            let closed = tunnels.by_launch.lock().await.remove(&launch);
            if let Some(tunnel) = closed.filter(|tunnel| tunnel.connection == connection.number) {
                // One that cannot be cancelled ends with the connection.
                let _ = connection.cancel(&tunnel.forward()).await;
            }
        });
        let _ = closing.await;
    }
}

/// Makes a forward from a free port, the wished one first; the port.
pub(super) async fn listen(connection: &Connection, wished: Option<u16>, far: SocketAddr) -> Result<u16, Trouble> {
    let mut trouble = Trouble::transient("no port of this machine is free for a tunnel");
    let wished = wished.into_iter().map(Ok);
    for port in wished.chain(std::iter::repeat_with(free_port)).take(ATTEMPTS) {
        let port = port.map_err(|error| trouble.clone().saying(&error.to_string()))?;
        match connection.forward(&forward(port, far)).await {
            Ok(()) => return Ok(port),
            Err(_) if connection.is_over() => return Err(Trouble::transient("the ssh connection ended; ask again")),
            Err(failed) => trouble = failed,
        }
    }
    Err(trouble)
}

pub(super) fn forward(port: u16, far: SocketAddr) -> String {
    format!("{}:{port}:{}:{}", Ipv4Addr::LOCALHOST, bracketed(far), far.port())
}

fn bracketed(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
