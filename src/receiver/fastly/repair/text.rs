//! Finds the quote that ends a free text in which quotes may be unescaped.
//!
//! The text ends at its first quote if the message continues after it, with known or unknown fields. If other punctuation
//! follows, something is wrong there and the unit isn't repaired. Otherwise the first quote belongs to the text, which then
//! ends where the message continues with a known field; anything like an unknown field in or after it is ambiguous.

use smallvec::SmallVec;

use super::{Container, OpenLevel, Repairer};
use crate::event::Repair;
use crate::otlp::json::Text;
use crate::otlp::{Message, field_named, is_free_text};

/// The role of a quote inside free text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    EndsText,
    BelongsToText,
    /// Either reading is possible, or one of them has a mistake.
    Unclear,
}

/// Text that follows a quote, in relation to the messages that are open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Any closing brackets, then a known field, a list element, or the end of the unit.
    Message,
    /// Any closing brackets, then a field that the schema doesn't have.
    UnknownField,
    /// Punctuation that doesn't continue the message. If it has a comma, the position after it.
    Broken(Option<usize>),
    Text,
}

/// Kind of a string in an object: no key, or the key of a known or unknown field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    None,
    Known,
    Unknown,
}

// === impl Repairer ===

impl Repairer<'_> {
    /// Returns whether the next value is a free text.
    pub(super) fn expects_free_text(&self) -> bool {
        match (self.open.last(), self.field) {
            (Some(OpenLevel { container: Container::Object, message: Some(message) }), Some(field)) => {
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
            match self.quote(start, inner_quotes == 0) {
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
        if inner_quotes > 0 && !self.is_one_text(start, inner_quotes) {
            return None;
        }
        self.copy_quote();
        Some(())
    }

    /// Classifies the quote at the cursor, in the text that begins at `start`.
    fn quote(&self, start: usize, is_first: bool) -> Quote {
        match self.next(self.at + 1) {
            Next::Message => Quote::EndsText,
            Next::UnknownField if is_first => Quote::EndsText,
            Next::UnknownField => Quote::Unclear,
            // A text that needs no repair ends here, so that the mistake is in what follows.
            Next::Broken(_) if is_first => Quote::Unclear,
            Next::Broken(Some(at)) if self.is_broken_member(at) => Quote::Unclear,
            Next::Broken(_) | Next::Text if self.opens_member(start, self.at) => Quote::Unclear,
            Next::Broken(_) | Next::Text => Quote::BelongsToText,
        }
    }

    /// Classifies the input from `at` on, which follows a quote.
    fn next(&self, mut at: usize) -> Next {
        let start = self.skip_blanks(at);
        let mut depth = self.open.len();
        let mut after_comma = false;
        while let Some(OpenLevel { container, message }) = depth.checked_sub(1).map(|top| self.open[top]) {
            at = self.skip_blanks(at);
            match (self.input.get(at), container) {
                (Some(b'}'), Container::Object) | (Some(b']'), Container::Array) => {
                    depth -= 1;
                    after_comma = false;
                }
                (Some(b','), _) if !after_comma => after_comma = true,
                (Some(b'{'), Container::Array) if after_comma => return Next::Message,
                (Some(b'"'), Container::Object) => match self.key_at(at, message) {
                    KeyKind::Known if after_comma => return Next::Message,
                    KeyKind::Unknown if after_comma => return Next::UnknownField,
                    _ => break,
                },
                _ => break,
            }
            at += 1;
        }
        match self.input.get(start) {
            _ if depth == 0 => Next::Message,
            Some(b',' | b'}' | b']') => Next::Broken(after_comma.then_some(at)),
            _ => Next::Text,
        }
    }

    /// Classifies the string whose opening quote is at `at`.
    fn key_at(&self, at: usize, message: Option<&'static Message>) -> KeyKind {
        let start = at + 1;
        let Some((end, escaped)) = self.string_end(start) else { return KeyKind::None };
        if self.input.get(self.skip_blanks(end + 1)) != Some(&b':') {
            return KeyKind::None;
        }
        let key = Text { start, end, escaped };
        match message.and_then(|message| field_named(message, self.input, key)) {
            Some(_) => KeyKind::Known,
            None => KeyKind::Unknown,
        }
    }

    /// Returns the position of the quote that ends the string whose first byte is at `start`, and whether it has escapes.
    fn string_end(&self, start: usize) -> Option<(usize, bool)> {
        let mut at = start;
        let mut escaped = false;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.input.get(at..)?)?;
            if self.input[at] == b'"' {
                return Some((at, escaped));
            }
            escaped = true;
            at += 2;
        }
    }

    fn skip_blanks(&self, at: usize) -> usize {
        let rest = self.input.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|&&byte| byte <= b' ').count()
    }

    /// Returns whether the input from `start` to the cursor, with this many unescaped quotes, can only be one text.
    fn is_one_text(&self, start: usize, inner_quotes: u32) -> bool {
        let text = &self.input[start..self.at];
        // Quotes in a text come in pairs. An odd one next to the text's own quote is that quote doubled.
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
        })
    }

    /// Returns whether the quote at `at` opens the key of an unknown field, after a byte that can end a value.
    fn opens_member(&self, text_start: usize, at: usize) -> bool {
        if self.key_at(at, None) == KeyKind::None {
            return false;
        }
        let before =
            self.input[text_start..at].iter().rposition(|byte| !matches!(byte, 0..=b' ' | b'{' | b'['));
        before.is_some_and(|last| matches!(self.input[text_start + last], b'"' | b',' | b':' | b'}' | b']'))
    }

    /// Returns whether the input at `at` is a member with one quote or colon missing or doubled.
    fn is_broken_member(&self, at: usize) -> bool {
        let is_quoted = self.input.get(at) == Some(&b'"');
        let start = at + usize::from(is_quoted);
        let Some((end, _)) = self.string_end(start) else { return false };
        let key = self.input[start..end].trim_ascii_end();
        let next = self.skip_blanks(end + 1);
        match self.input.get(next) {
            // `"key:"text"`
            _ if is_quoted && key.ends_with(b":") => true,
            // `"key"":"text"` and `"key""text"`, unless the second quote ends the text that holds it all.
            Some(b'"') if is_quoted => self.next(next + 1) != Next::Message,
            // `key":"text"`, but not `name=":443"`
            Some(b':') => !is_quoted && !key.ends_with(b"="),
            _ => false,
        }
    }
}
