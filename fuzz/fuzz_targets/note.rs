//! Feeds `hbc_fuzz::note`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::note(data));
