//! See `tidegate_fuzz::message_load`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::message_load::target(data));
