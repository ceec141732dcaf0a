//! Hands bytes to [`spanrelay::internals::fuzz::framing`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::framing(data));
