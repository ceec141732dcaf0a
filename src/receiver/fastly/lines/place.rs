//! Line and column of an offset.

/// An offset into a body, and where that is for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: usize,
    line: u32,
    line_start: usize,
}

// === impl Place ===

impl Place {
    pub(super) fn start() -> Self {
        Self { at: 0, line: 1, line_start: 0 }
    }

    /// 1 is the first line of the body.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// In bytes; 1 is the first of the line.
    pub(super) fn column(&self) -> u32 {
        u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX)
    }

    /// Goes on to `at`; a place behind that is where it stays.
    pub(super) fn advance(&mut self, body: &[u8], at: usize) {
        let at = at.max(self.at);
        for newline in memchr::memchr_iter(b'\n', &body[self.at..at]) {
            self.line += 1;
            self.line_start = self.at + newline + 1;
        }
        self.at = at;
    }
}
