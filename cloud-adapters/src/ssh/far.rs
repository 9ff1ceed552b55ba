//! The far side: the remote program, brought there by digest and asked one verb at a time over the shared connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::answer::{Answer, NoAnswer};
use super::connection::{CLIENT_FAILED, Connection, Input, Line, Output};
use super::store::{self, Digests};
use super::trouble::Trouble;
use super::tunnels::Tunnels;
use super::{SshOptions, client};
use crate::AdapterError;

/// The remote program.
const REMOTE: &str = include_str!("remote.sh");

/// What one verb may take. The longest waits for other launches and looks for a fraction of a second.
const VERB_TIMEOUT: Duration = Duration::from_secs(30);

/// What a copy may take: a program of 50 MB at 0.3 Mbit/s.
const COPY_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Sessions at once on the one connection, of the ten that an sshd allows where nothing else is set: one holds it, one
/// copies, three end instances, which may take a while each, and four ask what is quick to tell.
const ASKING_MAX: usize = 4;
const STOPPING_MAX: usize = 3;

/// One far machine, as all clones of an adapter share it.
#[derive(Debug)]
pub(super) struct FarSide {
    pub(super) options: Arc<SshOptions>,
    pub(super) line: Line,
    pub(super) tunnels: Tunnels,
    pub(super) digests: Digests,
    pub(super) copying: tokio::sync::Mutex<()>,
    installing: tokio::sync::Mutex<()>,
    asking: Semaphore,
    stopping: Semaphore,
    /// The far side's directory, absolute, once it has told.
    root: Mutex<Option<String>>,
    program_digest: String,
}

/// What the remote program is asked to do.
#[derive(Debug, Clone)]
pub(super) enum Verb<'a> {
    Hello,
    Probe,
    Launch,
    Describe(&'a str),
    List,
    Stop(&'a str),
    Has(&'a str),
    Try(&'a str),
    Put { digest: &'a str, is_program: bool },
}

impl Verb<'_> {
    fn words(&self) -> String {
        match self {
            Self::Hello => "hello".to_owned(),
            Self::Probe => "probe".to_owned(),
            Self::Launch => "launch".to_owned(),
            Self::Describe(launch) => format!("describe {launch}"),
            Self::List => "list".to_owned(),
            Self::Stop(launch) => format!("stop {launch}"),
            Self::Has(digest) => format!("has {digest}"),
            Self::Try(digest) => format!("try {digest}"),
            Self::Put { digest, is_program: true } => format!("put {digest} program"),
            Self::Put { digest, is_program: false } => format!("put {digest} data"),
        }
    }

    fn patience(&self) -> Duration {
        if matches!(self, Self::Put { .. }) { COPY_TIMEOUT } else { VERB_TIMEOUT }
    }
}

/// Why a verb has no answer: it can be mended by bringing the program, or not.
enum Unanswered {
    NotInstalled(Trouble),
    Failed(Trouble),
}

impl FarSide {
    pub(super) fn new(options: SshOptions) -> Self {
        let options = Arc::new(options);
        Self {
            line: Line::new(Arc::clone(&options)),
            options,
            tunnels: Tunnels::default(),
            digests: Digests::default(),
            copying: tokio::sync::Mutex::default(),
            installing: tokio::sync::Mutex::default(),
            asking: Semaphore::new(ASKING_MAX),
            stopping: Semaphore::new(STOPPING_MAX),
            root: Mutex::default(),
            program_digest: store::digest_of(REMOTE),
        }
    }

    pub(super) fn name(&self) -> String {
        client::far(&self.options)
    }

    /// Asks one verb, bringing the remote program first where it is missing. An answer that refuses is an error.
    pub(super) async fn ask(&self, verb: &Verb<'_>, input: Input) -> Result<Answer, AdapterError> {
        let answer = self.answer(verb, input).await?;
        match answer.refusal() {
            None => Ok(answer),
            Some((code, words)) => Err(self.refused(code, words).into()),
        }
    }

    /// As [`ask`](Self::ask), where a refusal is an answer.
    pub(super) async fn answer(&self, verb: &Verb<'_>, input: Input) -> Result<Answer, AdapterError> {
        let connection = self.line.connection().await?;
        let _session = self.session(verb).await;
        match self.once(&connection, verb, input.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(Unanswered::Failed(trouble)) => return Err(trouble.into()),
            Err(Unanswered::NotInstalled(_)) => self.install(&connection).await?,
        }
        match self.once(&connection, verb, input).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::Failed(trouble) | Unanswered::NotInstalled(trouble)) => Err(trouble.into()),
        }
    }

    /// A place among the sessions that one connection has; copies wait for each other already.
    async fn session(&self, verb: &Verb<'_>) -> Option<tokio::sync::SemaphorePermit<'_>> {
        match verb {
            Verb::Put { .. } => None,
            Verb::Stop(_) => self.stopping.acquire().await.ok(),
            _ => self.asking.acquire().await.ok(),
        }
    }

    async fn once(&self, connection: &Connection, verb: &Verb<'_>, input: Input) -> Result<Answer, Unanswered> {
        let words = format!("sh {} {}", self.program_path(), verb.words());
        let output = connection.run(&words, input, verb.patience()).await.map_err(Unanswered::Failed)?;
        self.read(&output)
    }

    fn program_path(&self) -> String {
        format!("{}/bin/remote-{}.sh", self.options.directory, self.program_digest)
    }

    fn read(&self, output: &Output) -> Result<Answer, Unanswered> {
        let far = self.name();
        let failed = match Answer::read(&output.answer) {
            Ok(answer) => return Ok(answer),
            Err(NoAnswer::Silent) if output.status.code() == Some(CLIENT_FAILED) || output.status.code().is_none() => {
                Trouble::of_ssh(&far, &output.complaint)
            }
            Err(NoAnswer::Silent) => {
                let message = format!("{far} did not run our program ({})", output.status);
                return Err(Unanswered::NotInstalled(Trouble::transient(message).saying(&output.complaint)));
            }
            Err(NoAnswer::Version(version)) => Trouble::bad_configuration(format!(
                "the forced command on {far} speaks version {version}: install the remote.sh of this tidegate there"
            )),
            Err(NoAnswer::Broken) => {
                Trouble::transient(format!("an answer of {far} broke off")).saying(&output.complaint)
            }
        };
        Err(Unanswered::Failed(failed))
    }

    /// Brings the remote program under its digest, whole or not at all.
    async fn install(&self, connection: &Connection) -> Result<(), Trouble> {
        let _one_at_a_time = self.installing.lock().await;
        let words = format!("sh -c '{INSTALL}' sh {} {}", self.options.directory, self.program_digest);
        let output = connection.run(&words, Input::Bytes(REMOTE.into()), VERB_TIMEOUT).await?;
        if output.status.success() {
            return Ok(());
        }
        let (far, directory) = (self.name(), &self.options.directory);
        if output.status.code() == Some(CLIENT_FAILED) {
            return Err(Trouble::of_ssh(&far, &output.complaint));
        }
        let said = output.complaint.as_str();
        let trouble = if said.contains("No space left") || said.contains("uota exceeded") {
            Trouble::no_capacity(format!("the disk of {far} is full"))
        } else if UNWRITABLE.iter().any(|words| said.contains(words)) {
            Trouble::bad_configuration(format!(
                "cannot write in {directory} on {far}: let that user write there, or name another"
            ))
        } else if MISSING.iter().any(|words| said.contains(words)) {
            Trouble::bad_configuration(format!(
                "{far} lacks a program that is needed there: install coreutils or busybox"
            ))
        } else {
            Trouble::transient(format!("cannot install our program in {directory} on {far} ({})", output.status))
        };
        Err(trouble.saying(said))
    }

    /// Sorts what the remote program would not do.
    pub(super) fn refused(&self, code: &str, words: &str) -> Trouble {
        let far = self.name();
        let trouble = match code {
            "full" => Trouble::no_capacity(format!("the disk of {far} is full")),
            "unwritable" => Trouble::bad_configuration(format!(
                "cannot write in {} on {far}: let that user write there, or name another",
                self.options.directory
            )),
            "program" => Trouble::bad_configuration(format!(
                "{} does not run on {far}: build it for that machine, statically linked where its libraries are older \
                 (a musl target)",
                self.options.program.display()
            )),
            "labels" => Trouble::bad_configuration(format!(
                "cannot tell whose instance {words} on {far} is: look at its labels, end its process if it has one, and \
                 remove the directory"
            )),
            "refused" => Trouble::bad_configuration(format!(
                "the forced command on {far} does not know what it was asked: install the remote.sh of this tidegate there"
            )),
            _ => Trouble::transient(format!("{far} could not do it")),
        };
        trouble.saying(words)
    }

    /// The far side's directory, absolute. Asked once: a launch has to name it.
    pub(super) async fn root(&self) -> Result<String, AdapterError> {
        if let Some(root) = self.known_root() {
            return Ok(root);
        }
        let hello = self.ask(&Verb::Hello, Input::Nothing).await?;
        let missing = hello.value("missing");
        if !missing.is_empty() {
            let message = format!("{} lacks {missing}: install util-linux and coreutils, or busybox", self.name());
            return Err(AdapterError::bad_configuration(message));
        }
        let root = hello.value("root").to_owned();
        self.set_root(Some(root.clone()));
        Ok(root)
    }

    fn known_root(&self) -> Option<String> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_root(&self, root: Option<String>) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }
}

/// What installs the remote program: the directory and the digest are its arguments. It holds no single quote.
const INSTALL: &str = "LC_ALL=C; export LC_ALL; umask 077; mkdir -p \"$1/bin\" && new=$(mktemp \"$1/bin/new.XXXXXX\") && \
                       { cat >\"$new\" && sum=$(sha256sum <\"$new\") && test \"${sum%% *}\" = \"$2\" && \
                       mv -f \"$new\" \"$1/bin/remote-$2.sh\" && \
                       { find \"$1/bin\" -name \"remote-?*.sh\" -mtime +30 -exec rm -f {} + ; true; } \
                       || { rm -f \"$new\"; exit 1; }; }";

/// What file commands say of a directory that may not be written.
const UNWRITABLE: [&str; 4] = ["ermission denied", "ead-only file system", "ot a directory", "File exists"];

/// What shells say of a program that is not there.
const MISSING: [&str; 2] = ["sha256sum: not found", "mktemp: not found"];
