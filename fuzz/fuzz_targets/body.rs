//! Passes bytes to [`spanrelay_fuzz::body`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(body);
