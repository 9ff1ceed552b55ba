//! The shim of a local replica: ties a server, and all that it starts in its process group, to a pipe.
//!
//! Whoever starts the shim holds the write end of its standard input. When that closes, whether by a clean stop or by a
//! SIGKILL of the holder, the shim ends the group. A SIGKILL of the shim itself is covered by `parent_death`. A process
//! that leaves the group (`setsid`) is out of its reach.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::{group, parent_death};

/// Stack of the two waiting threads: they call one system function each.
const STACK_BYTES: usize = 32 * 1024;

/// Exit code of a process that a signal ended, as shells count it: this plus the signal's number.
pub(super) const SIGNAL_EXIT: i32 = 128;

/// Events that wait for the one reader; a sender that waits for it loses nothing, since the kernel keeps the signal.
const WAITING_EVENTS: usize = 8;

/// What to run, and how patiently to end it.
#[derive(Clone, Debug)]
pub struct ShimOptions {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Between asking the group to end and killing it.
    pub grace: Duration,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// No command was given.
    #[error("no command to run; put it behind --")]
    NoCommand,
    /// The command did not start.
    #[error("cannot run '{program}': {source}; check that it is installed and executable")]
    Spawn {
        /// The program as given.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system refused a group, a signal mask or a thread.
    #[error("cannot watch over a server: {0}")]
    Watch(#[from] std::io::Error),
}

enum Event {
    /// The holder of the pipe is gone, or a signal asks to end.
    End,
    /// A child changed state.
    Child,
}

/// Runs the command until it ends or is to end, and returns the exit code to pass on: the command's own, or 128 plus
/// the number of the signal that ended it.
///
/// Blocks the calling thread, which must be the process's first: the server dies with it.
///
/// # Errors
/// See [`ShimError`].
pub fn shim(options: &ShimOptions) -> Result<u8, ShimError> {
    group::lead().map_err(std::io::Error::from)?;
    let signals = block_signals().map_err(std::io::Error::from)?;
    let mut child = spawn(&options.command)?;
    let events = watch(signals)?;
    let mut status = until_end(&mut child, &events);
    // Also where the server ended by itself: what it started goes with it.
    group::terminate_others();
    group::outlive_others(options.grace, || status = status.or_else(|| ended(&mut child)));
    Ok(exit_code(status.or_else(|| ended(&mut child))))
}

/// The signals that are waited for instead of taken: the shim must survive the SIGTERM that it sends to its group, and the
/// first process of a container passes them on.
pub(super) fn block_signals() -> nix::Result<SigSet> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
    signals.thread_block()?;
    Ok(signals)
}

fn spawn(command: &[OsString]) -> Result<Child, ShimError> {
    let (program, arguments) = command.split_first().ok_or(ShimError::NoCommand)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    parent_death::killed_with_parent(&mut command)
        .spawn()
        .map_err(|source| ShimError::Spawn { program: program.to_string_lossy().into_owned(), source })
}

fn watch(signals: SigSet) -> std::io::Result<Receiver<Event>> {
    let (events, received) = sync_channel(WAITING_EVENTS);
    let stdin_events = events.clone();
    thread("stdin", move || wait_for_end_of_stdin(&stdin_events))?;
    thread("signals", move || wait_for_signals(&signals, &events))?;
    Ok(received)
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body).map(drop)
}

fn wait_for_end_of_stdin(events: &SyncSender<Event>) {
    // Whatever the holder writes is ignored; an error is as good an end as the end itself.
    let _end = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let _already_ending = events.send(Event::End);
}

fn wait_for_signals(signals: &SigSet, events: &SyncSender<Event>) {
    loop {
        let event = match signals.wait() {
            Ok(Signal::SIGCHLD) => Event::Child,
            _ => Event::End,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// Waits for the child's own end (its status) or for being asked to end it (`None`).
fn until_end(child: &mut Child, events: &Receiver<Event>) -> Option<ExitStatus> {
    loop {
        match events.recv() {
            Ok(Event::Child) => {
                if let Some(status) = ended(child) {
                    return Some(status);
                }
            }
            Ok(Event::End) | Err(_) => return None,
        }
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().ok().flatten()
}

fn exit_code(status: Option<ExitStatus>) -> u8 {
    let code = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| SIGNAL_EXIT + signal)));
    // No status: it did not even end after SIGKILL within our patience.
    u8::try_from(code.unwrap_or(SIGNAL_EXIT + Signal::SIGKILL as i32)).unwrap_or(u8::MAX)
}
