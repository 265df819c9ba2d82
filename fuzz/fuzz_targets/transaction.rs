//! Feeds `hbc_fuzz::transaction`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hbc_fuzz::transaction(data));
