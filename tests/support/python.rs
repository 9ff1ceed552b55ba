//! The Python that the tests' independent clients run in: an environment that `tests/run` makes from
//! `tests/requirements.txt`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Its interpreter: `TIDEGATE_TEST_PYTHON`, else where `tests/run` leaves it.
pub(crate) fn interpreter() -> PathBuf {
    let named = std::env::var_os("TIDEGATE_TEST_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python").into());
    assert!(python.is_file(), "{} is missing: start tests/run once, it makes the environment", python.display());
    python
}

/// A script below `tests/`, its output piped.
pub(crate) fn script(path: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.arg("-u").arg(format!("{}/tests/{path}", env!("CARGO_MANIFEST_DIR")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
