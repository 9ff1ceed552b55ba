//! See `tidegate_fuzz::describe`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::describe::target(data));
