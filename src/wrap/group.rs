//! The processes of a process group, found in the process table, so that the shim can end all of them but itself.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, getpid, setpgid};

/// How often a group is looked at while its members end.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long killed processes may take to leave the table: one that hangs in a system call leaves late, or never.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Makes the calling process the leader of its group, where it is not: its group must hold nobody else.
pub(super) fn lead() -> nix::Result<()> {
    if getpgrp() == getpid() { Ok(()) } else { setpgid(Pid::from_raw(0), Pid::from_raw(0)) }
}

/// Asks everyone in the caller's group to end. The caller must have SIGTERM blocked.
pub(super) fn terminate_others() {
    // Nobody left is as good as done.
    let _nobody = killpg(getpgrp(), Signal::SIGTERM);
}

/// Waits until the caller is alone in its group; kills who is still there after `grace`.
///
/// `reap` is called at each look, so that an ended child is no longer there at the next.
pub(super) fn outlive_others(grace: Duration, mut reap: impl FnMut()) {
    if alone_within(grace, &mut reap) {
        return;
    }
    let deadline = Instant::now() + KILL_PATIENCE;
    while Instant::now() < deadline {
        // Again at each look: a member may have forked while it was killed.
        for pid in others() {
            let _already_gone = kill(pid, Signal::SIGKILL);
        }
        if alone_within(LOOK_INTERVAL * 5, &mut reap) {
            return;
        }
    }
}

fn alone_within(patience: Duration, reap: &mut impl FnMut()) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        reap();
        if others().is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Everyone alive in the caller's group but the caller.
fn others() -> Vec<Pid> {
    let (group, own) = (getpgrp(), getpid());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| *pid != own && group_of(*pid) == Some(group)).collect()
}

/// The group of a process; `None` where it is gone or only waits to be reaped.
fn group_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

/// proc(5): `pid (name) state ppid pgrp …`, where the name may hold anything, a closing bracket too.
fn parse_stat(stat: &str) -> Option<Pid> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Pid::from_raw(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        assert_eq!(parse_stat("7 (a) S (b) S 3 42 42 0"), Some(Pid::from_raw(42)));
        assert_eq!(parse_stat("7 (sh) Z 3 42 42 0"), None);
        assert_eq!(parse_stat("nonsense"), None);
    }
}
