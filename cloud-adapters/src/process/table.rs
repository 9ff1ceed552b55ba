//! The process table: which processes belong to an instance, and signals to them.
//!
//! Every process of an instance carries its directory in the environment, which children inherit whatever group or
//! session they move to. So a server that outlived its wrapper is found, and a reused process id is not mistaken.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The variable of an instance's environment that holds its directory.
pub(super) const MARK: &str = "TIDEGATE_INSTANCE_DIR";

/// The ids of all processes of the instance in a directory: its wrapper, the server, and their children. Zombies, which
/// have ended, are not among them.
pub fn processes_of(run_dir: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id() && carries_mark(*pid, run_dir).unwrap_or(false))
        .collect()
}

fn carries_mark(pid: u32, run_dir: &Path) -> io::Result<bool> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let mark = [MARK.as_bytes(), b"=", run_dir.as_os_str().as_encoded_bytes()].concat();
    Ok(environment.split(|byte| *byte == 0).any(|variable| variable == mark))
}

/// Asks a wrapper to drain and end. A process that is known to be another's is left alone.
pub(super) fn ask_to_end(pid: i32, run_dir: &Path) -> Result<(), Errno> {
    if is_foreign(pid, run_dir) { Ok(()) } else { ignore_gone(kill(Pid::from_raw(pid), Signal::SIGTERM)) }
}

/// Ends a wrapper and its group at once.
pub(super) fn kill_group(pid: i32, run_dir: &Path) -> Result<(), Errno> {
    if is_foreign(pid, run_dir) {
        return Ok(());
    }
    ignore_gone(killpg(Pid::from_raw(pid), Signal::SIGKILL))?;
    ignore_gone(kill(Pid::from_raw(pid), Signal::SIGKILL))
}

/// Ends every process of an instance at once; how many there were.
pub(super) fn sweep(run_dir: &Path) -> Result<usize, Errno> {
    let pids = processes_of(run_dir);
    for pid in pids.iter().filter_map(|pid| i32::try_from(*pid).ok()) {
        ignore_gone(kill(Pid::from_raw(pid), Signal::SIGKILL))?;
    }
    Ok(pids.len())
}

/// Whether a process can be read and does not carry the mark. Where it cannot be read the lock's word is taken.
fn is_foreign(pid: i32, run_dir: &Path) -> bool {
    u32::try_from(pid).is_ok_and(|pid| matches!(carries_mark(pid, run_dir), Ok(false)))
}

fn ignore_gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        result => result,
    }
}
