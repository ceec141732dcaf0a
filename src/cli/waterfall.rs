//! Traces as waterfalls in a terminal.
//!
//! In:  OTLP/JSON export requests for `/v1/traces`, in any order, a trace spread over as many of them as it likes.
//! Out: lines that are never wider than the terminal.
//! Promises: no input panics, hangs or steers the terminal: what others wrote is made harmless before it is shown.
//! Leaves to others: where the requests come from, and writing the lines.

mod trace;

mod tree;

mod time;

mod text;

mod line;

mod layout;

mod glyphs;

mod draw;

pub(crate) use draw::draw;
pub(crate) use line::{Line, Paint};
pub(crate) use text::{ellipsis, harmless, width};
pub(crate) use trace::Traces;

#[cfg(test)]
mod tests;
