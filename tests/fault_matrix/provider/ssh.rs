//! A far machine: this one, behind an sshd of the cell's own. Instances there are processes in the cell's directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cloud_adapters::{CloudAdapter, SshAdapter, SshLimits, SshOptions};
use tidegate::logic::route::PublicKeyPin;

use super::{Here, Provider};

#[path = "../../../cloud-adapters/tests/ssh/host.rs"]
#[allow(dead_code, reason = "the adapter's own tests use the rest")]
mod host;

/// What the node's process has to know of the far machine, a line each: port, key, known hosts, state directory.
const FACTS: &str = "far-facts";

pub(super) struct Far {
    here: Here,
    _host: host::Host,
}

pub(super) fn open(home: &Path) -> Far {
    let host = host::Host::new();
    let (key, known) = (host.path("key"), host.know(host.port, "host-key"));
    let facts = format!("{}\n{}\n{}\n{}", host.port, key.display(), known.display(), host.path("state").display());
    std::fs::write(home.join(FACTS), facts).expect("write");
    Far { here: Here::new(home), _host: host }
}

impl Provider for Far {
    fn alive(&self) -> BTreeMap<String, usize> {
        self.here.alive()
    }

    fn strays(&self) -> Vec<String> {
        self.here.strays()
    }

    /// The node's tunnel ends with the node; the far machine's own port does not.
    fn way(&self, launch: &str, _authority: &str, _pin: PublicKeyPin) -> Option<String> {
        let address = self.here.path().join("far/instances").join(launch).join("address");
        std::fs::read_to_string(address).ok().map(|address| address.trim().to_owned())
    }
}

pub(super) fn client(home: &Path) -> Arc<dyn CloudAdapter> {
    let facts = std::fs::read_to_string(home.join(FACTS)).expect("facts");
    let [port, key, known_hosts, state_dir] = facts.lines().collect::<Vec<_>>()[..] else { panic!("facts: {facts}") };
    Arc::new(SshAdapter::new(SshOptions {
        host: "127.0.0.1".into(),
        port: Some(port.parse().expect("a port")),
        user: None,
        key: Some(key.into()),
        known_hosts: Some(known_hosts.into()),
        config_file: None,
        program: env!("CARGO_BIN_EXE_tidegate").into(),
        directory: home.join("far").display().to_string(),
        max_instances: None,
        limits: SshLimits::default(),
        state_dir: state_dir.into(),
    }))
}
