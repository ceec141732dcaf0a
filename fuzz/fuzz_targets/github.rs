//! Passes bytes to [`spanrelay_fuzz::github`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(github);
