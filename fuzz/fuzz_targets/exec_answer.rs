//! See `tidegate_fuzz::exec_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::exec_answer::target(data));
