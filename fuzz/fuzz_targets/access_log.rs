//! Hands bytes to [`spanrelay::internals::fuzz::access_log`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::access_log(data));
