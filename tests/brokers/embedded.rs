//! The broker inside Tidegate. It serves its own box: on loopback, to everyone there, in the clear.

use std::net::SocketAddr;

use tidegate::mqtt::broker::Broker;
use tokio::runtime::Runtime;

use crate::certificates::Certificates;
use crate::site::Site;

pub(crate) struct Embedded {
    address: SocketAddr,
    running: Option<(Runtime, Broker)>,
    certificates: Certificates,
}

impl Embedded {
    pub(crate) fn start() -> Self {
        let (runtime, broker) = start("127.0.0.1:0".parse().unwrap());
        let certificates = Certificates::make();
        Self { address: broker.address(), running: Some((runtime, broker)), certificates }
    }
}

fn start(address: SocketAddr) -> (Runtime, Broker) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::start(address)).unwrap();
    (runtime, broker)
}

impl Site for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn plain(&self) -> u16 {
        self.address.port()
    }

    fn tls(&self) -> Option<(u16, u16)> {
        None
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn has_users(&self) -> bool {
        false
    }

    fn restart(&mut self) {
        if let Some((runtime, broker)) = self.running.take() {
            runtime.block_on(broker.stop());
        }
        self.running = Some(start(self.address));
    }
}
