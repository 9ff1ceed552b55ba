//! The providers of the matrix: how each is set up, how its client is made in the node's process, and how its instances
//! are counted there. One more provider is one more file and a line in each match.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloud_adapters::{CloudAdapter, ReadyCheck};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegate::actors::burst::Workload;
use tidegate::logic::route::PublicKeyPin;

use super::AS_PART;
use super::support::process_table::{Process, processes};

#[path = "provider/docker.rs"]
pub(crate) mod docker;
#[path = "provider/exec.rs"]
mod exec;
#[path = "provider/process.rs"]
mod process;
#[path = "provider/ssh.rs"]
mod ssh;

/// A provider as the test itself sees it, behind the adapter's back. Dropped, it leaves nothing.
pub(crate) trait Provider: Send {
    /// How many instances of each launch run.
    fn alive(&self) -> BTreeMap<String, usize>;
    /// Whatever else runs there for an instance, in words: a server that outlived its wrapper, say.
    fn strays(&self) -> Vec<String>;

    /// What its instances wrote, where it is kept there and not in the node's log.
    fn log(&self) -> String {
        String::new()
    }

    /// Where a client that is not the node's reaches an instance, of which the node says that it is at `authority`;
    /// `None` where it has gone meanwhile.
    fn way(&self, _launch: &str, authority: &str, _pin: PublicKeyPin) -> Option<String> {
        Some(authority.to_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Process,
    Exec,
    Ssh,
    Docker,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Process, Kind::Exec, Kind::Ssh, Kind::Docker];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Exec => "exec",
            Self::Ssh => "ssh",
            Self::Docker => "docker",
        }
    }

    /// Sets a provider up in a directory of its own.
    pub(crate) fn open(self, home: &Path) -> Box<dyn Provider> {
        match self {
            Self::Process => Box::new(Here::new(home)),
            Self::Exec => Box::new(exec::open(home)),
            Self::Ssh => Box::new(ssh::open(home)),
            Self::Docker => Box::new(docker::open(home)),
        }
    }

    /// The real adapter, in the process of the node.
    pub(crate) fn client(self, home: &Path) -> Arc<dyn CloudAdapter> {
        match self {
            Self::Process => process::client(home),
            Self::Exec => exec::client(home),
            Self::Ssh => ssh::client(home),
            Self::Docker => docker::client(home),
        }
    }

    /// What is wrapped: this program once more.
    pub(crate) fn workload(self, home: &Path) -> Workload {
        let own = std::env::current_exe().expect("this program").display().to_string();
        let argv = [&[own.as_str()], &AS_PART[..]].concat().into_iter().map(str::to_owned).collect();
        let env = [(super::PART.to_owned(), "server".to_owned()), (super::HOME.to_owned(), home.display().to_string())];
        let mut workload = cloud_adapters::Workload { argv, env: env.into(), ..cloud_adapters::Workload::default() };
        if self == Self::Docker {
            docker::contain(&mut workload, home);
        }
        Workload { workload, ready: ReadyCheck::Http { path: "/ready".to_owned() }, concurrency: 4 }
    }

    /// Short, so that waiting for it costs little, and longer than a start there takes on a busy machine.
    pub(crate) fn lease(self) -> Duration {
        match self {
            Self::Process => Duration::from_secs(2),
            _ => Duration::from_secs(5),
        }
    }

    /// For one call: what it takes here, and time for a busy machine.
    pub(crate) fn deadline(self) -> Duration {
        match self {
            Self::Process => Duration::from_secs(1),
            // An interpreter starts for each call.
            Self::Exec => Duration::from_secs(3),
            // Several processes, or a daemon that starts containers for other cells too.
            Self::Ssh | Self::Docker => Duration::from_secs(5),
        }
    }

    /// A call that is cut in its middle is cut within so many milliseconds: about what it takes.
    pub(crate) fn cut_within_ms(self) -> u64 {
        match self {
            Self::Process => 15,
            Self::Exec | Self::Ssh => 150,
            Self::Docker => 400,
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("there is no adapter {name}"))
    }
}

/// The id of a cell's node: another for each cell, as a provider is shared.
pub(crate) fn node_of(home: &Path) -> String {
    let name = home.file_name().expect("a name").to_string_lossy().to_lowercase();
    let random = name.rsplit('-').next().unwrap_or_default();
    format!("gw-{random}")
}

/// Instances that are processes of this machine, told by the cell's directory in their arguments or environment.
pub(crate) struct Here {
    home: String,
}

impl Here {
    fn new(home: &Path) -> Self {
        Self { home: home.display().to_string() }
    }

    fn path(&self) -> &Path {
        Path::new(&self.home)
    }

    fn is_ours(&self, process: &Process) -> bool {
        let is_node = process.environment.iter().any(|variable| *variable == format!("{}=node", super::PART));
        let mut words = process.arguments.iter().chain(&process.environment);
        !is_node && words.any(|word| word.contains(&self.home))
    }

    /// Their wrappers. What one has just forked looks like it until it becomes something else.
    fn wrappers(&self, table: &[Process]) -> Vec<String> {
        let wrappers: Vec<&Process> = table.iter().filter(|p| p.is_instance() && self.is_ours(p)).collect();
        let is_copy = |process: &Process| wrappers.iter().any(|wrapper| wrapper.pid == process.parent);
        wrappers.iter().filter(|p| !is_copy(p)).filter_map(|p| Some(p.launch()?.to_owned())).collect()
    }
}

impl Provider for Here {
    fn alive(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        self.wrappers(&snapshot()).into_iter().for_each(|launch| *counted.entry(launch).or_default() += 1);
        counted
    }

    fn strays(&self) -> Vec<String> {
        processes().iter().filter(|process| self.is_ours(process)).map(|process| format!("{process:?}")).collect()
    }
}

impl Drop for Here {
    /// Until none is left: what is ended may have been about to start another.
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left: Vec<Pid> = processes().iter().filter(|p| self.is_ours(p)).map(|p| p.pid).collect();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in left {
                let _gone = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The process table as it was a moment ago; cells that run side by side share a look at it.
fn snapshot() -> Arc<Vec<Process>> {
    const FRESH: Duration = Duration::from_millis(60);
    static LAST: Mutex<Option<(Instant, Arc<Vec<Process>>)>> = Mutex::new(None);
    let mut last = LAST.lock().expect("the last look");
    match &*last {
        Some((at, table)) if at.elapsed() < FRESH => Arc::clone(table),
        _ => {
            let table = Arc::new(processes());
            *last = Some((Instant::now(), Arc::clone(&table)));
            table
        }
    }
}
