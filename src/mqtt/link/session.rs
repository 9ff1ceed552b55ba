//! One connection, from CONNECT to its end, in either version of the protocol: all that the link knows of `rumqttc`.

use std::time::Duration;

use super::failure::Failure;
use super::{LinkOptions, Protocol, v5, v311};
use crate::mqtt::{Incoming, Outgoing, Qos};

/// Unacknowledged publishes at once. The default of the client for version 5, 65,535, costs 14 MB of memory.
pub(super) const MAX_INFLIGHT: u16 = 64;
/// Room between the feeder and the event loop.
pub(super) const CHANNEL_CAPACITY: usize = 32;
/// From the first packet of TCP to CONNACK; a name server and a handshake over a mobile link fit in.
pub(super) const CONNECT_TIMEOUT_S: u64 = 5;

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Happening {
    /// The broker accepted us, and takes packets up to this size.
    Up(Option<u32>),
    Received(Incoming),
    /// The broker is done with the publish of this packet id.
    Acknowledged(u16),
    /// The same, but it did not take it, and says why (MQTT 5 alone).
    NotTaken(u16, String),
    /// It takes no subscription to one of the filters, and says why.
    NotSubscribed(String),
    /// A publish went out under this packet id; 0 is at-most-once and has none.
    Sent(u16),
    /// Nothing that matters to us.
    Other,
}

/// What happened, and the bytes of the packet that came or went; those of a publish that went are told by the message.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) happening: Happening,
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// Where messages go in; clones share the connection.
#[derive(Clone)]
pub(super) enum Client {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// The other end of a [`Client`]; it waits for the network.
pub(super) enum Connection {
    V5(Box<rumqttc::v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// Both ends of a connection that is made when it is first polled. Fresh each time: a used one keeps requests, packet ids and
/// collisions of the old connection, and sends them into the new one or waits for their acknowledgement for ever. With them
/// the bytes of the CONNECT that is sent first.
pub(super) fn open(options: &LinkOptions, protocol: Protocol) -> (Client, Connection, usize) {
    match protocol {
        Protocol::V5 => {
            let options = v5::options(options);
            let greeting = v5::connect_bytes(&options);
            let (client, events) = rumqttc::v5::AsyncClient::new(options, CHANNEL_CAPACITY);
            (Client::V5(client), Connection::V5(Box::new(events)), greeting)
        }
        Protocol::V311 => {
            let options = v311::options(options);
            let greeting = v311::connect_bytes(&options);
            let (client, mut events) = rumqttc::AsyncClient::new(options, CHANNEL_CAPACITY);
            events.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
            (Client::V311(client), Connection::V311(Box::new(events)), greeting)
        }
    }
}

/// What a message takes on the wire.
pub(super) fn publish_bytes(protocol: Protocol, message: &Outgoing) -> usize {
    match protocol {
        Protocol::V5 => v5::publish_bytes(message),
        Protocol::V311 => v311::publish_bytes(message),
    }
}

impl Connection {
    /// The next thing that happens; after a failure there is nothing more. A healthy connection has a ping every
    /// `keepalive`, ours or what the broker asks for; one that takes no bytes blocks even these, so it is given up after two.
    pub(super) async fn next(&mut self, keepalive: Duration) -> Result<Step, Failure> {
        let patience = self.keepalive().max(keepalive) * 2;
        let step = tokio::time::timeout(patience, self.poll()).await.unwrap_or_else(|_| Err(Failure::silent()))?;
        if matches!(step.happening, Happening::Up(_)) {
            self.keep_alive(keepalive);
        }
        Ok(step)
    }

    async fn poll(&mut self) -> Result<Step, Failure> {
        match self {
            Self::V5(events) => events.poll().await.map(v5::step).map_err(|error| v5::failure(&error)),
            Self::V311(events) => events.poll().await.map(v311::step).map_err(|error| v311::failure(&error)),
        }
    }

    fn keepalive(&self) -> Duration {
        match self {
            Self::V5(events) => events.options.keep_alive(),
            Self::V311(events) => events.mqtt_options.keep_alive(),
        }
    }

    /// A broker of version 5 that wants no pings says zero, which the client takes for one after the other without a pause.
    fn keep_alive(&mut self, keepalive: Duration) {
        if let Self::V5(events) = self
            && events.options.keep_alive().is_zero()
        {
            events.options.set_keep_alive(keepalive);
        }
    }
}

impl Client {
    /// Returns whether there was room for it.
    pub(super) fn publish(&self, message: &Outgoing) -> bool {
        match self {
            Self::V5(client) => v5::publish(client, message),
            Self::V311(client) => v311::publish(client, message),
        }
    }

    /// Returns the bytes that it takes.
    pub(super) fn subscribe(&self, filter: &str, level: Qos, others_alone: bool) -> usize {
        let asked = match self {
            Self::V5(client) => v5::subscribe(client, filter, level, others_alone),
            Self::V311(client) => client.try_subscribe(filter, v311::qos(level)).map_err(|error| error.to_string()),
        };
        match asked {
            Ok(()) if matches!(self, Self::V5(_)) => v5::subscribe_bytes(filter),
            Ok(()) => v311::subscribe_bytes(filter),
            Err(error) => {
                tracing::warn!(%error, filter, "could not subscribe; trying again with the next connection");
                0
            }
        }
    }

    /// Asks for no more of a filter; returns the bytes of that.
    pub(super) fn unsubscribe(&self, filter: &str) -> usize {
        let asked = match self {
            Self::V5(client) => client.try_unsubscribe(filter).map_err(|error| error.to_string()),
            Self::V311(client) => client.try_unsubscribe(filter).map_err(|error| error.to_string()),
        };
        match asked {
            // As a subscription, without the byte of its options.
            Ok(()) if matches!(self, Self::V5(_)) => v5::subscribe_bytes(filter) - 1,
            Ok(()) => v311::subscribe_bytes(filter) - 1,
            Err(error) => {
                tracing::debug!(%error, filter, "could not unsubscribe; the connection ends soon");
                0
            }
        }
    }

    /// Ends the connection so that the Last Will stays unsaid.
    pub(super) fn say_goodbye(&self) {
        let asked = match self {
            Self::V5(client) => client.try_disconnect().map_err(|error| error.to_string()),
            Self::V311(client) => client.try_disconnect().map_err(|error| error.to_string()),
        };
        if let Err(error) = asked {
            tracing::debug!(%error, "no goodbye to the MQTT broker");
        }
    }
}
