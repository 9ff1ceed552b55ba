//! See `tidegate_fuzz::message_service`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::message_service::target(data));
