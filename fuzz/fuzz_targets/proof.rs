//! Feeds `hbc_fuzz::proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::proof(data));
