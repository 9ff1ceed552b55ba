//! A real `sshd` on loopback, with keys of its own, whose sessions find the test's daemon as their docker.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::engine::{Engine, free_port};

const START_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct SecureShell {
    daemon: Child,
    pub(crate) port: u16,
    /// For a client that knows the host and is known to it.
    pub(crate) config: PathBuf,
    /// For a client that takes the host for another.
    pub(crate) config_of_a_stranger: PathBuf,
}

impl SecureShell {
    /// In the engine's own directory.
    pub(crate) fn start(engine: &Engine) -> Self {
        let program = "/usr/sbin/sshd";
        // What the session runs at the other end.
        assert!(Path::new("/usr/bin/docker").exists(), "install docker.io");
        let port = free_port();
        // Where sshd locks up its unprivileged half.
        fs::create_dir_all("/run/sshd").expect("mkdir");
        for key in ["host-key", "other-host-key", "client-key"] {
            make_key(&engine.path(key));
        }
        let config = engine.path("sshd_config");
        fs::write(&config, server_config(engine, port)).expect("write");
        let log = fs::File::create(engine.path("sshd.log")).expect("a log");
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let config = client_config(engine, port, "host-key");
        let config_of_a_stranger = client_config(engine, port, "other-host-key");
        let mut shell =
            Self { daemon: command.spawn().expect("openssh-server is installed"), port, config, config_of_a_stranger };
        shell.wait_until_it_listens(engine);
        shell
    }

    fn wait_until_it_listens(&mut self, engine: &Engine) {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(engine.path("sshd.log")).unwrap_or_default();
            let ended = self.daemon.try_wait().expect("wait");
            assert!(ended.is_none() && Instant::now() < deadline, "sshd does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for SecureShell {
    fn drop(&mut self) {
        let _ = self.daemon.kill().and_then(|()| self.daemon.wait());
    }
}

fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen").success());
}

fn server_config(engine: &Engine, port: u16) -> String {
    let at = |name: &str| engine.path(name).display().to_string();
    let (key, clients, socket) = (at("host-key"), at("client-key.pub"), engine.socket().display().to_string());
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {key}\nAuthorizedKeysFile {clients}\nStrictModes no\nUsePAM no\n\
         PidFile none\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv DOCKER_HOST=unix://{socket}\n"
    )
}

fn client_config(engine: &Engine, port: u16, host_key: &str) -> PathBuf {
    let (known, config) = (engine.path(&format!("known-{host_key}")), engine.path(&format!("ssh-{host_key}")));
    let key = fs::read_to_string(engine.path(&format!("{host_key}.pub"))).expect("a key");
    fs::write(&known, format!("[127.0.0.1]:{port} {key}")).expect("write");
    let (known, identity) = (known.display(), engine.path("client-key"));
    let text = format!(
        "Host *\nUserKnownHostsFile {known}\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n\
         IdentitiesOnly yes\nIdentityFile {}\n",
        identity.display()
    );
    fs::write(&config, text).expect("write");
    config
}
