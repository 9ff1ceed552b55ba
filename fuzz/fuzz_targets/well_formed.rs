//! See `tidegate_fuzz::well_formed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::well_formed::target(data));
