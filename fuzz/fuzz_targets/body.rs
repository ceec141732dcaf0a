//! Hands bytes to [`spanrelay::internals::fuzz::body`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::body(data));
