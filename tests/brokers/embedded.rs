//! The broker inside Tidegate: on loopback, to everyone on its box, in the clear; and by its door of TLS to who has a
//! certificate or a password. Whom it lets in is handed to it; here that is everyone with either, to do as they like.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate::mqtt::broker::Broker;
use tidegate::mqtt::broker::door::{DoorOptions, Doorman, Guest, Refusal};
use tidegate::tls::{FleetIdentity, FleetTls, Unwelcome};
use tidegate::trust::{Anchors, EARLIEST};
use tokio::runtime::Runtime;

use crate::certificates::Certificates;
use crate::site::{Door, LOGIN, NODE, Site, login};

pub(crate) struct Embedded {
    addresses: [SocketAddr; 2],
    running: Option<(Runtime, Broker)>,
    certificates: Certificates,
    house: Arc<House>,
}

impl Embedded {
    pub(crate) fn start() -> Self {
        let certificates = Certificates::of_fleets();
        certificates.enroll("ca", "node", NODE, &[]);
        certificates.enroll("other-ca", "foreign", NODE, &[]);
        let house = Arc::new(House::of(&certificates));
        let any = ["127.0.0.1:0"; 2].map(|address| address.parse().unwrap());
        let (running, addresses) = start(any, &house);
        Self { addresses, running: Some(running), certificates, house }
    }
}

fn start([plain, tls]: [SocketAddr; 2], house: &Arc<House>) -> ((Runtime, Broker), [SocketAddr; 2]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut broker = runtime.block_on(Broker::start(plain)).unwrap();
    let handshake = FleetTls::new(house.clone()).unwrap();
    let door = DoorOptions { listen: tls, tls: handshake, doorman: house.clone() };
    let tls = runtime.block_on(broker.open(door)).unwrap();
    let plain = broker.address();
    ((runtime, broker), [plain, tls])
}

impl Site for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn plain(&self) -> u16 {
        self.addresses[0].port()
    }

    fn tls(&self) -> Option<(u16, u16)> {
        Some((self.addresses[1].port(), self.addresses[1].port()))
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn has_users(&self) -> bool {
        false
    }

    fn asks_for_login(&self) -> Option<Door> {
        let tls = Some(self.certificates.tls("ca", None));
        Some(Door { host: "127.0.0.1", port: self.addresses[1].port(), login: login(), tls })
    }

    fn restart(&mut self) {
        if let Some((runtime, broker)) = self.running.take() {
            runtime.block_on(broker.stop());
        }
        self.running = Some(start(self.addresses, &self.house).0);
    }
}

/// Believes one root, and knows one user.
struct House {
    own: (Vec<Vec<u8>>, String),
    anchors: Anchors,
}

impl House {
    fn of(certificates: &Certificates) -> Self {
        let own = certificates.enroll("ca", "server", "broker", &["127.0.0.1"]);
        Self { own: (own.chain().to_vec(), own.key_pem()), anchors: certificates.authority("ca").anchors().clone() }
    }
}

impl FleetIdentity for House {
    fn own(&self) -> (Vec<Vec<u8>>, String) {
        self.own.clone()
    }

    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome> {
        let now = tidegate::host::clock::unix_now().max(EARLIEST);
        self.anchors.check(chain, now).map(drop).map_err(|_| Unwelcome::Foreign)
    }
}

impl Doorman for House {
    fn by_certificate(&self, _: &[Vec<u8>]) -> Option<Arc<dyn Guest>> {
        Some(Arc::new(Anyone("a node")))
    }

    fn by_password(&self, _: SocketAddr, user: &str, password: &[u8]) -> Result<Arc<dyn Guest>, Refusal> {
        let is_right = (user, password) == (LOGIN.0, LOGIN.1.as_bytes());
        if is_right { Ok(Arc::new(Anyone("a user"))) } else { Err(Refusal::Wrong) }
    }
}

struct Anyone(&'static str);

impl Guest for Anyone {
    fn name(&self) -> &str {
        self.0
    }

    fn may_be(&self, _: &str) -> bool {
        true
    }

    fn is_own_state(&self, _: &str) -> bool {
        false
    }

    fn may_write(&self, _: &str) -> bool {
        true
    }

    fn may_read(&self, _: &str) -> bool {
        true
    }

    fn is_welcome(&self) -> bool {
        true
    }
}
