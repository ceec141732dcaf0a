//! Passes bytes to [`spanrelay_fuzz::signature`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(signature);
