//! See `tidegate_fuzz::message_announcement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::message_announcement::target(data));
