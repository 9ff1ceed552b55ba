//! A node under a service manager: what it tells systemd, when it feeds the watchdog, and the sockets that it is given.

mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use cloud_adapters::contract::is_left_out_without_root;
use nix::sys::signal::Signal;
use support::disk::Disk;
use support::http::read_answer;
use support::{Home, Node, PATIENCE, Spec, free_port, wait_until};

/// The service manager's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(home: &Home) -> Self {
        let path = home.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path }
    }

    fn of(&self, spec: Spec) -> Spec {
        spec.env("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    /// The next message, if there is one.
    fn heard(&self) -> Option<String> {
        let mut buffer = [0; 4_096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    fn wait_for(&self, start: &str) -> String {
        wait_until(PATIENCE, start, || self.heard().filter(|message| message.starts_with(start)))
    }

    fn forget(&self) {
        while self.heard().is_some() {}
    }
}

#[test]
fn a_node_says_when_it_serves_and_when_it_stops() {
    let home = Home::new();
    let manager = Manager::listen(&home);
    let node = home.start(&manager.of(Spec::new()));
    let ready = manager.wait_for("READY=1\n");
    assert_eq!(ready, format!("READY=1\nSTATUS=1 services at http://{}\n", node.addresses.gateway));
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let last = manager.wait_for("STOPPING=1\n");
    assert!(last.contains("STATUS=draining"), "{last}");
    assert_eq!(manager.heard(), None, "there was no watchdog to feed, and nothing is said after the goodbye");
}

#[test]
fn what_a_service_manager_gives_the_node_is_not_for_its_replicas() {
    let home = Home::new();
    let manager = Manager::listen(&home);
    let spec = manager.of(Spec::new()).env("WATCHDOG_USEC", "60000000");
    let _node = home.start(&spec);
    let replicas = home.processes();
    assert!(!replicas.is_empty());
    for replica in replicas {
        let environment = fs::read(format!("/proc/{}/environ", replica.pid)).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.contains(support::TAG), "the right process was looked at");
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
    }
}

#[test]
fn a_node_of_which_all_parts_go_on_feeds_the_watchdog_again_and_again() {
    let home = Home::new();
    let manager = Manager::listen(&home);
    let _node = home.start(&manager.of(Spec::new()).env("WATCHDOG_USEC", "1000000"));
    for _ in 0..5 {
        assert_eq!(manager.wait_for("WATCHDOG=1"), "WATCHDOG=1\n");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_journal_whose_disk_hangs_starves_the_watchdog_while_requests_are_answered_and_feeds_it_again_after() {
    if is_left_out_without_root("a disk of its own") {
        return;
    }
    let home = Home::new();
    let disk = Disk::make(&home);
    let manager = Manager::listen(&home);
    let state = format!("[node]\nstate_dir = {:?}", path(&disk.mounted.join("state")));
    let node = home.start(&manager.of(Spec::new().with(&state)).env("WATCHDOG_USEC", "2000000"));
    manager.wait_for("WATCHDOG=1");
    let frozen = disk.hang();
    // The overflow asks for an instance, whose intent has to be on disk first.
    let load = node.load(6);
    let trouble = wait_until(PATIENCE, "the journal is missed", || {
        let answer = node.console("/healthz");
        (answer.status == 503).then(|| answer.text())
    });
    assert!(trouble.starts_with("the journal has made no progress for"), "{trouble}");
    manager.forget();
    let answered = (0..20).filter(|_| node.infer(&[0; 64]).status == 200).count();
    assert_eq!(answered, 20, "serving needs no disk");
    assert_eq!((manager.heard(), node.console("/healthz").status), (None, 503), "the watchdog is not fed");
    assert!(node.log().contains("watchdog is not fed"), "{}", node.log());
    drop(frozen);
    manager.wait_for("WATCHDOG=1");
    assert_eq!(node.console("/healthz").status, 200);
    load.stop().assert_sound();
    assert_eq!(node.terminate().code, Some(0));
}

/// systemd's own program that opens sockets, waits for a first connection and then becomes the program.
fn activated(home: &Home, sockets: &[(u16, &str)], spec: &Spec) -> Command {
    let config = home.config(spec);
    let mut command = home.tidegate(&[], &[]);
    let tidegate = command.get_program().to_owned();
    let environment: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = Command::new("systemd-socket-activate");
    command.args(sockets.iter().map(|(port, _)| format!("--listen=127.0.0.1:{port}")));
    command.arg(format!("--fdname={}", sockets.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(":")));
    // It clears the environment but for what is named.
    for (name, value) in &environment {
        command.arg(format!("--setenv={}={}", name.to_str().unwrap(), value.to_str().unwrap()));
    }
    command.arg(tidegate).args(["run", "-c"]).arg(config);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A connection, as soon as there is a socket to connect to: only that starts the node behind it.
fn first_connection(port: u16) -> JoinHandle<TcpStream> {
    std::thread::spawn(move || {
        wait_until(PATIENCE, "there is a socket", || TcpStream::connect(("127.0.0.1", port)).ok())
    })
}

#[test]
fn a_connection_that_came_before_the_node_is_answered_by_it() {
    let home = Home::new();
    let (port, console) = (free_port(), free_port());
    let spec = Spec::new()
        .with(&format!("[gateway]\nlisten = \"127.0.0.1:{port}\"\n[console]\nlisten = \"127.0.0.1:{console}\""));
    let first = first_connection(port);
    let node = Node::spawn(activated(&home, &[(console, "console"), (port, "gateway")], &spec));
    assert_eq!(node.addresses.gateway, format!("127.0.0.1:{port}"));
    assert_eq!(node.console("/healthz").status, 200, "at the other socket");
    let mut first = BufReader::new(first.join().unwrap());
    first.get_mut().write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: gateway\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut first).unwrap().status, 200);
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn a_socket_that_the_configuration_does_not_expect_is_refused_with_what_to_change() {
    for (name, listen, told) in [
        ("gateway", "127.0.0.1:1", "the service manager's socket \"gateway\" is open at 127.0.0.1:"),
        ("front", "127.0.0.1:0", "the service manager passes a socket named \"front\", which this node does not serve"),
        ("peers", "127.0.0.1:0", "\"peers\" needs gateway.peer_listen"),
        ("gateway:gateway", "127.0.0.1:0", "passes two sockets named \"gateway\""),
    ] {
        let home = Home::new();
        let port = free_port();
        let sockets: Vec<(u16, &str)> =
            name.split(':').zip([port, free_port()]).map(|(name, port)| (port, name)).collect();
        let spec = Spec::new().with(&format!("[gateway]\nlisten = {listen:?}"));
        let first = first_connection(port);
        let ended = home.finish(activated(&home, &sockets, &spec));
        assert_eq!(ended.code, Some(2), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{name}: {}", ended.stderr);
        drop(first.join().unwrap());
    }
}

#[test]
fn a_signal_before_ready_is_a_stop_too() {
    let home = Home::new();
    let manager = Manager::listen(&home);
    let node = home.start_unready(&manager.of(Spec::new()));
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait().code, Some(0));
    manager.wait_for("STOPPING=1\n");
}

#[test]
fn a_service_manager_that_is_gone_does_not_hold_the_node() {
    let home = Home::new();
    let spec = Spec::new().env("NOTIFY_SOCKET", path(&home.path().join("nobody.sock"))).env("WATCHDOG_USEC", "1000000");
    let node = home.start(&spec);
    let warned = || node.log().contains("was not told").then_some(());
    wait_until(Duration::from_secs(30), "the node says that nobody listens", warned);
    assert_eq!((node.infer(&[0; 64]).status, node.console("/healthz").status), (200, 200));
}
