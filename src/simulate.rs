//! What a policy would have done: a trace, played in virtual time against the policies of the node and against what others do.
//!
//! [`engine`] plays, [`own`] lets the node's own code decide, [`baseline`] has the others, [`contest`] runs several and compares.

pub mod baseline;
pub mod contest;
pub mod course;
pub mod engine;
pub mod generate;
pub mod optimum;
pub mod own;
pub mod plot;
pub mod read;
pub mod trace;
pub mod tune;
