//! The command line of `tidegate wrap`, which every instance is, whoever the provider.

use std::time::Duration;

use crate::{LaunchRequest, ReadyCheck};

/// Stands for the `tidegate` program in a workload's arguments: what runs here as the node's own file runs there as
/// whatever the adapter calls it.
pub const PROGRAM: &str = "{tidegate}";

/// Where a wrapper finds and leaves its things, in the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The `tidegate` program, as the instance knows it.
    pub program: String,
    /// Where it keeps `lock`, `address` and `ended`; `None` where nobody would read them.
    pub run_dir: Option<String>,
    /// The file that holds the bearer token.
    pub token_file: String,
    /// The files that hold the launch's certificate and its key; `None` for plain HTTP on a way that is private.
    pub identity_files: Option<(String, String)>,
    /// Where it listens, such as `0.0.0.0:8443`; port 0 takes a free one.
    pub listen: String,
    /// The CPUs that it is held to, by number.
    pub cpus: Option<Vec<usize>>,
    /// Where each of the workload's files lies: a directory that holds them by name.
    pub files_dir: String,
}

/// What follows the program's name: `wrap --service … -- CMD…`.
pub fn arguments(request: &LaunchRequest, place: &Place) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut push = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    push(&["wrap", "--service", &request.service, "--launch", request.launch.as_str()]);
    if let Some(run_dir) = &place.run_dir {
        push(&["--run-dir", run_dir]);
    }
    push(&["--token-file", &place.token_file]);
    if let Some((certificate, key)) = &place.identity_files {
        push(&["--tls-cert-file", certificate, "--tls-key-file", key]);
    }
    push(&["--listen", &place.listen]);
    push(&["--lease-ttl", &flag(request.lease_ttl), "--drain-timeout", &flag(request.drain_timeout)]);
    match &request.ready {
        ReadyCheck::Tcp => push(&["--ready", "tcp"]),
        ReadyCheck::Http { path } => push(&["--ready", path]),
        ReadyCheck::Command { argv } => argv.iter().for_each(|word| push(&["--ready-command", word])),
    }
    push(&["--concurrency", &request.concurrency.to_string()]);
    if let Some(cpus) = &place.cpus {
        push(&["--cpus", &cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")]);
    }
    push(&["--"]);
    let argv = request.workload.argv_at(|name| format!("{}/{name}", place.files_dir));
    arguments.extend(argv.into_iter().map(|word| if word == PROGRAM { place.program.clone() } else { word }));
    arguments
}

/// A duration as a flag takes it: `20s`, or `1500ms` where seconds do not do.
fn flag(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        // Rounded up: a TTL of less than a millisecond is not none.
        format!("{}ms", duration.as_nanos().div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_what_a_flag_takes() {
        assert_eq!(flag(Duration::from_secs(20)), "20s");
        assert_eq!(flag(Duration::from_millis(1500)), "1500ms");
        assert_eq!(flag(Duration::from_micros(1)), "1ms");
        assert_eq!(flag(Duration::ZERO), "0s");
    }
}
