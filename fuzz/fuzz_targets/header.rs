//! Feeds `hbc_fuzz::header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::header(data));
