//! `ssh HOST docker system dial-stdio`, as docker itself does it: the daemon's API on the standard streams of a command.
//! Keys, known hosts and jumps are the system's `ssh` and its configuration's.

use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::greet;
use crate::AdapterError;
use crate::docker::target::Target;

/// No question may be asked, a dead host is noticed, and nothing is forwarded.
const OPTIONS: [&str; 9] = [
    "-T",
    "-oBatchMode=yes",
    "-oConnectTimeout=10",
    "-oServerAliveInterval=15",
    "-oServerAliveCountMax=2",
    "-oForwardAgent=no",
    "-oForwardX11=no",
    "-oClearAllForwardings=yes",
    "-oLogLevel=ERROR",
];

/// The most that is kept of what `ssh` says when it fails.
const LAST_WORDS_MAX_BYTES: u64 = 4096;

/// How long a failed `ssh` may take to say why and end.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// What `ssh`, or the docker at the other end, says where a person has to change something.
const FOR_A_PERSON: [&str; 8] = [
    "permission denied",
    "host key verification failed",
    "host identification has changed",
    "not found",
    "bad configuration option",
    "bad owner or permissions",
    "no such file or directory",
    "can't open user config file",
];

/// The standard streams of a running `ssh`, which ends with them.
pub(super) struct SshStream {
    streams: Join<ChildStdout, ChildStdin>,
    _child: Child,
}

/// A connection through `ssh` on which the daemon has answered once.
pub(super) async fn over(
    target: &Target,
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    config: Option<&Path>,
) -> Result<SshStream, AdapterError> {
    let mut child = command(user, host, port, config).spawn().map_err(|error| {
        AdapterError::bad_configuration("cannot start `ssh`: install an OpenSSH client").because(error)
    })?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(AdapterError::transient("`ssh` was started without its streams"));
    };
    let mut stream = SshStream { streams: tokio::io::join(stdout, stdin), _child: child };
    match greet(&mut stream).await {
        Ok(()) => {
            tokio::spawn(drain(stderr));
            Ok(stream)
        }
        Err(error) => Err(sorted(target, &last_words(stderr).await, error)),
    }
}

fn command(user: Option<&str>, host: &str, port: Option<u16>, config: Option<&Path>) -> Command {
    let mut command = Command::new("ssh");
    if let Some(config) = config {
        command.arg("-F").arg(config);
    }
    command.args(OPTIONS);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host, "docker", "system", "dial-stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Its words are sorted, so they have to be the ones that are known; and Ctrl-C in the node's terminal drains instances,
    // for which the connection is still needed.
    command.env("LC_ALL", "C").process_group(0);
    command
}

async fn last_words(stderr: ChildStderr) -> String {
    let mut words = Vec::new();
    // Whatever came until then is what there is to tell.
    let mut stderr = stderr.take(LAST_WORDS_MAX_BYTES);
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, stderr.read_to_end(&mut words)).await;
    String::from_utf8_lossy(&words).trim().to_owned()
}

/// Reads on what `ssh` says later, so that it never waits for a reader.
async fn drain(mut stderr: ChildStderr) {
    // Its end is the connection's, which is told elsewhere.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

fn sorted(target: &Target, words: &str, error: io::Error) -> AdapterError {
    let lower = words.to_lowercase();
    let shown = &target.shown;
    if FOR_A_PERSON.iter().any(|part| lower.contains(part)) {
        return AdapterError::bad_configuration(format!("ssh to {shown} does not work: {words}")).because(error);
    }
    let words = if words.is_empty() { "the connection ended" } else { words };
    AdapterError::transient(format!("ssh to {shown} failed: {words}")).because(error)
}

impl AsyncRead for SshStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().streams).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().streams).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().streams).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().streams).poll_shutdown(cx)
    }
}
