//! One call of the program: a process in a group of its own that is fed one request, is read up to a limit, and is gone
//! with its group when the call is over, whatever ended it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::OwnedSemaphorePermit;

use super::ExecOptions;
use crate::AdapterError;

/// The most of an answer that is taken: a list of some thousand instances, each about 500 bytes.
pub(super) const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most of the program's standard error that is kept, its end: a traceback is shorter.
const WORDS_MAX_BYTES: usize = 16 * 1024;

/// What is read at once: a pipe holds this much.
const READ_BYTES: usize = 64 * 1024;

/// What the program keeps of the node's environment: enough to find programs. The rest may hold the node's secrets.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Any bit that lets somebody execute a file.
const EXECUTABLE_BITS: u32 = 0o111;

/// How a call went, as the system saw it.
#[derive(Debug)]
pub(super) struct Output {
    /// How the program ended; `None` if it was ended because it wrote too much.
    pub(super) exit: Option<ExitStatus>,
    pub(super) answer: Vec<u8>,
    /// The end of its standard error.
    pub(super) words: Vec<u8>,
    /// Whether more stood before `words`.
    pub(super) is_cut: bool,
}

/// A started program. Dropped before its end, it is killed with its group.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    /// One of the calls that may be made at once, given back when this one has left the process table.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not yet waited for, so that its id, and with it the group's, is still its own.
        if self.child.id().is_some() {
            kill_group(self.group);
        }
    }
}

/// Starts the program. Blocks for as long as the disk takes.
pub(super) fn start(options: &ExecOptions, permit: OwnedSemaphorePermit) -> Result<Running, AdapterError> {
    let program = find(options)?;
    make_state_dir(&options.state_dir)?;
    let mut command = Command::new(&program);
    command.args(&options.command[1..]).current_dir(&options.state_dir);
    command.env_clear().envs(environment(options));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| spawn_error(&program, error))?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    Ok(Running { child, group, _permit: permit })
}

impl Running {
    /// Feeds the request, and reads until the program ends or has written too much.
    pub(super) async fn finish(mut self, request: &[u8]) -> io::Result<Output> {
        let pipes = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = pipes else {
            return Err(io::Error::other("its standard streams are not pipes"));
        };
        let (mut answer, mut words) = (Answer::default(), Tail::default());
        // The exit ends the call, not the end of the pipes: a child of the program may hold them open for ever.
        let stopped = tokio::try_join!(
            feed(stdin, request),
            read(&mut stdout, &mut answer),
            read(&mut stderr, &mut words),
            exit(&mut self.child),
        );
        let exit = match stopped {
            Err(Stop::Exited(exit)) => Some(exit?),
            Err(Stop::TooMuch) => None,
            Ok((_, _, _, never)) => match never {},
        };
        // What it left behind in its group goes too. Its id was given back an instant ago, and ids go round before one
        // is used again.
        kill_group(self.group);
        if exit.is_some() {
            drain(&stdout, &mut answer);
        }
        drain(&stderr, &mut words);
        let exit = exit.filter(|_| answer.bytes.len() <= ANSWER_MAX_BYTES);
        Ok(Output { exit, answer: answer.bytes, words: words.bytes, is_cut: words.is_cut })
    }
}

/// Why a call's streams are no longer looked after.
enum Stop {
    Exited(io::Result<ExitStatus>),
    TooMuch,
}

async fn exit(child: &mut Child) -> Result<Infallible, Stop> {
    Err(Stop::Exited(child.wait().await))
}

/// A program may answer without reading all of its request: that the pipe breaks says nothing.
async fn feed(mut stdin: ChildStdin, request: &[u8]) -> Result<(), Stop> {
    let _ = stdin.write_all(request).await;
    Ok(())
}

/// Where a stream is read into.
trait Sink {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop>;
}

/// What was answered, up to one read more than the limit.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
}

impl Sink for Answer {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > ANSWER_MAX_BYTES { Err(Stop::TooMuch) } else { Ok(()) }
    }
}

/// The end of what was said.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Sink for Tail {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.bytes.extend_from_slice(bytes);
        let surplus = self.bytes.len().saturating_sub(WORDS_MAX_BYTES);
        self.is_cut |= surplus > 0;
        self.bytes.drain(..surplus);
        Ok(())
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), into: &mut impl Sink) -> Result<(), Stop> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => into.take(&buffer[..length])?,
        }
    }
}

/// Takes what an ended program left in a pipe. tokio's pipes do not block, so this ends where the pipe is empty.
fn drain(pipe: &impl AsFd, into: &mut impl Sink) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match nix::unistd::read(pipe, &mut buffer) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return,
            Ok(length) if into.take(&buffer[..length]).is_err() => return,
            Ok(_) => {}
        }
    }
}

fn kill_group(group: Option<Pid>) {
    // Nobody is left in it: as good.
    let _ = group.map(|group| killpg(group, Signal::SIGKILL));
}

fn environment(options: &ExecOptions) -> Vec<(OsString, OsString)> {
    let kept = KEPT_VARIABLES.into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let plain = options.env.iter().map(|(name, value)| (name.into(), value.into()));
    let secret = options.secrets.iter().map(|(name, value)| (name.into(), value.expose().into()));
    kept.chain(plain).chain(secret).collect()
}

/// The program's file: as named where the name holds a slash, else where `PATH` has it.
pub(super) fn find(options: &ExecOptions) -> Result<PathBuf, AdapterError> {
    let Some(name) = options.command.first().filter(|name| !name.is_empty()) else {
        return Err(AdapterError::bad_configuration("its command is empty: name the program to run"));
    };
    let candidates = if name.contains('/') {
        vec![std::path::absolute(name).unwrap_or_else(|_| name.into())]
    } else {
        let path = options.env.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(name)).collect()
    };
    let found = candidates.iter().find(|path| path.exists());
    match found {
        Some(path) if is_executable(path) => Ok(path.clone()),
        Some(path) => Err(AdapterError::bad_configuration(format!(
            "{} is not an executable file: name a program, or make it executable",
            path.display()
        ))),
        None => Err(AdapterError::bad_configuration(format!(
            "cannot find the program `{name}`: name it by its whole path, or by a name in PATH"
        ))),
    }
}

fn is_executable(path: &Path) -> bool {
    let bits = |metadata: std::fs::Metadata| metadata.is_file() && metadata.permissions().mode() & EXECUTABLE_BITS != 0;
    path.metadata().is_ok_and(bits)
}

/// Made when it is first needed, for its owner's eyes.
fn make_state_dir(path: &Path) -> Result<(), AdapterError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| {
        let message = format!("cannot make the directory {}: let this user write there", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AdapterError::transient(message),
            _ => AdapterError::bad_configuration(message),
        }
        .because(error)
    })
}

/// Sorts why the system would not start the program.
fn spawn_error(program: &Path, error: io::Error) -> AdapterError {
    use io::ErrorKind::{ArgumentListTooLong, InvalidInput, NotFound, PermissionDenied};
    let message = format!("cannot start {}", program.display());
    let sorted = match error.kind() {
        NotFound => AdapterError::bad_configuration(format!("{message}: its interpreter is not on this machine")),
        PermissionDenied => AdapterError::bad_configuration(format!("{message}: this user may not execute it")),
        ArgumentListTooLong | InvalidInput => {
            AdapterError::bad_configuration(format!("{message}: look at its arguments and its environment"))
        }
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            AdapterError::bad_configuration(format!("{message}: it is no program for this machine"))
        }
        // This machine is out of memory or processes, which says nothing about the room at the provider.
        _ => AdapterError::transient(message),
    };
    sorted.because(error)
}
