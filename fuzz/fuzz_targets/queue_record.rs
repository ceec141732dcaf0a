//! Hands bytes to [`spanrelay::internals::fuzz::queue_record`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::queue_record(data));
