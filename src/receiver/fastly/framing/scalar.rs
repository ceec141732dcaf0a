//! Finds the ends of strings, numbers and words, and decides whether they are JSON.

use crate::otlp::decode_hex;
use crate::otlp::json::{Cursor, plain_prefix};

/// Returns the length of the string, number or word at the start of `text`.
pub(super) fn scalar_length(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'"') {
        return Some(string_end(text, 1)?.0 + 1);
    }
    let length = word_length(text);
    (scalar(&text[..length]) != WordClass::None).then_some(length)
}

/// Returns the offset of the quote that ends a string on the same line, and whether the string is strict JSON.
pub(super) fn string_end(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut is_json = true;
    loop {
        at += plain_prefix(text.get(at..)?);
        match *text.get(at)? {
            b'"' => return Some((at, is_json)),
            b'\n' | b'\r' => return None,
            b'\\' if !matches!(text.get(at + 1), Some(b'\n' | b'\r')) => {
                is_json &= is_escape(&text[at + 1..]);
                at += 2;
            }
            // A backslash at the end of the line, or another control character.
            byte => {
                is_json &= byte >= b' ';
                at += 1;
            }
        }
    }
}

/// Returns whether JSON allows `text` to follow a backslash.
pub(super) fn is_escape(text: &[u8]) -> bool {
    match text.first() {
        Some(b'u') => text.get(1..5).is_some_and(|digits| decode_hex::<2>(digits).is_some()),
        first => matches!(first, Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')),
    }
}

pub(super) fn word_length(text: &[u8]) -> usize {
    let is_in_word =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'(' | b')');
    text.iter().take_while(is_in_word).count()
}

/// Classes of words outside of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordClass {
    Json,
    /// Not JSON, but replaced by repair wherever it stands.
    Repairable,
    None,
}

/// Classifies a word outside of strings.
pub(super) fn scalar(word: &[u8]) -> WordClass {
    match word {
        b"true" | b"false" | b"null" => WordClass::Json,
        b"(null)" | b"NaN" | b"Infinity" | b"-Infinity" => WordClass::Repairable,
        _ => match Cursor::new(word, 0).number() {
            Ok((_, end)) if end == word.len() => WordClass::Json,
            _ => WordClass::None,
        },
    }
}
