//! Mosquitto 2 of the system, with a listener for each way in.

use std::path::Path;
use std::process::Command;

use crate::certificates::Certificates;
use crate::process::{Running, free_port};
use crate::site::{LOGIN, NODE, Site};

pub(crate) struct Mosquitto {
    /// Before its folder, so that it ends first.
    running: Option<Running>,
    certificates: Certificates,
    ports: [u16; 3],
}

impl Mosquitto {
    pub(crate) fn start() -> Self {
        let certificates = Certificates::make();
        certificates.node("ca", "node", NODE);
        certificates.node("other-ca", "foreign", NODE);
        let ports = [free_port(), free_port(), free_port()];
        let folder = certificates.folder();
        let passwords = folder.join("passwords");
        let made =
            Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args([LOGIN.0, LOGIN.1]).status();
        assert!(made.expect("mosquitto_passwd").success());
        std::fs::write(folder.join("mosquitto.conf"), config(folder, ports)).unwrap();
        let mut own = Self { running: None, certificates, ports };
        own.restart();
        own
    }
}

/// Late subscribers at QoS 1 lose retained messages at the default queue limit; no limit at all (0) ends the connection of
/// whoever publishes what it may not.
fn config(folder: &Path, [plain, tls, mutual]: [u16; 3]) -> String {
    let folder = folder.display();
    let certificates =
        format!("cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server-key.pem\n");
    let users = format!("allow_anonymous false\npassword_file {folder}/passwords\n");
    format!(
        "per_listener_settings true\npersistence false\nmax_queued_messages 100000\nuser root\n\
         listener {plain} 127.0.0.1\n{users}\
         listener {tls} 127.0.0.1\n{users}{certificates}\
         listener {mutual} 127.0.0.1\n{certificates}require_certificate true\nuse_identity_as_username true\n"
    )
}

/// Starts it with a configuration file; it listens when this returns.
pub(crate) fn run(folder: &Path, port: u16) -> Running {
    let mut command = Command::new("mosquitto");
    command.arg("-v").arg("-c").arg(folder.join("mosquitto.conf"));
    let mut running = Running::start("mosquitto", command, folder);
    running.wait_for(port);
    running
}

impl Site for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn plain(&self) -> u16 {
        self.ports[0]
    }

    fn tls(&self) -> Option<(u16, u16)> {
        Some((self.ports[1], self.ports[2]))
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn has_users(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        self.running = None;
        self.running = Some(run(self.certificates.folder(), self.ports[2]));
    }
}
