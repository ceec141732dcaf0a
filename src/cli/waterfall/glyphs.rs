//! The characters and marks of a drawing.

use super::tree::Oddity;
use crate::config::terminal::Charset;

/// The characters that a drawing is made of.
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
    /// Stands before the name of the span.
    pub(super) fn mark(self) -> char {
        match self {
            Self::MissingParent => '?',
            Self::Circle => '@',
            Self::DuplicateId => '=',
        }
    }

    /// What the mark means.
    pub(super) fn legend(self) -> &'static str {
        match self {
            Self::MissingParent => "? its parent span is not here",
            Self::Circle => "@ its parents form a circle",
            Self::DuplicateId => "= an earlier span has the same id",
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
