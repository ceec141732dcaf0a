//! Hands bytes to [`spanrelay::internals::fuzz::github`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::github(data));
