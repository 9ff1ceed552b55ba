//! The Python example over an account of its own, as a harness of the contract suite.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cloud_adapters::contract::{ContractHarness, Fault, arguments, request, wrappers_in};
use cloud_adapters::process::processes_of;
use cloud_adapters::{CloudAdapter, ExecAdapter, ExecOptions, LaunchId, LaunchRequest, Owner, Secret};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::PATIENCE;

/// What opens the account.
const KEY: &str = "open-sesame";

/// One account of its own; nothing that ran in it outlives it, however the test ends.
pub(super) struct ExampleAccount {
    home: TempDir,
}

pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file beside this one.
pub(super) fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exec").join(name)
}

/// The interpreter of the tests' own environment, which `tests/run` makes, or any that has what it needs.
pub(super) fn python_with_jsonschema() -> PathBuf {
    let named = std::env::var_os("TIDEGATE_TEST_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| repository().join("target/test-venv/bin/python"));
    let imported = Command::new(&python).args(["-c", "import jsonschema"]).status();
    assert!(
        imported.is_ok_and(|status| status.success()),
        "{} has no jsonschema: start tests/run once, it makes the environment, or name one in TIDEGATE_TEST_PYTHON",
        python.display()
    );
    python
}

/// The interpreter itself: what `python3` names may be a script that looks for it, at every call.
fn python() -> &'static str {
    static PYTHON: LazyLock<String> = LazyLock::new(|| {
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
        String::from_utf8(asked.stdout).expect("a path").trim().to_owned()
    });
    &PYTHON
}

pub(super) fn signal(pid: u32, signal: Signal) {
    // Gone already is as good.
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal);
}

impl ExampleAccount {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join("account")).expect("create");
        std::fs::write(home.path().join("account/key"), KEY).expect("write");
        Self { home }
    }

    fn account(&self) -> PathBuf {
        self.home.path().join("account")
    }

    pub(super) fn run_dir(&self, launch: &LaunchId) -> PathBuf {
        self.account().join("instances").join(launch.as_str())
    }

    fn options(&self) -> ExecOptions {
        let example = repository().join("examples/exec-adapter/local_processes.py").display().to_string();
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in.sh");
        let state_dir = self.home.path().join("state");
        let mut options = ExecOptions::new("lab", vec![python().to_owned(), example], state_dir);
        options.env.insert("ACCOUNT".into(), self.account().display().to_string());
        options.env.insert("TIDEGATE_PROGRAM".into(), stand_in.display().to_string());
        options.env.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
        options.secrets.insert("ACCOUNT_KEY".into(), Secret::new(KEY));
        options.instance_dir = self.account().join("instances/{launch}").display().to_string();
        options.listen = "127.0.0.1:0".into();
        options.tls = false;
        options.takes_files = true;
        options
    }

    /// A client with something changed.
    pub(super) fn client(&self, change: impl FnOnce(&mut ExecOptions)) -> Arc<dyn CloudAdapter> {
        let mut options = self.options();
        change(&mut options);
        Arc::new(ExecAdapter::new(options))
    }

    fn with_command(&self, command: &[&str]) -> Arc<dyn CloudAdapter> {
        self.client(|options| options.command = command.iter().map(ToString::to_string).collect())
    }

    fn with_variable(&self, name: &str, value: &str) -> Arc<dyn CloudAdapter> {
        self.client(|options| drop(options.env.insert(name.into(), value.into())))
    }
}

impl Drop for ExampleAccount {
    fn drop(&mut self) {
        let instances = std::fs::read_dir(self.account().join("instances")).into_iter().flatten().flatten();
        for pid in instances.flat_map(|entry| processes_of(&entry.path())) {
            signal(pid, Signal::SIGKILL);
        }
    }
}

impl ContractHarness for ExampleAccount {
    fn adapter(&self) -> Arc<dyn CloudAdapter> {
        self.client(|_| {})
    }

    fn adapter_with_capacity(&self, max_instances: u32) -> Option<Arc<dyn CloudAdapter>> {
        Some(self.with_variable("MAX_INSTANCES", &max_instances.to_string()))
    }

    fn misconfigured(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let folder = self.home.path().display().to_string();
        let plain = here("fits_schema.py").display().to_string();
        let inside_plain = format!("{plain}/inside");
        vec![
            ("command is empty", self.with_command(&[])),
            ("cannot find the program", self.with_command(&["/nonexistent/program"])),
            ("cannot find the program", self.with_command(&["no-such-program-anywhere"])),
            ("not an executable file", self.with_command(&[&plain])),
            ("not an executable file", self.with_command(&[&folder])),
            ("interpreter", self.with_command(&[&here("foreign-program").display().to_string()])),
            ("protocol 2", self.with_command(&["echo", r#"{"protocol": 2, "ok": {}}"#])),
            ("let this user write there", self.client(|options| options.state_dir = inside_plain.clone().into())),
            ("Not a directory", self.with_variable("ACCOUNT", &inside_plain)),
            ("TIDEGATE_PROGRAM", self.with_variable("TIDEGATE_PROGRAM", "/nonexistent/tidegate")),
            ("set instance_dir", self.client(|options| options.instance_dir = "/run/tidegate".into())),
        ]
    }

    fn request(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["sleep", "600"])
    }

    fn request_that_never_starts(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest {
        request(launch, owner, &["/nonexistent/server"])
    }

    fn kill_hard(&self, launch: &LaunchId) {
        let wrappers = wrappers_in(&self.run_dir(launch));
        assert_eq!(wrappers.len(), 1, "{wrappers:?}");
        signal(wrappers[0], Signal::SIGKILL);
    }

    fn alive(&self, launch: &LaunchId) -> usize {
        wrappers_in(&self.run_dir(launch)).len()
    }

    fn public_texts(&self, launch: &LaunchId) -> Vec<String> {
        let mut texts: Vec<String> = processes_of(&self.run_dir(launch)).into_iter().flat_map(arguments).collect();
        texts.push(std::fs::read_to_string(self.run_dir(launch).join("labels.json")).expect("labels"));
        texts
    }

    fn adapter_with_fault(&self, fault: Fault) -> Option<Arc<dyn CloudAdapter>> {
        let faulty = here("faulty.sh").display().to_string();
        Some(self.client(|options| drop(options.command.splice(0..0, ["sh".into(), faulty, format!("{fault:?}")]))))
    }

    fn with_wrong_credentials(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        let wrong = self.client(|options| drop(options.secrets.insert("ACCOUNT_KEY".into(), Secret::new("wrong-key"))));
        vec![("ACCOUNT_KEY", wrong), ("ACCOUNT_KEY", self.client(|options| options.secrets.clear()))]
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
