//! What the program is asked, as it stands on its standard input. `docs/exec-adapter.md` is the page of the protocol.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::ExecOptions;
use crate::wrapper::{self, Place};
use crate::{AdapterError, LaunchId, LaunchRequest, Owner, ReadyCheck, Resources};

/// The version of the protocol. A program refuses any other before it does anything.
pub(super) const PROTOCOL: u64 = 1;

/// What stands for the launch id in the configured directory of an instance.
const LAUNCH_PLACEHOLDER: &str = "{launch}";

/// One request; `verb` names it.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    protocol: u64,
    #[serde(flatten)]
    call: Call<'a>,
}

#[derive(Serialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
enum Call<'a> {
    Launch(Box<Launch<'a>>),
    Describe { launch: &'a str },
    List { owner: OwnerLabels<'a> },
    Terminate { launch: &'a str },
    Check { place: PlaceNames },
}

#[derive(Serialize)]
struct Launch<'a> {
    launch: &'a str,
    owner: OwnerLabels<'a>,
    service: &'a str,
    image: Option<&'a str>,
    argv: &'a [String],
    env: &'a BTreeMap<String, String>,
    files: BTreeMap<&'a str, &'a str>,
    resources: ResourceLimits,
    ready: Ready<'a>,
    lease_ttl_ms: u64,
    drain_timeout_ms: u64,
    concurrency: u32,
    place: PlaceNames,
    wrapper: Vec<String>,
    secrets: Secrets<'a>,
}

#[derive(Serialize)]
struct OwnerLabels<'a> {
    fleet: &'a str,
    node: &'a str,
    session: u64,
}

#[derive(Serialize)]
struct ResourceLimits {
    cpu_millis: Option<u32>,
    memory_bytes: Option<u64>,
    gpus: u32,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Ready<'a> {
    Tcp,
    Http { path: &'a str },
    Command { argv: &'a [String] },
}

/// Where the wrapper finds and leaves its things in the instance.
#[derive(Serialize)]
struct PlaceNames {
    run_dir: String,
    token_file: String,
    certificate_file: Option<String>,
    key_file: Option<String>,
    files_dir: String,
    listen: String,
}

#[derive(Serialize)]
struct Secrets<'a> {
    token: &'a str,
    certificate: Option<&'a str>,
    key: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// # Errors
    /// [`AdapterError::BadConfiguration`] for a workload that the program is not configured to take.
    pub(super) fn launch(options: &ExecOptions, request: &'a LaunchRequest) -> Result<Self, AdapterError> {
        request.check()?;
        let files = files(options, request)?;
        let (place, secrets) = (place(options, request.launch.as_str()), secrets(options, request)?);
        let workload = &request.workload;
        Ok(Self::new(Call::Launch(Box::new(Launch {
            launch: request.launch.as_str(),
            owner: (&request.owner).into(),
            service: &request.service,
            image: workload.image.as_deref(),
            argv: &workload.argv,
            env: &workload.env,
            files,
            resources: (&workload.resources).into(),
            ready: (&request.ready).into(),
            lease_ttl_ms: millis(request.lease_ttl),
            drain_timeout_ms: millis(request.drain_timeout),
            concurrency: request.concurrency,
            wrapper: wrapper::arguments(request, &place.for_wrapper()),
            place,
            secrets,
        }))))
    }

    pub(super) fn describe(launch: &'a LaunchId) -> Self {
        Self::new(Call::Describe { launch: launch.as_str() })
    }

    pub(super) fn list(owner: &'a Owner) -> Self {
        Self::new(Call::List { owner: owner.into() })
    }

    pub(super) fn terminate(launch: &'a LaunchId) -> Self {
        Self::new(Call::Terminate { launch: launch.as_str() })
    }

    /// The place is told with the launch id's placeholder in it, so that a program can say that it does not fit.
    pub(super) fn check(options: &ExecOptions) -> Self {
        Self::new(Call::Check { place: place(options, LAUNCH_PLACEHOLDER) })
    }

    fn new(call: Call<'a>) -> Self {
        Self { protocol: PROTOCOL, call }
    }
}

fn place(options: &ExecOptions, launch: &str) -> PlaceNames {
    let run_dir = options.instance_dir.replace(LAUNCH_PLACEHOLDER, launch);
    let inside = |name: &str| format!("{run_dir}/{name}");
    PlaceNames {
        token_file: inside("token"),
        certificate_file: options.tls.then(|| inside("certificate.pem")),
        key_file: options.tls.then(|| inside("key.pem")),
        files_dir: inside("files"),
        listen: options.listen.clone(),
        run_dir,
    }
}

impl PlaceNames {
    fn for_wrapper(&self) -> Place {
        Place {
            program: "tidegate".to_owned(),
            run_dir: Some(self.run_dir.clone()),
            token_file: self.token_file.clone(),
            identity_files: self.certificate_file.clone().zip(self.key_file.clone()),
            listen: self.listen.clone(),
            cpus: None,
            files_dir: self.files_dir.clone(),
        }
    }
}

fn secrets<'a>(options: &ExecOptions, request: &'a LaunchRequest) -> Result<Secrets<'a>, AdapterError> {
    let (certificate, key) = (request.identity.certificate.as_str(), request.identity.key.expose());
    if options.tls && (certificate.is_empty() || key.is_empty()) {
        let message = "the launch has no certificate and key for an instance that listens with TLS: set tls = false \
                       where the way to it is private";
        return Err(AdapterError::bad_configuration(message));
    }
    let sent = |pem: &'a str| options.tls.then_some(pem);
    Ok(Secrets { token: request.token.expose(), certificate: sent(certificate), key: sent(key) })
}

/// The files by name, each name one that stays in the instance's directory of files.
fn files<'a>(options: &ExecOptions, request: &'a LaunchRequest) -> Result<BTreeMap<&'a str, &'a str>, AdapterError> {
    let files = &request.workload.files;
    if !files.is_empty() && !options.takes_files {
        let message = format!(
            "service `{}` needs files of the edge, which the program is not said to take: set takes_files = true if it does",
            request.service
        );
        return Err(AdapterError::bad_configuration(message));
    }
    files.iter().map(|(name, path)| Ok((plain_name(name)?, unicode(path)?))).collect()
}

fn plain_name(name: &str) -> Result<&str, AdapterError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let message = format!("`{name}` is no name for a file: use a plain one, such as model.onnx");
        return Err(AdapterError::bad_configuration(message));
    }
    Ok(name)
}

fn unicode(path: &Path) -> Result<&str, AdapterError> {
    path.to_str().ok_or_else(|| {
        let message = format!("the path {} is not UTF-8, which JSON needs: rename the file", path.display());
        AdapterError::bad_configuration(message)
    })
}

/// Rounded up: a TTL of less than a millisecond is not none.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl<'a> From<&'a Owner> for OwnerLabels<'a> {
    fn from(owner: &'a Owner) -> Self {
        Self { fleet: &owner.fleet, node: &owner.node, session: owner.session }
    }
}

impl From<&Resources> for ResourceLimits {
    fn from(resources: &Resources) -> Self {
        let Resources { cpu_millis, memory_bytes, gpus } = *resources;
        Self { cpu_millis, memory_bytes, gpus }
    }
}

impl<'a> From<&'a ReadyCheck> for Ready<'a> {
    fn from(ready: &'a ReadyCheck) -> Self {
        match ready {
            ReadyCheck::Tcp => Self::Tcp,
            ReadyCheck::Http { path } => Self::Http { path },
            ReadyCheck::Command { argv } => Self::Command { argv },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_to_milliseconds() {
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_millis(1500)), 1500);
        assert_eq!(millis(Duration::ZERO), 0);
    }

    #[test]
    fn a_file_name_does_not_leave_its_directory() {
        for bad in ["", ".", "..", "../token", "/etc/passwd", "a\0b"] {
            assert!(plain_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(plain_name("model.onnx").expect("a plain name"), "model.onnx");
    }
}
