//! The configuration from outside: files on disk, variables and arguments in; a `Config` or its problems out.

mod change;
mod layers;
mod problems;
mod settings;
mod shipped;
mod uplink;

use std::path::PathBuf;

use edge_config::{Config, ConfigErrors, Sources, load};
use tempfile::TempDir;

/// A folder with configuration files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The sources of a node whose main file has this text, with the `conf.d` beside it.
    fn sources(&self, text: &str) -> Sources {
        let file = self.write("edge.toml", text);
        Sources { conf_d: Some(file.with_file_name("conf.d")), file: Some(file), ..Sources::default() }
    }

    /// The errors as printed, with this folder's name left out.
    fn text(&self, errors: &ConfigErrors) -> String {
        errors.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn config(text: &str) -> Config {
    let folder = Folder::new();
    load(folder.sources(text)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The problems of a main file, each as its printed line.
fn problems(text: &str) -> Vec<String> {
    let folder = Folder::new();
    let errors = load(folder.sources(text)).expect_err("this text has problems");
    folder.text(&errors).lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// As [`problems`], for a text that may be right.
fn any_problems(text: &str) -> Vec<String> {
    let folder = Folder::new();
    let errors = load(folder.sources(text)).err();
    let lines = |errors| folder.text(&errors).lines().skip(1).map(|line| line.trim().to_owned()).collect();
    errors.map(lines).unwrap_or_default()
}

/// A service that is right, to which a test adds what it is about.
const SERVICE: &str = "[service.s.local]\nruntime = \"process\"\ncommand = [\"serve\"]\n";
