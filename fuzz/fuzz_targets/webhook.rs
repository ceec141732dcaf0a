//! Hands bytes to [`spanrelay::internals::fuzz::webhook`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::webhook(data));
