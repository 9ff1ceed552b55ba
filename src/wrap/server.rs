//! The wrapped server's process: under a shim of its own, on a port that was free.
//!
//! The wrapper holds the pipe to the shim, so a wrapper that is killed leaves no server behind.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

/// What the shim exits with where the command does not start, as shells do.
const NOT_STARTED: i32 = 127;

/// Stands for the server's port in its command.
const PORT_PLACEHOLDER: &[u8] = b"{port}";

/// What the shim may take beyond the grace that it gives, before its group is killed over its head.
const SHIM_MARGIN: Duration = Duration::from_secs(4);

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    shim: Child,
    /// Closing it ends the server.
    pipe: Option<ChildStdin>,
    group: Option<Pid>,
    grace: Duration,
    /// Named where it could not be started.
    program: String,
}

impl Server {
    /// Starts the command, with `{port}` replaced and `PORT` set.
    pub(super) fn start(command: &[OsString], port: u16, grace: Duration) -> io::Result<Self> {
        let mut shim = Command::new(std::env::current_exe()?)
            .args(["wrap", "--shim", "--grace"])
            .arg(format!("{}ms", grace.as_millis()))
            .arg("--")
            .args(command.iter().map(|argument| with_port(argument, port)))
            .env("PORT", port.to_string())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = shim.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let program = command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { pipe: shim.stdin.take(), shim, group, grace, program })
    }

    /// Waits for the server's own end, and describes how it ended.
    pub(super) async fn exited(&mut self) -> String {
        match self.shim.wait().await {
            Ok(status) if status.code() == Some(NOT_STARTED) => {
                format!("code {NOT_STARTED}: check that '{}' is installed and executable here", self.program)
            }
            Ok(status) => describe(status),
            Err(error) => format!("an unknown status: {error}"),
        }
    }

    /// Ends it: SIGTERM, then SIGKILL after the grace. Returns when the process is gone.
    pub(super) async fn end(mut self) {
        drop(self.pipe.take());
        let ended = tokio::time::timeout(self.grace + SHIM_MARGIN, self.shim.wait()).await;
        if !matches!(ended, Ok(Ok(status)) if status.code().is_some()) {
            self.kill_group().await;
        }
    }

    /// The shim hangs or was killed: whatever is left in its group has nobody else to end it.
    async fn kill_group(&mut self) {
        if let Some(group) = self.group {
            let _nobody_left = killpg(group, Signal::SIGKILL);
        }
        let _already_reaped = self.shim.wait().await;
    }
}

/// A port that nobody listens on at this moment. Another process may take it before the server does; then the server
/// fails and the instance ends with that reason.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn with_port(argument: &OsStr, port: u16) -> OsString {
    let (mut rest, mut replaced) = (argument.as_bytes(), Vec::new());
    while let Some(start) = rest.windows(PORT_PLACEHOLDER.len()).position(|window| window == PORT_PLACEHOLDER) {
        replaced.extend_from_slice(&rest[..start]);
        replaced.extend_from_slice(port.to_string().as_bytes());
        rest = &rest[start + PORT_PLACEHOLDER.len()..];
    }
    replaced.extend_from_slice(rest);
    OsString::from_vec(replaced)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_becomes_the_port() {
        assert_eq!(with_port(OsStr::new("--bind=127.0.0.1:{port},[::1]:{port}"), 80), "--bind=127.0.0.1:80,[::1]:80");
        assert_eq!(with_port(OsStr::new("{por}t"), 80), "{por}t");
        let not_utf8 = OsStr::from_bytes(b"\xff{port}");
        assert_eq!(with_port(not_utf8, 80), OsStr::from_bytes(b"\xff80"));
    }
}
