//! The wrapper's command line, and the checks that let a bad configuration be told before anything is started.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use tokio::process::Child;

use super::directory::InstanceDirectory;
use super::{ProcessOptions, table};
use crate::wrapper::{self, Place};
use crate::{AdapterError, LaunchRequest, Workload};

/// What an instance keeps of the node's environment: enough to find programs. The rest may hold the node's secrets.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Any bit that lets somebody execute a file.
const EXECUTABLE_BITS: u32 = 0o111;

/// What a program may take to tell its version.
const TRY_OUT: Duration = Duration::from_secs(5);

/// Refuses a program or CPUs that this machine does not have.
pub(super) fn check(options: &ProcessOptions) -> Result<(), AdapterError> {
    check_program(&options.program)?;
    options.cpus.as_deref().map_or(Ok(()), check_cpus)
}

/// As [`check`], and starts the program to ask for its version, which tells whether it was built for this machine.
pub(super) async fn try_out(options: &ProcessOptions) -> Result<(), AdapterError> {
    check(options)?;
    let mut program = tokio::process::Command::new(&options.program);
    program.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut started = program.spawn().map_err(|error| spawn_error(options, error))?;
    // How it ends says nothing that a launch would not say better; that it ends is waited for, not to leave it behind.
    let _ended = tokio::time::timeout(TRY_OUT, started.wait()).await;
    Ok(())
}

fn check_program(program: &Path) -> Result<(), AdapterError> {
    let shown = program.display();
    let metadata = std::fs::metadata(program).map_err(|error| {
        AdapterError::bad_configuration(format!("cannot find the program {shown}: name the tidegate program"))
            .because(error)
    })?;
    if metadata.is_file() && metadata.permissions().mode() & EXECUTABLE_BITS != 0 {
        return Ok(());
    }
    let message = format!("{shown} is not an executable file: name the tidegate program, or make it executable");
    Err(AdapterError::bad_configuration(message))
}

fn check_cpus(cpus: &[usize]) -> Result<(), AdapterError> {
    if cpus.is_empty() {
        return Err(AdapterError::bad_configuration("cpus is an empty list: name at least one CPU, or leave it out"));
    }
    // Of the main thread: a worker thread may have been held to fewer.
    let Ok(usable) = sched_getaffinity(Pid::this()) else { return Ok(()) };
    let is_usable = |cpu: &usize| usable.is_set(*cpu).unwrap_or(false);
    match cpus.iter().find(|cpu| !is_usable(cpu)) {
        None => Ok(()),
        Some(cpu) => Err(AdapterError::bad_configuration(format!(
            "cpu {cpu} is not one that this node may use: choose from {}",
            numbers((0..CpuSet::count()).filter(is_usable))
        ))),
    }
}

/// Starts the wrapper of a request in its directory.
pub(super) fn spawn(
    options: &ProcessOptions,
    request: &LaunchRequest,
    directory: &InstanceDirectory,
) -> Result<Child, AdapterError> {
    check(options)?;
    let log = directory.open_log()?;
    let mut command = command(options, request, directory);
    let outputs = log.try_clone().map(|copy| (Stdio::from(copy), Stdio::from(log)));
    let (stdout, stderr) = outputs.map_err(|error| spawn_error(options, error))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    tokio::process::Command::from(command).spawn().map_err(|error| spawn_error(options, error))
}

fn command(options: &ProcessOptions, request: &LaunchRequest, directory: &InstanceDirectory) -> Command {
    let place = Place {
        program: options.program.display().to_string(),
        run_dir: Some(directory.path().display().to_string()),
        token_file: directory.token_path().display().to_string(),
        identity_files: None,
        listen: "127.0.0.1:0".to_owned(),
        cpus: options.cpus.clone(),
        files_dir: String::new(),
    };
    let here = |name: &str| request.workload.files[name].display().to_string();
    let argv = request.workload.argv_at(here);
    let request = LaunchRequest { workload: Workload { argv, ..request.workload.clone() }, ..request.clone() };
    let mut command = Command::new(&options.program);
    command.args(wrapper::arguments(&request, &place));
    command.env_clear().envs(kept_environment()).envs(&request.workload.env).env(table::MARK, directory.path());
    // A group of its own: what is sent to the node's group, as by Ctrl-C in a terminal, does not end its instances.
    command.process_group(0);
    command
}

fn kept_environment() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    KEPT_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

fn numbers(numbers: impl Iterator<Item = usize>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// Sorts why the system would not start the program.
fn spawn_error(options: &ProcessOptions, error: io::Error) -> AdapterError {
    use io::ErrorKind::{ArgumentListTooLong, NotFound, OutOfMemory, PermissionDenied, WouldBlock};
    let message = format!("cannot start {}", options.program.display());
    let sorted = match error.kind() {
        NotFound | PermissionDenied => {
            AdapterError::bad_configuration(format!("{message}: is it a tidegate program built for this machine?"))
        }
        ArgumentListTooLong => {
            AdapterError::bad_configuration(format!("{message}: shorten its command or environment"))
        }
        // No more processes, or no memory for one: this machine is full.
        WouldBlock | OutOfMemory => AdapterError::no_capacity(message),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            AdapterError::bad_configuration(format!("{message}: it is no program for this machine"))
        }
        _ => AdapterError::transient(message),
    };
    sorted.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_the_machine_lacks_are_refused_with_those_it_has() {
        let error = check_cpus(&[100_000]).expect_err("no machine has that many");
        assert_eq!(error.retry(), crate::Retry::Never);
        assert!(error.to_string().contains("choose from "), "{error}");
        assert!(check_cpus(&[]).is_err());
    }
}
