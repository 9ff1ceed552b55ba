//! What is asked of a provider.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::{AdapterError, Owner, Secret};

/// The longest launch id: what a DNS label holds, and with it the names and labels of every provider.
const LAUNCH_ID_MAX_CHARS: usize = 63;

/// The id of one launch: the provider's idempotency token and label, and the instance's name in the journal.
///
/// 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends, as providers ask of a name (RFC 1123).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchId(String);

/// A text that is no launch id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no launch id: use 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends")]
pub struct InvalidLaunchId(String);

impl LaunchId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LaunchId {
    type Error = InvalidLaunchId;

    fn try_from(text: String) -> Result<Self, InvalidLaunchId> {
        if is_launch_id(&text) { Ok(Self(text)) } else { Err(InvalidLaunchId(text)) }
    }
}

impl FromStr for LaunchId {
    type Err = InvalidLaunchId;

    fn from_str(text: &str) -> Result<Self, InvalidLaunchId> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for LaunchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_launch_id(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LAUNCH_ID_MAX_CHARS).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// One launch, complete: a provider needs nothing beside it and its own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    /// The idempotency token.
    pub launch: LaunchId,
    /// Whose the instance will be.
    pub owner: Owner,
    /// The service it will run.
    pub service: String,
    /// What it runs.
    pub workload: Workload,
    /// How its wrapper learns that the server is ready.
    pub ready: ReadyCheck,
    /// How long it lives without a renewal, from its start on.
    pub lease_ttl: Duration,
    /// How long it may take to answer what is in flight when it is asked to end.
    pub drain_timeout: Duration,
    /// The bearer token that its wrapper asks of every caller.
    pub token: Secret,
    /// What its wrapper proves itself with, where the way to it is open to others.
    pub identity: TlsIdentity,
    /// Requests that it takes at once, at least 1.
    pub concurrency: u32,
}

/// What an instance runs: a command that serves HTTP, in an image where the provider runs images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// The container image; an adapter that runs images has one of its own for a workload that names none.
    pub image: Option<String>,
    /// The program and its arguments. `{port}` in any of them becomes the port to listen on, and `{file:NAME}` the place
    /// at which the file of that name lies in the instance.
    pub argv: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// What it needs of the edge's disk, by the name that its arguments use.
    pub files: BTreeMap<String, PathBuf>,
    /// What it may use.
    pub resources: Resources,
}

/// What an instance may use of the machine that it runs on; `None` leaves it to the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Whole GPUs.
    pub gpus: u32,
}

impl Workload {
    /// The program and its arguments with each `{file:NAME}` replaced by what `place` says of the name.
    pub fn argv_at(&self, place: impl Fn(&str) -> String) -> Vec<String> {
        let placed = |argument: &String| {
            let replace = |text: String, name: &String| text.replace(&format!("{{file:{name}}}"), &place(name));
            self.files.keys().fold(argument.clone(), replace)
        };
        self.argv.iter().map(placed).collect()
    }
}

/// A certificate and its key, both PEM. The node derives them from the launch, pins the key, and trusts nobody else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: Secret,
}

/// How a wrapper learns that its server is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyCheck {
    /// Its port takes a connection.
    Tcp,
    /// A GET of the path answers 2xx.
    Http {
        /// The path, from its slash on.
        path: String,
    },
    /// A command exits with 0; `PORT` in its environment is the server's port.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
    },
}

impl LaunchRequest {
    /// Refuses what no provider could run, before anything is started.
    ///
    /// # Errors
    /// [`AdapterError::BadConfiguration`] naming the field and what it takes.
    pub fn check(&self) -> Result<(), AdapterError> {
        match self.problem() {
            None => Ok(()),
            Some(problem) => {
                let message = format!("cannot launch {} of service `{}`: {problem}", self.launch, self.service);
                Err(AdapterError::bad_configuration(message))
            }
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let Workload { argv, env, .. } = &self.workload;
        if self.service.is_empty() || self.service.starts_with('-') || self.service.contains('\0') {
            return Some("the service needs a name that does not begin with a dash");
        }
        if self.concurrency == 0 {
            return Some("concurrency must be at least 1");
        }
        if self.lease_ttl.is_zero() {
            return Some("the lease needs a time to live above zero");
        }
        token_problem(&self.token).or_else(|| ready_problem(&self.ready)).or_else(|| command_problem(argv, env))
    }
}

/// The token travels in an HTTP header (RFC 6750): printable ASCII without spaces.
fn token_problem(token: &Secret) -> Option<&'static str> {
    let is_token = !token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    (!is_token).then_some("its token must be printable ASCII without spaces, and not empty")
}

fn ready_problem(ready: &ReadyCheck) -> Option<&'static str> {
    match ready {
        ReadyCheck::Http { path } if !path.starts_with('/') || path.contains(['\0', '\r', '\n', ' ']) => {
            Some("the readiness path must begin with / and hold no spaces")
        }
        ReadyCheck::Command { argv } if argv.first().is_none_or(String::is_empty) => {
            Some("the readiness command is empty: name the program to run")
        }
        _ => None,
    }
}

fn command_problem(argv: &[String], env: &BTreeMap<String, String>) -> Option<&'static str> {
    if argv.first().is_none_or(String::is_empty) {
        return Some("its command is empty: name the program to run");
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Some("its command holds a NUL byte");
    }
    let is_variable =
        |(name, value): (&String, &String)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    (!env.iter().all(is_variable))
        .then_some("a variable of its environment has an empty name, or = or NUL where it may not")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> LaunchRequest {
        LaunchRequest {
            launch: "gw-1".parse().expect("a launch id"),
            owner: Owner { fleet: "f".into(), node: "n".into(), session: 1 },
            service: "digits".into(),
            workload: Workload { argv: vec!["serve".into()], ..Workload::default() },
            ready: ReadyCheck::Http { path: "/v2/health/ready".into() },
            lease_ttl: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(10),
            token: Secret::new("t0ken"),
            identity: TlsIdentity::default(),
            concurrency: 4,
        }
    }

    #[test]
    fn launch_ids_are_what_every_provider_takes_as_a_name() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "gw-7--12", longest.as_str()] {
            assert_eq!(good.parse::<LaunchId>().expect(good).as_str(), good);
        }
        let too_long = "a".repeat(64);
        for bad in ["", "A", "a_b", "a/b", "..", "-a", "a-", "ä", "a b", too_long.as_str()] {
            assert!(bad.parse::<LaunchId>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_request_never_shows_its_token() {
        let shown = format!("{:?}", request());
        assert!(!shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn a_complete_request_is_taken() {
        request().check().expect("a good request");
    }

    #[test]
    fn files_are_named_in_arguments_and_placed_by_the_adapter() {
        let files = BTreeMap::from([("model".to_owned(), PathBuf::from("/edge/m.onnx"))]);
        let argv = vec!["serve".to_owned(), "{file:model}".to_owned(), "--port={port}".to_owned()];
        let workload = Workload { argv, files, ..Workload::default() };
        assert_eq!(workload.argv_at(|name| format!("/there/{name}")), ["serve", "/there/model", "--port={port}"]);
    }

    #[test]
    fn every_bad_field_is_refused_by_name() {
        let command = |argv: &[&str], name: &str| Workload {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: BTreeMap::from([(name.to_owned(), "value".to_owned())]),
            ..Workload::default()
        };
        let cases: [(&str, LaunchRequest); 11] = [
            ("service", LaunchRequest { service: String::new(), ..request() }),
            ("service", LaunchRequest { service: "--listen".into(), ..request() }),
            ("concurrency", LaunchRequest { concurrency: 0, ..request() }),
            ("lease", LaunchRequest { lease_ttl: Duration::ZERO, ..request() }),
            ("token", LaunchRequest { token: Secret::new(""), ..request() }),
            ("token", LaunchRequest { token: Secret::new("two words"), ..request() }),
            ("readiness path", LaunchRequest { ready: ReadyCheck::Http { path: "health".into() }, ..request() }),
            ("readiness command", LaunchRequest { ready: ReadyCheck::Command { argv: Vec::new() }, ..request() }),
            ("command is empty", LaunchRequest { workload: command(&[], "A"), ..request() }),
            ("NUL", LaunchRequest { workload: command(&["a\0b"], "A"), ..request() }),
            ("variable", LaunchRequest { workload: command(&["a"], "A=B"), ..request() }),
        ];
        for (word, bad) in cases {
            let error = bad.check().expect_err(word);
            assert_eq!(error.retry(), crate::Retry::Never);
            assert!(error.to_string().contains(word), "{error} should name {word}");
        }
    }
}
