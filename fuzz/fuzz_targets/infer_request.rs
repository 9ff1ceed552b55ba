//! See `tidegate_fuzz::infer_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::infer_request::target(data));
