//! See `tidegate_fuzz::message_trust`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::message_trust::target(data));
