//! This node's broker as its site's hub: who comes in at the TLS listener, by what the fleet believes at the moment and by the
//! file of users, and what they may do there.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use edge_config::Config;
use tokio::runtime::Runtime;

use super::NodeError;
use super::trust::{Trust, shown, unwelcome, users};
use crate::host::clock::{Clock, unix_now};
use crate::logic::guesses::Guesses;
use crate::mqtt::broker::Broker;
use crate::mqtt::broker::door::{DoorOptions, Doorman, Guest, Refusal, network};
use crate::tls::{FleetIdentity, FleetTls, Unwelcome};
use crate::trust::{Facts, PasswordHash, Rejected, Role, Signer, UsersFile, Verifier};
use crate::wire::access::{Access, Caller, grants};
use crate::wire::{Root, Topic};

/// Opens the embedded broker's TLS listener, where one is configured; returns where it listens.
pub(super) fn open(
    config: &Config,
    io: &Runtime,
    broker: &mut Broker,
    trust: &Trust,
    clock: Clock,
) -> Result<Option<SocketAddr>, NodeError> {
    let Some(hub) = config.mqtt.hub() else { return Ok(None) };
    let users = users(config)?;
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
        shown(&self.signer)
    }

    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome> {
        match self.verifier.holder(chain, unix_now()) {
            // What signs other certificates is nobody's end of a connection.
            Ok(facts) if facts.role == Role::Authority => Err(Unwelcome::Foreign),
            Ok(_) => Ok(()),
            Err(why) => {
                if let Rejected::Revoked(name) = &why {
                    tracing::debug!(name, "somebody whose credential was revoked came to the hub");
                }
                Err(unwelcome(&why))
            }
        }
    }
}

impl Doorman for Hub {
    fn by_certificate(&self, chain: &[Vec<u8>]) -> Option<Arc<dyn Guest>> {
        let facts = self.verifier.holder(chain, unix_now()).ok().filter(|facts| facts.role != Role::Authority)?;
        let name = format!("{}:{}", facts.role, facts.name);
        let proof = Proof::Certificate { facts, chain: chain.to_vec(), verifier: self.verifier.clone() };
        Some(Arc::new(Known { fleet: self.fleet.clone(), name, proof }))
    }

    fn by_password(&self, from: SocketAddr, user: &str, password: &[u8]) -> Result<Arc<dyn Guest>, Refusal> {
        let users = self.users.clone().ok_or(Refusal::Wrong)?;
        let (network, now) = (network(from.ip()), self.clock.now());
        let guesses = || self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if !guesses().may_try(&network, now) {
            return Err(Refusal::TooMany);
        }
        match users.current().check(user, password).cloned() {
            Some(hash) => {
                let (fleet, name) = (self.fleet.clone(), format!("user:{user}"));
                Ok(Arc::new(Known { fleet, name, proof: Proof::Password { user: user.to_owned(), hash, users } }))
            }
            None => {
                guesses().was_wrong(network, now);
                Err(Refusal::Wrong)
            }
        }
    }
}

/// Somebody who came in.
struct Known {
    fleet: String,
    name: String,
    proof: Proof,
}

/// What proved who it is.
enum Proof {
    /// A certificate of the fleet: a node or an operator.
    Certificate { facts: Arc<Facts>, chain: Vec<Vec<u8>>, verifier: Arc<Verifier> },
    /// A password of the users' file, checked against this hash: another one puts out whoever came with the old.
    Password { user: String, hash: PasswordHash, users: Arc<UsersFile> },
}

impl Known {
    fn may(&self, access: Access<'_>) -> bool {
        let caller = match &self.proof {
            Proof::Certificate { facts, .. } => match facts.role {
                Role::Node => Caller::Node(&facts.name),
                Role::Operator => Caller::Operator,
                Role::Authority => return false,
            },
            Proof::Password { user, .. } => Caller::Watcher(user),
        };
        grants(&self.fleet, caller, access)
    }
}

impl Guest for Known {
    fn name(&self) -> &str {
        &self.name
    }

    fn may_be(&self, client_id: &str) -> bool {
        self.may(Access::Be(client_id))
    }

    fn is_own_state(&self, topic: &str) -> bool {
        let Proof::Certificate { facts, .. } = &self.proof else { return false };
        let said = Root::parse(topic).ok().map(|(_, topic)| topic);
        facts.role.is_node() && matches!(said, Some(Topic::State { node }) if node.as_str() == facts.name)
    }

    fn may_write(&self, topic: &str) -> bool {
        self.may(Access::Write(topic))
    }

    fn may_read(&self, filter: &str) -> bool {
        self.may(Access::Read(filter))
    }

    fn is_welcome(&self) -> bool {
        match &self.proof {
            // The verifier knows a chain that passed for as long as roots and revocations stay as they are.
            Proof::Certificate { chain, verifier, .. } => verifier.holder(chain, unix_now()).is_ok(),
            Proof::Password { user, hash, users } => users.current().hash_of(user) == Some(hash),
        }
    }
}
