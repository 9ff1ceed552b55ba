//! Connections to the replicas, each secured as its endpoint says.
//!
//! The pool knows a connection by scheme and authority. Both are made from the endpoint here, the pin included (in the
//! place of a user's name, which HTTP has no use for), and the connector reads the transport from nothing else: a
//! connection that was made for one launch's key cannot serve another's, even where that has taken over host and port.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::{Authority, Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::logic::route::{Endpoint, PublicKeyPin, Transport};
use crate::tls::{Channel, Dialer};

/// Before the pin on another node's key, which is shown our credential.
const PEER: &str = "peer-";

/// Why an endpoint has no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// Not host and port.
    #[error(transparent)]
    Invalid(#[from] http::Error),
    /// It would be read as a pin.
    #[error("the address `{0}` brings a user's name, which has no place in it")]
    User(String),
}

/// Scheme and authority of an endpoint, as the pool is to know it.
pub(super) fn address(endpoint: &Endpoint) -> Result<(Scheme, Authority), AddressError> {
    let authority = endpoint.authority.as_str();
    if authority.contains('@') {
        return Err(AddressError::User(authority.to_owned()));
    }
    let (scheme, key) = match endpoint.transport {
        Transport::Plain => (Scheme::HTTP, Bytes::copy_from_slice(authority.as_bytes())),
        Transport::Named => (Scheme::HTTPS, Bytes::copy_from_slice(authority.as_bytes())),
        Transport::Pinned(pin) => (Scheme::HTTPS, Bytes::from(format!("{pin}@{authority}"))),
        Transport::Peer(pin) => (Scheme::HTTPS, Bytes::from(format!("{PEER}{pin}@{authority}"))),
    };
    Ok((scheme, Authority::from_maybe_shared(key).map_err(http::Error::from)?))
}

/// The transport that [`address`] wrote down. A name that is no pin is an error, never another transport.
fn transport(uri: &Uri) -> Result<Transport, io::Error> {
    if uri.scheme() != Some(&Scheme::HTTPS) {
        return Ok(Transport::Plain);
    }
    match uri.authority().and_then(|authority| authority.as_str().split_once('@')) {
        None => Ok(Transport::Named),
        Some((user, _)) => {
            let pin = |text: &str| text.parse::<PublicKeyPin>().map_err(io::Error::other);
            match user.strip_prefix(PEER) {
                Some(text) => pin(text).map(Transport::Peer),
                None => pin(user).map(Transport::Pinned),
            }
        }
    }
}

/// Opens connections for the pool.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    dialer: Dialer,
    timeout: Duration,
}

impl Connector {
    /// `timeout` for the connection, and once more for a handshake on it.
    pub(super) fn new(timeout: Duration, dialer: Dialer) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        tcp.enforce_http(false);
        Self { tcp, dialer, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = Line;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Line, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(uri.clone());
        let (dialer, timeout) = (self.dialer.clone(), self.timeout);
        Box::pin(async move {
            let transport = transport(&uri)?;
            let stream = connecting.await?.into_inner();
            let host = uri.host().unwrap_or_default();
            let channel = dialer.secure(stream, host, &transport, timeout).await?;
            Ok(Line(TokioIo::new(channel)))
        })
    }
}

/// A channel, as the pool takes it.
#[derive(Debug)]
pub(super) struct Line(TokioIo<Channel>);

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::route::{EndpointCounters, Placement};

    fn uri(authority: &str, transport: Transport) -> Result<Uri, AddressError> {
        let endpoint = Endpoint {
            replica: "r".into(),
            placement: Placement::Cloud,
            authority: authority.into(),
            transport,
            bearer: None,
            concurrency: 1,
            weight: 1,
            counters: EndpointCounters::default(),
        };
        let (scheme, authority) = address(&endpoint)?;
        Ok(Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()?)
    }

    #[test]
    fn the_transport_is_read_as_it_was_written_and_host_and_port_stay() {
        let pinned = Transport::Pinned(PublicKeyPin([0xab; 32]));
        for (authority, host, port) in [("10.0.0.1:8443", "10.0.0.1", 8443), ("[::1]:8443", "[::1]", 8443)] {
            for kind in [Transport::Plain, Transport::Named, pinned, Transport::Peer(PublicKeyPin([0xcd; 32]))] {
                let uri = uri(authority, kind).unwrap();
                assert_eq!(transport(&uri).unwrap(), kind);
                assert_eq!((uri.host(), uri.port_u16()), (Some(host), Some(port)));
            }
        }
    }

    #[test]
    fn endpoints_with_other_keys_or_none_share_no_place_in_the_pool() {
        let key = |transport| {
            let uri = uri("10.0.0.1:8443", transport).unwrap();
            (uri.scheme().cloned(), uri.authority().cloned())
        };
        let pinned = |byte| Transport::Pinned(PublicKeyPin([byte; 32]));
        let peer = key(Transport::Peer(PublicKeyPin([1; 32])));
        let keys = [key(Transport::Plain), key(Transport::Named), key(pinned(1)), key(pinned(2)), peer];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| one != other), "{one:?}");
        }
        assert_eq!(key(pinned(1)), key(pinned(1)));
    }

    #[test]
    fn an_address_cannot_bring_a_pin_of_its_own() {
        let own = format!("{}@10.0.0.1:8443", PublicKeyPin([7; 32]));
        for transport in [Transport::Plain, Transport::Named, Transport::Pinned(PublicKeyPin([8; 32]))] {
            assert!(uri(&own, transport).is_err(), "{transport:?}");
        }
        assert!(transport(&"https://someone@10.0.0.1:8443/".parse().unwrap()).is_err());
    }
}
