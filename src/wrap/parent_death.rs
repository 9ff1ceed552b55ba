//! Has the kernel kill a child when its parent dies, for the one case that the pipe cannot cover: a SIGKILL of the shim
//! itself. Alone in this file because only code between fork and exec can ask for it, and that is `unsafe`.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpid, getppid};

/// The command's process is killed when the calling thread ends, and starts with no signal blocked.
///
/// Call it, and spawn, on a thread that lives as long as the process: the kernel watches the thread that forked.
pub(super) fn killed_with_parent(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let before_exec = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the kernel was told to watch it.
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        // The shim blocks the signals that it waits for; a mask survives exec.
        SigSet::empty().thread_set_mask()?;
        Ok(())
    };
    // SAFETY: the closure runs in the forked child before exec. It makes three system calls (prctl, getppid,
    // sigprocmask), all async-signal-safe, allocates nothing, takes no lock and touches no state of the parent.
    unsafe { command.pre_exec(before_exec) }
}
