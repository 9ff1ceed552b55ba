//! See `tidegate_fuzz::lease`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::lease::target(data));
