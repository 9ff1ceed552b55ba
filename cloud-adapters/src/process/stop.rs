//! Ending an instance: ask, wait while it drains, insist, then remove its directory. Every step can be repeated by a
//! later call or a later process, which goes on from what stands in the directory.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::directory::{InstanceDirectory, InstanceLock};
use super::labels::Labels;
use super::{Provider, account, blocking, observe, table};
use crate::{AdapterError, LaunchId};

/// How often it is looked whether the instance is gone.
const POLL: Duration = Duration::from_millis(20);

/// What a wrapper gets beyond its drain timeout to write down why it ended, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How long a killed process may take to vanish; a stuck disk can hold one in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

enum Step {
    Gone,
    /// Still there; whether it was asked to end.
    Waiting {
        asked: bool,
    },
}

pub(super) async fn terminate(provider: &Arc<Provider>, launch: &LaunchId) -> Result<(), AdapterError> {
    let probe = Arc::clone(provider);
    if !blocking(move || Ok(probe.account.exists())).await? {
        return Ok(());
    }
    // A launch of this id that was cut off may still be at work: what it makes must not outlive this call.
    drop(account::lock(&provider.account).await?);
    let began = Instant::now();
    let mut asked_at = None;
    loop {
        let (provider, launch) = (Arc::clone(provider), launch.clone());
        let (waited, asked) = (began.elapsed(), asked_at.map(|at: Instant| at.elapsed()));
        match blocking(move || step(&provider, &launch, waited, asked)).await? {
            Step::Gone => return Ok(()),
            Step::Waiting { asked: true } => asked_at = asked_at.or(Some(Instant::now())),
            Step::Waiting { asked: false } => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Does what is due now. `waited` and `asked` are how long ago this call began and asked the instance to end.
fn step(
    provider: &Provider,
    launch: &LaunchId,
    waited: Duration,
    asked: Option<Duration>,
) -> Result<Step, AdapterError> {
    let directory = provider.account.instance(launch);
    let Some(labels) = directory.labels()? else {
        // Never launched, or already terminated: what a crash left of either goes too.
        provider.account.remove(launch)?;
        return Ok(Step::Gone);
    };
    let give_up = GRACE + KILL_TIMEOUT + labels.drain_timeout().max(observe::START_TIMEOUT);
    if waited > give_up {
        return Err(stuck(launch, &directory));
    }
    match directory.take()? {
        Some(lock) => finish(provider, launch, &directory, lock),
        None => insist(&directory, &labels, waited, asked).map_err(|errno| not_allowed(launch, errno)),
    }
}

/// No wrapper holds the lock and, while this does, none can start: ends what it may have left behind and forgets it.
fn finish(
    provider: &Provider,
    launch: &LaunchId,
    directory: &InstanceDirectory,
    _lock: InstanceLock,
) -> Result<Step, AdapterError> {
    if table::sweep(directory.path()).map_err(|errno| not_allowed(launch, errno))? > 0 {
        return Ok(Step::Waiting { asked: false });
    }
    provider.account.remove(launch)?;
    provider.children.forget(launch);
    Ok(Step::Gone)
}

/// The wrapper is alive: asks it once to end, and kills it when it had its time.
fn insist(
    directory: &InstanceDirectory,
    labels: &Labels,
    waited: Duration,
    asked: Option<Duration>,
) -> Result<Step, Errno> {
    let asked = directory.stopping().and_then(|stopping| stopping.age()).or(asked);
    // A wrapper between taking its lock and writing its process id cannot be asked yet; its time runs all the same.
    let Some(pid) = directory.pid() else { return wait_or_sweep(directory, waited) };
    match asked {
        None => {
            table::ask_to_end(pid, directory.path())?;
            directory.note_stopping();
        }
        Some(asked) if asked > labels.drain_timeout() + GRACE => {
            table::kill_group(pid, directory.path())?;
            table::sweep(directory.path())?;
        }
        Some(_) => {}
    }
    Ok(Step::Waiting { asked: true })
}

fn wait_or_sweep(directory: &InstanceDirectory, waited: Duration) -> Result<Step, Errno> {
    if waited > observe::START_TIMEOUT {
        table::sweep(directory.path())?;
    }
    Ok(Step::Waiting { asked: false })
}

fn stuck(launch: &LaunchId, directory: &InstanceDirectory) -> AdapterError {
    let pids: Vec<String> = table::processes_of(directory.path()).iter().map(ToString::to_string).collect();
    AdapterError::transient(format!("instance {launch} does not end, though killed: see process {}", pids.join(", ")))
}

fn not_allowed(launch: &LaunchId, errno: Errno) -> AdapterError {
    AdapterError::bad_configuration(format!(
        "may not end the processes of instance {launch}: run the node as the user that launched it"
    ))
    .because(errno)
}
