//! Draws traces as waterfalls in a terminal.
//!
//! In:  OTLP/JSON export requests for `/v1/traces`, in any order; a trace can span any number of them.
//! Out: lines that are never wider than the terminal.
//! Promises: no input causes a panic or a hang, or controls the terminal: foreign text is escaped before it is shown.
//! Leaves to others: the source of the requests, and writing the lines.

mod trace;

mod tree;

mod time;

mod text;

mod line;

mod layout;

mod glyphs;

mod draw;

pub(crate) use draw::draw;
pub(crate) use line::{Paint, StyledLine};
pub(crate) use text::{ellipsis, harmless, width};
pub(crate) use trace::TraceSet;

#[cfg(test)]
mod tests;
