//! A real `dockerd` of one test's own: its data, socket, bridge and containerd are private, and all of it is gone when the
//! test ends, however it ends. What it runs is asked of its API here, not through the adapter.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloud_adapters::contract::is_left_out_without_root;
use cloud_adapters::docker::own_image::libraries_of;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::certificates::{self, Files};

#[path = "bridge.rs"]
mod bridge;

use bridge::Bridge;

/// A daemon that starts beside others on two cores.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a daemon without containers may take to end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// What tests run in: busybox and the stand-in for the wrapper.
pub(crate) const IMAGE: &str = "tidegate-test:1";

/// The static one needs nothing else; another brings its libraries.
const BUSYBOX: &str = "/bin/busybox";

pub(crate) struct Engine {
    home: TempDir,
    daemon: Child,
    pub(crate) bridge: Bridge,
    pub(crate) tcp_port: u16,
}

impl Engine {
    /// A running daemon with the test's image; `None` where tests that need root are left out.
    pub(crate) fn start() -> Option<Self> {
        if is_left_out_without_root("a Docker daemon") {
            return None;
        }
        let missing = missing();
        assert!(missing.is_none(), "no Docker daemon can be started here: {missing:?}");
        let home = tempfile::Builder::new().prefix("tgd").tempdir().expect("a directory");
        let tcp_port = free_port();
        certificates::make(home.path());
        let bridge = Bridge::add();
        let daemon = spawn(home.path(), &bridge.name, tcp_port);
        let mut engine = Self { home, daemon, bridge, tcp_port };
        engine.wait_until_it_answers();
        engine.import(IMAGE, &[("USER", "")], &image());
        Some(engine)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    pub(crate) fn certificates(&self) -> Files {
        Files::in_directory(self.home.path())
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while UnixStream::connect(self.socket()).is_err() || self.api("GET", "/_ping", &[]).0 != 200 {
            let ended = self.daemon.try_wait().expect("wait");
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "dockerd does not start ({ended:?}): {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request, answered with status and body.
    pub(crate) fn api(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let answer = self.try_api(method, path, body);
        answer.unwrap_or_else(|error| (0, error.to_string()))
    }

    fn try_api(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket())?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )?;
        // A daemon that refuses a body does not read it to its end, and says why all the same.
        let sent = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer.is_empty() {
            sent?;
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, body.to_owned()))
    }

    /// Makes an image of a tar archive, with settings.
    pub(crate) fn import(&self, name: &str, settings: &[(&str, &str)], tar: &[u8]) {
        let (repository, tag) = name.split_once(':').expect("a tag");
        let changes = settings.iter().filter(|(_, value)| !value.is_empty());
        let changes: String = changes.map(|(key, value)| format!("&changes={key}%20{value}")).collect();
        let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}{changes}");
        let (status, answer) = self.api("POST", &path, tar);
        assert!(status == 200 && !answer.contains("error"), "{status} {answer}");
    }

    /// The ids of the running containers that carry a launch's label.
    pub(crate) fn running(&self, launch: &str) -> Vec<String> {
        let filters = format!("%7B%22label%22%3A%5B%22tidegate.launch%3D{launch}%22%5D%7D");
        let (status, answer) = self.api("GET", &format!("/containers/json?filters={filters}"), &[]);
        assert_eq!(status, 200, "{answer}");
        let containers: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("a list");
        containers.iter().map(|container| container["Id"].as_str().expect("an id").to_owned()).collect()
    }

    /// What the daemon tells anyone about a launch's container.
    pub(crate) fn inspect(&self, launch: &str) -> serde_json::Value {
        let (status, answer) = self.api("GET", &format!("/containers/tidegate-{launch}/json"), &[]);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).expect("json")
    }

    /// All that a launch's container has written.
    pub(crate) fn log(&self, launch: &str) -> String {
        self.api("GET", &format!("/containers/tidegate-{launch}/logs?stdout=1&stderr=1"), &[]).1
    }

    /// Ends a launch's container as a crash would.
    pub(crate) fn kill(&self, launch: &str) {
        let (status, answer) = self.api("POST", &format!("/containers/tidegate-{launch}/kill"), &[]);
        assert!(status == 204, "{status} {answer}");
    }

    fn remove_containers(&self) {
        let answer = self.api("GET", "/containers/json?all=1", &[]).1;
        let containers: Vec<serde_json::Value> = serde_json::from_str(&answer).unwrap_or_default();
        for id in containers.iter().filter_map(|container| container["Id"].as_str()) {
            self.api("DELETE", &format!("/containers/{id}?force=1&v=1"), &[]);
        }
    }

    /// Stops the daemon's process without a word, and lets it go on.
    pub(crate) fn pause(&self) {
        kill(pid(&self.daemon), Signal::SIGSTOP).expect("signal");
    }

    pub(crate) fn resume(&self) {
        kill(pid(&self.daemon), Signal::SIGCONT).expect("signal");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test that failed may have left it stopped.
        let _ = kill(pid(&self.daemon), Signal::SIGCONT);
        self.remove_containers();
        let _ = kill(pid(&self.daemon), Signal::SIGTERM);
        let deadline = Instant::now() + END_TIMEOUT;
        while matches!(self.daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // What a daemon that did not end would leave: itself, its containerd, its mounts.
        let _ = self.daemon.kill().and_then(|()| self.daemon.wait());
        let containerd = fs::read_to_string(self.path("exec/containerd/containerd.pid"));
        if let Some(containerd) = containerd.ok().and_then(|text| text.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(containerd), Signal::SIGKILL);
        }
        unmount_below(self.home.path());
    }
}

fn missing() -> Option<String> {
    let programs = ["dockerd", "busybox", "ip", "openssl", "setpriv"];
    let is_there = |name: &&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|directory| Path::new(directory).join(name).exists())
    };
    let missing = programs.into_iter().find(|name| !is_there(name))?;
    Some(format!("`{missing}` is not installed (docker.io, busybox-static, iproute2, openssl, util-linux)"))
}

fn spawn(home: &Path, bridge: &str, tcp_port: u16) -> Child {
    let at = |name: &str| home.join(name).display().to_string();
    let log = File::create(home.join("log")).expect("a log");
    // Ends with the test's thread, should that be killed before it can end the daemon itself.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "dockerd", "--bridge", bridge]);
    command.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
    command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("docker.pid")]);
    command.args(["-H", &format!("unix://{}", at("docker.sock")), "-H", &format!("tcp://127.0.0.1:{tcp_port}")]);
    command.args(["--tlsverify", "--tlscacert", &at("ca.pem")]);
    command.args(["--tlscert", &at("server.pem"), "--tlskey", &at("server-key.pem")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("setpriv")
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Busybox, the stand-in, a user, and the directories that programs expect.
pub(crate) fn image() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "bin/busybox", &fs::read(BUSYBOX).expect("busybox"), 0o755);
    // For one that is not the static one.
    add_libraries(&mut tar, &[Path::new(BUSYBOX)]);
    add(&mut tar, "usr/local/bin/tidegate", include_bytes!("stand-in.sh"), 0o755);
    add(&mut tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:1234:567::/:/bin/sh\n", 0o644);
    for applet in ["sh", "sleep", "nc", "echo", "kill", "cat", "stat", "id", "dd", "head", "tail"] {
        link(&mut tar, &format!("bin/{applet}"));
    }
    tar.into_inner().expect("an archive")
}

/// What programs are linked to, each library once and where it lies here.
pub(crate) fn add_libraries(tar: &mut tar::Builder<Vec<u8>>, programs: &[&Path]) {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let libraries_of = |program| runtime.block_on(libraries_of(program)).expect("libraries");
        programs.iter().copied().flat_map(libraries_of).collect::<BTreeSet<_>>()
    };
    // A thread of its own: the test may be inside a runtime already.
    let libraries = std::thread::scope(|scope| scope.spawn(ask).join()).expect("no panic");
    for library in libraries {
        add(tar, inside(&library), &fs::read(&library).expect("a library"), 0o755);
    }
}

/// The path in an archive of what lies at `path` here.
pub(crate) fn inside(path: &Path) -> &str {
    path.to_str().expect("a path of text").trim_start_matches('/')
}

pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content).expect("append");
}

fn link(tar: &mut tar::Builder<Vec<u8>>, path: &str) {
    link_to(tar, path, "busybox");
}

pub(crate) fn link_to(tar: &mut tar::Builder<Vec<u8>>, path: &str, to: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mtime(0);
    tar.append_link(&mut header, path, to).expect("append");
}

fn unmount_below(home: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(home)) {
        let _ = Command::new("umount").args(["-l", point]).status();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
}
