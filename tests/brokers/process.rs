//! A broker's process with all that it started, ended by its id.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::wait_until;

/// RabbitMQ starts an Erlang machine or two, and the box may be building other things.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Leads a process group of its own, which is killed when dropped.
pub(crate) struct Running {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Running {
    /// Starts a program of the broker; what it says goes to a file in `folder`.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let open = || std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(open()).stderr(open()).process_group(0);
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = command.env("PATH", path).spawn();
        Self { name, log, child: child.unwrap_or_else(|error| panic!("{name}: {error}; tests/run installs it")) }
    }

    /// Waits until it listens.
    pub(crate) fn wait_for(&mut self, port: u16) {
        wait_until(START_PATIENCE, &format!("{} listens at {port}", self.name), || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?}: {}", self.name, self.said());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{} said:\n{}", self.name, self.said());
        }
        // Fails only for one that has ended.
        let _gone = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _reaped = self.child.wait();
    }
}
