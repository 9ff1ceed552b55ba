//! Readiness by a command: run in a process group of its own, ended within a time, its last words kept for the operator.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::parent_death;

/// An interpreter that imports a client library starts within a second or two, also on a small box.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much of what a command says is kept: its end, where an error stands.
const LAST_WORDS_BYTES: usize = 400;

/// Runs the command once, with the server's port in `PORT`. Ready is exit code 0.
///
/// # Errors
/// Why it is not ready, in words, in one line.
pub(super) async fn check(argv: &[OsString], port: u16) -> Result<(), String> {
    let name = argv.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let (mut child, output) = start(argv, port).map_err(|error| format!("cannot run '{name}': {error}"))?;
    let _group = Group::of(&child);
    let mut words = LastWords::default();
    let ended = tokio::time::timeout(TIMEOUT, until_end(&mut child, &output, &mut words)).await;
    words.take_rest(output);
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("'{name}' ended with {status}{}", words.told())),
        Ok(Err(error)) => Err(format!("'{name}' was lost: {error}")),
        Err(_) => Err(format!("'{name}' was killed after {TIMEOUT:?}{}", words.told())),
    }
}

fn start(argv: &[OsString], port: u16) -> io::Result<(Child, pipe::Receiver)> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (reader, writer) = io::pipe()?;
    let mut command = std::process::Command::new(program);
    command.args(arguments).env("PORT", port.to_string()).process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    parent_death::killed_with_parent(&mut command);
    let child = Command::from(command).kill_on_drop(true).spawn()?;
    Ok((child, receiver(reader)?))
}

fn receiver(reader: PipeReader) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(OwnedFd::from(reader))
}

/// Reads while it waits: a command that says much must not wait for us.
async fn until_end(child: &mut Child, output: &pipe::Receiver, words: &mut LastWords) -> io::Result<ExitStatus> {
    let mut is_open = true;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            readable = output.readable(), if is_open => {
                readable?;
                is_open = words.take_some(output);
            }
        }
    }
}

/// The command's process group, killed when it is dropped: whatever the command left behind, and itself where it hangs
/// or the instance ends first.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _nobody_left = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The end of what a command said.
#[derive(Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    /// Takes what is there; `false` once nobody writes any more.
    fn take_some(&mut self, output: &pipe::Receiver) -> bool {
        let mut buffer = [0; 4096];
        match output.try_read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.keep(&buffer[..read]);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Takes what is left in the pipe, which holds 64 KiB: no more than sixteen buffers, whoever still writes. Asked of the
    /// system itself: the runtime may not have heard yet of what was written last.
    fn take_rest(&mut self, output: pipe::Receiver) {
        let Ok(output) = output.into_nonblocking_fd() else { return };
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            match nix::unistd::read(&output, &mut buffer) {
                Ok(read @ 1..) => self.keep(&buffer[..read]),
                _ => return,
            }
        }
    }

    fn keep(&mut self, said: &[u8]) {
        self.0.extend_from_slice(said);
        self.0.drain(..self.0.len().saturating_sub(LAST_WORDS_BYTES));
    }

    /// In one line, behind a colon.
    fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() { String::new() } else { format!(": {}", words.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<(), String> {
        check(&["sh", "-c", script].map(OsString::from), 4711).await
    }

    #[tokio::test]
    async fn exit_code_zero_is_ready_and_the_port_is_told() {
        assert_eq!(sh("test \"$PORT\" = 4711").await, Ok(()));
        let refused = sh("echo not yet; echo 'no model' >&2; exit 3").await.unwrap_err();
        assert_eq!(refused, "'sh' ended with exit status: 3: not yet no model");
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_named() {
        let refused = check(&[OsString::from("/no/such/check")], 1).await.unwrap_err();
        assert_eq!(refused, "cannot run '/no/such/check': No such file or directory (os error 2)");
    }

    #[tokio::test]
    async fn one_that_says_much_is_not_held_up_and_only_its_end_is_kept() {
        let refused = sh("yes word | head -c 300000; echo the end; exit 1").await.unwrap_err();
        assert!(refused.ends_with("word the end") && refused.len() < 500, "{refused}");
    }

    #[tokio::test]
    async fn what_it_left_in_the_background_is_ended_and_does_not_delay() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        assert_eq!(sh(&format!("sleep 1000 & echo $! > {}", file.display())).await, Ok(()));
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok() && is_running(pid) {
            assert!(std::time::Instant::now() < deadline, "{pid} is still there");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// An orphan whose new parent has not looked yet is a zombie, and ended all the same.
    fn is_running(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }
}
