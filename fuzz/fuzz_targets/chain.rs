//! Feeds `hbc_fuzz::chain`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::chain(data));
