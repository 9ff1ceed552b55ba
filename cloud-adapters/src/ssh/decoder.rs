//! The reader of the far side's answers without a far side, for the fuzz target (`fuzz/`). Nothing else calls it.

use super::answer::Answer;
use crate::Instance;

/// The instances that an output of the remote program tells of; none where it is no whole answer, or tells of one in a form
/// that is not understood.
pub fn read(output: &[u8]) -> Option<Vec<Instance>> {
    let answer = Answer::read(output).ok()?;
    if answer.refusal().is_some() {
        return None;
    }
    let told = answer.instances().ok()?;
    Some(told.into_iter().map(|told| told.instance).collect())
}
