//! What a configuration is read from, with nothing taken from the process behind the caller's back.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::profile::Profile;

/// Where the installed service's configuration is.
pub const INSTALLED_FILE: &str = "/etc/tidegate/tidegate.toml";

/// The layers to read, lowest first: built-in defaults, `profile`, `file`, `conf_d`, `env`, `overrides`.
///
/// A default one has no layers at all, so that a test sees nothing of the machine that it runs on.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A compiled-in profile under everything else.
    pub profile: Option<Profile>,
    /// The main file. It must be readable.
    pub file: Option<PathBuf>,
    /// A folder whose `*.toml` are read over the file in the order of their names. It may be missing.
    pub conf_d: Option<PathBuf>,
    /// An ONNX model to serve under its file's name, as `run --model` does.
    pub model: Option<PathBuf>,
    /// The environment: `TIDEGATE__SECTION__KEY`, and `HOME` and `XDG_STATE_HOME` for the default state directory.
    pub env: Vec<(OsString, OsString)>,
    /// Settings by argument, over everything else.
    pub overrides: Vec<Override>,
    /// What the defaults need to know about the machine.
    pub machine: Machine,
}

impl Sources {
    /// No layers, but this machine and the environment of this process.
    pub fn of_process() -> Self {
        Self { env: std::env::vars_os().collect(), machine: Machine::this(), ..Self::default() }
    }

    /// What `run` reads: `file` and the `conf.d` beside it; without one, the installed file and its `conf.d`; without
    /// that, the quickstart profile. A `model` without a `file` needs none of them.
    pub fn for_run(file: Option<PathBuf>, model: Option<PathBuf>) -> Self {
        Self { model, ..Self::of_process() }.with_main_file(file, Path::new(INSTALLED_FILE))
    }

    fn with_main_file(mut self, file: Option<PathBuf>, installed: &Path) -> Self {
        let found = || (self.model.is_none() && installed.exists()).then(|| installed.to_owned());
        match file.or_else(found) {
            Some(file) => {
                self.conf_d = Some(file.with_file_name("conf.d"));
                self.file = Some(file);
            }
            None if self.model.is_none() => self.profile = Some(Profile::Quickstart),
            None => {}
        }
        self
    }

    /// Adds environment variables.
    pub fn env<N: Into<OsString>, V: Into<OsString>>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Adds a setting by argument.
    pub fn set(mut self, change: Override) -> Self {
        self.overrides.push(change);
        self
    }

    /// The value of an environment variable, `None` when it is missing or empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.env.iter().rev().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }
}

/// One setting by argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub(crate) key: Vec<String>,
    pub(crate) value: String,
}

impl Override {
    /// Sets the key at `path`, as in `["gateway", "listen"]`, to `value`, written as in an environment variable: no
    /// quotes around text, `["a", "b"]` for an array, empty to go back to the default.
    pub fn new<'a>(path: impl IntoIterator<Item = &'a str>, value: impl ToString) -> Self {
        Self { key: path.into_iter().map(str::to_owned).collect(), value: value.to_string() }
    }
}

/// What the defaults need to know about a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The host name, from which the node's id is made.
    pub host_name: String,
    /// Whether we run as root and may use `/var/lib`.
    pub root: bool,
}

impl Machine {
    /// The machine we run on.
    pub fn this() -> Self {
        let host_name = nix::unistd::gethostname().unwrap_or_default();
        Self { host_name: host_name.to_string_lossy().into_owned(), root: nix::unistd::geteuid().is_root() }
    }
}

impl Default for Machine {
    /// A machine without properties, for tests: `localhost`, and root so that no home is needed.
    fn default() -> Self {
        Self { host_name: "localhost".to_owned(), root: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_reads_the_file_it_is_given_else_the_installed_one_else_the_quickstart() {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("tidegate.toml");
        let none = Sources::default().with_main_file(None, &installed);
        assert_eq!((none.profile, none.file), (Some(Profile::Quickstart), None));

        std::fs::write(&installed, "").unwrap();
        let found = Sources::default().with_main_file(None, &installed);
        assert_eq!((found.profile, found.file.as_deref()), (None, Some(installed.as_path())));
        assert_eq!(found.conf_d, Some(folder.path().join("conf.d")));

        let given = Sources::default().with_main_file(Some("mine.toml".into()), &installed);
        assert_eq!(given.file, Some("mine.toml".into()));

        let model = Sources { model: Some("m.onnx".into()), ..Sources::default() }.with_main_file(None, &installed);
        assert_eq!((model.profile, model.file), (None, None), "a model alone needs no configuration");
    }
}
