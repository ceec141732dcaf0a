//! Passes bytes to [`spanrelay_fuzz::line`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(line);
