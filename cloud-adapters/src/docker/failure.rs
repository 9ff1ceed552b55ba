//! Why the daemon did not do as asked, sorted by who can help, in words that say what to do.

use std::error::Error as _;
use std::io;

use bollard::errors::Error;
use tokio_rustls::rustls;

use crate::{AdapterError, Retry};

/// Parts of the daemon's messages that say more than its status code, with what to do. The first that fits is taken.
const KNOWN: &[(&str, Retry, &str)] = &[
    (
        "no space left on device",
        Retry::NextAdapter,
        "the daemon's disk is full: `docker system prune` there frees some",
    ),
    ("cannot allocate memory", Retry::NextAdapter, "the daemon's machine is out of memory"),
    ("all ports are allocated", Retry::NextAdapter, "the daemon's machine has no port left to publish on"),
    ("no available ipv4 addresses", Retry::NextAdapter, "the daemon's network has no address left"),
    ("range of cpus is from", Retry::NextAdapter, "the daemon's machine has not that many CPUs"),
    ("could not select device driver", Retry::Never, "it has no GPU driver: set one up there, or ask for no GPUs"),
    ("no such image", Retry::Never, "the image is not at the daemon: pull or build it there, or let the adapter pull"),
    ("pull access denied", Retry::Never, "its registry does not have the image, or not for us: pull or build it there"),
    ("manifest unknown", Retry::Never, "its registry has no image of that tag"),
    ("executable file not found", Retry::Never, "the image does not hold the wrapper: put `tidegate` into it"),
    ("no such file or directory: unknown", Retry::Never, "the image does not hold the wrapper: put `tidegate` into it"),
    ("permission denied: unknown", Retry::Never, "the wrapper in the image is not executable for the image's user"),
    ("exec format error", Retry::Never, "the image is built for another machine"),
    ("cannot assign requested address", Retry::Never, "the address to publish on is not one of the daemon's machine"),
    ("client version", Retry::Never, "its version and this program's do not fit: update the older of the two"),
];

/// Sorts an error of the client; `what` says what was asked of whom, as in `cannot list containers`.
pub(super) fn failed(what: &str, error: Error) -> AdapterError {
    let (retry, words) = match &error {
        Error::DockerResponseServerError { status_code, message } => said(*status_code, message),
        Error::DockerStreamError { error } => said(500, error),
        Error::RequestTimeoutError => (Retry::Backoff, "it did not answer in time".to_owned()),
        other => on_the_way(other),
    };
    let message = format!("{what}: {words}");
    match retry {
        Retry::NextAdapter => AdapterError::no_capacity(message),
        Retry::Never => AdapterError::bad_configuration(message),
        Retry::Backoff => AdapterError::transient(message),
    }
    .because(error)
}

/// Whether the daemon answered with this status.
pub(super) fn is_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// What the daemon itself said.
fn said(status: u16, message: &str) -> (Retry, String) {
    let lower = message.to_lowercase();
    if let Some((_, retry, advice)) = KNOWN.iter().find(|(part, ..)| lower.contains(part)) {
        return (*retry, (*advice).to_owned());
    }
    match status {
        401 | 403 => {
            (Retry::Never, "the daemon does not let this client do that: give it credentials that may".to_owned())
        }
        // A conflict passes, as does a limit on requests.
        409 | 429 | 500.. => (Retry::Backoff, format!("the daemon answered {status}")),
        _ => (Retry::Never, format!("the daemon refuses that as wrong ({status}): {message}")),
    }
}

/// What went wrong before an answer was whole: the innermost cause knows.
fn on_the_way(error: &Error) -> (Retry, String) {
    let mut cause = error.source();
    while let Some(link) = cause {
        if let Some(sorted) = link.downcast_ref::<AdapterError>() {
            return (sorted.retry(), sorted.with_causes());
        }
        if let Some(words) = link.downcast_ref::<io::Error>().and_then(refused_by_tls) {
            return (Retry::Never, words);
        }
        cause = link.source();
    }
    (Retry::Backoff, "its answer did not come whole".to_owned())
}

/// In words, when a connection failed because one side does not trust the other's certificate.
pub(super) fn refused_by_tls(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match inner {
        rustls::Error::AlertReceived(alert) => {
            Some(format!("the daemon refuses this client's certificate ({alert:?}): use one that its CA has signed"))
        }
        rustls::Error::InvalidCertificate(why) => {
            Some(format!("the daemon's certificate is not to be trusted ({why}): check `ca` and the host's name"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> AdapterError {
        failed("cannot start x", Error::DockerResponseServerError { status_code, message: message.to_owned() })
    }

    #[test]
    fn answers_are_sorted_by_who_can_help() {
        for (status, message, retry) in [
            (404, "No such image: x:latest", Retry::Never),
            (500, "could not select device driver \"\" with capabilities: [[gpu]]", Retry::Never),
            (500, "mkdir /var/lib/docker/x: no space left on device", Retry::NextAdapter),
            (500, "fork/exec: cannot allocate memory", Retry::NextAdapter),
            (500, "driver failed programming external connectivity: all ports are allocated", Retry::NextAdapter),
            (400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", Retry::NextAdapter),
            (400, "OCI runtime create failed: exec: \"tidegate\": executable file not found in $PATH", Retry::Never),
            (400, "invalid reference format", Retry::Never),
            (401, "", Retry::Never),
            (403, "authorization denied by plugin", Retry::Never),
            (409, "removal of container x is already in progress", Retry::Backoff),
            (429, "slow down", Retry::Backoff),
            (500, "internal error", Retry::Backoff),
            (503, "", Retry::Backoff),
        ] {
            let error = answered(status, message);
            assert_eq!(error.retry(), retry, "{status} {message}");
            assert!(error.to_string().starts_with("cannot start x: "), "{error}");
        }
    }

    #[test]
    fn a_lost_or_broken_answer_can_be_asked_for_again() {
        let cut = io::Error::new(io::ErrorKind::ConnectionReset, "reset");
        assert_eq!(failed("x", Error::from(cut)).retry(), Retry::Backoff);
        let broken = serde_json::from_str::<u8>("[1").expect_err("half");
        assert_eq!(failed("x", Error::from(broken)).retry(), Retry::Backoff);
        assert_eq!(failed("x", Error::RequestTimeoutError).retry(), Retry::Backoff);
    }

    #[test]
    fn what_the_dialler_found_out_is_kept() {
        let found = AdapterError::bad_configuration("no such socket");
        let error = failed("cannot list", Error::from(io::Error::other(Outer(found))));
        assert_eq!((error.retry(), error.to_string().as_str()), (Retry::Never, "cannot list: no such socket"));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Outer(#[source] AdapterError);
}
