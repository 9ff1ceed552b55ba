//! The edge's ends of port-forwards: for each instance a listener on the loopback address, whose every connection becomes
//! one through the API server to the pod.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::call::Forward;
use crate::{AdapterError, LaunchId};

/// Connections through one tunnel at once. Each is a WebSocket on the API server, which serves the whole cluster.
const MAX_CONNECTIONS: usize = 64;

/// The pause after an accept that failed, as when the process has no file left to open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The tunnels of one adapter, by launch.
pub(super) struct Tunnels {
    forward: Forward,
    open: Mutex<BTreeMap<LaunchId, Tunnel>>,
}

/// One listener; it ends with this value, and its connections with it.
struct Tunnel {
    pod: String,
    authority: String,
    accepting: AbortHandle,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Tunnels {
    pub(super) fn new(forward: Forward) -> Self {
        Self { forward, open: Mutex::default() }
    }

    /// The loopback address of the tunnel to a pod, which is opened where there is none yet.
    pub(super) fn to(&self, launch: &LaunchId, pod: &str) -> Result<String, AdapterError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnel) = open.get(launch).filter(|tunnel| tunnel.pod == pod) {
            return Ok(tunnel.authority.clone());
        }
        let tunnel = self.start(pod).map_err(|error| {
            AdapterError::transient(format!("cannot open a loopback port for the tunnel to {launch}")).because(error)
        })?;
        let authority = tunnel.authority.clone();
        open.insert(launch.clone(), tunnel);
        Ok(authority)
    }

    /// Closes the tunnel of an instance that does not run.
    pub(super) fn close(&self, launch: &LaunchId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(launch);
    }

    fn start(&self, pod: &str) -> io::Result<Tunnel> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let authority = listener.local_addr()?.to_string();
        let listener = TcpListener::from_std(listener)?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(&self.forward), pod.to_owned())).abort_handle();
        Ok(Tunnel { pod: pod.to_owned(), authority, accepting })
    }
}

async fn accept(listener: TcpListener, forward: Forward, pod: String) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Full: the next one waits in the listener's queue.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (forward, pod) = (Arc::clone(&forward), pod.clone());
        connections.spawn(async move {
            carry(connection, forward, pod).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A connection that finds no way is closed; who opened it sees a replica that does not answer.
async fn carry(mut connection: TcpStream, forward: Forward, pod: String) {
    match forward(pod.clone()).await {
        Ok(mut stream) => {
            if let Err(error) = copy_bidirectional(&mut connection, &mut stream).await {
                tracing::debug!(%pod, %error, "a tunnelled connection broke off");
            }
        }
        Err(error) => tracing::warn!(%pod, error = %error.with_causes(), "cannot forward a connection to the pod"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn launch() -> LaunchId {
        "gw-1".parse().expect("a launch id")
    }

    /// Pods that send back what they get, after their name.
    fn echoing() -> Forward {
        Arc::new(|pod| {
            Box::pin(async move {
                let (near, mut far) = tokio::io::duplex(64);
                tokio::spawn(async move {
                    far.write_all(pod.as_bytes()).await.expect("write");
                    let mut byte = [0];
                    far.read_exact(&mut byte).await.expect("read");
                    far.write_all(&byte).await.expect("write");
                });
                Ok(near)
            })
        })
    }

    async fn ask(authority: &str) -> String {
        let mut connection = TcpStream::connect(authority).await.expect("connect");
        connection.write_all(b"!").await.expect("write");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("read");
        answer
    }

    #[tokio::test]
    async fn each_connection_goes_to_the_pod_and_comes_back() {
        let tunnels = Tunnels::new(echoing());
        let authority = tunnels.to(&launch(), "gw-1-abcde").expect("open");
        assert_eq!(tunnels.to(&launch(), "gw-1-abcde").expect("open"), authority, "a tunnel is opened once");
        for _ in 0..2 {
            assert_eq!(ask(&authority).await, "gw-1-abcde!");
        }
        let other = tunnels.to(&launch(), "gw-1-fghij").expect("open");
        assert_eq!(ask(&other).await, "gw-1-fghij!", "another pod is another tunnel");
    }

    #[tokio::test]
    async fn a_closed_tunnel_takes_no_connection() {
        let tunnels = Tunnels::new(echoing());
        let authority = tunnels.to(&launch(), "gw-1-abcde").expect("open");
        tunnels.close(&launch());
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(&authority).await.is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "the listener stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_finds_no_way_is_closed() {
        let nowhere: Forward = Arc::new(|_| Box::pin(async { Err(AdapterError::transient("no kubelet")) }));
        let tunnels = Tunnels::new(nowhere);
        let authority = tunnels.to(&launch(), "gw-1-abcde").expect("open");
        let mut connection = TcpStream::connect(&authority).await.expect("connect");
        let mut nothing = Vec::new();
        assert_eq!(connection.read_to_end(&mut nothing).await.expect("closed"), 0);
    }
}
