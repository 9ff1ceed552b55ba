//! This node's broker as its site's hub: who comes in at the TLS listener, by what the fleet believes at the moment and by the
//! file of users, and what they may do there.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use edge_config::Config;
use tokio::runtime::Runtime;

use super::trust::Trust;
use super::{Addresses, NodeError};
use crate::host::clock::{Clock, unix_now};
use crate::logic::guesses::Guesses;
use crate::mqtt::broker::Broker;
use crate::mqtt::broker::door::{DoorOptions, Doorman, Guest, Refusal};
use crate::tls::{FleetIdentity, FleetTls, Unwelcome};
use crate::trust::{Facts, PasswordHash, Rejected, Role, Signer, UsersFile, Verifier};
use crate::wire::access::{Access, Caller, grants};

/// Opens the embedded broker's TLS listener, where one is configured; returns where it listens.
pub(super) fn open(
    config: &Config,
    io: &Runtime,
    broker: Option<&mut Broker>,
    trust: &Trust,
    clock: Clock,
) -> Result<Option<SocketAddr>, NodeError> {
    let (Some(hub), Some(broker)) = (config.mqtt.hub(), broker) else { return Ok(None) };
    let users = hub.users_file.as_deref().map(UsersFile::open).transpose();
    let users = users.map_err(|error| NodeError::Setting(format!("mqtt.users_file: {error}")))?;
    let (signer, verifier) = (trust.signer.clone(), trust.verifier.clone());
    let fleet = verifier.root().fleet.to_string();
    let doorman =
        Arc::new(Hub { fleet, signer, verifier, users: users.map(Arc::new), clock, guesses: Mutex::default() });
    let tls = FleetTls::new(doorman.clone());
    let tls = tls.map_err(|error| NodeError::Setting(format!("mqtt.listen_tls: TLS cannot be set up: {error}")))?;
    if config.node.credentials.is_none() {
        // Safe: it lets in those alone whom this box has let in. But nobody elsewhere can tell that it is this box.
        tracing::warn!(
            "mqtt.listen_tls shows the certificate that this node made for itself, which names this box only as localhost: \
             others reach it through a tunnel, until it is enrolled with `tidegate fleet enroll {} --host NAME`",
            config.node.id
        );
    }
    Ok(Some(io.block_on(broker.open(DoorOptions { listen: hub.listen, tls, doorman }))?))
}

/// The broker's address as announcements tell it: where others reach it if they can, else where this box does.
pub(super) fn announced(addresses: &Addresses, trust: &Trust) -> Option<String> {
    let named = trust.signer.credential().host_names().into_iter().find(|name| name != "localhost");
    let hub = addresses.mqtt_tls.and_then(|listen| for_others(listen, named));
    hub.or_else(|| addresses.mqtt.map(|address| address.to_string()))
}

/// By a name of its certificate, else at the address that it listens on; none where only this box gets there.
fn for_others(listen: SocketAddr, named: Option<String>) -> Option<String> {
    if listen.ip().to_canonical().is_loopback() {
        return None;
    }
    let addressed = (!listen.ip().is_unspecified()).then(|| listen.to_string());
    let host = named.map(|name| format!("{name}:{}", listen.port())).or(addressed)?;
    Some(format!("mqtts://{host}"))
}

/// Whom it believes, and who may watch.
struct Hub {
    fleet: String,
    signer: Arc<Signer>,
    verifier: Arc<Verifier>,
    users: Option<Arc<UsersFile>>,
    clock: Clock,
    guesses: Mutex<Guesses<IpAddr>>,
}

impl FleetIdentity for Hub {
    fn own(&self) -> (Vec<Vec<u8>>, String) {
        let credential = self.signer.credential();
        (credential.chain().to_vec(), credential.key_pem())
    }

    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome> {
        match self.verifier.holder(chain, unix_now()) {
            // What signs other certificates is nobody's end of a connection.
            Ok(facts) if facts.role == Role::Authority => Err(Unwelcome::Foreign),
            Ok(_) => Ok(()),
            Err(Rejected::Expired(_)) => Err(Unwelcome::Expired),
            Err(Rejected::Revoked(name)) => {
                tracing::debug!(name, "somebody whose credential was revoked came to the hub");
                Err(Unwelcome::Revoked)
            }
            Err(_) => Err(Unwelcome::Foreign),
        }
    }
}

impl Doorman for Hub {
    fn by_certificate(&self, chain: &[Vec<u8>]) -> Option<Arc<dyn Guest>> {
        let facts = self.verifier.holder(chain, unix_now()).ok().filter(|facts| facts.role != Role::Authority)?;
        let name = format!("{}:{}", facts.role, facts.name);
        let verifier = self.verifier.clone();
        Some(Arc::new(Member { fleet: self.fleet.clone(), name, facts, chain: chain.to_vec(), verifier }))
    }

    fn by_password(&self, from: SocketAddr, user: &str, password: &[u8]) -> Result<Arc<dyn Guest>, Refusal> {
        let users = self.users.clone().ok_or(Refusal::Wrong)?;
        let (place, now) = (place(from.ip()), self.clock.now());
        let guesses = || self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if !guesses().may_try(&place, now) {
            return Err(Refusal::TooMany);
        }
        match users.current().check(user, password).cloned() {
            Some(hash) => {
                let (fleet, name) = (self.fleet.clone(), format!("user:{user}"));
                Ok(Arc::new(Watcher { fleet, name, user: user.to_owned(), hash, users }))
            }
            None => {
                guesses().was_wrong(place, now);
                Err(Refusal::Wrong)
            }
        }
    }
}

/// Where guesses come from: whoever has one address of IPv6 has 2^64 of them.
fn place(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// A node or an operator, by a certificate of the fleet.
struct Member {
    fleet: String,
    name: String,
    facts: Arc<Facts>,
    chain: Vec<Vec<u8>>,
    verifier: Arc<Verifier>,
}

impl Member {
    fn may(&self, access: Access<'_>) -> bool {
        let caller = match self.facts.role {
            Role::Node => Caller::Node(&self.facts.name),
            Role::Operator => Caller::Operator,
            Role::Authority => return false,
        };
        grants(&self.fleet, caller, access)
    }
}

impl Guest for Member {
    fn name(&self) -> &str {
        &self.name
    }

    fn may_be(&self, client_id: &str) -> bool {
        self.may(Access::Be(client_id))
    }

    fn may_write(&self, topic: &str) -> bool {
        self.may(Access::Write(topic))
    }

    fn may_read(&self, filter: &str) -> bool {
        self.may(Access::Read(filter))
    }

    /// The verifier knows a chain that passed for as long as roots and revocations stay as they are.
    fn is_welcome(&self) -> bool {
        self.verifier.holder(&self.chain, unix_now()).is_ok()
    }
}

/// Somebody of the users' file.
struct Watcher {
    fleet: String,
    name: String,
    user: String,
    /// What the password was checked against: another one puts out whoever came with the old.
    hash: PasswordHash,
    users: Arc<UsersFile>,
}

impl Watcher {
    fn may(&self, access: Access<'_>) -> bool {
        grants(&self.fleet, Caller::Watcher(&self.user), access)
    }
}

impl Guest for Watcher {
    fn name(&self) -> &str {
        &self.name
    }

    fn may_be(&self, client_id: &str) -> bool {
        self.may(Access::Be(client_id))
    }

    fn may_write(&self, topic: &str) -> bool {
        self.may(Access::Write(topic))
    }

    fn may_read(&self, filter: &str) -> bool {
        self.may(Access::Read(filter))
    }

    fn is_welcome(&self) -> bool {
        self.users.current().hash_of(&self.user) == Some(&self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &str, named: Option<&str>) -> Option<String> {
        for_others(listen.parse().unwrap(), named.map(str::to_owned))
    }

    #[test]
    fn others_are_told_where_they_reach_the_hub_and_nothing_where_they_do_not() {
        assert_eq!(told("0.0.0.0:8883", Some("hub.local")).unwrap(), "mqtts://hub.local:8883");
        assert_eq!(told("192.168.1.10:8883", None).unwrap(), "mqtts://192.168.1.10:8883");
        assert_eq!(told("[2001:db8::1]:8883", None).unwrap(), "mqtts://[2001:db8::1]:8883");
        assert_eq!(told("0.0.0.0:8883", None), None, "nobody connects to any address");
        assert_eq!(told("127.0.0.1:8883", Some("hub.local")), None);
        assert_eq!(told("[::ffff:127.0.0.1]:8883", Some("hub.local")), None);
    }

    #[test]
    fn guesses_from_one_network_count_together() {
        let of = |text: &str| place(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
