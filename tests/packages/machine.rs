//! A machine of the test's own, with a real systemd as its first process: this one's root behind a copy-on-write view, in
//! namespaces of its own. Everything in it ends, and every change to it is gone, when it is dropped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{PATIENCE, wait_until};

pub(crate) struct Machine {
    // In the order in which they go: first the processes, then what they used.
    unshare: Child,
    first: u32,
    cgroup: String,
    _folder: TempDir,
}

impl Machine {
    /// Boots, and waits until its services are up.
    pub(crate) fn boot() -> Self {
        let folder = tempfile::Builder::new().prefix("tidegate-machine-").tempdir().unwrap();
        let cgroup = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/boot");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "--propagation=private"]);
        command.args(["--kill-child=SIGKILL", "--"]).arg(boot).arg(folder.path()).arg(&cgroup);
        let unshare = command.stdin(Stdio::null()).process_group(0).spawn().expect("unshare starts");
        let first = wait_until(PATIENCE, "the machine has a first process", || only_child(unshare.id()));
        let machine = Self { unshare, first, cgroup, _folder: folder };
        machine.wait("the machine is up", "systemctl is-active multi-user.target");
        machine
    }

    /// A shell command in it.
    pub(crate) fn run(&self, command: &str) -> Output {
        let target = self.first.to_string();
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &target, "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--"]);
        enter.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"]);
        enter.args(["sh", "-c", command]).stdin(Stdio::null()).output().expect("nsenter starts")
    }

    /// What a command prints; fails with what it says if it fails.
    pub(crate) fn out(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn succeeds(&self, command: &str) -> bool {
        self.run(command).status.success()
    }

    /// Waits until a command succeeds; gives what it prints.
    pub(crate) fn wait(&self, what: &str, command: &str) -> String {
        wait_until(PATIENCE, what, || {
            let output = self.run(command);
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        })
    }

    /// A path of the machine, as it is called outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.first))
    }

    /// Brings a package in; gives its path there.
    pub(crate) fn bring(&self, package: &Path) -> String {
        let name = package.file_name().unwrap().to_str().unwrap();
        std::fs::copy(package, self.path("/packages").join(name)).unwrap();
        format!("/packages/{name}")
    }

    /// What the service's journal says.
    pub(crate) fn log(&self) -> String {
        self.out("journalctl --unit tidegate.service --output cat --no-pager")
    }
}

/// All that a command said.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn only_child(pid: u32) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.run("journalctl --no-pager --lines 60 _TRANSPORT=stdout + _TRANSPORT=journal + _TRANSPORT=syslog; systemctl --no-pager --failed");
            eprintln!("--- the machine's journal ---\n{}--- end ---", said(&log));
        }
        // All that runs there ends with its first process, which `unshare` ends with itself.
        let _gone = self.unshare.kill();
        let _reaped = self.unshare.wait();
        remove_cgroup(&self.cgroup);
    }
}

/// Groups can be removed once they are empty, the inner ones first; the last processes are just being buried.
fn remove_cgroup(name: &str) {
    for top in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let group = format!("{top}/{name}");
        let deadline = Instant::now() + Duration::from_secs(5);
        while Path::new(&group).exists() && Instant::now() < deadline {
            let _again =
                Command::new("find").args([&group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).output();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
