//! What the machine has to give: its cores, how many are idle, and what processes a demo left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::host::probe::Probe;

/// How long idleness is measured.
const LOOK: Duration = Duration::from_millis(500);
/// Idle cores below this make times a matter of chance: the burst needs a core that the surge has not taken.
const ENOUGH_IDLE_CORES: f64 = 1.6;

/// The machine as the demo found it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The cores that this process may use.
    pub(super) cores: Vec<usize>,
    /// How many of them had nothing to do before the demo began.
    pub(super) idle_cores: f64,
}

impl Machine {
    pub(super) fn has_two_idle_cores(&self) -> bool {
        self.idle_cores >= ENOUGH_IDLE_CORES
    }
}

/// Measures for half a second.
pub(super) fn look() -> Machine {
    let cores = usable_cores();
    let mut probe = Probe::new(None);
    std::thread::sleep(LOOK);
    let busy = probe.read(LOOK).cpu.unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
    let idle_cores = cores.len() as f64 * (1.0 - busy);
    Machine { cores, idle_cores }
}

pub(super) fn usable_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// The processes that are our children or were started with something below `directory`, as the process table has them.
pub(super) fn processes_of(directory: &Path) -> Vec<String> {
    let own = std::process::id();
    let Ok(table) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = table.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = pids.filter(|pid| *pid != own).filter_map(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
        let mentions = command.contains(&*directory.to_string_lossy());
        (mentions || parent(pid) == Some(own)).then(|| format!("{pid} {}", command.trim()))
    });
    ours.collect()
}

/// The fourth field of the process table's line, behind the name in parentheses.
fn parent(pid: u32) -> Option<u32> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_and_a_process_named_by_directory_are_found_and_gone_when_they_end() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let line = format!("{} cat", child.id());
        // Between its fork and its exec it carries another name.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !processes_of(Path::new("/nonexistent-demo")).contains(&line) {
            assert!(std::time::Instant::now() < deadline, "{line} is not seen");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!processes_of(Path::new("/nonexistent-demo")).contains(&line));
    }
}
