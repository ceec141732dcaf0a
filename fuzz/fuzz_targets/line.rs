//! Hands bytes to [`spanrelay::internals::fuzz::line`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::line(data));
