//! Hands bytes to [`spanrelay::internals::fuzz::config`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::config(data));
