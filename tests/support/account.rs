//! A cloud of one account on this machine: `examples/exec-adapter` as an adapter. What runs there goes on when its node does not.

use std::path::{Path, PathBuf};

use super::{Home, Spec, python};

pub(crate) struct Account {
    folder: PathBuf,
}

impl Account {
    pub(crate) fn new(home: &Home) -> Self {
        Self { folder: home.path().join("cloud") }
    }

    /// Lays what an adapter of that name needs to reach it over a configuration.
    pub(crate) fn joined(&self, spec: Spec, adapter: &str) -> Spec {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/exec-adapter/local_processes.py");
        let here = format!(
            "[adapter.{adapter}]\ncommand = [{:?}, {example:?}]\nlisten = '127.0.0.1:0'\n\
             instance_dir = '{account}/instances/{{launch}}'\ntls = false\n\
             [adapter.{adapter}.env]\nTIDEGATE_PROGRAM = '{program}'\nACCOUNT = '{account}'",
            python::interpreter(),
            account = self.folder.display(),
            program = env!("CARGO_BIN_EXE_tidegate"),
        );
        // What an instance runs is found where the program looks for it.
        let folder = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap().display().to_string();
        spec.with(&here).env("PATH", &format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()))
    }

    /// Every launch that the account has, running or just ended.
    pub(crate) fn launches(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join("instances")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Those that still run.
    pub(crate) fn alive(&self) -> Vec<String> {
        let runs = |launch: &String| {
            cloud_adapters::contract::wrappers_in(&self.folder.join("instances").join(launch)).len() == 1
        };
        self.launches().into_iter().filter(runs).collect()
    }
}
