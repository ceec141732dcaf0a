//! What one body may cost, whatever is in it: notes that are kept of it, and bytes that are gone over.
//!
//! Bodies that senders mean well with are far within these bounds. They are for those who write two bytes to have
//! two hundred kept, or lines that have to be read to their end before they turn out to be something else.

use crate::otlp::MAX_ITEMS;

/// Objects that are read one by one, good or bad: ten times as many as Fastly puts into a request. What is noted of
/// each takes more memory than a line of two bytes does.
pub(in super::super) const MAX_LINES: usize = 100_000;

/// How often every byte may be gone over. Twice or three times is usual.
const MAX_PASSES: usize = 16;

/// What is left of a body's allowance.
#[derive(Debug)]
pub(super) struct Bounds {
    lines: usize,
    items: usize,
    bytes: usize,
    /// Below this nothing is mended any more.
    mending_bytes: usize,
}

// === impl Bounds ===

impl Bounds {
    /// A small body may have one line that is tried again and again.
    pub(super) fn new(body_bytes: usize, max_line_bytes: usize) -> Self {
        let bytes = body_bytes.saturating_add(max_line_bytes).saturating_mul(MAX_PASSES);
        Self { lines: MAX_LINES, items: MAX_ITEMS, bytes, mending_bytes: bytes / 2 }
    }

    /// So many bytes were gone over.
    pub(super) fn went_over(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether lines are still mended. It is what costs most, and what the good lines behind can do without.
    pub(super) fn allow_mending(&self) -> bool {
        self.bytes >= self.mending_bytes
    }

    /// A line with so many spans and log records was noted.
    pub(super) fn noted(&mut self, items: usize) {
        self.lines = self.lines.saturating_sub(1);
        self.items = self.items.saturating_sub(items);
    }

    /// Whether two parts of a body were read as they would have been within the bounds of the whole.
    pub(super) fn hold_for(&self, other: &Self, whole: &Self) -> bool {
        self.lines + other.lines > MAX_LINES
            && self.items + other.items > MAX_ITEMS
            && self.allow_mending()
            && other.allow_mending()
            && self.spent_bytes() + other.spent_bytes() <= whole.mending_bytes
    }

    fn spent_bytes(&self) -> usize {
        (2 * self.mending_bytes).saturating_sub(self.bytes)
    }

    /// Why no more of the body is read, if so.
    pub(super) fn exceeded(&self) -> Option<String> {
        let reason = if self.lines == 0 {
            format!("more than {MAX_LINES} lines")
        } else if self.items == 0 {
            format!("more than {MAX_ITEMS} spans and log records")
        } else if self.bytes == 0 {
            "too many lines that cannot be read".to_owned()
        } else {
            return None;
        };
        Some(format!("{reason} in one request: what stands here and behind it was not read"))
    }
}
