//! Hands bytes to [`spanrelay::internals::fuzz::protobuf`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spanrelay::internals::fuzz::protobuf(data));
