//! Passes bytes to [`spanrelay_fuzz::access_log`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(access_log);
