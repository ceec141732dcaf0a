//! Passes bytes to [`spanrelay_fuzz::protobuf`].

#![cfg_attr(fuzzing, no_main)]

spanrelay_fuzz::target!(protobuf);
