//! The reader of a program's answers without a program, for the fuzz target (`fuzz/`). Nothing else calls it.

use std::process::ExitStatus;

use super::answer::{self, Checked, Described, Launched, Listed, Terminated};
use super::hide::Hidden;
use super::program::Output;
use crate::{AdapterError, Instance, LaunchId, Owner};

/// Reads an answer as that to each verb in turn (launch, describe, list, terminate, check): for each the instances that it
/// tells of, or why it is no answer to that.
pub fn read(answer: &[u8], launch: &LaunchId, owner: &Owner) -> Vec<Result<Vec<Instance>, AdapterError>> {
    // Success, and not a word on standard error.
    let exit = Some(ExitStatus::default());
    let output = Output { exit, answer: answer.to_vec(), words: Vec::new(), is_cut: false };
    let hidden = Hidden::new(std::iter::empty());
    let one = |instance: Instance| vec![instance];
    let launched = answer::read::<Launched>(&output, &hidden).and_then(|told| told.instance.of_launch(launch));
    let described = answer::read::<Described>(&output, &hidden)
        .and_then(|told| told.instance.map(|instance| instance.of_launch(launch)).transpose());
    let listed = answer::read::<Listed>(&output, &hidden).and_then(|told| told.of_node(owner));
    let terminated = answer::read::<Terminated>(&output, &hidden).map(|_| Vec::new());
    let checked = answer::read::<Checked>(&output, &hidden).map(|told| drop(told.findings()));
    vec![
        launched.map(one),
        described.map(|instance| instance.into_iter().collect()),
        listed,
        terminated,
        checked.map(|()| Vec::new()),
    ]
}
