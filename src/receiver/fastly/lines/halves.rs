//! Large bodies, read on two cores.
//!
//! In: a body. Out: what reading it from its beginning to its end would give; or nothing, where that is not certain. Then
//! it is to be read from its beginning.
//!
//! The second half begins with a line that is an object of its own. Wherever such a line begins, the splitter begins anew:
//! nothing that stands before it is read on into it, whatever is wrong there. Only two things reach across: an array that is
//! still open, and the bounds of the body.

use std::thread;

use bytes::Bytes;

use super::bounds::Bounds;
use super::{MAX_CONTINUATIONS, Settings, Splitter, object_starts};
use crate::receiver::Reading;

/// Smaller bodies are read in a few milliseconds, of which a thread of its own would save little.
pub(super) const FROM_BYTES: usize = 4 * 1024 * 1024;

/// Reads both halves at the same time.
pub(super) fn read(body: &Bytes, settings: &Settings) -> Option<Reading> {
    let cut = middle(body)?;
    let (first, second) = (body.slice(..cut), body.slice(cut..));
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| Splitter::read(&second, settings));
        let first = Splitter::read(&first, settings);
        // A panic is one of the body's reading, wherever it was read.
        let second = second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let is_certain = !first.in_array
            && first.reading.unread_lines + second.reading.unread_lines == 0
            && first.continuations + second.continuations <= MAX_CONTINUATIONS
            && first.bounds.hold_for(&second.bounds, &Bounds::new(body.len(), settings.max_line_bytes));
        is_certain.then_some((first.reading, second.reading))
    })?;
    let lines_before = memchr::memchr_iter(b'\n', &body[..cut]).count();
    Some(joined(first, second, u32::try_from(lines_before).unwrap_or(u32::MAX)))
}

/// Where the second half begins.
fn middle(body: &[u8]) -> Option<usize> {
    let from = body.len() / 2;
    object_starts(&body[from..]).map(|start| from + start).find(|start| body[..*start].ends_with(b"\n"))
}

fn joined(mut first: Reading, second: Reading, lines_before: u32) -> Reading {
    first.items.reserve_exact(second.items.len());
    first.items.extend(second.items.into_iter().map(|mut item| {
        item.line = item.line.saturating_add(lines_before);
        item
    }));
    first.rejected.extend(second.rejected.into_iter().map(|mut rejected| {
        rejected.line = rejected.line.saturating_add(lines_before);
        rejected
    }));
    first
}
