//! What an instance's files, its lock and its exit say about it, put together.

use std::process::ExitStatus;
use std::time::Duration;

use super::directory::InstanceDirectory;
use super::labels::Labels;
use crate::{Instance, InstanceState, LaunchId, Reach};

/// How long a wrapper may take from its spawn to its lock. It is the first thing that it does; this much is for a
/// small box that is swapping.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn instance(
    directory: &InstanceDirectory,
    labels: &Labels,
    launch: &LaunchId,
    exit: Option<ExitStatus>,
) -> Instance {
    let age = directory.spawned().as_ref().unwrap_or(&labels.created).age();
    let (state, reach) = state(directory, age, exit);
    let (owner, service) = (labels.owner(), labels.service.clone());
    Instance { launch: launch.clone(), owner, service, state, reach, age, notice: None }
}

fn state(
    directory: &InstanceDirectory,
    age: Option<Duration>,
    exit: Option<ExitStatus>,
) -> (InstanceState, Option<Reach>) {
    // Written when the server is gone: what is left of the wrapper is its exit.
    if let Some(reason) = directory.ended_reason() {
        return (InstanceState::Ended { reason }, None);
    }
    let may_still_start = exit.is_none() && age.is_some_and(|age| age < START_TIMEOUT);
    // Before its process id stands in the lock the lock is not looked at: see `is_held`.
    if directory.pid().is_none() && may_still_start {
        return (InstanceState::Pending, None);
    }
    if !directory.is_held() {
        return (InstanceState::Ended { reason: end_reason(directory, age, exit) }, None);
    }
    match directory.address() {
        Some(address) => (InstanceState::Running, Some(Reach::Loopback { authority: address.to_string() })),
        None => (InstanceState::Pending, None),
    }
}

/// Why an instance ended whose wrapper did not say.
fn end_reason(directory: &InstanceDirectory, age: Option<Duration>, exit: Option<ExitStatus>) -> String {
    match (directory.pid(), exit) {
        _ if age.is_none() => "the machine was restarted".to_owned(),
        (Some(_), Some(exit)) if exit.code().is_some() => with_last_words(&format!("failed ({exit})"), directory),
        (Some(_), Some(exit)) => format!("the wrapper was killed ({exit})"),
        (Some(_), None) => "the wrapper was killed, or crashed".to_owned(),
        (None, Some(exit)) => with_last_words(&format!("never started ({exit})"), directory),
        (None, None) => {
            with_last_words(&format!("never started (no sign of life within {START_TIMEOUT:?})"), directory)
        }
    }
}

/// A wrapper that gives up prints why as its last line.
fn with_last_words(why: &str, directory: &InstanceDirectory) -> String {
    match directory.last_log_line() {
        Some(line) => format!("{why}: {line}"),
        None => why.to_owned(),
    }
}
