//! The box itself: its clock, its cores, the credentials on it, and what else of ours is installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edge_config::{Config, Runtime};

use super::Finding;
use crate::host::clock::{rfc3339_s, unix_now};
use crate::trust::{CredentialFiles, EARLIEST};

/// A certificate of a fleet is renewed at two thirds of its life, so one that is this close to its end was not.
const EXPIRES_SOON_S: u64 = 7 * 86_400;
/// Nobody builds for a gateway that far in the future; a clock that says so was set wrongly.
const LATEST: u64 = 4_102_444_800;

/// Leases and decisions count time since boot; what a wrong calendar spoils are signatures and dates.
pub(super) fn clock() -> Option<Finding> {
    let now = unix_now();
    let shown = rfc3339_s(now);
    let mend = "set it, or let it be set: timedatectl set-ntp true (or chrony); the node serves meanwhile";
    if now < EARLIEST {
        let what = format!("it says {shown}: signed commands wait until it is set");
        Some(Finding::warning("clock", what, mend))
    } else if now > LATEST {
        Some(Finding::problem("clock", format!("it says {shown}: credentials count as expired"), mend))
    } else {
        Some(Finding::ok("clock", shown))
    }
}

/// Each replica of the built-in engine keeps its threads busy.
pub(super) fn cores(config: &Config) -> Option<Finding> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads: u64 = config
        .services
        .values()
        .map(|service| match service.local.runtime {
            Runtime::Onnx { threads, .. } => u64::from(threads) * u64::from(service.local.max_replicas),
            _ => 0,
        })
        .sum();
    (threads > cores as u64).then(|| {
        let what = format!("local replicas may run {threads} threads of inference, and this box has {cores} cores");
        let mend = "lower service.X.local.max_replicas or threads: replicas that share a core answer no faster";
        Finding::warning("cores", what, mend)
    })
}

/// For how long the node can prove who it is; whether it can at all is the configuration's.
pub(super) fn credentials(config: &Config) -> Option<Finding> {
    let about = "credentials";
    let mend = "enroll this node (tidegate fleet enroll), and put what it writes there";
    let (credential, _) = CredentialFiles::new(config.node.credentials.as_ref()?).load().ok().flatten()?;
    let (name, ends) = (&credential.facts().name, credential.facts().not_after);
    let shown = rfc3339_s(ends);
    let what = format!("{name}, until {shown}");
    Some(match ends.checked_sub(unix_now()) {
        None => Finding::problem(about, format!("{what}: expired"), mend),
        Some(left) if left < EXPIRES_SOON_S => {
            let mend = "it was not renewed: is a node with node.authority there? Else enroll this node again";
            Finding::warning(about, format!("{what}: soon over"), mend)
        }
        Some(_) => Finding::ok(about, what),
    })
}

/// Where packages and people put programs.
const FOLDERS: [&str; 5] = ["/usr/bin", "/usr/local/bin", "/opt/tidegate/bin", "/usr/sbin", "/bin"];

/// Two programs on one box are two versions before long, and it is luck which one a command finds.
pub(super) fn installations() -> Option<Finding> {
    let named =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let folders = named.into_iter().chain(FOLDERS.map(PathBuf::from));
    let programs: BTreeSet<PathBuf> = folders
        .filter_map(|folder| folder.join("tidegate").canonicalize().ok())
        .filter(|path| path.is_file())
        .collect();
    (programs.len() > 1).then(|| {
        let told: Vec<String> =
            programs.iter().map(|program| format!("{} ({})", program.display(), version(program))).collect();
        let mend = "keep one: apt remove tidegate, cargo uninstall tidegate, or delete the file";
        Finding::warning("installations", format!("there are {}: {}", told.len(), told.join(", ")), mend)
    })
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let said = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    if said.is_empty() { "does not start".to_owned() } else { said.trim().to_owned() }
}
