//! The version before this one, where `TIDEGATE_OLDER` names its program: the lane `upgrade` of `tests/run` builds it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Home, Node, Spec, run_by};

/// `None`: the test is left out, and says so.
pub(crate) fn program() -> Option<PathBuf> {
    let program = std::env::var_os("TIDEGATE_OLDER").map(PathBuf::from);
    if program.is_none() {
        println!("left out: TIDEGATE_OLDER names no program (tests/run --with upgrade builds one)");
    }
    program
}

/// A node of another program than the one under test.
pub(crate) fn start(home: &Home, program: &Path, spec: &Spec) -> Node {
    let node = Node::spawn(command(home, program, spec));
    node.wait_ready();
    node
}

pub(crate) fn command(home: &Home, program: &Path, spec: &Spec) -> Command {
    let arguments = ["run".into(), "-c".into(), OsString::from(home.config(spec))];
    let ours = home.tidegate(&arguments, spec.environment());
    run_by(program, &[], &ours, ours.get_args())
}
