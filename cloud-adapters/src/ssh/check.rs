//! What an operator has to know of a far machine: who we are there, how much room there is, whether our program runs,
//! whether we may forward and how far away it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use super::connection::{Connection, Input};
use super::far::{FarSide, Verb};
use super::{SshOptions, check_limits, client, store, tunnels};
use crate::{AdapterError, Finding, Retry, Subject};

/// What the first bytes through a forward may take.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What `ssh-keygen` may take to look into a file.
const KEYGEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Less room than this on the far disk is told: a program and a model may not fit.
const LITTLE_DISK_KB: u64 = 512 * 1024;

/// A call that takes longer than this is told: a launch is one call, and should not cost more than its engine's start.
const SLOW_CALL: Duration = Duration::from_millis(300);

pub(super) async fn findings(far: &Arc<FarSide>) -> Vec<Finding> {
    let program = tokio::fs::metadata(&far.options.program).await;
    let mut found = Vec::new();
    if let Err(error) = program {
        let words = format!("cannot find the program {}: {error}", far.options.program.display());
        found.push(Finding::bad(Subject::Image, words));
    }
    if let Err(error) = check_limits(&far.options.limits) {
        found.push(Finding::bad(Subject::Quota, error.to_string()));
    }
    match look(far).await {
        Ok(told) => found.extend(all(far, &told, found.is_empty()).await),
        Err(error) => found.push(unreachable(&error)),
    }
    found
}

async fn look(far: &Arc<FarSide>) -> Result<Answer, AdapterError> {
    far.root().await?;
    far.ask(&Verb::Probe, Input::Nothing).await
}

/// A far side that waiting can bring back is a matter of the network; one that does not take us is not.
fn unreachable(error: &AdapterError) -> Finding {
    let subject = match error.retry() {
        Retry::Backoff => Subject::Network,
        Retry::NextAdapter => Subject::Quota,
        Retry::Never => Subject::Credentials,
    };
    Finding::bad(subject, error.with_causes())
}

async fn all(far: &Arc<FarSide>, told: &Answer, program_is_here: bool) -> Vec<Finding> {
    let mut found = vec![credentials(far, told).await];
    found.extend(quota(&far.options, told));
    if program_is_here {
        found.push(image(far, told).await);
    }
    found.push(network(far, told).await);
    found
}

async fn credentials(far: &FarSide, told: &Answer) -> Finding {
    let key = host_key(&far.options).await.map(|key| format!("; its host key is {key}")).unwrap_or_default();
    let bounds =
        if told.value("forced") == "yes" { "a key that can do nothing else" } else { "a key that opens a shell" };
    let words = format!(
        "{}: we are {} on {} with {bounds}, and may write {}{key}",
        far.name(),
        told.value("user"),
        told.value("host"),
        far.options.directory
    );
    Finding::good(Subject::Credentials, words)
}

/// The fingerprint that a person can compare, from the file that was verified against.
async fn host_key(options: &SshOptions) -> Option<String> {
    let known_hosts = options.known_hosts.as_ref()?;
    let name = match options.port {
        None | Some(22) => options.host.clone(),
        Some(port) => format!("[{}]:{port}", options.host),
    };
    let mut keygen = tokio::process::Command::new("ssh-keygen");
    keygen.args(["-l", "-F", &name, "-f"]).arg(known_hosts).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(KEYGEN_TIMEOUT, keygen.output()).await.ok()?.ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.split_whitespace().find(|word| word.starts_with("SHA256:")).map(str::to_owned)
}

fn quota(options: &SshOptions, told: &Answer) -> Vec<Finding> {
    let (alive, cpus) = (told.value("alive"), told.value("cpus"));
    let most = options.max_instances.map_or_else(|| "no limit".to_owned(), |most| format!("at most {most}"));
    let number = |key: &str| told.value(key).parse::<u64>().ok();
    let room = |key: &str| number(key).map_or_else(|| "unknown".to_owned(), |kb| format!("{} MB", kb / 1024));
    let words = format!(
        "{alive} instances are alive, {most}; {cpus} CPUs, {} of memory and {} of disk are free; {}",
        room("memory_kb"),
        room("disk_kb"),
        bounds(options)
    );
    let mut found = vec![match number("disk_kb") {
        Some(disk_kb) if disk_kb < LITTLE_DISK_KB => Finding::doubtful(Subject::Quota, words),
        _ => Finding::good(Subject::Quota, words),
    }];
    let highest = options.limits.cpus.iter().flatten().max().copied();
    let count = number("cpus").and_then(|cpus| usize::try_from(cpus).ok());
    if let (Some(highest), Some(count)) = (highest, count)
        && highest >= count
    {
        let words = format!("cpu {highest} is not there: {} has CPUs 0 to {}", options.host, count.saturating_sub(1));
        found.push(Finding::bad(Subject::Quota, words));
    }
    found
}

/// What is applied to each instance, and what is not: no root, no cgroup.
fn bounds(options: &SshOptions) -> String {
    let limits = &options.limits;
    let memory = limits.memory_bytes.map_or_else(
        || "memory as the workload asks (ulimit -d)".to_owned(),
        |bytes| format!("at most {} MB of data for each process (ulimit -d)", bytes / (1024 * 1024)),
    );
    let cpus = limits.cpus.as_ref().map_or_else(|| "all CPUs".to_owned(), |cpus| format!("CPUs {cpus:?}"));
    format!("an instance gets {memory}, {cpus}, niceness {}; shares of a CPU are not applied", limits.niceness)
}

async fn image(far: &Arc<FarSide>, told: &Answer) -> Finding {
    match try_program(far).await {
        Ok(version) => {
            let machine = told.value("machine");
            Finding::good(
                Subject::Image,
                format!("{} runs there ({machine}): {version}", far.options.program.display()),
            )
        }
        Err(error) => Finding::bad(Subject::Image, error.with_causes()),
    }
}

async fn try_program(far: &Arc<FarSide>) -> Result<String, AdapterError> {
    let digest = store::bring_program(far).await?;
    let tried = far.ask(&Verb::Try(&digest), Input::Nothing).await?;
    Ok(tried.value("version").to_owned())
}

async fn network(far: &FarSide, told: &Answer) -> Finding {
    match try_network(far, told).await {
        Ok(finding) => finding,
        Err(error) => Finding::bad(Subject::Network, error.with_causes()),
    }
}

async fn try_network(far: &FarSide, told: &Answer) -> Result<Finding, AdapterError> {
    let asked = Instant::now();
    far.ask(&Verb::Hello, Input::Nothing).await?;
    let latency = asked.elapsed();
    let connection = far.line.connection().await?;
    let port = told.value("port").parse().or(far.options.port.ok_or(())).unwrap_or(22);
    let allowed = try_forward(&connection, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let far = client::far(&far.options);
    Ok(if !allowed {
        let words = format!(
            "{far} does not let us forward ports: set AllowTcpForwarding in its sshd_config, and \
             permitopen=\"127.0.0.1:*\" where the key's line in authorized_keys has `restrict`"
        );
        Finding::bad(Subject::Network, words)
    } else if latency > SLOW_CALL {
        let words = format!(
            "forwards are allowed, but a call takes {} ms: it is a long way to {far}, or the shell of that user reads a \
             lot at its start (look into its ~/.bashrc, or give Tidegate a user of its own)",
            latency.as_millis()
        );
        Finding::doubtful(Subject::Network, words)
    } else {
        Finding::good(Subject::Network, format!("a call takes {} ms, and forwards are allowed", latency.as_millis()))
    })
}

/// Whether a forward is let through. What answers there, if anything, is the far ssh server itself.
async fn try_forward(connection: &Connection, far: SocketAddr) -> Result<bool, AdapterError> {
    let port = tunnels::listen(connection, None, far).await?;
    let answered = timeout(FORWARD_TIMEOUT, first_byte(port)).await.unwrap_or(false);
    // One that cannot be cancelled ends with the connection.
    let _ = connection.cancel(&tunnels::forward(port, far)).await;
    Ok(answered || !connection.has_said("administratively prohibited"))
}

async fn first_byte(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return false };
    stream.read_u8().await.is_ok()
}
