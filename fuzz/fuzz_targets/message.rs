//! Feeds `hbc_fuzz::message`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::message(data));
