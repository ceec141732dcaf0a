//! Hands bytes to [`spanrelay::internals::fuzz::signature`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::signature(data));
