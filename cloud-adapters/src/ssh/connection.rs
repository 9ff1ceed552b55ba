//! The one connection that all calls share: made by the first call, made again by the first call after its end.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::client::{self, CONNECT_TIMEOUT};
use super::socket::SocketDir;
use super::trouble::Trouble;
use super::{SshOptions, blocking_io};

/// What connecting may take beyond the way there: key exchange and login on a slow box.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the end of a client that said why may take.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a word to our own connection may take: it never leaves this machine.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// The last lines that the connection said which are kept, and how much of each.
const KEPT_LINES: usize = 20;
const KEPT_LINE_MAX_BYTES: usize = 500;

/// The most that is read of an answer: a few hundred instances.
const ANSWER_MAX_BYTES: u64 = 256 * 1024;

/// The most that is read of what a client says when it fails.
const COMPLAINT_MAX_BYTES: u64 = 16 * 1024;

/// What the far side says once it has let us in: our own word, sent back.
const WORD: &str = "tidegate-is-here";

/// Makes the connection when it is needed.
#[derive(Debug)]
pub(super) struct Line {
    options: Arc<SshOptions>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Arc<Connection>>,
    sockets: Option<Arc<SocketDir>>,
    made: u64,
    failed: Option<(Instant, Trouble)>,
}

/// A connection; ended when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    /// Tells this connection from the one before it.
    pub(super) number: u64,
    far: String,
    socket: PathBuf,
    said: Said,
    is_over: Arc<AtomicBool>,
    _sockets: Arc<SocketDir>,
    _held: ChildStdin,
    _end: oneshot::Sender<()>,
}

type Said = Arc<Mutex<VecDeque<String>>>;

/// What a client printed, and how it ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) answer: Vec<u8>,
    pub(super) complaint: String,
}

/// What a command reads.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Line {
    pub(super) fn new(options: Arc<SshOptions>) -> Self {
        Self { options, state: tokio::sync::Mutex::default() }
    }

    /// The connection, which is made if there is none. Those who wait for the same one are told the same trouble, so
    /// that a box that is away costs each of them one wait.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Trouble> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|connection| !connection.is_over()) {
            return Ok(Arc::clone(connection));
        }
        if let Some((_, trouble)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(trouble.clone());
        }
        state.connection = None;
        state.made += 1;
        let made = self.make(&mut state).await;
        match &made {
            Ok(connection) => state.connection = Some(Arc::clone(connection)),
            Err(trouble) => state.failed = Some((Instant::now(), trouble.clone())),
        }
        made
    }

    async fn make(&self, state: &mut State) -> Result<Arc<Connection>, Trouble> {
        let options = Arc::clone(&self.options);
        blocking_io(move || client::check(&options)).await?;
        let sockets = match &state.sockets {
            Some(sockets) => Arc::clone(sockets),
            None => self.make_sockets().await?,
        };
        state.sockets = Some(Arc::clone(&sockets));
        let attempt = timeout(CONNECT_TIMEOUT + LOGIN_TIMEOUT, Connection::open(&self.options, sockets, state.made));
        attempt.await.unwrap_or_else(|_| {
            let far = client::far(&self.options);
            Err(Trouble::transient(format!("{far} did not let us in within {:?}", CONNECT_TIMEOUT + LOGIN_TIMEOUT)))
        })
    }

    async fn make_sockets(&self) -> Result<Arc<SocketDir>, Trouble> {
        let state_dir = self.options.state_dir.clone();
        let shown = state_dir.display().to_string();
        let made = blocking_io(move || Ok(SocketDir::make(&state_dir))).await?;
        made.map(Arc::new).map_err(|error| {
            let message =
                format!("cannot make a directory for the ssh connection in {shown}: let this user write there");
            Trouble::bad_configuration(message).saying(&error.to_string())
        })
    }
}

impl Connection {
    async fn open(options: &SshOptions, sockets: Arc<SocketDir>, number: u64) -> Result<Arc<Self>, Trouble> {
        let (far, socket) = (client::far(options), sockets.socket(number));
        let mut command = client::master(options, &socket);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().map_err(no_client)?;
        let (Some(mut held), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Trouble::transient("the pipes to ssh are missing"));
        };
        let said = Said::default();
        let listening = tokio::spawn(keep_lines(stderr, Arc::clone(&said)));
        // That it cannot be written shows in what is read, with the reason.
        let _ = held.write_all(format!("{WORD}\n").as_bytes()).await;
        if !is_let_in(stdout).await {
            let status = timeout(EXIT_TIMEOUT, child.wait()).await;
            let _ = timeout(EXIT_TIMEOUT, listening).await;
            return Err(not_let_in(&far, status.ok().and_then(Result::ok), &said));
        }
        let (end, ended) = oneshot::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        tokio::spawn(hold(child, ended, Arc::clone(&is_over)));
        Ok(Arc::new(Self { number, far, socket, said, is_over, _sockets: sockets, _held: held, _end: end }))
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether the connection said something; what it says of a forward is said nowhere else.
    pub(super) fn has_said(&self, words: &str) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(words))
    }

    /// Runs one command over there.
    pub(super) async fn run(&self, words: &str, input: Input, patience: Duration) -> Result<Output, Trouble> {
        let command = client::over(&self.socket, words);
        timeout(patience, output(command, input)).await.unwrap_or_else(|_| {
            Err(Trouble::transient(format!("{} did not answer within {patience:?}; ask again", self.far)))
        })
    }

    /// Forwards a port of this machine's loopback to an address over there.
    pub(super) async fn forward(&self, forward: &str) -> Result<(), Trouble> {
        self.tell("forward", forward).await
    }

    pub(super) async fn cancel(&self, forward: &str) -> Result<(), Trouble> {
        self.tell("cancel", forward).await
    }

    async fn tell(&self, word: &str, forward: &str) -> Result<(), Trouble> {
        let told = timeout(CONTROL_TIMEOUT, output(client::control(&self.socket, word, forward), Input::Nothing)).await;
        let failed = || Trouble::transient(format!("cannot {word} {forward} over the connection to {}", self.far));
        let told = told.map_err(|_| failed())??;
        if told.status.success() { Ok(()) } else { Err(failed().saying(&told.complaint)) }
    }
}

/// Waits for the connection's end, or for nobody to need it any more.
async fn hold(mut child: Child, ended: oneshot::Receiver<()>, is_over: Arc<AtomicBool>) {
    tokio::select! {
        _ = child.wait() => {}
        _ = ended => {
            let _ = child.kill().await;
        }
    }
    is_over.store(true, Ordering::Release);
}

/// Whether our word comes back. A login script may say something first.
async fn is_let_in(stdout: ChildStdout) -> bool {
    let mut lines = BufReader::new(stdout.take(ANSWER_MAX_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.trim_end() == WORD {
            return true;
        }
    }
    false
}

fn not_let_in(far: &str, status: Option<ExitStatus>, said: &Said) -> Trouble {
    let printed: Vec<String> = said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    let printed = printed.join("\n");
    match status.and_then(|status| status.code()) {
        Some(code) if code != CLIENT_FAILED => {
            let message = format!("{far} let us in and would not run a command (exit status {code})");
            Trouble::transient(message).saying(&printed)
        }
        _ => Trouble::of_ssh(far, &printed),
    }
}

/// The exit status with which `ssh` says that it failed itself; any other is the far command's.
pub(super) const CLIENT_FAILED: i32 = 255;

async fn keep_lines(stderr: impl AsyncRead + Unpin, said: Said) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // In pieces, so that a line without an end does not grow here.
        let piece = (&mut reader).take(KEPT_LINE_MAX_BYTES as u64).read_until(b'\n', &mut line).await;
        if piece.is_err() || line.is_empty() {
            return;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        if said.len() > KEPT_LINES {
            said.pop_front();
        }
    }
}

async fn output(mut command: Command, input: Input) -> Result<Output, Trouble> {
    let bytes = prepare(&mut command, input).await?;
    let mut child = command.spawn().map_err(no_client)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ((), answer, complaint, status) = tokio::join!(
        feed(stdin, bytes),
        read_bounded(stdout, ANSWER_MAX_BYTES),
        read_bounded(stderr, COMPLAINT_MAX_BYTES),
        child.wait()
    );
    let status = status.map_err(|error| Trouble::transient("cannot wait for ssh").saying(&error.to_string()))?;
    Ok(Output { status, answer, complaint: String::from_utf8_lossy(&complaint).into_owned() })
}

/// Gives the command its input; what has to be written to it once it runs.
async fn prepare(command: &mut Command, input: Input) -> Result<Vec<u8>, Trouble> {
    match input {
        Input::Nothing => Ok(Vec::new()),
        Input::Bytes(bytes) => {
            command.stdin(Stdio::piped());
            Ok(bytes)
        }
        Input::File(path) => {
            let shown = path.display().to_string();
            let opened = blocking_io(move || Ok(std::fs::File::open(path))).await?;
            let file = opened.map_err(|error| {
                Trouble::bad_configuration(format!("cannot read {shown}")).saying(&error.to_string())
            })?;
            command.stdin(Stdio::from(file));
            Ok(Vec::new())
        }
    }
}

/// A far side that stops reading has answered already, or never will: either shows in its answer.
async fn feed(stdin: Option<ChildStdin>, bytes: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&bytes).await;
        let _ = stdin.shutdown().await;
    }
}

/// Reads to the end and keeps what is within the bound: an answer that is longer is one that broke off.
async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = (&mut pipe).take(most).read_to_end(&mut read).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    read
}

fn no_client(error: io::Error) -> Trouble {
    let trouble = match error.kind() {
        io::ErrorKind::NotFound => {
            Trouble::bad_configuration("there is no ssh program on this machine: install openssh-client")
        }
        io::ErrorKind::PermissionDenied => Trouble::bad_configuration("this user may not run the ssh program"),
        _ => Trouble::transient("cannot start ssh"),
    };
    trouble.saying(&error.to_string())
}
