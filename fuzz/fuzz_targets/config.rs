//! Passes bytes to [`spanrelay_fuzz::config`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(config);
