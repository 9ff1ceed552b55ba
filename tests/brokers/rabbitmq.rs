//! RabbitMQ of the system with its MQTT plugin: its own folder, node name, cookie and name server (epmd), all on loopback.

use std::path::Path;
use std::process::Command;

use crate::certificates::Certificates;
use crate::process::{Running, free_port};
use crate::site::{LOGIN, NODE, Site};

/// Debian's own start script changes to another user and to system folders; this is the one behind it.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

pub(crate) struct RabbitMq {
    /// Before its name server and its folder, so that it ends first.
    server: Option<Running>,
    /// RabbitMQ would leave one of its own behind.
    _epmd: Running,
    certificates: Certificates,
    /// Plain, TLS, epmd and the port between Erlang nodes.
    ports: [u16; 4],
}

impl RabbitMq {
    pub(crate) fn start() -> Self {
        let certificates = Certificates::make();
        certificates.node("ca", "node", NODE);
        certificates.node("other-ca", "foreign", NODE);
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let folder = certificates.folder();
        std::fs::write(folder.join("rabbitmq.conf"), config(folder, ports)).unwrap();
        std::fs::write(folder.join("plugins"), "[rabbitmq_mqtt].\n").unwrap();
        std::fs::write(folder.join("definitions.json"), definitions()).unwrap();
        let mut epmd = Running::start("epmd", epmd(ports[2]), folder);
        epmd.wait_for(ports[2]);
        let mut own = Self { server: None, _epmd: epmd, certificates, ports };
        own.restart();
        own
    }
}

fn epmd(port: u16) -> Command {
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    command
}

/// One setting of TLS for all listeners: a certificate may be shown, and one of a strange authority is refused.
fn config(folder: &Path, [plain, tls, ..]: [u16; 4]) -> String {
    let folder = folder.display();
    format!(
        "listeners.tcp = none\nlog.console = true\nlog.file = false\nload_definitions = {folder}/definitions.json\n\
         mqtt.listeners.tcp.1 = 127.0.0.1:{plain}\nmqtt.listeners.ssl.1 = 127.0.0.1:{tls}\nmqtt.allow_anonymous = false\n\
         mqtt.ssl_cert_login = true\nssl_cert_login_from = common_name\nssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = false\nssl_options.cacertfile = {folder}/ca.pem\n\
         ssl_options.certfile = {folder}/server.pem\nssl_options.keyfile = {folder}/server-key.pem\n"
    )
}

fn definitions() -> String {
    let user = |name: &str, password: &str| serde_json::json!({"name": name, "password": password, "tags": ""});
    let may =
        |name: &str| serde_json::json!({"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"});
    serde_json::json!({
        "vhosts": [{"name": "/"}],
        "users": [user(LOGIN.0, LOGIN.1), user(NODE, "only its certificate opens")],
        "permissions": [may(LOGIN.0), may(NODE)],
    })
    .to_string()
}

impl Site for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn plain(&self) -> u16 {
        self.ports[0]
    }

    fn tls(&self) -> Option<(u16, u16)> {
        Some((self.ports[1], self.ports[1]))
    }

    fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    fn has_users(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        self.server = None;
        let [plain, tls, epmd, between_nodes] = self.ports;
        let folder = self.certificates.folder();
        let mut command = Command::new(SERVER);
        for (name, file) in [
            ("HOME", "home"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
            ("RABBITMQ_PID_FILE", "pid"),
            ("RABBITMQ_CONF_ENV_FILE", "none"),
        ] {
            command.env(name, folder.join(file));
        }
        std::fs::create_dir_all(folder.join("home")).unwrap();
        // What it remembers goes with it, as at the others.
        let _first_time = std::fs::remove_dir_all(folder.join("mnesia"));
        command.env("RABBITMQ_NODENAME", format!("tidegate-{plain}@localhost"));
        command.env("RABBITMQ_DIST_PORT", between_nodes.to_string());
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", epmd.to_string());
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        let mut server = Running::start("rabbitmq-server", command, folder);
        server.wait_for(plain);
        server.wait_for(tls);
        self.server = Some(server);
    }
}
