//! The first process of a container, which the kernel makes the parent of every orphan in it and sends no signal that it
//! does not wait for. It runs the wrapper as its child, buries who is left to it, and passes on the two signals that ask
//! for an end. The wrapper itself waits for its own children only, so no exit status goes astray between the two.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::parent_death;
use super::shim::{SIGNAL_EXIT, block_signals};

/// Whether this process is the first of its container.
pub fn is_first_process() -> bool {
    getpid() == Pid::from_raw(1)
}

/// Runs this program again, with the same arguments, as a child of this process, and returns the child's exit code.
///
/// Blocks the calling thread, which must be the process's only one.
///
/// # Errors
/// The child cannot be started, or the system refuses to wait for signals.
pub fn init() -> io::Result<u8> {
    let signals = block_signals()?;
    let wrapper = spawn()?;
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = bury(wrapper) {
                    return Ok(code);
                }
            }
            // The wrapper may have ended a moment ago; its exit code is on the way.
            signal @ (Signal::SIGTERM | Signal::SIGINT) => drop(kill(wrapper, signal)),
            // A terminal that is gone is no reason to end.
            _ => {}
        }
    }
}

/// In a process group of its own: a terminal's Ctrl-C would reach it twice, and two of them mean "now".
fn spawn() -> io::Result<Pid> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).stdin(Stdio::null()).process_group(0);
    let child = parent_death::killed_with_parent(&mut command).spawn()?;
    i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
}

/// Takes the exit status of every child that has ended; gives the wrapper's exit code if it is among them.
fn bury(wrapper: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, exit)) if pid == wrapper => code = Some(exit_code(exit)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == wrapper => {
                code = Some(exit_code(SIGNAL_EXIT + signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left.
            Err(_) => return code,
        }
    }
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}
