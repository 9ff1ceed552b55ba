//! The far machine of the tests: this one, behind an sshd of the test's own on a loopback port, with its own keys and a
//! directory of its own. Nothing of it outlives the test, however that ends.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cloud_adapters::process::processes_of;
use cloud_adapters::{LaunchId, SshLimits, SshOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};
use tempfile::TempDir;

/// What an sshd may take to listen.
const START: Duration = Duration::from_secs(10);

pub(crate) struct Host {
    home: TempDir,
    servers: Mutex<Vec<Child>>,
    /// The port of the sshd that is as it should be.
    pub(crate) port: u16,
}

impl Host {
    /// A machine whose sshd takes our key for any command.
    pub(crate) fn new() -> Self {
        Self::with_keys_line("PUBLIC-KEY")
    }

    /// A machine whose sshd takes our key for the forced command of the policy that is shipped.
    pub(crate) fn with_policy() -> Self {
        let policy = std::fs::read_to_string(crate_file("policies/ssh-authorized-keys.txt")).expect("the policy");
        let lines: Vec<&str> = policy.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 1, "the policy is one line: {lines:?}");
        let host = Self::with_keys_line(lines[0]);
        std::fs::create_dir_all(host.root().join("bin")).expect("mkdir");
        std::fs::copy(crate_file("src/ssh/remote.sh"), host.root().join("bin/remote.sh")).expect("copy");
        host
    }

    fn with_keys_line(line: &str) -> Self {
        let home = tempfile::Builder::new().prefix("tg").tempdir().expect("a directory");
        let mut host = Self { home, servers: Mutex::default(), port: 0 };
        for key in ["host-key", "key", "other-key"] {
            host.make_key(key);
        }
        let public = std::fs::read_to_string(host.path("key.pub")).expect("the public key");
        let root = format!("{}/bin", host.root().display());
        host.write("authorized_keys", line.replace("PUBLIC-KEY", public.trim()).replace(".tidegate/bin", &root));
        host.port = host.serve("");
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The adapter's directory on the far side.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("far")
    }

    pub(crate) fn run_dir(&self, launch: &LaunchId) -> PathBuf {
        self.root().join("instances").join(launch.as_str())
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("write");
        path
    }

    pub(crate) fn program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        path
    }

    fn make_key(&self, name: &str) {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(self.path(name));
        assert!(keygen.status().expect("ssh-keygen").success());
    }

    /// Starts one more sshd on the same files, with lines of its own in its configuration; its port.
    pub(crate) fn serve(&self, more: &str) -> u16 {
        self.serve_with("/usr/local/bin:/usr/bin:/bin", more)
    }

    /// As [`serve`](Self::serve), where programs are found elsewhere. The home is an empty one: what this user's shell
    /// reads at its start is no part of the test.
    pub(crate) fn serve_with(&self, programs: &str, more: &str) -> u16 {
        let environment = format!("SetEnv HOME={} PATH={programs}", self.home.path().display());
        if getuid().is_root() {
            // What sshd shuts itself into before a login; a package makes it at boot.
            std::fs::create_dir_all("/run/sshd").expect("mkdir");
        }
        let deadline = Instant::now() + START;
        loop {
            let port = free_port();
            let config = format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\nAuthorizedKeysFile {}\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n{environment}\n{more}\n",
                self.path("host-key").display(),
                self.path("authorized_keys").display()
            );
            let config = self.write(&format!("sshd-{port}"), config);
            let log = std::fs::File::create(self.path(&format!("sshd-{port}.log"))).expect("log");
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let mut child = sshd.spawn().expect("openssh-server is installed");
            if answers(port, &mut child, deadline) {
                self.servers.lock().expect("servers").push(child);
                self.know(port, "host-key");
                return port;
            }
            let _ = child.kill();
            let _ = child.wait();
            assert!(Instant::now() < deadline, "sshd does not listen");
        }
    }

    /// Ends every sshd; connections that are open stay.
    pub(crate) fn stop_serving(&self) {
        for mut server in self.servers.lock().expect("servers").drain(..) {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Writes a port's key down as the known one.
    pub(crate) fn know(&self, port: u16, key: &str) -> PathBuf {
        let public = std::fs::read_to_string(self.path(&format!("{key}.pub"))).expect("a key");
        self.write(&format!("known-{port}-{key}"), format!("[127.0.0.1]:{port} {public}"))
    }

    pub(crate) fn options_at(&self, port: u16) -> SshOptions {
        SshOptions {
            host: "127.0.0.1".into(),
            port: Some(port),
            user: Some(User::from_uid(getuid()).expect("users").expect("this user").name),
            key: Some(self.path("key")),
            known_hosts: Some(self.know(port, "host-key")),
            config_file: None,
            program: crate_file("tests/stand-in.sh"),
            directory: self.root().display().to_string(),
            max_instances: None,
            limits: SshLimits::default(),
            state_dir: self.path("state"),
        }
    }

    /// Runs one command over there as a user with the key would; what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-p", &self.port.to_string()]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", self.know(self.port, "host-key").display()));
        ssh.arg("-i").arg(self.path("key")).arg("127.0.0.1").args(arguments).stdin(Stdio::null());
        let output = ssh.output().expect("ssh");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// What the least command takes over the connection that an adapter holds: five of them.
    pub(crate) fn time_true(&self) -> Vec<Duration> {
        let adapters = std::fs::read_dir(self.path("state/ssh")).expect("sockets").flatten();
        let mut sockets = adapters.flat_map(|entry| std::fs::read_dir(entry.path()).expect("sockets").flatten());
        let socket = sockets.next().expect("a connection").path();
        let run = || {
            let asked = Instant::now();
            let mut ssh = Command::new("ssh");
            ssh.args(["-F", "none", "-S"]).arg(&socket).args(["far-side", "true"]).stdin(Stdio::null());
            assert!(ssh.status().expect("ssh").success());
            asked.elapsed()
        };
        (0..5).map(|_| run()).collect()
    }

    /// The `ssh` processes that hold a connection of this test.
    pub(crate) fn clients(&self) -> Vec<u32> {
        let state = self.path("state").display().to_string();
        let is_client = |pid: &u32| {
            let arguments = cloud_adapters::contract::arguments(*pid);
            arguments.first().is_some_and(|name| name == "ssh")
                && arguments.iter().any(|text| text == "ControlMaster=yes")
                && arguments.iter().any(|text| text.contains(&state))
        };
        all_processes().into_iter().filter(is_client).collect()
    }

    /// The arguments of every process that has to do with this test.
    pub(crate) fn command_lines(&self) -> Vec<String> {
        let home = self.home.path().display().to_string();
        let lines = all_processes().into_iter().map(|pid| cloud_adapters::contract::arguments(pid).join(" "));
        lines.filter(|line| line.contains(&home)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let instances = std::fs::read_dir(self.root().join("instances")).into_iter().flatten().flatten();
        for pid in instances.flat_map(|entry| processes_of(&entry.path())) {
            signal(pid, Signal::SIGKILL);
        }
        self.stop_serving();
        for pid in self.clients() {
            signal(pid, Signal::SIGKILL);
        }
    }
}

pub(crate) fn crate_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    // Gone already is as good.
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal);
}

fn all_processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    listener.local_addr().expect("an address").port()
}

/// Whether an ssh server greets on the port before the deadline; not if the process has ended.
fn answers(port: u16, child: &mut Child, deadline: Instant) -> bool {
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        let mut greeting = [0; 4];
        let greeted = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .and_then(|mut stream| stream.read_exact(&mut greeting));
        if greeted.is_ok() {
            return &greeting == b"SSH-";
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
