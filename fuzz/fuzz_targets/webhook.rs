//! Passes bytes to [`spanrelay_fuzz::webhook`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(webhook);
