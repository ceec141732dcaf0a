//! Entry points of the fuzz targets (`fuzz/`): any bytes, and what must hold for them.
//!
//! In: bytes that a fuzzer, a fixture or a mutation came up with. Out: nothing, or a panic that says which promise does
//! not hold. What a target is given is text wherever that is possible, so that a finding can be read.
//! Promises: the same bytes always do the same; nothing is read but them, and nothing is sent.
//!
//! `fuzz/run` runs them with libFuzzer, and `cargo test` the same functions over every fixture, every finding of before
//! and some thousand mutations of both.

mod body;

mod framing;

mod line;

mod signature;

mod webhook;

mod protobuf;

mod queue_record;

mod config;

pub mod corpus;

// What the targets go by.
mod forwarded;

mod meant;

mod strict;

mod messages;

mod json;

// What a JSON request says, read into the types of another program's protobuf: one for these and for the golden tests.
#[expect(clippy::unwrap_used, clippy::string_slice, reason = "it judges: what it cannot read is a failure")]
#[path = "../../tests/it/harness/otlp.rs"]
mod otlp;

#[cfg(test)]
mod tests;

pub use self::body::body;
pub use self::config::config;
pub use self::framing::framing;
pub use self::line::line;
pub use self::protobuf::protobuf;
pub use self::queue_record::queue_record;
pub use self::signature::signature;
pub use self::webhook::webhook;

/// What is given an input, and panics where it should not.
pub type Target = fn(&[u8]);

/// Every target with its name, which is that of its binary and its folders too.
pub const TARGETS: [(&str, Target); 8] = [
    ("body", body),
    ("framing", framing),
    ("line", line),
    ("signature", signature),
    ("webhook", webhook),
    ("protobuf", protobuf),
    ("queue_record", queue_record),
    ("config", config),
];
