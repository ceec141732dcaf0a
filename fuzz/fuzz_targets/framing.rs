//! Passes bytes to [`spanrelay_fuzz::framing`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(framing);
