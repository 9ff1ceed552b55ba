//! What each fuzz target does with a string of bytes: one module for each decoder of what comes from outside.
//!
//! `fuzz_targets/` gives them to cargo-fuzz, `tests/fuzzing.rs` plays the committed corpus and its mutations through them
//! on stable in every test run. Of each module, `decode` only decodes, so that what decoding takes in memory can be
//! measured, and `target` holds what was decoded to what must be true of it; it panics where it is not.

pub mod describe;
pub mod exec_answer;
pub mod infer_request;
pub mod lease;
pub mod message;
pub mod model_file;
pub mod sealed;
pub mod ssh_answer;
pub mod topic;
pub mod well_formed;

pub use message::{
    announcement as message_announcement, burst as message_burst, command as message_command, event as message_event,
    load as message_load, response as message_response, service as message_service, state as message_state,
    trust as message_trust,
};

/// A target as a value.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also that of its binary and of its folder in the corpus.
    pub name: &'static str,
    /// Decodes and nothing else.
    pub decode: fn(&[u8]),
    /// Decodes and checks.
    pub target: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident)+) => {
        /// Every target.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), decode: $name::decode, target: $name::target },)+];
    };
}

targets! {
    message_announcement message_state message_load message_service message_burst message_event
    message_command message_response message_trust sealed
    describe topic lease well_formed
    exec_answer ssh_answer model_file infer_request
}
