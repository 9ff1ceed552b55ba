//! A control group with so much memory and no more, of either version of the kernel's interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::wait_until;

/// Removed when it is dropped, once what ran in it has ended.
pub(crate) struct Cgroup {
    path: PathBuf,
    files: &'static Files,
}

/// What the two versions call the same things.
struct Files {
    parent: &'static str,
    limit: &'static str,
    peak: &'static str,
    /// Has the line `oom_kill N`.
    events: &'static str,
}

const VERSION_1: Files = Files {
    parent: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    events: "memory.oom_control",
};
const VERSION_2: Files =
    Files { parent: "/sys/fs/cgroup", limit: "memory.max", peak: "memory.peak", events: "memory.events" };

fn files() -> &'static Files {
    if Path::new(VERSION_1.parent).is_dir() { &VERSION_1 } else { &VERSION_2 }
}

impl Cgroup {
    pub(crate) fn new(name: &str, limit_bytes: u64) -> Self {
        let files = files();
        if files.parent == VERSION_2.parent {
            write(Path::new(files.parent).join("cgroup.subtree_control").as_path(), "+memory");
        }
        let path = Path::new(files.parent).join(format!("tidegate-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("no control group {}: {error}", path.display()));
        write(&path.join(files.limit), &limit_bytes.to_string());
        // Without swap, as on a gateway. Where there is no such file, the kernel has none.
        if path.join("memory.swap.max").exists() {
            write(&path.join("memory.swap.max"), "0");
        }
        Self { path, files }
    }

    /// Where a process writes its number to be in none of them.
    pub(crate) fn outside() -> PathBuf {
        Path::new(files().parent).join("cgroup.procs")
    }

    /// Where a process writes its number to be in it.
    pub(crate) fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.read(self.files.peak).trim().parse().unwrap()
    }

    /// How many processes the kernel has killed in it for want of memory.
    pub(crate) fn killed(&self) -> u64 {
        let events = self.read(self.files.events);
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap_or_else(|| panic!("no oom_kill in {events:?}")).parse().unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{} = {text}: {error}", path.display()));
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _stays_with_its_members = fs::remove_dir(&self.path);
            return;
        }
        wait_until(Duration::from_secs(10), "the control group is empty", || fs::remove_dir(&self.path).ok());
    }
}
