//! A client's own way to instances that speak TLS: plain on this machine, secured from here to the instance, whose key is
//! checked. No fault of the node's touches it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tidegate::logic::route::{PublicKeyPin, Transport};
use tidegate::tls::Dialer;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A handshake on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// All ways of one cell. Dropped, they are closed.
pub(crate) struct Relay {
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    dialer: Arc<Dialer>,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: Some(runtime.expect("a runtime")), dialer: Arc::default() }
    }

    /// Opens a way and says where it begins.
    pub(crate) fn to(&self, authority: &str, pin: PublicKeyPin) -> String {
        let runtime = self.runtime.as_ref().expect("a runtime until the end");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let here = listener.local_addr().expect("an address").to_string();
        let (dialer, authority) = (Arc::clone(&self.dialer), authority.to_owned());
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Whatever breaks is a broken connection to the client.
                tokio::spawn(pass(client, authority.clone(), Arc::clone(&dialer), pin));
            }
        });
        here
    }
}

async fn pass(mut client: TcpStream, authority: String, dialer: Arc<Dialer>, pin: PublicKeyPin) -> std::io::Result<()> {
    let stream = TcpStream::connect(&authority).await?;
    let secured = dialer.secure(stream, "instance", &Transport::Pinned(pin), PATIENCE).await;
    let mut instance = secured.map_err(std::io::Error::other)?;
    tokio::io::copy_bidirectional(&mut client, &mut instance).await.map(drop)
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
