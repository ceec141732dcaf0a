//! Fuzz targets, with the properties that must hold for any bytes.
//!
//! In: bytes from a fuzzer, a fixture or a mutation. Out: nothing, or a panic that names the violated property. Inputs
//! are text wherever possible, so that findings are readable.
//! Promises: a target depends only on its input, and does no I/O.
//!
//! `fuzz/run` runs the targets with libFuzzer. The tests of this package run the same functions with every fixture, every
//! earlier finding and some thousand mutations of both, without libFuzzer.

mod access_log;

mod body;

mod framing;

mod line;

mod signature;

mod webhook;

mod github;

mod steps;

mod protobuf;

mod queue_record;

mod config;

pub mod corpus;

mod receivers;

// Oracles of the targets.
mod forwarded;

mod meant;

mod strict;

mod messages;

mod json;

// Reads JSON requests into the protobuf types of an independent implementation, shared with the golden tests.
#[expect(clippy::unwrap_used, clippy::string_slice, reason = "unreadable input is a failure of the test")]
#[path = "../../tests/it/harness/otlp.rs"]
mod otlp;

#[cfg(test)]
mod random;

#[cfg(test)]
mod tests;

pub use self::access_log::access_log;
pub use self::body::body;
pub use self::config::config;
pub use self::framing::framing;
pub use self::github::github;
pub use self::line::line;
pub use self::protobuf::protobuf;
pub use self::queue_record::queue_record;
pub use self::signature::signature;
pub use self::steps::steps;
pub use self::webhook::webhook;

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// A target: panics for an input that violates a property.
pub type Target = fn(&[u8]);

/// All targets with their names, which their binaries and folders share.
pub const TARGETS: [(&str, Target); 11] = [
    ("access_log", access_log),
    ("body", body),
    ("framing", framing),
    ("line", line),
    ("signature", signature),
    ("webhook", webhook),
    ("github", github),
    ("steps", steps),
    ("protobuf", protobuf),
    ("queue_record", queue_record),
    ("config", config),
];

/// Defines the program of a target: with libFuzzer, or without it for inputs in files.
#[macro_export]
macro_rules! target {
    ($target:ident) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::$target(input));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::run_files($crate::$target);
        }
    };
}

/// Runs a target for the files that the arguments name.
pub fn run_files(target: Target) {
    for path in std::env::args_os().skip(1) {
        target(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
}
