//! The Python example of the exec adapter, over an account of the cell's own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cloud_adapters::{CloudAdapter, ExecAdapter, ExecOptions, Secret};

use super::Here;

/// What opens the account.
const KEY: &str = "open-sesame";

pub(super) fn open(home: &Path) -> Here {
    std::fs::create_dir(home.join("account")).expect("create");
    std::fs::write(home.join("account/key"), KEY).expect("write");
    std::fs::write(home.join("python"), python()).expect("write");
    Here::new(home)
}

/// The interpreter itself: what `python3` names may be a script that looks for it, at every call.
fn python() -> String {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
    String::from_utf8(asked.stdout).expect("a path").trim().to_owned()
}

pub(super) fn client(home: &Path) -> Arc<dyn CloudAdapter> {
    let account = home.join("account").display().to_string();
    let python = std::fs::read_to_string(home.join("python")).expect("the interpreter's path");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/exec-adapter/local_processes.py").to_owned();
    let mut options = ExecOptions::new("lab", vec![python, example], home.join("exec"));
    options.instance_dir = format!("{account}/instances/{{launch}}");
    options.env.insert("ACCOUNT".into(), account);
    options.env.insert("TIDEGATE_PROGRAM".into(), env!("CARGO_BIN_EXE_tidegate").into());
    options.env.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
    options.secrets.insert("ACCOUNT_KEY".into(), Secret::new(KEY));
    options.listen = "127.0.0.1:0".into();
    options.tls = false;
    Arc::new(ExecAdapter::new(options))
}
