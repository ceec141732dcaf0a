//! Entry points of the fuzz targets (`fuzz/`), with the properties that must hold for any bytes.
//!
//! In: bytes from a fuzzer, a fixture or a mutation. Out: nothing, or a panic that names the violated property. Inputs
//! are text wherever possible, so that findings are readable.
//! Promises: a target depends only on its input, and does no I/O.
//!
//! `fuzz/run` runs the targets with libFuzzer, and `cargo test` runs the same functions with every fixture, every
//! earlier finding and some thousand mutations of both.

mod access_log;

mod body;

mod framing;

mod line;

mod signature;

mod webhook;

mod github;

mod protobuf;

mod queue_record;

mod config;

pub mod corpus;

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
pub use self::webhook::webhook;

/// A target: panics for an input that violates a property.
pub type Target = fn(&[u8]);

/// All targets with their names, which their binaries and folders share.
pub const TARGETS: [(&str, Target); 10] = [
    ("access_log", access_log),
    ("body", body),
    ("framing", framing),
    ("line", line),
    ("signature", signature),
    ("webhook", webhook),
    ("github", github),
    ("protobuf", protobuf),
    ("queue_record", queue_record),
    ("config", config),
];
