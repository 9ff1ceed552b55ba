//! Child processes of the node: local replicas under their shim, each ending when the node's end of a pipe closes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::service_manager::OWN_VARIABLES;

/// A longer line of a replica's output is cut there.
const MAX_LINE_BYTES: u64 = 4_096;

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Added to the environment.
    pub environment: BTreeMap<String, String>,
    /// Named in the log beside each line that it prints.
    pub service: String,
    /// Named in the log too.
    pub replica: String,
}

/// A running child. Dropping it closes its pipe, upon which it ends itself.
pub struct ChildProcess {
    child: Child,
    /// The process group: its leader is the child, and the number stays taken while anything of it lives.
    group: Option<i32>,
    _lifeline: Option<ChildStdin>,
}

impl ChildProcess {
    /// Starts the program in a process group of its own (Ctrl-C at a terminal must not reach it before the node decided),
    /// with a pipe as standard input and its output in the log.
    pub fn start(program: &Program) -> io::Result<Self> {
        let mut command = Command::new(&program.path);
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        let mut child = command
            .args(&program.arguments)
            .envs(&program.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(output) = child.stdout.take() {
            tokio::spawn(log_lines(output, program.service.clone(), program.replica.clone()));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(log_lines(output, program.service.clone(), program.replica.clone()));
        }
        let lifeline = child.stdin.take();
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self { child, group, _lifeline: lifeline })
    }

    /// The process id, until it ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to end; it finishes what it has in flight.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends it and its group at once.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) else { return };
        let target = if signal == Signal::SIGKILL { Pid::from_raw(-pid) } else { Pid::from_raw(pid) };
        if let Err(errno) = kill(target, signal) {
            tracing::debug!(%errno, pid, ?signal, "signal not delivered");
        }
    }

    /// How it ended, or `None` while it runs. What it left in its group (a shim that was killed leaves the server's own
    /// children) ends with it.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            self.end_group();
        }
        Ok(ended)
    }

    fn end_group(&self) {
        if let Some(group) = self.group
            && let Err(errno) = kill(Pid::from_raw(-group), Signal::SIGKILL)
            && errno != Errno::ESRCH
        {
            tracing::debug!(%errno, group, "what was left of a replica's group was not ended");
        }
    }
}

async fn log_lines(output: impl AsyncRead + Unpin, service: String, replica: String) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        tracing::info!(target: "tidegate::replica", service, replica, "{}", text.trim_end());
    }
}
