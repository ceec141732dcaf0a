//! Free text in which quotes may have been left unescaped: which of them ends it.

use smallvec::SmallVec;

use super::{Container, Level, Mender};
use crate::event::Repair;
use crate::otlp::json::Text;
use crate::otlp::{Message, field_named, is_free_text};

/// Longest text between quotes that can be the key of an unknown field.
const MAX_KEY_BYTES: usize = 64;

/// The role of a quote inside free text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    EndsText,
    BelongsToText,
    /// Both readings make some sense.
    Unclear,
}

/// The name between two quotes, if a colon follows them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    None,
    Known,
    Unknown,
}

// === impl Mender ===

impl Mender<'_> {
    pub(super) fn expects_free_text(&self) -> bool {
        match (self.open.last(), self.field) {
            (Some(Level { container: Container::Object, message: Some(message) }), Some(field)) => {
                is_free_text(message, field)
            }
            _ => false,
        }
    }

    /// Copies a string in which quotes may have been left unescaped.
    pub(super) fn free_text(&mut self) -> Option<()> {
        self.copy_quote();
        let start = self.at;
        let mut inner_quotes = 0_u32;
        loop {
            if self.copy_up_to_quote()? != b'"' {
                continue;
            }
            match self.quote(self.at + 1) {
                Quote::EndsText => break,
                Quote::Unclear => return None,
                Quote::BelongsToText => {
                    inner_quotes += 1;
                    self.at += 1;
                    self.out.extend_from_slice(b"\\\"");
                    self.note(Repair::UnescapedQuote);
                }
            }
        }
        if inner_quotes > 0 && !self.is_text(start, inner_quotes) {
            return None;
        }
        self.copy_quote();
        Some(())
    }

    /// The role of a quote before `at`, by what follows it.
    fn quote(&self, mut at: usize) -> Quote {
        let mut depth = self.open.len();
        let mut after_comma = false;
        while let Some(Level { container, message }) = depth.checked_sub(1).map(|top| self.open[top]) {
            at = self.skip_blanks(at);
            match (self.input.get(at), container) {
                (Some(b'}'), Container::Object) | (Some(b']'), Container::Array) => {
                    depth -= 1;
                    after_comma = false;
                }
                (Some(b','), _) if !after_comma => after_comma = true,
                (Some(b'{'), Container::Array) if after_comma => return Quote::EndsText,
                (Some(b'"'), Container::Object) => {
                    return match self.key_at(at, message) {
                        Key::Known if after_comma => Quote::EndsText,
                        Key::None => Quote::BelongsToText,
                        // A comma is missing, or the key is none.
                        Key::Known | Key::Unknown => Quote::Unclear,
                    };
                }
                (Some(_), _) => return Quote::BelongsToText,
                (None, _) => return Quote::Unclear,
            }
            at += 1;
        }
        Quote::EndsText
    }

    /// The key whose opening quote is at `at`.
    fn key_at(&self, at: usize, message: Option<&'static Message>) -> Key {
        let start = at + 1;
        let window = &self.input[start..self.input.len().min(start + MAX_KEY_BYTES + 1)];
        let Some(length) = window.iter().position(|&byte| byte == b'"') else { return Key::None };
        let end = start + length;
        if self.input.get(self.skip_blanks(end + 1)) != Some(&b':') {
            return Key::None;
        }
        let key = Text { start, end, escaped: false };
        match message.and_then(|message| field_named(message, self.input, key)) {
            Some(_) => Key::Known,
            None => Key::Unknown,
        }
    }

    fn skip_blanks(&self, at: usize) -> usize {
        let rest = self.input.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|&&byte| byte <= b' ').count()
    }

    /// Returns whether the input from `start` to the cursor, with this many unescaped quotes, can only be one text.
    fn is_text(&self, start: usize, inner_quotes: u32) -> bool {
        let text = &self.input[start..self.at];
        // Quotes of a text come in pairs: one more next to its own quote is that one doubled.
        if !inner_quotes.is_multiple_of(2) && (text.starts_with(b"\"") || text.ends_with(b"\"")) {
            return false;
        }
        let mut messages: SmallVec<[&'static Message; 16]> = SmallVec::new();
        for message in self.open.iter().filter_map(|level| level.message) {
            if !messages.iter().any(|known| std::ptr::eq(*known, message)) {
                messages.push(message);
            }
        }
        let names_field = |start: usize, end: usize| {
            let word = Text { start, end, escaped: false };
            start < end && messages.iter().any(|message| field_named(message, text, word).is_some())
        };
        let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        memchr::memchr_iter(b'"', text).all(|quote| {
            let before = text[..quote].strip_suffix(b"\\").unwrap_or(&text[..quote]);
            let word_before = before.iter().rev().take_while(is_word).count();
            let word_after = text[quote + 1..].iter().take_while(is_word).count();
            !names_field(before.len() - word_before, before.len())
                && !names_field(quote + 1, quote + 1 + word_after)
                && !self.is_member(start, start + quote)
        })
    }

    /// Returns whether the quote at `at` opens the key of an unknown field, after something that a value ends with.
    fn is_member(&self, text_start: usize, at: usize) -> bool {
        if self.key_at(at, None) == Key::None {
            return false;
        }
        let before =
            self.input[text_start..at].iter().rposition(|byte| !matches!(byte, 0..=b' ' | b'{' | b'['));
        before.is_some_and(|last| matches!(self.input[text_start + last], b'"' | b',' | b':' | b'}' | b']'))
    }
}
