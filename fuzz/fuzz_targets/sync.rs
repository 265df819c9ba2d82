//! Feeds `hbc_fuzz::sync`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::sync(data));
