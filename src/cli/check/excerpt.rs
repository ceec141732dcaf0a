//! Excerpt: the part of a line around the position of a fault, with a caret below.

use bytes::Bytes;

use crate::cli::waterfall::{ellipsis, harmless, width};
use crate::config::terminal::Charset;

/// Lines of a body, found by ascending number in one pass.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
}

/// A line of text and the one below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    pub(crate) caret: String,
}

// === impl Lines ===

impl<'a> Lines<'a> {
    pub(crate) fn new(body: &'a Bytes) -> Self {
        Self { rest: body, number: 1 }
    }

    /// Returns the line with this number, without its end; `None` for a line before the current one.
    pub(crate) fn seek(&mut self, number: u32) -> Option<&'a [u8]> {
        if number < self.number {
            return None;
        }
        while self.number < number {
            let end = line_end(self.rest)?;
            let length = if self.rest.get(end..)?.starts_with(b"\r\n") { 2 } else { 1 };
            self.rest = self.rest.get(end + length..)?;
            self.number += 1;
        }
        self.rest.get(..line_end(self.rest).unwrap_or(self.rest.len()))
    }
}

// === impl Excerpt ===

impl Excerpt {
    /// Returns the text around a column (in bytes, from 1), in at most `columns` columns of the terminal. A column
    /// after the end of the line, where something is missing, counts as its end.
    pub(crate) fn new(line: &[u8], column: u32, columns: usize, charset: Charset) -> Self {
        let place = (column.max(1) as usize - 1).min(line.len());
        // Every character takes at least one column and at most four bytes, so that this is always enough.
        let reach = columns.saturating_mul(4);
        let before_start = place.saturating_sub(reach);
        let after_end = place.saturating_add(reach).min(line.len());
        let mut before = pieces(line.get(before_start..place).unwrap_or_default(), charset);
        let after = pieces(line.get(place..after_end).unwrap_or_default(), charset);

        // The text before gets two thirds, plus the columns that the text after does not need.
        let after_width: usize = after.iter().map(|piece| width(piece)).sum();
        let room_before = (columns * 2 / 3).max(columns.saturating_sub(after_width + 1));
        let mut cut_before = before_start > 0;
        let mut before_width: usize = before.iter().map(|piece| width(piece)).sum();
        let mut dropped = 0;
        while before_width + usize::from(cut_before) > room_before && dropped < before.len() {
            before_width -= width(&before[dropped]);
            dropped += 1;
            cut_before = true;
        }
        before.drain(..dropped);

        let mut text = String::new();
        if cut_before {
            text.push(ellipsis(charset));
        }
        text.extend(before);
        let caret = format!("{}^", " ".repeat(width(&text)));
        let mut used = width(&text);
        let mut rest = after.iter().peekable();
        while let Some(piece) = rest.next() {
            let more = rest.peek().is_some() || after_end < line.len();
            if used + width(piece) + usize::from(more) > columns {
                text.push(ellipsis(charset));
                break;
            }
            used += width(piece);
            text.push_str(piece);
        }
        Self { text, caret }
    }
}

/// Returns the end of the line, which is LF, CRLF or a lone CR.
fn line_end(text: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', b'\r', text)
}

/// Splits the bytes into pieces that are shown completely or not at all. Bytes that are not UTF-8 become `\\xHH`.
fn pieces(bytes: &[u8], charset: Charset) -> Vec<String> {
    let mut pieces = Vec::new();
    for chunk in bytes.utf8_chunks() {
        pieces.extend(chunk.valid().chars().map(|character| piece(character, charset)));
        pieces.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    pieces
}

/// Returns one character. A zero-width character would be invisible, so that it is escaped.
fn piece(character: char, charset: Charset) -> String {
    let shown = harmless(character.encode_utf8(&mut [0; 4]), charset);
    if width(&shown) == 0 { character.escape_unicode().to_string() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(line: &str, column: u32, columns: usize) -> String {
        let Excerpt { text, caret } = Excerpt::new(line.as_bytes(), column, columns, Charset::Unicode);
        assert!(width(&text) <= columns, "{text}");
        format!("{text}\n{caret}")
    }

    #[test]
    fn a_short_line_is_shown_completely_with_a_caret_below_the_column() {
        assert_eq!(excerpt(r#"{"a":oops}"#, 6, 40), "{\"a\":oops}\n     ^");
        assert_eq!(excerpt(r#"{"a":"#, 6, 40), "{\"a\":\n     ^");
        assert_eq!(excerpt("", 1, 40), "\n^");
        assert_eq!(excerpt("ab", 4_000_000_000, 40), "ab\n  ^");
        assert_eq!(excerpt("ab", 0, 40), "ab\n^");
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let line = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        assert_eq!(excerpt(&line, 1001, 21), "…aaaaaaaaaaaaaXbbbbb…\n              ^");
        assert_eq!(excerpt(&"a".repeat(1000), 1001, 20), "…aaaaaaaaaaaaaaaaaa\n                   ^");
        assert_eq!(excerpt(&"a".repeat(1000), 1, 8), "aaaaaaa…\n^");
    }

    #[test]
    fn control_characters_are_escaped_and_the_caret_stays_below_the_column() {
        assert_eq!(excerpt("\u{1b}[2J東X", 8, 40), "\\u{1b}[2J東X\n           ^");
        let Excerpt { text, caret } = Excerpt::new(b"\xffab\xe6\x9d", 2, 40, Charset::Unicode);
        assert_eq!((text.as_str(), caret.as_str()), ("\\xFFab\\xE6\\x9D", "    ^"));
    }

    #[test]
    fn lines_are_found_by_number_with_any_end() {
        let body = Bytes::from_static(b"one\r\n\nthree\rfour");
        let mut lines = Lines::new(&body);
        assert_eq!(lines.seek(1), Some(&b"one"[..]));
        assert_eq!(lines.seek(1), Some(&b"one"[..]));
        assert_eq!(lines.seek(3), Some(&b"three"[..]));
        assert_eq!(lines.seek(4), Some(&b"four"[..]));
        assert_eq!(lines.seek(3), None);
        assert_eq!(lines.seek(5), None);
    }
}
