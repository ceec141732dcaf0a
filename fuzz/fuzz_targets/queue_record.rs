//! Passes bytes to [`spanrelay_fuzz::queue_record`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(queue_record);
