//! See `tidegate_fuzz::ssh_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::ssh_answer::target(data));
