//! Passes bytes to [`spanrelay_fuzz::steps`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(steps);
