//! A whole node as its users meet it: it serves, tells how it is, and ends when it is asked to.

mod support;

use std::time::Duration;

use support::{Home, Spec};

#[test]
fn sigterm_ends_the_node_with_0_and_leaves_no_process() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    assert_eq!(home.processes().len(), 1, "one local replica: {:?}", home.processes());
    let ended = node.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(10), "took {:?}, longer than the drain timeout", ended.took);
    home.assert_empty_within(Duration::ZERO);
}
