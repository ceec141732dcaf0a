//! The characters and marks of a drawing.

use super::tree::Oddity;
use crate::config::terminal::Charset;

/// Characters of a drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glyphs {
    pub(super) fork: &'static str,
    pub(super) corner: &'static str,
    pub(super) trunk: &'static str,
    pub(super) blank: &'static str,
    pub(super) bar: char,
    pub(super) point: char,
    pub(super) event: char,
}

// === impl Oddity ===

impl Oddity {
    /// Returns the mark that precedes the name of the span.
    pub(super) fn mark(self) -> char {
        match self {
            Self::MissingParent => '?',
            Self::Cycle => '@',
            Self::DuplicateId => '=',
        }
    }

    /// Explains the mark.
    pub(super) fn legend(self) -> &'static str {
        match self {
            Self::MissingParent => "? parent span missing",
            Self::Cycle => "@ parent spans form a cycle",
            Self::DuplicateId => "= same id as an earlier span",
        }
    }
}

// === impl Glyphs ===

impl Glyphs {
    pub(super) fn of(charset: Charset) -> Self {
        match charset {
            Charset::Unicode => Self {
                fork: "├─ ",
                corner: "└─ ",
                trunk: "│  ",
                blank: "   ",
                bar: '█',
                point: '▏',
                event: '◆',
            },
            Charset::Ascii => Self {
                fork: "|- ",
                corner: "`- ",
                trunk: "|  ",
                blank: "   ",
                bar: '=',
                point: '|',
                event: '*',
            },
        }
    }
}
