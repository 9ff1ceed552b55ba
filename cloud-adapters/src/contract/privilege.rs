//! Tests that need root: they run, or somebody has said that they are left out.

/// Set by `tests/run`, after it has said so, where it does not run as root.
const WITHOUT_ROOT: &str = "TIDEGATE_WITHOUT_ROOT";

/// Whether a test that needs root for this is left out here.
///
/// # Panics
/// Without root where nobody said so: a test that is left out in silence is a test that passes.
#[must_use]
pub fn is_left_out_without_root(what: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return false;
    }
    let is_allowed = std::env::var_os(WITHOUT_ROOT).is_some_and(|value| !value.is_empty());
    assert!(is_allowed, "{what} needs root; set {WITHOUT_ROOT}=1 to leave such tests out");
    eprintln!("SKIPPED, as {WITHOUT_ROOT} is set: {what} needs root");
    true
}
